//! The first look, which reads everything, and the second, which reads what is suspect alone, see the same; and so they do where the
//! statement is read over HTTP.

use std::{net::SocketAddr, time::Duration};

use kit::database::{self, Plans};
use messaging::Tasks;
use payment::sandbox::{Options, Sandbox};
use tokio::net::TcpListener;

use super::*;
use crate::audit::{charge::Charge, shelf::Shelf, story::Story};

/// Of each kind, beside what the shop has: more than a page of the statement.
const OTHERS: usize = 1_200;

/// The shop's provider behind HTTP, which is all that the audit is told of it.
async fn behind_http(shop: &Shop) -> Deployment {
    let pool = database::pool(&shop.0["provider"], Plans::Pinned, 4).expect("a pool");
    let router = payment::sandbox::http::router(Sandbox::start(pool, Options::default()).expect("it starts"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr: SocketAddr = listener.local_addr().expect("an address");
    tokio::spawn(kit::serve::http(listener, router, Tasks::new(), Duration::from_secs(1)));
    let mut databases = shop.0.clone();
    databases.remove("provider").expect("it was there");
    Deployment::of(databases).with_provider(&format!("http://{addr}"))
}

/// Payments and products that have nothing to do with the shop's.
async fn crowd(shop: &Shop) {
    for (service, sql) in [
        (
            "payment",
            "insert into payments (id, order_id, command_id, state, provider, currency, amount, captured, refunded, refund_pending,
                 auth_code, decline_reason, refund_reason, created_at)
             select md5('payment ' || n)::uuid, md5('order ' || n)::uuid, md5('command ' || n)::uuid, 'CAPTURED', 'sandbox', 'USD',
                 100, 100, 0, 0, 'A', '', '', now()
             from generate_series(1, 1200) n",
        ),
        (
            "payment",
            "insert into ledger_transfers (id, payment_id, debit, credit, amount, currency, at)
             select md5('transfer ' || n)::uuid, md5('payment ' || n)::uuid, 'receivable:sandbox', 'sales', 100, 'USD', now()
             from generate_series(1, 1200) n",
        ),
        (
            "payment",
            "insert into provider_calls (payment_id, id, order_id, kind, key, token, amount, currency, due_at, correlation)
             select md5('payment ' || n)::uuid, md5('call ' || n)::uuid, md5('order ' || n)::uuid, 'REFUND', md5('key ' || n)::uuid, '',
                 1, 'USD', now(), ''
             from generate_series(1, 1200) n",
        ),
        (
            "provider",
            "insert into statement (key, kind, token, amount, currency, outcome, reason, auth_code)
             select md5('payment ' || n)::uuid::text, 'CHARGE', '', 100, 'USD', 'SUCCEEDED', '', 'A' from generate_series(1, 1200) n",
        ),
        ("inventory", "insert into products (sku, name) select 'other ' || n, '' from generate_series(1, 1200) n"),
        ("inventory", "insert into stock (sku, on_hand, reserved) select 'other ' || n, 9, 1 from generate_series(1, 1200) n"),
        (
            "inventory",
            "insert into stock_changes (id, sku, at, cause, delta)
             select md5('change ' || n)::uuid, 'other ' || n, now(), 'SET', 9 from generate_series(1, 1200) n",
        ),
        (
            "inventory",
            "insert into reservations (order_id, id, command_id, state, skus, quantities)
             select md5('order ' || n)::uuid, md5('held ' || n)::uuid, md5('command ' || n)::uuid, 'HELD', array['other ' || n], array[1]
             from generate_series(1, 1200) n",
        ),
    ] {
        shop.change(service, sql).await;
    }
}

#[tokio::test]
async fn the_second_look_sees_what_the_first_has_seen() {
    let shop = shop().await;
    crowd(&shop).await;
    for deployment in [shop.deployment(), behind_http(&shop).await] {
        let mut books = Books::open(&deployment).await.expect("opened");
        let (mut stories, mut charges, mut shelves) = (Vec::<Story>::new(), Vec::<Charge>::new(), Vec::<Shelf>::new());
        books.begin().await.expect("begun");
        read::stories(&mut books, |story| stories.push(story)).await.expect("read");
        read::charges(&mut books, |charge| charges.push(charge)).await.expect("read");
        read::shelves(&mut books, |shelf| shelves.push(shelf)).await.expect("read");
        books.end().await.expect("ended");
        assert_eq!((stories.len(), charges.len(), shelves.len()), (OTHERS + 3, OTHERS + 3, OTHERS + 1));
        assert!(charges.iter().all(|charge| charge.payment.is_some() && charge.entry.is_some()), "the two sides meet");

        let ids: Vec<_> = stories.iter().map(|story| story.id).collect();
        assert_eq!(read::stories_of(&mut books, &ids).await.expect("read"), stories);
        let keys: Vec<_> = charges.iter().map(|charge| charge.key.clone()).collect();
        assert_eq!(read::charges_of(&mut books, &keys).await.expect("read"), charges);
        let skus: Vec<_> = shelves.iter().map(|shelf| shelf.sku.clone()).collect();
        let mut again = store::shelves_of(&mut books.inventory, &skus).await.expect("read");
        again.sort_by(|one, other| one.sku.cmp(&other.sku));
        assert_eq!(again, shelves);
    }
}

/// Rows that went into the sums of a plan that was carried out.
fn summed_up(plan: &[String]) -> f64 {
    let nodes = plan.iter().filter_map(|line| {
        let (name, actual) = line.split_once("(actual rows=")?;
        let rows: f64 = actual.split_once(' ')?.0.parse().expect("a number");
        Some((name.contains("Aggregate"), rows))
    });
    let nodes: Vec<(bool, f64)> = nodes.collect();
    assert!(nodes.iter().any(|(is_sum, _)| *is_sum), "it sums nothing up: {plan:#?}");
    nodes.windows(2).filter(|pair| pair[0].0).map(|pair| pair[1].1).sum()
}

#[tokio::test]
async fn the_second_look_sums_up_what_is_suspect_alone() {
    const SUSPECTS_ROWS_MAX: f64 = 10.0;
    let shop = shop().await;
    crowd(&shop).await;
    let mut books = Books::open(&shop.deployment()).await.expect("opened");
    let explain = |sql: &str| AssertSqlSafe(format!("explain (analyze, costs off, timing off, summary off) {sql}"));
    let uuids = |texts: &[&str]| texts.iter().map(|id| id.parse().expect("a UUID")).collect::<Vec<uuid::Uuid>>();

    let all = "select payment_id, count(*) from ledger_transfers group by payment_id";
    let plan: Vec<String> = sqlx::query_scalar(explain(all)).fetch_all(&mut books.payment).await.expect("explained");
    assert!(summed_up(&plan) > SUSPECTS_ROWS_MAX, "of everything it is more: {plan:#?}");
    for (sql, suspects) in [(store::PAYMENTS_OF, uuids(&[CONFIRMED, FAILED])), (store::PAYMENTS_WITH, uuids(&CHARGES[..2]))] {
        let plan: Vec<String> =
            sqlx::query_scalar(explain(sql)).bind(suspects).fetch_all(&mut books.payment).await.expect("explained");
        // Each was taken once and given back once.
        assert!((4.0..=SUSPECTS_ROWS_MAX).contains(&summed_up(&plan)), "{plan:#?}");
    }
    let plan: Vec<String> =
        sqlx::query_scalar(explain(store::SHELVES_OF)).bind(vec!["A"]).fetch_all(&mut books.inventory).await.expect("explained");
    // It was counted once, and one piece has left.
    assert!((2.0..=SUSPECTS_ROWS_MAX).contains(&summed_up(&plan)), "{plan:#?}");
}

#[tokio::test]
async fn a_statement_behind_http_is_as_good_as_its_database() {
    let shop = shop().await;
    let deployment = behind_http(&shop).await;
    for at_rest in [false, true] {
        let (by_database, by_http) = (shop.audit(at_rest).await, audit(&deployment, at_rest).await.expect("it is audited"));
        assert_eq!(by_http.lines(), Vec::<String>::new());
        assert_eq!(by_http.json(), by_database.json());
    }
    let again = "insert into statement (key, kind, token, amount, currency, outcome, reason, auth_code)
         select 'again', kind, token, amount, currency, outcome, reason, auth_code from statement where key like '%aa'";
    shop.change("provider", again).await;
    let lines = audit(&deployment, false).await.expect("it is audited").lines();
    assert_eq!(lines, shop.audit(false).await.lines());
    assert!(lines.iter().any(|line| line.starts_with("I1 charge again: the provider took 100 USD")), "{lines:#?}");

    let away = Deployment::of(shop.0.clone().into_iter().filter(|(service, _)| service != "provider").collect());
    let error = audit(&away.with_provider("http://127.0.0.1:1"), false).await.expect_err("nobody answers");
    assert!(format!("{error:#}").starts_with("the provider's statement: the provider is not reached"), "{error:#}");
}
