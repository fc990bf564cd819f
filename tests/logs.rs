//! The log types and counters that tools read: each is found in the log of a running platform, with its fields and its numbers.

use std::{collections::BTreeSet, path::Path, time::Duration};

use contracts::order::v1::{
    CreateOrderRequest, OrderItem, OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient,
};
use kit::settings::BusKind;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tonic::Request;
use uuid::Uuid;

use crate::{
    harness::{SETTLE_WITHIN, data_dir, run},
    process::Process,
};

/// METRICS comes every 10 s.
const WITHIN: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Those that hear `order.events`.
const HEARERS: [&str; 4] = ["inventory", "notification", "orchestrator", "shipping"];

/// What a line of each type has, beside `service`. DUPLICATE_EVENT has no cause here, but in `foreign.rs`.
const FIELDS: &[(&str, &[&str])] = &[
    ("STARTUP", &[]),
    ("EVENT_RECEIVED", &["eventId", "eventType", "topic", "partition", "correlationId"]),
    ("STATE_CHANGE", &["orderId", "newState", "eventId", "correlationId"]),
    ("PAYMENT_RESULT", &["orderId", "status", "correlationId"]),
    ("PROCESSING_ERROR", &["error"]),
    ("DLQ_EVENT", &["eventId", "eventType", "key", "reason", "correlationId"]),
    ("METRICS", &["eventsProcessed", "duplicatesSkipped", "paymentsSuccess", "paymentsFailed", "retriedEvents", "dlqEvents"]),
];

#[test]
fn each_type_has_its_fields_and_the_counters_are_right() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = start(dir.path()).await;
        let mut orders = Vec::new();
        for token in ["", "", "", "tok_declined"] {
            orders.push(settle(&platform, token).await);
        }

        let poison = poison(&platform).await;
        wait(&platform, "a dead letter in each group", |log| parked_by(log, poison) == BTreeSet::from(HEARERS)).await;

        assert!(hang_up(&platform, "notification").await > 0, "it had a connection");
        orders.push(settle(&platform, "").await);
        let outage = |log: &[Value]| of_type(log, "PROCESSING_ERROR").any(|line| line["service"] == "notification");
        wait(&platform, "the lost connection to be told", outage).await;

        wait(&platform, "METRICS of notification", |log| {
            let line = metrics(log, "notification");
            line["eventsProcessed"] == 5 && line["dlqEvents"] == 1 && line["retriedEvents"].as_u64() >= Some(1)
        })
        .await;
        wait(&platform, "METRICS of payment", |log| {
            let line = metrics(log, "payment");
            let counted = (&line["paymentsSuccess"], &line["paymentsFailed"], &line["eventsProcessed"], &line["dlqEvents"]);
            // A command and an outcome each.
            counted == (&json!(4), &json!(1), &json!(10), &json!(0))
        })
        .await;

        let log = log(&platform);
        for (kind, fields) in FIELDS {
            assert!(of_type(&log, kind).next().is_some(), "there is no {kind}");
            for line in of_type(&log, kind) {
                for field in ["service"].iter().chain(*fields) {
                    assert!(!line[*field].is_null(), "{field} is missing in {line}");
                }
            }
        }
        assert!(log.iter().all(|line| line["service"].is_string()), "every line names a service");
        for service in ["order", "payment"].iter().chain(&HEARERS) {
            assert!(of_type(&log, "STARTUP").any(|line| line["service"] == *service), "{service} does not say that it has started");
            assert!(!metrics(&log, service).is_null(), "{service} has no METRICS");
        }
        for (order_id, status) in &orders {
            let states = of_order(&log, "STATE_CHANGE", order_id, "newState");
            let results = of_order(&log, "PAYMENT_RESULT", order_id, "status");
            match status {
                OrderStatus::Confirmed => {
                    assert_eq!(states, ["PENDING", "PROCESSING", "PAID", "CONFIRMED"]);
                    assert_eq!(results, ["SUCCESS"]);
                }
                _ => {
                    assert_eq!((states.first().copied(), states.last().copied()), (Some("PENDING"), Some("FAILED")));
                    assert_eq!(results, ["FAILED"]);
                }
            }
            for kind in ["EVENT_RECEIVED", "STATE_CHANGE", "PAYMENT_RESULT"] {
                let mut lines = of_type(&log, kind).filter(|line| line["correlationId"] == order_id.as_str());
                assert!(lines.all(|line| line["traceId"] == TRACE), "a {kind} of {order_id} is in another trace");
            }
        }
        assert_eq!(orders.iter().filter(|(_, status)| *status == OrderStatus::Failed).count(), 1);

        let shown = exposition(&platform).await;
        assert_eq!(value(&shown, "orders_submitted_total", &[]), ["5"]);
        assert_eq!(value(&shown, "payments_failed_total", &[]), ["1"]);
        let labels = ["group=\"notification\"", "topic=\"order.events\"", "partition="];
        local::until("the lag of notification to be 0", WITHIN, || async {
            let lags = exposition(&platform).await;
            let lags = value(&lags, "settle_consumer_lag", &labels);
            (!lags.is_empty() && lags.iter().all(|lag| *lag == "0")).then_some(())
        })
        .await
        .expect("it is shown");
        platform.stop().await.expect("it ends well");
    });
}

async fn start(dir: &Path) -> Process {
    let filter = "info,messaging=debug,order=debug,payment=debug".to_owned();
    Process::start(dir, BusKind::Postgres, &[("RUST_LOG", filter)]).await.expect("it starts")
}

/// An order within a trace of the caller's: its id, and how it ended.
async fn settle(platform: &Process, token: &str) -> (String, OrderStatus) {
    let mut orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"));
    let mut request = Request::new(CreateOrderRequest {
        customer_id: "reader".into(),
        currency: "USD".into(),
        items: vec![OrderItem { sku: "prod-A".into(), quantity: 1, unit_price: Some(1_500) }],
        payment_token: token.into(),
        ..Default::default()
    });
    // Not sampled: nobody traces here, and the context is carried all the same.
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    request.metadata_mut().insert("traceparent", parent.parse().expect("ASCII"));
    let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
    let request = WatchOrderRequest { order_id: order_id.clone(), final_only: true };
    let watch = async {
        let mut outcome = orders.watch_order(request).await.expect("watched").into_inner();
        outcome.message().await.expect("told").expect("an outcome").order.expect("an order").status()
    };
    let status = tokio::time::timeout(SETTLE_WITHIN, watch).await.expect("settled in time");
    (order_id, status)
}

/// A record that nobody can read, at the end of a stream of the order service while nothing is said.
async fn poison(platform: &Process) -> Uuid {
    let id = kit::fresh_id();
    let mut order = PgConnection::connect(&platform.ready.databases["order"]).await.expect("it answers");
    let said = sqlx::query(
        "insert into outbox (topic, partition, seq, id, prev, key, type, payload, at, correlation)
         select topic, partition, seq + 1, $1, id, 'nobody', 'settle.order.v1.OrderCompleted', '\\xffffff'::bytea,
             clock_timestamp(), 'nobody'
         from outbox where topic = 'order.events' order by seq desc limit 1",
    )
    .bind(id)
    .execute(&mut order)
    .await
    .expect("written");
    assert_eq!(said.rows_affected(), 1);
    id
}

/// Ends all connections to the database of a service; how many there were.
async fn hang_up(platform: &Process, service: &str) -> i64 {
    let mut db = PgConnection::connect(&platform.ready.databases[service]).await.expect("it answers");
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    sqlx::query_scalar(sql).fetch_one(&mut db).await.expect("done")
}

/// The JSON lines of its log so far. What is said to people is none.
fn log(platform: &Process) -> Vec<Value> {
    platform.log().iter().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

async fn wait(platform: &Process, what: &str, is_so: impl Fn(&[Value]) -> bool) {
    let waited = local::until(what, WITHIN, || {
        let is_so = is_so(&log(platform));
        async move { is_so.then_some(()) }
    });
    if let Err(error) = waited.await {
        panic!("{error}\n{}", platform.said());
    }
}

fn of_type<'a>(log: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    log.iter().filter(move |line| line["type"] == kind)
}

fn of_order<'a>(log: &'a [Value], kind: &'a str, order_id: &'a str, field: &'a str) -> Vec<&'a str> {
    of_type(log, kind).filter(|line| line["orderId"] == order_id).filter_map(|line| line[field].as_str()).collect()
}

/// The newest METRICS line of a service; null if there is none.
fn metrics<'a>(log: &'a [Value], service: &str) -> &'a Value {
    const NONE: &Value = &Value::Null;
    log.iter().rev().find(|line| line["type"] == "METRICS" && line["service"] == service).unwrap_or(NONE)
}

fn parked_by(log: &[Value], id: Uuid) -> BTreeSet<&str> {
    let id = id.to_string();
    of_type(log, "DLQ_EVENT").filter(|line| line["eventId"] == id.as_str()).filter_map(|line| line["service"].as_str()).collect()
}

/// What Prometheus is shown.
async fn exposition(platform: &Process) -> String {
    let answer = reqwest::get(format!("http://{}/metrics", platform.ready.admin)).await.expect("an answer");
    answer.text().await.expect("a text")
}

/// The values of a metric, those of its series that have all these labels.
fn value<'a>(shown: &'a str, name: &str, labels: &[&str]) -> Vec<&'a str> {
    let named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let labelled = |line: &&str| labels.iter().all(|label| line.contains(label));
    shown.lines().filter(named).filter(labelled).filter_map(|line| line.rsplit(' ').next()).collect()
}
