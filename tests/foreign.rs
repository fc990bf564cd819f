//! A producer of another kind, in another language, on a topic of ours: its records go where ours go, have one effect each, and what
//! cannot be read is kept as it came.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use contracts::{
    order::v1::{
        CreateOrderRequest, GetOrderRequest, Order, OrderItem, OrderStatus, WatchOrderRequest,
        order_service_client::OrderServiceClient,
    },
    topic,
};
use kit::settings::BusKind;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tonic::transport::Channel;

use crate::{
    clients,
    harness::{SETTLE_WITHIN, data_dir, run},
    process::Process,
};

/// METRICS comes every 10 s.
const METRICS_WITHIN: Duration = Duration::from_secs(60);

/// No protobuf: its first field has a wire type that there is not.
const GARBAGE: [u8; 4] = [0xff, 0xfe, 0x00, 0x01];

#[test]
fn a_record_of_a_python_producer_has_one_effect_and_garbage_is_kept() {
    run(async {
        let dir = data_dir().expect("a directory");
        let told = ("RUST_LOG", "info,messaging=debug".to_owned());
        let platform = Process::start(dir.path(), BusKind::Kafka, &[told]).await.expect("it starts");
        let desk = Desk::open(dir.path()).await;
        let mut orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"));
        let order_id = confirmed(&mut orders).await;

        // One event, sent twice.
        let event_id = kit::fresh_id();
        let sent = desk.send(&order_id, &["--event", "CourierCalled", "--id", &event_id.to_string(), "--times", "2"]).await;
        let partition = sent[0].partition;
        assert!(
            sent.len() == 2 && sent[1].partition == partition && sent[1].offset > sent[0].offset,
            "it was sent twice: {sent:?}"
        );
        assert_eq!(partition_of_ours(&platform, &order_id).await, partition, "where our own records of this order are");
        passed(&platform, &sent[1]).await;
        assert_eq!(entries(&mut orders, &order_id, "CourierCalled").await, 1);
        let sql = "select count(*) from processed_events where consumer = 'order' and event_id = $1";
        let applied: i64 =
            sqlx::query_scalar(sql).bind(event_id).fetch_one(&mut database(&platform, "order").await).await.expect("read");
        assert_eq!(applied, 1);
        let counted = || async { (repeats_counted(&platform) >= Some(1)).then_some(()) };
        local::until("the second one to be counted", METRICS_WITHIN, counted).await.expect("it is");
        let is_told = |line: &Value| line["type"] == "DUPLICATE_EVENT" && line["eventId"] == event_id.to_string();
        let repeats: Vec<Value> =
            platform.log().iter().filter_map(|line| serde_json::from_str(line).ok()).filter(is_told).collect();
        let [repeat] = repeats.as_slice() else { panic!("the second one is told of, and it alone: {repeats:?}") };
        assert_eq!(repeat["service"], "order");
        assert!(repeat["eventType"].is_string() && repeat["correlationId"].is_string(), "{repeat}");

        // Garbage under a key of the same partition: what comes behind it is not held up.
        let nobody = key_in(partition);
        let garbage = desk.send(&nobody, &["--garbage", &hex(&GARBAGE)]).await;
        assert_eq!(garbage[0].partition, partition);
        let (payload, state, reason) = parked(&platform, &nobody).await;
        assert_eq!(payload, GARBAGE, "its bytes are as they came");
        assert_eq!(state, "PARKED", "{reason}");
        let behind = desk.send(&order_id, &["--event", "CourierArrived"]).await;
        assert!(behind[0].partition == partition && behind[0].offset > garbage[0].offset);
        passed(&platform, &behind[0]).await;
        assert_eq!(entries(&mut orders, &order_id, "CourierArrived").await, 1);
        platform.stop().await.expect("it ends well");
    });
}

/// What the newest METRICS line of the order service says.
fn repeats_counted(platform: &Process) -> Option<u64> {
    let lines = platform.log();
    let mut lines = lines.iter().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| line["type"] == "METRICS" && line["service"] == "order")?["duplicatesSkipped"].as_u64()
}

/// Where foreign.py put a record.
#[derive(Debug)]
struct Sent {
    partition: i32,
    offset: i64,
}

/// foreign.py, ready to send.
struct Desk {
    python: PathBuf,
    stubs: tempfile::TempDir,
    brokers: String,
}

impl Desk {
    /// `dir` is where the platform was started.
    async fn open(dir: &Path) -> Self {
        let ready = std::fs::read_to_string(dir.join("data/ready.json")).expect("it is ready");
        let ready: Value = serde_json::from_str(&ready).expect("JSON");
        let brokers = ready["kafka"].as_str().expect("it is on Kafka").to_owned();
        let (python, stubs) = (clients::python().await, tempfile::tempdir().expect("a directory"));
        clients::generate(&python, stubs.path()).await;
        Self { python, stubs, brokers }
    }

    async fn send(&self, order_id: &str, arguments: &[&str]) -> Vec<Sent> {
        let mut command = Command::new(&self.python);
        command.arg(clients::directory().join("foreign.py")).env("PYTHONPATH", self.stubs.path());
        command.args(["--brokers", &self.brokers, "--order", order_id]).args(arguments);
        let output = clients::run(command).await;
        assert!(output.status.success(), "{}", clients::said(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let read = |line: &str| {
            let [topic, partition, offset] = line.split(' ').collect::<Vec<_>>().try_into().expect("three words");
            assert_eq!(topic, topic::ORDER_COMMANDS);
            Sent { partition: partition.parse().expect("a number"), offset: offset.parse().expect("a number") }
        };
        said.lines().map(read).collect()
    }
}

async fn confirmed(orders: &mut OrderServiceClient<Channel>) -> String {
    let request = CreateOrderRequest {
        customer_id: "foreign".into(),
        currency: "USD".into(),
        items: vec![OrderItem { sku: "prod-A".into(), quantity: 1, unit_price: None }],
        ..Default::default()
    };
    let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
    let request = WatchOrderRequest { order_id: order_id.clone(), final_only: true };
    let watch = async {
        let mut told = orders.watch_order(request).await.expect("watched").into_inner();
        told.message().await.expect("told").expect("an outcome");
    };
    tokio::time::timeout(SETTLE_WITHIN, watch).await.expect("settled in time");
    assert_eq!(shown(orders, &order_id).await.status(), OrderStatus::Confirmed);
    order_id
}

async fn shown(orders: &mut OrderServiceClient<Channel>, order_id: &str) -> Order {
    let request = GetOrderRequest { order_id: order_id.to_owned() };
    orders.get_order(request).await.expect("there").into_inner().order.expect("an order")
}

async fn entries(orders: &mut OrderServiceClient<Channel>, order_id: &str, event: &str) -> usize {
    shown(orders, order_id).await.timeline.iter().filter(|entry| entry.event == event).count()
}

/// In which partition the orchestrator's commands to this order are.
async fn partition_of_ours(platform: &Process, order_id: &str) -> i32 {
    let sql = "select distinct partition from outbox where topic = $1 and key = $2";
    let mut db = database(platform, "orchestrator").await;
    sqlx::query_scalar(sql).bind(topic::ORDER_COMMANDS).bind(order_id).fetch_one(&mut db).await.expect("there are some")
}

/// Waits until the order service has put this record behind it.
async fn passed(platform: &Process, sent: &Sent) {
    let passed = local::until("the record to be read", SETTLE_WITHIN, || async {
        let sql = "select coalesce(kafka_offset, 0) > $3 from progress where grp = 'order' and topic = $1 and partition = $2";
        let query = sqlx::query_scalar(sql).bind(topic::ORDER_COMMANDS).bind(sent.partition).bind(sent.offset);
        let passed: bool = query.fetch_one(&mut database(platform, "order").await).await.expect("read");
        passed.then_some(())
    });
    passed.await.expect("it was read");
}

/// What is parked under this key: payload, state, reason.
async fn parked(platform: &Process, key: &str) -> (Vec<u8>, String, String) {
    let parked = local::until("it to be parked", SETTLE_WITHIN, || async {
        let sql = "select payload, state, reason from dead_letter_events where consumer = 'order' and key = $1";
        sqlx::query_as(sql).bind(key).fetch_optional(&mut database(platform, "order").await).await.expect("read")
    });
    parked.await.expect("it is")
}

async fn database(platform: &Process, service: &str) -> PgConnection {
    PgConnection::connect(&platform.ready.databases[service]).await.expect("the database answers")
}

/// An id that nobody has, whose records go to this partition.
fn key_in(partition: i32) -> String {
    const PARTITIONS: i32 = 4;
    let mut fresh = std::iter::repeat_with(|| kit::fresh_id().to_string());
    fresh.find(|key| messaging::partition_of(key, PARTITIONS) == partition).expect("there is one")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
