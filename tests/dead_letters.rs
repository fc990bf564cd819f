//! A bad deployment makes dead letters of good commands. Whoever looks after them sees each, may try before, and decides: it is tried
//! again, or given up. Either way its saga ends, and all books agree.

use std::{path::Path, time::Duration};

use contracts::{
    messaging::v1::{
        DiscardDeadLetterRequest, GetDeadLetterRequest, ListDeadLettersRequest, RedriveDeadLettersRequest,
        dead_letter_service_client::DeadLetterServiceClient,
    },
    order::v1::{
        CreateOrderRequest, GetOrderRequest, Order, OrderItem, OrderStatus, WatchOrderRequest,
        order_service_client::OrderServiceClient,
    },
};
use kit::settings::BusKind;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic::{Code, Status, transport::Channel};

use crate::{
    agreement,
    harness::{SETTLE_WITHIN, data_dir, run},
    placing::{UNPRICED, assert_happened, fields_of, reason_of},
    process::Process,
    startup::{assert_one_line, end_of, settle},
};

const REST_WITHIN: Duration = Duration::from_secs(60);
/// What an order costs whose charge the bad deployment cannot book.
const UNBOOKABLE: i64 = 4_711;
/// What an order costs that it cannot confirm.
const UNCONFIRMABLE: i64 = 4_712;

#[test]
fn on_the_embedded_bus() {
    run(looked_after(BusKind::Postgres));
}

#[test]
fn on_kafka() {
    run(looked_after(BusKind::Kafka));
}

async fn looked_after(bus: BusKind) {
    let dir = data_dir().expect("a directory");
    let platform = Process::start(dir.path(), bus, &[]).await.expect("it starts");
    let desk = Desk { platform: &platform, data: &dir.path().join("data") };
    desk.change("payment", &format!("alter table payments add constraint bad_deploy check (amount <> {UNBOOKABLE}) not valid"))
        .await;
    let sql =
        format!("alter table orders add constraint bad_deploy check (status <> 'CONFIRMED' or total <> {UNCONFIRMABLE}) not valid");
    desk.change("order", &sql).await;

    let (again, given_up, unconfirmed) =
        (desk.place(UNBOOKABLE).await, desk.place(UNBOOKABLE).await, desk.place(UNCONFIRMABLE).await);
    let charge = desk.parked("payment", &again).await;
    assert_eq!((&charge["eventType"], &charge["topic"]), (&json!("settle.payment.v1.ChargePayment"), &json!("payment.commands")));
    assert_eq!((&charge["payloadJson"]["orderId"], &charge["payloadJson"]["amount"]), (&json!(again), &json!("4711")));
    assert!(charge["reason"].as_str().is_some_and(|reason| reason.contains("bad_deploy")), "{charge}");
    assert!(charge["payload"].as_str().is_some_and(|bytes| !bytes.is_empty()), "the bytes are always shown");

    it_is_tried_again(&desk, &again, &charge).await;
    it_is_given_up(&desk, &given_up).await;
    a_confirmation_is_given_up(&desk, &unconfirmed).await;
    everything_has_a_copy(&desk).await;

    let held = desk.json(&["list"]).await;
    assert_eq!(held["deadLetters"], json!([]), "nothing is left");
    let databases = platform.ready.databases.clone();
    agreement::at_rest(&databases, REST_WITHIN).await;
    let violations = agreement::violations(&databases).await;
    assert!(violations.is_empty(), "the books do not agree:\n{}", violations.join("\n"));
    platform.stop().await.expect("it ends well");
}

/// In vain while the cause is there, and once it is gone.
async fn it_is_tried_again(desk: &Desk<'_>, order_id: &str, charge: &Value) {
    let id = id_of(charge);
    let dry_run = ["redrive", id.as_str(), "--service", "payment", "--dry-run"];
    let foretold = desk.run(&dry_run).await;
    assert!(!foretold.0, "it would fail, and the exit code says so");
    assert_eq!(foretold.1["rehearsals"][0]["outcome"], "FAILED", "{}", foretold.1);
    assert!(foretold.1["rehearsals"][0]["reason"].as_str().is_some_and(|reason| reason.contains("bad_deploy")), "{}", foretold.1);

    let redrive = ["redrive", "--key", order_id, "--service", "payment", "--reason", "a test", "--who", "tester"];
    assert_eq!(desk.json(&redrive).await["redriven"], 1);
    let parked_again = local::until("it to be parked again", SETTLE_WITHIN, || async {
        let shown = desk.json(&["show", &id, "--service", "payment"]).await;
        (shown["deadLetter"]["state"] == "PARKED" && shown["deadLetter"]["redrives"] == 1).then_some(shown)
    });
    let shown = parked_again.await.expect("it fails again");
    let done = &shown["interventions"];
    assert_eq!((&done[0]["action"], &done[0]["who"], &done[0]["reason"]), (&json!("REDRIVE"), &json!("tester"), &json!("a test")));

    desk.change("payment", "alter table payments drop constraint bad_deploy").await;
    let foretold = desk.json(&dry_run).await;
    assert_eq!(foretold["rehearsals"][0]["outcome"], "APPLIED", "{foretold}");
    let made: i64 = desk.count("payment", &format!("select count(*) from payments where order_id = '{order_id}'")).await;
    assert_eq!(made, 0, "a dry run leaves nothing");

    assert_eq!(desk.json(&redrive).await["redriven"], 1);
    assert_eq!(desk.json(&redrive).await["redriven"], 0, "a second redrive is harmless, and says so");
    let order = desk.outcome(order_id).await;
    assert_eq!(order.status(), OrderStatus::Confirmed);

    let mut late = settle(&["dlq", "discard", &id, "--service", "payment", "--reason", "too late", "--who", "tester", "--data"]);
    late.arg(desk.data);
    assert_one_line("a discard of what is applied", &end_of(late).await, &["settled already"]);
}

/// Its saga hears a no, and nobody pays.
async fn it_is_given_up(desk: &Desk<'_>, order_id: &str) {
    let id = id_of(&desk.parked("payment", order_id).await);
    let discard = ["discard", id.as_str(), "--service", "payment", "--reason", "the customer has called", "--who", "tester"];
    assert_eq!(desk.json(&discard).await["discarded"], true);
    let order = desk.outcome(order_id).await;
    assert_eq!((order.status(), order.reason.as_str(), order.refunded_amount), (OrderStatus::Failed, "DISCARDED", 0));
    assert_happened(&order, &["SagaStarted", "PaymentFailed", "OrderFailed"]);
    assert_eq!(desk.json(&discard).await["discarded"], false, "a second discard is harmless, and says so");
    let shown = desk.json(&["show", &id, "--service", "payment"]).await;
    assert_eq!(shown["deadLetter"]["state"], "DONE");
    assert_eq!(shown["interventions"].as_array().map(Vec::len), Some(1), "{shown}");
}

/// The order row refuses the confirmation from then on; what was done is undone.
async fn a_confirmation_is_given_up(desk: &Desk<'_>, order_id: &str) {
    let id = id_of(&desk.parked("order", order_id).await);
    let discard = ["discard", id.as_str(), "--service", "order", "--reason", "sold elsewhere", "--who", "tester"];
    assert_eq!(desk.json(&discard).await["discarded"], true);
    let order = desk.outcome(order_id).await;
    assert_eq!((order.status(), order.reason.as_str()), (OrderStatus::Failed, "DISCARDED"));
    assert_eq!(order.refunded_amount, UNCONFIRMABLE);
    assert_happened(&order, &["ShippingScheduled", "OrderConfirmDiscarded", "SagaCompensating", "PaymentRefunded", "OrderFailed"]);
    desk.change("order", "alter table orders drop constraint bad_deploy").await;
}

/// Two charges and a redrive of one in vain; a confirmation.
async fn everything_has_a_copy(desk: &Desk<'_>) {
    for (service, topic, copies) in [("payment", "payment.commands.dlq", 3), ("order", "order.commands.dlq", 1)] {
        let sql = format!("select count(*) from outbox_published where topic = '{topic}' and published_at is not null");
        let published = local::until("the copies to be published", SETTLE_WITHIN, || async {
            (desk.count(service, &sql).await == copies).then_some(())
        });
        published.await.unwrap_or_else(|error| panic!("{topic}: {error}"));
    }
    let same = "select count(*) from outbox o join dead_letter_events d on d.event_id = (o.extra ->> 'dlqid')::uuid
                where o.topic = 'payment.commands.dlq' and o.payload = d.payload and o.key = d.key and o.type = d.event_type";
    assert_eq!(desk.count("payment", same).await, 3, "as they came");
}

/// A platform and its command line.
struct Desk<'a> {
    platform: &'a Process,
    data: &'a Path,
}

impl Desk<'_> {
    /// Runs `settle dlq`: whether its exit code is 0, and the one document it prints.
    async fn run(&self, args: &[&str]) -> (bool, Value) {
        let mut command = settle(&["dlq"]);
        command.args(args).args(["--output", "json", "--data"]).arg(self.data);
        let ended = end_of(command).await;
        let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        let document = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error} in {out:?}; {err}"));
        (ended.status.success(), document)
    }

    /// The same, and it must say that all is well.
    async fn json(&self, args: &[&str]) -> Value {
        let (well, document) = self.run(args).await;
        assert!(well, "{args:?}: {document}");
        document
    }

    /// The one record of this key that a service has parked.
    async fn parked(&self, service: &str, key: &str) -> Value {
        let parked = local::until("a dead letter", SETTLE_WITHIN, || async {
            let listed = self.json(&["list", "--service", service, "--key", key, "--state", "PARKED"]).await;
            listed["deadLetters"].as_array().into_iter().flatten().find(|letter| letter["behind"] == false).cloned()
        });
        parked.await.unwrap_or_else(|error| panic!("{service}, {key}: {error}; {}", self.platform.said()))
    }

    async fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(settle::client::connect(&self.platform.ready.grpc).await.expect("gRPC answers"))
    }

    async fn place(&self, price: i64) -> String {
        let request = CreateOrderRequest {
            customer_id: "dead-letters".into(),
            currency: UNPRICED.into(),
            items: vec![OrderItem { sku: "prod-A".into(), quantity: 1, unit_price: Some(price) }],
            ..Default::default()
        };
        self.orders().await.create_order(request).await.expect("accepted").into_inner().order_id
    }

    async fn outcome(&self, order_id: &str) -> Order {
        let mut orders = self.orders().await;
        let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
        let watch = async {
            let mut outcome = orders.watch_order(request).await.expect("watched").into_inner();
            outcome.message().await.expect("told").expect("an outcome");
        };
        tokio::time::timeout(SETTLE_WITHIN, watch).await.unwrap_or_else(|_| panic!("{order_id} does not end"));
        let request = GetOrderRequest { order_id: order_id.to_owned() };
        orders.get_order(request).await.expect("there").into_inner().order.expect("an order")
    }

    async fn database(&self, service: &str) -> PgConnection {
        PgConnection::connect(&self.platform.ready.databases[service]).await.expect("the database answers")
    }

    async fn change(&self, service: &str, sql: &str) {
        let mut db = self.database(service).await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.expect("changed");
    }

    async fn count(&self, service: &str, sql: &str) -> i64 {
        let mut db = self.database(service).await;
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut db).await.expect("read")
    }
}

fn id_of(letter: &Value) -> String {
    letter["id"].as_str().expect("an id").to_owned()
}

#[test]
fn what_makes_no_sense_is_refused_by_its_field() {
    run(async {
        let stage = crate::harness::platform(crate::harness::Bus::Postgres).await;
        let desk = DeadLetterServiceClient::new(stage.channel().await);
        let list = async |request: ListDeadLettersRequest| desk.clone().list_dead_letters(request).await.expect_err("refused");
        let redrive =
            async |request: RedriveDeadLettersRequest| desk.clone().redrive_dead_letters(request).await.expect_err("refused");
        let discard =
            async |request: DiscardDeadLetterRequest| desk.clone().discard_dead_letter(request).await.expect_err("refused");
        let service = || "payment".to_owned();
        let reason = || "a test".to_owned();
        let named = |status: &Status| (status.code(), fields_of(status));
        let bad = |field: &str| (Code::InvalidArgument, vec![field.to_owned()]);

        assert_eq!(named(&list(ListDeadLettersRequest::default()).await), bad("service"));
        let request = ListDeadLettersRequest { service: service(), page_size: -1, ..Default::default() };
        assert_eq!(named(&list(request).await), bad("page_size"));
        let request = ListDeadLettersRequest { service: service(), page_token: "zz".into(), ..Default::default() };
        assert_eq!(named(&list(request).await), bad("page_token"));
        let request = ListDeadLettersRequest { service: service(), state: 99, ..Default::default() };
        assert_eq!(named(&list(request).await), bad("state"));
        let request = ListDeadLettersRequest { service: service(), key: "a\0b".into(), ..Default::default() };
        assert_eq!(named(&list(request).await), bad("key"));

        let asked = RedriveDeadLettersRequest { service: service(), key: "k".into(), reason: reason(), ..Default::default() };
        assert_eq!(named(&redrive(RedriveDeadLettersRequest { reason: " ".into(), ..asked.clone() }).await), bad("reason"));
        assert_eq!(named(&redrive(RedriveDeadLettersRequest { key: String::new(), ..asked.clone() }).await), bad("ids"));
        assert_eq!(named(&redrive(RedriveDeadLettersRequest { ids: vec![1], ..asked.clone() }).await), bad("ids"));
        assert_eq!(named(&redrive(RedriveDeadLettersRequest { per_second: -1, ..asked.clone() }).await), bad("per_second"));
        let long = "x".repeat(129);
        assert_eq!(named(&redrive(RedriveDeadLettersRequest { who: long, ..asked.clone() }).await), bad("who"));
        let ids = (1..=1_001).collect();
        assert_eq!(named(&redrive(RedriveDeadLettersRequest { ids, key: String::new(), ..asked.clone() }).await), bad("ids"));

        let request = DiscardDeadLetterRequest { service: service(), id: 1, ..Default::default() };
        assert_eq!(named(&discard(request.clone()).await), bad("reason"));

        let absent = i64::MAX;
        let request = GetDeadLetterRequest { service: service(), id: absent };
        let none = [
            desk.clone().get_dead_letter(request).await.expect_err("there is none"),
            discard(DiscardDeadLetterRequest { id: absent, reason: reason(), ..request_of("payment") }).await,
            redrive(RedriveDeadLettersRequest { ids: vec![absent], key: String::new(), ..asked.clone() }).await,
            discard(DiscardDeadLetterRequest { id: 1, reason: reason(), ..request_of("gateway") }).await,
            list(ListDeadLettersRequest { service: "nobody".into(), ..Default::default() }).await,
        ];
        for status in none {
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::NotFound, "NOT_FOUND"), "{status:?}");
        }
        let nothing = desk.clone().redrive_dead_letters(asked).await.expect("it is asked well").into_inner();
        assert_eq!((nothing.redriven, nothing.refused_ids.len(), nothing.next_after_id), (0, 0, 0), "nothing of it is parked");
    });
}

fn request_of(service: &str) -> DiscardDeadLetterRequest {
    DiscardDeadLetterRequest { service: service.to_owned(), ..Default::default() }
}
