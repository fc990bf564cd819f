//! Charges of which nobody knows what became (S11), and a provider that says everything twice, late and out of order (S12). Nothing is shipped
//! and nothing given back while it is unknown, and one charge is made.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use contracts::order::v1::{
    CancelOrderRequest, CreateOrderRequest, GetOrderRequest, Order, OrderItem, OrderStatus, WatchOrderRequest,
    order_service_client::OrderServiceClient,
};
use kit::settings::BusKind;
use local::{
    Proxy,
    proxy::{Direction, Mark, Then},
};
use sqlx::{Connection, PgConnection};
use tonic::transport::Channel;
use uuid::Uuid;

use super::{WITHIN, database, http::Desk};
use crate::{
    harness::{data_dir, run},
    placing::fresh,
    process::Process,
};

pub(super) async fn orders(platform: &Process) -> OrderServiceClient<Channel> {
    OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"))
}

pub(super) async fn place(platform: &Process, token: &str) -> String {
    let request = CreateOrderRequest {
        idempotency_key: String::new(),
        customer_id: fresh("customer"),
        currency: "USD".into(),
        items: vec![OrderItem { sku: "SKU-123".into(), quantity: 1, unit_price: Some(1_200) }],
        payment_token: token.into(),
    };
    orders(platform).await.create_order(request).await.expect("accepted").into_inner().order_id
}

/// Waits until an order is final.
pub(super) async fn outcome(platform: &Process, order_id: &str) -> Order {
    let mut orders = orders(platform).await;
    let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
    let watch = async {
        let mut told = orders.watch_order(request).await.expect("watched").into_inner();
        told.message().await.expect("told").expect("an outcome");
    };
    tokio::time::timeout(WITHIN, watch).await.expect("settled in time");
    shown(platform, order_id).await
}

pub(super) async fn shown(platform: &Process, order_id: &str) -> Order {
    let request = GetOrderRequest { order_id: order_id.to_owned() };
    orders(platform).await.get_order(request).await.expect("there").into_inner().order.expect("an order")
}

/// A provider in a process of its own, a way to it that can fail, and a platform that knows no other.
pub(super) async fn over_a_proxy(dir: &Path, database: &str, env: &[(&str, &str)]) -> (Desk, Proxy, Process) {
    let desk = Desk::start(database, &[], None).await;
    let proxy = Proxy::start(desk.http).await.expect("a proxy");
    let url = ("SETTLE_PROVIDER_URL", format!("http://127.0.0.1:{}", proxy.port()));
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, (*value).to_owned())).chain([url]).collect();
    let platform = Process::start(dir, BusKind::Postgres, &env).await.expect("it starts");
    (desk, proxy, platform)
}

/// Waits until there is a payment: its id is the provider's key.
pub(super) async fn payment_id(platform: &Process, order_id: &str) -> Uuid {
    let paid = local::until("the payment", WITHIN, || async {
        let sql = "select id from payments where order_id = $1::uuid";
        let mut db = connect(platform, "payment").await;
        sqlx::query_scalar::<_, Uuid>(sql).bind(order_id).fetch_optional(&mut db).await.expect("read")
    });
    paid.await.expect("it is asked for")
}

pub(super) async fn connect(platform: &Process, service: &str) -> PgConnection {
    PgConnection::connect(&platform.ready.databases[service]).await.expect("the database answers")
}

pub(super) async fn count(db: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.expect("read")
}

/// While the outcome is unknown: nothing reserved, shipped or given back, and the order is not over.
async fn nothing_happens(platform: &Process, order_id: &str, status: OrderStatus) {
    let comes = local::until("the status", WITHIN, || async { (shown(platform, order_id).await.status() == status).then_some(()) });
    comes.await.expect("it is told");
    for (service, sql) in [
        ("inventory", "select count(*) from reservations"),
        ("shipping", "select count(*) from shipments"),
        ("payment", "select count(*) from refunds"),
    ] {
        assert_eq!(count(&mut connect(platform, service).await, sql).await, 0, "{service}");
    }
}

/// From now on a call of unknown outcome rests for an hour: whoever looks at it again was woken.
pub(super) async fn rest_for_an_hour(platform: &Process) {
    let sql = "create function rest_for_an_hour() returns trigger language plpgsql as $$
         begin
             if new.resting and not old.resting and new.attention = '' then
                 new.due_at = now() + interval '1 hour';
             end if;
             return new;
         end $$;
         create trigger rest_for_an_hour before update on provider_calls for each row execute function rest_for_an_hour();";
    sqlx::raw_sql(sql).execute(&mut connect(platform, "payment").await).await.expect("changed");
}

/// Waits until the call with this key rests after so many tries.
pub(super) async fn rests(platform: &Process, key: Uuid, attempts: i32) {
    let rests = local::until("an unknown outcome", WITHIN, || async {
        let sql = "select resting and attempts = $2 from provider_calls where key = $1";
        let mut db = connect(platform, "payment").await;
        let rests: Option<bool> = sqlx::query_scalar(sql).bind(key).bind(attempts).fetch_optional(&mut db).await.expect("read");
        rests.filter(|rests| *rests)
    });
    rests.await.expect("it is unknown");
}

#[test]
fn s11_a_charge_that_lands_late_is_waited_for_and_its_webhook_wakes_the_query() {
    run(async {
        let dir = data_dir().expect("a directory");
        let env = [("SETTLE_SANDBOX_CHAOS", "late=1,late_ms=9000".to_owned()), ("SETTLE_PROVIDER_TIMEOUT_MS", "300".to_owned())];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        rest_for_an_hour(&platform).await;
        let order_id = place(&platform, "").await;
        let key = payment_id(&platform, &order_id).await;
        rests(&platform, key, 1).await;
        nothing_happens(&platform, &order_id, OrderStatus::Processing).await;

        let order = outcome(&platform, &order_id).await;
        assert_eq!(order.status(), OrderStatus::Confirmed);
        assert_eq!(count(&mut connect(&platform, "provider").await, "select count(*) from statement").await, 1, "charged once");
        let events = "select count(*) from webhook_events";
        assert_eq!(count(&mut connect(&platform, "payment").await, events).await, 1, "nobody told");
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s11_a_charge_that_lands_after_a_cancel_is_given_back() {
    run(async {
        let dir = data_dir().expect("a directory");
        let env = [("SETTLE_SANDBOX_CHAOS", "late=1,late_ms=6000".to_owned()), ("SETTLE_PROVIDER_TIMEOUT_MS", "300".to_owned())];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        rest_for_an_hour(&platform).await;
        let order_id = place(&platform, "").await;
        let key = payment_id(&platform, &order_id).await;
        rests(&platform, key, 1).await;
        let cancel = CancelOrderRequest { order_id: order_id.clone(), reason: "too slow".into() };
        orders(&platform).await.cancel_order(cancel).await.expect("in time");
        nothing_happens(&platform, &order_id, OrderStatus::Cancelling).await;

        let order = outcome(&platform, &order_id).await;
        assert_eq!((order.status(), order.refunded_amount), (OrderStatus::Cancelled, order.total));
        let mut provider = connect(&platform, "provider").await;
        let held = "select coalesce(sum(amount - refunded), 0)::bigint from statement where kind = 'CHARGE'";
        assert_eq!(count(&mut provider, held).await, 0);
        assert_eq!(count(&mut provider, "select count(*) from statement").await, 2, "one charge, one refund");
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s11_a_charge_that_was_never_made_and_is_never_answered_waits_for_a_person() {
    run(async {
        let dir = data_dir().expect("a directory");
        let env = [
            ("SETTLE_SANDBOX_CHAOS", "silent=1,spoiled_calls=1000000".to_owned()),
            ("SETTLE_PROVIDER_TIMEOUT_MS", "200".to_owned()),
            ("SETTLE_PROVIDER_RETRY_MS_MAX", "100".to_owned()),
            ("SETTLE_PROVIDER_KEY_WINDOW_S", "3".to_owned()),
        ];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        let order_id = place(&platform, "").await;
        let key = payment_id(&platform, &order_id).await;
        let listed = local::until("it to be listed", WITHIN, || async {
            let sql = "select attention from provider_calls where key = $1 and attention <> ''";
            let mut db = connect(&platform, "payment").await;
            sqlx::query_scalar::<_, String>(sql).bind(key).fetch_optional(&mut db).await.expect("read")
        });
        assert!(listed.await.expect("a person must look").contains("has forgotten keys"));
        nothing_happens(&platform, &order_id, OrderStatus::Processing).await;
        let mut provider = connect(&platform, "provider").await;
        assert!(count(&mut provider, "select sum(times)::bigint from failed_calls").await > 1, "the fault did not happen");
        assert_eq!(count(&mut provider, "select count(*) from statement").await, 0);
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s11_a_person_is_told_once_of_a_charge_that_cannot_be_asked_about_and_it_goes_on_by_itself() {
    run(async {
        let (dir, database) = (data_dir().expect("a directory"), database().await);
        let env = [("SETTLE_PROVIDER_RETRY_MS_MAX", "200"), ("SETTLE_PROVIDER_KEY_WINDOW_S", "3")];
        let (mut desk, proxy, platform) = over_a_proxy(dir.path(), &database, &env).await;
        rest_for_an_hour(&platform).await;
        proxy.after(Direction::ToClient, Mark::Pattern(b"SUCCEEDED".to_vec()), Then::CutBefore);
        let order_id = place(&platform, "").await;
        let key = payment_id(&platform, &order_id).await;
        rests(&platform, key, 1).await;
        assert_eq!(proxy.counts().marks, 1, "the fault did not happen");
        desk.program.kill().await.expect("it is gone");
        let go_on = "drop trigger rest_for_an_hour on provider_calls; update provider_calls set due_at = now()";
        sqlx::raw_sql(go_on).execute(&mut connect(&platform, "payment").await).await.expect("changed");

        let told = local::until("a person to be told", WITHIN, || async {
            shown(&platform, &order_id).await.needs_attention.then_some(())
        });
        told.await.expect("it is overdue");
        let tries = "select attempts::bigint from provider_calls where attention = ''";
        let before = count(&mut connect(&platform, "payment").await, tries).await;
        let tried = local::until("it to be asked about all the same", WITHIN, || async {
            (count(&mut connect(&platform, "payment").await, tries).await >= before + 3).then_some(())
        });
        tried.await.expect("nobody has to have it taken up again");
        let said = "select count(*) from outbox where type = 'settle.payment.v1.PaymentUnknown'";
        assert_eq!(count(&mut connect(&platform, "payment").await, said).await, 1, "it is said once");

        let next = Desk::start(&database, &[], None).await;
        proxy.forward_to(next.http);
        assert_eq!(outcome(&platform, &order_id).await.status(), OrderStatus::Confirmed);
        let mut provider = PgConnection::connect(&database).await.expect("connected");
        assert_eq!(count(&mut provider, "select count(*) from statement").await, 1, "charged once");
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s11_a_charge_whose_answer_is_cut_is_found_and_made_once() {
    run(async {
        let (dir, database) = (data_dir().expect("a directory"), database().await);
        let (_desk, proxy, platform) = over_a_proxy(dir.path(), &database, &[]).await;
        assert!(!platform.ready.databases.contains_key("provider"), "there is no sandbox in it");

        proxy.after(Direction::ToClient, Mark::Pattern(b"SUCCEEDED".to_vec()), Then::CutBefore);
        let order_id = place(&platform, "").await;
        assert_eq!(outcome(&platform, &order_id).await.status(), OrderStatus::Confirmed);
        assert_eq!(proxy.counts().marks, 1, "the fault did not happen");
        // The next one's call never reaches it.
        proxy.after(Direction::ToServer, Mark::Pattern(b"/v1/charges".to_vec()), Then::CutBefore);
        let order_id = place(&platform, "").await;
        assert_eq!(outcome(&platform, &order_id).await.status(), OrderStatus::Confirmed);
        assert_eq!(proxy.counts().marks, 2, "the fault did not happen");

        let mut provider = PgConnection::connect(&database).await.expect("connected");
        assert_eq!(count(&mut provider, "select count(*) from statement").await, 2, "each is charged once");
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s11_an_outage_of_the_provider_ends_and_all_orders_settle() {
    run(async {
        let (dir, database) = (data_dir().expect("a directory"), database().await);
        let env = [("SETTLE_PROVIDER_RETRY_MS_MAX", "2000")];
        let (mut desk, proxy, platform) = over_a_proxy(dir.path(), &database, &env).await;
        desk.program.kill().await.expect("it is gone");
        let mut placed = Vec::new();
        for _ in 0..5 {
            placed.push(place(&platform, "").await);
        }
        let tried = local::until("all to be tried in vain", WITHIN, || async {
            let sql = "select count(*) from provider_calls where attempts > 0";
            (count(&mut connect(&platform, "payment").await, sql).await == 5).then_some(())
        });
        tried.await.expect("they are sent");
        nothing_happens(&platform, &placed[0], OrderStatus::Processing).await;

        let next = Desk::start(&database, &[], None).await;
        proxy.forward_to(next.http);
        for order_id in &placed {
            assert_eq!(outcome(&platform, order_id).await.status(), OrderStatus::Confirmed);
        }
        let mut provider = PgConnection::connect(&database).await.expect("connected");
        assert_eq!(count(&mut provider, "select count(*) from statement").await, 5, "each is charged once");
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s12_webhooks_that_come_twice_late_and_out_of_order_make_one_charge() {
    const ORDERS: i64 = 10;
    run(async {
        let (dir, database) = (data_dir().expect("a directory"), database().await);
        // The sandbox is another process and tells all it books; its way to the gateway leads there once that is known.
        let way = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).await.expect("a proxy");
        let url = format!("http://127.0.0.1:{}/webhooks/provider", way.port());
        let (chaos, secret) = ("duplicate_webhook=1,reorder_webhook=1", "s3cret");
        let env = [("SETTLE_SANDBOX_CHAOS", chaos), ("SETTLE_WEBHOOK_URL", url.as_str()), ("SETTLE_WEBHOOK_SECRET", secret)];
        let desk = Desk::start(&database, &env, None).await;
        let env = [("SETTLE_PROVIDER_URL", format!("http://{}", desk.http)), ("SETTLE_WEBHOOK_SECRET", secret.to_owned())];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        way.forward_to(platform.ready.http.parse().expect("an address"));

        let mut placed = Vec::new();
        for _ in 0..ORDERS {
            placed.push(place(&platform, "").await);
        }
        for order_id in &placed {
            assert_eq!(outcome(&platform, order_id).await.status(), OrderStatus::Confirmed);
        }
        // Each comes twice, by the same id, after its charge was answered.
        let heard = local::until("all webhooks", WITHIN, || async {
            let sql = "select count(*) from webhook_events where repeats > 0";
            (count(&mut connect(&platform, "payment").await, sql).await == ORDERS).then_some(())
        });
        heard.await.expect("they come");
        let (mut payment, mut provider) =
            (connect(&platform, "payment").await, PgConnection::connect(&database).await.expect("connected"));
        let heard: Vec<String> =
            sqlx::query_scalar("select key::text from webhook_events order by at").fetch_all(&mut payment).await.expect("read");
        let booked: Vec<String> =
            sqlx::query_scalar("select key from statement order by at").fetch_all(&mut provider).await.expect("read");
        assert_ne!(heard, booked, "they came in order");
        assert_eq!(count(&mut provider, "select count(*) from statement").await, ORDERS, "each is charged once");
        let captured = "select count(*) from payments where state = 'CAPTURED' and refunded = 0";
        assert_eq!(count(&mut payment, captured).await, ORDERS);
        assert_eq!(count(&mut payment, "select count(*) from ledger_transfers").await, ORDERS);
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s12_a_provider_that_says_yes_twice_is_heard_once() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        let order_id = place(&platform, "tok_duplicate_webhook").await;
        assert_eq!(outcome(&platform, &order_id).await.status(), OrderStatus::Confirmed);
        let key = payment_id(&platform, &order_id).await;
        let twice = local::until("the second one", Duration::from_secs(20), || async {
            let sql = "select repeats from webhook_events where key = $1";
            let mut db = connect(&platform, "payment").await;
            let repeats: Option<i32> = sqlx::query_scalar(sql).bind(key).fetch_optional(&mut db).await.expect("read");
            repeats.filter(|repeats| *repeats == 1)
        });
        twice.await.expect("it comes out of the box");
        assert_eq!(count(&mut connect(&platform, "provider").await, "select count(*) from statement").await, 1);
        assert_eq!(count(&mut connect(&platform, "payment").await, "select count(*) from ledger_transfers").await, 1);
        platform.stop().await.expect("it ends well");
    });
}
