//! The payment database is put back to an older copy while customers order. What it forgot is replayed from the streams of others, under
//! the keys it had: nobody is charged twice, and in the end all books agree. SETTLE_RESTORE_S says how old the copy is; `make money` runs
//! a minute of it. Some charges land when nobody asks about them any more, and are given back. What is so old that the provider may have
//! forgotten the key waits for a person.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    order::v1::{OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient},
    payment::v1::{RetryProviderCallRequest, payment_service_client::PaymentServiceClient},
};
use kit::settings::BusKind;
use local::{Proxy, postgres};
use settle::{audit::audit, deployment::Deployment};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    agreement,
    harness::{SETTLE_WITHIN, run},
    older_copy,
    placing::at_own_price,
    provider::http::Desk,
    served::{Ground, Served},
    shoppers::{Plan, Shop, shop},
};

const CUSTOMERS: usize = 48;
/// Orders before the copy is taken, and between the copy and its restore, at least.
const ORDERS: usize = 100;
const ORDER_WITHIN: Duration = Duration::from_secs(300);
const REST_WITHIN: Duration = Duration::from_secs(240);
/// Charges and refunds that no query finds until they land.
const CHAOS: &str = "seed=7,late=0.1,late_ms=3000";

#[test]
fn a_payment_database_put_back_under_load_charges_nobody_twice() {
    run(put_back(BusKind::Postgres));
}

#[test]
fn a_payment_database_put_back_under_load_charges_nobody_twice_on_kafka() {
    run(put_back(BusKind::Kafka));
}

async fn put_back(bus: BusKind) {
    let copy_age = std::env::var("SETTLE_RESTORE_S").ok().and_then(|s| s.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    let mut ground = Ground::prepare(bus, postgres::Options::for_tests(), &[]).await.expect("the ground is laid");
    let (_desk, gateway, door) = provided(&mut ground).await;
    let (others, order, mut payment) = older_copy::started(&ground, "payment").await;
    door.forward_to(payment.grpc.parse().expect("an address"));

    let customers = Arc::new(Shop::default());
    let plan = Plan { name: "restored".into(), orders: usize::MAX, at_once: CUSTOMERS, patience: ORDER_WITHIN };
    let shopping = tokio::spawn(shop(order, plan, customers.clone()));
    get_on(&customers, Duration::ZERO).await;
    older_copy::take(&ground, "payment").await;
    let copied_at = Instant::now();
    get_on(&customers, copy_age).await;
    payment.kill().await.expect("it is gone");
    let lost = restore(&ground).await;
    println!("{bus}: {lost} payments were lost with a copy of {} s ago", copied_at.elapsed().as_secs());
    assert!(lost > 0, "nothing was lost");
    let payment = Served::start(&ground, "payment").await.expect("it starts again");
    door.forward_to(payment.grpc.parse().expect("an address"));

    let rejoined = older_copy::rejoin(&ground, None).await;
    assert!(rejoined > 0, "no stream diverged");
    // A reader on the embedded bus, the relay on Kafka.
    let said: usize = others.iter().chain([&payment]).map(|served| served.lines_with("LOG_DIVERGED")).sum();
    assert!(said > 0, "nobody said so");
    get_on(&customers, Duration::ZERO).await;
    customers.close();
    shopping.await.expect("no customer panicked").expect("every order ends");
    println!("{} orders, {rejoined} streams rejoined: {:?}", customers.placed(), customers.ends());

    agreement::at_rest(&ground.databases, REST_WITHIN).await;
    let deployment = Deployment::of(ground.databases.clone());
    let clean = local::until("a clean audit", REST_WITHIN, || async {
        let report = audit(&deployment, true).await.expect("it is audited");
        (report.violations() == 0).then_some(report)
    });
    let report = match clean.await {
        Ok(report) => report,
        Err(error) => panic!("{error}: {:#?}", audit(&deployment, true).await.expect("it is audited").lines()),
    };
    for note in &report.attention.kept {
        println!("waits for a person: {}: {}", note.about, note.says);
    }
    assert_eq!(captured_twice(&ground).await, Vec::<String>::new());
    let late =
        "select count(*) from webhook_events w join payments p on p.id = w.key where w.at > p.created_at + interval '3 seconds'";
    assert!(count(&ground, "payment", late).await > 0, "nothing landed late");
    let after = "select count(*) from payments where decline_reason = 'VOIDED' and captured > 0";
    println!("{} charges landed after their payment was voided", count(&ground, "payment", after).await);
    gateway.stop().await.expect("it ends well");
    payment.stop().await.expect("it ends well");
    for served in others {
        served.stop().await.expect("it ends well");
    }
    ground.stop().await.expect("it ends");
}

#[test]
fn a_charge_of_a_lost_history_that_the_provider_has_forgotten_is_not_sent_and_waits_for_a_person() {
    run(async {
        let ground = Ground::prepare(BusKind::Postgres, postgres::Options::for_tests(), &[]).await.expect("the ground is laid");
        let (others, order, mut payment) = older_copy::started(&ground, "payment").await;
        older_copy::take(&ground, "payment").await;
        let mut orders = OrderServiceClient::new(settle::client::connect(&order).await.expect("gRPC answers"));
        let placed = orders.create_order(at_own_price("prod-A", "")).await.expect("accepted").into_inner();
        let watched = WatchOrderRequest { order_id: placed.order_id.clone(), final_only: true };
        let mut told = orders.watch_order(watched).await.expect("watched").into_inner();
        let ended = tokio::time::timeout(SETTLE_WITHIN, told.message()).await.expect("in time").expect("told").expect("an outcome");
        assert_eq!(ended.order.expect("an order").status(), OrderStatus::Confirmed);

        payment.kill().await.expect("it is gone");
        assert_eq!(restore(&ground).await, 1, "its payment is lost");
        // Two days go by: the command is old, and the provider has forgotten its key.
        let old = "update outbox set at = at - interval '2 days' where topic = 'payment.commands'";
        assert_eq!(changed(&ground, "orchestrator", old).await, 1);
        assert_eq!(changed(&ground, "provider", "update statement set key = 'forgotten ' || key").await, 1);
        let payment = Served::start(&ground, "payment").await.expect("it starts again");
        // If it had told by then that it had heard the command.
        older_copy::rejoin(&ground, Some("payment")).await;
        let (key, why, attempts) = set_aside(&ground).await;
        assert!(why.contains("has forgotten keys"), "{why}");
        assert_eq!(attempts, 1, "it was never sent in this history");
        let sent = "select count(*) from statement where key not like 'forgotten %'";
        assert_eq!(count(&ground, "provider", sent).await, 0, "it was sent");

        // A person finds it in the provider's console, and the provider answers.
        assert_eq!(changed(&ground, "provider", "update statement set key = substr(key, length('forgotten ') + 1)").await, 1);
        let mut payments = PaymentServiceClient::new(settle::client::connect(&payment.grpc).await.expect("gRPC answers"));
        let (who, reason) = ("ann".to_owned(), "it is in the console".to_owned());
        let retry = RetryProviderCallRequest { key: key.to_string(), who, reason, never_made: false };
        payments.retry_provider_call(retry).await.expect("taken up again");
        let taken = local::until("the charge to be known", SETTLE_WITHIN, || async {
            (count(&ground, "payment", "select count(*) from payments where state = 'CAPTURED'").await == 1).then_some(())
        });
        taken.await.expect("it is found");
        assert_eq!(count(&ground, "provider", "select count(*) from statement").await, 1, "charged once");
        payment.stop().await.expect("it ends well");
        for served in others {
            served.stop().await.expect("it ends well");
        }
        ground.stop().await.expect("it ends");
    });
}

/// A provider in a process of its own, which outlives the payment service, the gateway that it tells what it has booked, and the gateway's
/// way to the payment service.
async fn provided(ground: &mut Ground) -> (Desk, Served, Proxy) {
    let door = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).await.expect("a proxy");
    ground.set("SETTLE_WEBHOOK_SECRET", "s3cret");
    ground.set("SETTLE_PAYMENT_GRPC_URL", &format!("http://127.0.0.1:{}", door.port()));
    // It is not asked for orders.
    ground.set("SETTLE_ORDER_GRPC_URL", "http://127.0.0.1:1");
    let gateway = Served::start(ground, "gateway").await.expect("it starts");
    let webhooks = format!("http://{}/webhooks/provider", gateway.http);
    let env = [("SETTLE_SANDBOX_CHAOS", CHAOS), ("SETTLE_WEBHOOK_URL", webhooks.as_str()), ("SETTLE_WEBHOOK_SECRET", "s3cret")];
    let desk = Desk::start(&ground.databases["provider"], &env, None).await;
    ground.set("SETTLE_PROVIDER_URL", &format!("http://{}", desk.http));
    (desk, gateway, door)
}

/// Rows that a statement has changed.
async fn changed(ground: &Ground, service: &str, sql: &'static str) -> u64 {
    let mut db = PgConnection::connect(&ground.databases[service]).await.expect("the database answers");
    sqlx::query(sql).execute(&mut db).await.expect("changed").rows_affected()
}

async fn count(ground: &Ground, service: &str, sql: &'static str) -> i64 {
    let mut db = PgConnection::connect(&ground.databases[service]).await.expect("the database answers");
    sqlx::query_scalar(sql).fetch_one(&mut db).await.expect("read")
}

/// Waits for a call that waits for a person: its key, why, and how often it was tried.
async fn set_aside(ground: &Ground) -> (Uuid, String, i32) {
    let aside = local::until("a call to be set aside", SETTLE_WITHIN, || async {
        let mut db = PgConnection::connect(&ground.databases["payment"]).await.expect("the database answers");
        let sql = "select key, attention, attempts from provider_calls where attention <> ''";
        sqlx::query_as::<_, (Uuid, String, i32)>(sql).fetch_optional(&mut db).await.expect("read")
    });
    aside.await.expect("a person must look")
}

/// Waits until so many more orders are placed, and so much time has passed.
async fn get_on(customers: &Shop, lasts: Duration) {
    let (begun, before) = (Instant::now(), customers.placed());
    let got_on = local::until("more orders", lasts + SETTLE_WITHIN, || async {
        (customers.placed() >= before + ORDERS && begun.elapsed() >= lasts).then_some(())
    });
    got_on.await.expect("the customers go on");
}

/// How many payments are gone with it.
async fn restore(ground: &Ground) -> i64 {
    let before = payments(ground).await;
    older_copy::put_back(ground, "payment").await;
    before - payments(ground).await
}

async fn payments(ground: &Ground) -> i64 {
    count(ground, "payment", "select count(*) from payments").await
}

/// Charges whose money was taken more than once, by what the provider says.
async fn captured_twice(ground: &Ground) -> Vec<String> {
    let mut db = PgConnection::connect(&ground.databases["provider"]).await.expect("the database answers");
    let sql = r#"select coalesce("of", key) from statement
                 where kind in ('CHARGE', 'CAPTURE') and outcome = 'SUCCEEDED' group by 1 having count(*) > 1"#;
    sqlx::query_scalar(sql).fetch_all(&mut db).await.expect("read")
}
