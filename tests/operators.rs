//! What people have sagas do. A refund that is refused is listed, asked for again and given up; sagas are paused and resumed, one by one or
//! many at a time; and before a deployment it is told which of them it would strand.

use std::path::Path;

use contracts::{
    order::v1::{
        CreateOrderRequest, GetOrderRequest, Order, OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient,
    },
    saga::v1::{
        DescribeDefinitionRequest, GetSagaRequest, OperateSagasRequest, PauseSagaRequest, RetrySagaRequest, Saga, SagaState,
        StepState, saga_service_client::SagaServiceClient,
    },
};
use kit::settings::BusKind;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::{SETTLE_WITHIN, data_dir, run},
    placing::{assert_happened, at_own_price, fields_of, reason_of},
    process::{Process, document},
    startup::assert_one_line,
};

/// Who asks, and why.
const BY: [&str; 4] = ["--who", "ann", "--reason", "the test wants it"];

/// A platform, and the operator at it.
struct Desk {
    platform: Process,
}

impl Desk {
    async fn open(dir: &Path) -> Self {
        let platform = Process::start(dir, BusKind::Postgres, &[]).await.expect("it starts");
        Self { platform }
    }

    async fn close(self) {
        self.platform.stop().await.expect("it ends well");
    }

    async fn channel(&self) -> Channel {
        settle::client::connect(&self.platform.ready.grpc).await.expect("gRPC answers")
    }

    async fn sagas(&self) -> SagaServiceClient<Channel> {
        SagaServiceClient::new(self.channel().await)
    }

    async fn place(&self, sku: &str, token: &str) -> String {
        let request: CreateOrderRequest = at_own_price(sku, token);
        OrderServiceClient::new(self.channel().await).create_order(request).await.expect("accepted").into_inner().order_id
    }

    async fn order(&self, order_id: &str) -> Order {
        let request = GetOrderRequest { order_id: order_id.to_owned() };
        let mut orders = OrderServiceClient::new(self.channel().await);
        orders.get_order(request).await.expect("there").into_inner().order.expect("an order")
    }

    /// The order when it is final.
    async fn outcome(&self, order_id: &str) -> Order {
        let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
        let mut orders = OrderServiceClient::new(self.channel().await);
        let watch = async { orders.watch_order(request).await.expect("watched").into_inner().message().await.expect("told") };
        tokio::time::timeout(SETTLE_WITHIN, watch).await.expect("settled in time").expect("an outcome");
        self.order(order_id).await
    }

    /// The saga of an order as soon as it is like that.
    async fn saga(&self, order_id: &str, what: &str, is: impl Fn(&Saga) -> bool) -> Saga {
        let sagas = self.sagas().await;
        let request = || GetSagaRequest { order_id: order_id.to_owned(), ..Default::default() };
        let found = local::until(what, SETTLE_WITHIN, || {
            let (mut sagas, request, is) = (sagas.clone(), request(), &is);
            async move { sagas.get_saga(request).await.ok()?.into_inner().saga.filter(|saga| is(saga)) }
        });
        match found.await {
            Ok(saga) => saga,
            Err(error) => panic!("{error}: {:#?}", self.sagas().await.get_saga(request()).await),
        }
    }

    /// An order whose stock is not there and whose refund the provider refuses.
    async fn stuck(&self) -> String {
        let order_id = self.place("SKU-EMPTY", "tok_refund_refused").await;
        self.saga(&order_id, "the saga to be stuck", |saga| saga.state() == SagaState::NeedsAttention).await;
        order_id
    }

    async fn operate(&self, operation: &str, order_id: &str) -> Value {
        self.platform.told(&[&["saga", operation, order_id][..], &BY].concat()).await
    }

    /// The operation is refused in one line that has these words.
    async fn refused(&self, args: &[&str], words: &[&str]) {
        let args = [&["saga"][..], args, &BY].concat();
        assert_one_line(&args.join(" "), &self.platform.ended(&args).await, words);
    }

    /// Orders of the sagas that a filter finds.
    async fn listed(&self, filter: &[&str]) -> Vec<String> {
        let listed = self.platform.told(&[&["saga", "list", "--limit", "1000"][..], filter].concat()).await;
        let sagas = listed["sagas"].as_array().expect("a list");
        sagas.iter().map(|saga| saga["orderId"].as_str().expect("an id").to_owned()).collect()
    }

    async fn database(&self, service: &str) -> PgConnection {
        PgConnection::connect(&self.platform.ready.databases[service]).await.expect("the database answers")
    }

    /// How a later binary would have left the saga of this order, or this one again.
    async fn pin(&self, order_id: &str, version: i32) {
        let sql = "update sagas set definition_version = $2 where order_id = $1 and progress like 'A1,%'";
        let mut db = self.database("orchestrator").await;
        let pinned = sqlx::query(sql).bind(id(order_id)).bind(version).execute(&mut db).await.expect("written");
        assert_eq!(pinned.rows_affected(), 1, "its charge is not answered yet");
    }
}

fn id(order_id: &str) -> Uuid {
    order_id.parse().expect("a UUID")
}

#[test]
fn s06_a_refund_that_is_refused_is_listed_asked_for_again_and_given_up() {
    run(async {
        let dir = data_dir().expect("a directory");
        let desk = Desk::open(dir.path()).await;
        let order_id = desk.stuck().await;
        let stuck = desk.saga(&order_id, "a stuck saga", |saga| saga.state() == SagaState::NeedsAttention).await;
        assert_eq!(stuck.remaining, ["RefundPayment", "CloseOrder"]);
        assert!(desk.order(&order_id).await.needs_attention);
        assert_eq!(desk.listed(&["--state", "NEEDS_ATTENTION", "--definition", "checkout"]).await, [order_id.as_str()]);
        for nothing in [
            &["--state", "NEEDS_ATTENTION", "--age", "3600"][..],
            &["--definition", "refund"],
            &["--paused"],
            &["--step", "confirm"],
            &["--step", "reserve"],
        ] {
            assert!(desk.listed(nothing).await.is_empty(), "{nothing:?}");
        }
        assert_eq!(desk.listed(&["--step", "charge"]).await, [order_id.as_str()], "its charge cannot be given back");

        let older = (stuck.version - 1).to_string();
        desk.refused(&["retry", &order_id, "--expected-version", &older], &["Aborted", "moved on"]).await;
        desk.refused(&["resume", &order_id], &["FailedPrecondition"]).await;
        let unchanged = desk.saga(&order_id, "a saga", |_| true).await;
        assert_eq!((unchanged.version, unchanged.operations.len()), (stuck.version, 0), "what is refused leaves nothing behind");

        let version = stuck.version.to_string();
        let retry = [&["saga", "retry", &order_id, "--expected-version", &version][..], &BY].concat();
        assert_eq!(desk.platform.told(&retry).await["operations"][0]["kind"], "RETRY");
        // The provider has not changed its mind.
        let again = desk
            .saga(&order_id, "to be refused again", |saga| {
                saga.state() == SagaState::NeedsAttention && saga.version >= stuck.version + 2
            })
            .await;
        assert_eq!(again.operations.len(), 1);
        let bulk = [&["saga", "bulk", "retry", "--step", "charge", "--state", "NEEDS_ATTENTION"][..], &BY].concat();
        assert_eq!(desk.platform.told(&bulk).await["orderIds"], json!([order_id]));
        desk.saga(&order_id, "to be refused once more", |saga| {
            saga.state() == SagaState::NeedsAttention && saga.version >= again.version + 2
        })
        .await;

        desk.operate("skip", &order_id).await;
        let over = desk.saga(&order_id, "the end of the saga", |saga| saga.state() == SagaState::Undone).await;
        let kinds: Vec<(&str, &str, &str)> =
            over.operations.iter().map(|done| (done.kind.as_str(), done.who.as_str(), done.reason.as_str())).collect();
        assert_eq!(kinds, ["RETRY", "RETRY", "SKIP"].map(|kind| (kind, "ann", "the test wants it")));
        let order = desk.outcome(&order_id).await;
        assert_eq!((order.status(), order.needs_attention, order.refunded_amount), (OrderStatus::Failed, false, 0));
        assert_happened(
            &order,
            &[
                "SagaNeedsAttention",
                "SagaRetried",
                "SagaResumed",
                "PaymentRefundFailed",
                "SagaNeedsAttention",
                "SagaSkipped",
                "OrderFailed",
            ],
        );
        for operation in ["retry", "skip", "pause", "resume"] {
            desk.refused(&[operation, &order_id], &["FailedPrecondition", "UNDONE"]).await;
        }
        desk.close().await;
    });
}

#[test]
fn a_paused_saga_takes_answers_in_and_goes_on_when_it_is_resumed() {
    run(async {
        let dir = data_dir().expect("a directory");
        let desk = Desk::open(dir.path()).await;
        let order_id = desk.place("prod-A", "tok_slow").await;
        desk.saga(&order_id, "a saga", |_| true).await;
        let (who, reason) = ("ann".to_owned(), "the test wants it".to_owned());
        let pause = PauseSagaRequest { order_id: order_id.clone(), who, reason, ..Default::default() };
        let told = desk.sagas().await.pause_saga(pause).await.expect("in time").into_inner().saga.expect("a saga");
        assert!(told.paused && told.operations.len() == 1, "{told:?}");
        desk.refused(&["pause", &order_id], &["FailedPrecondition", "RUNNING and paused"]).await;
        let paused = desk.saga(&order_id, "the charge", |saga| saga.steps[0].state() == StepState::Done).await;
        assert!(paused.paused && paused.deadline.is_none(), "{paused:?}");
        assert_eq!((paused.state(), paused.steps[1].state()), (SagaState::Running, StepState::Asked));
        let sql = "select count(*) from outbox where topic = 'inventory.commands' and key = $1";
        let mut db = desk.database("orchestrator").await;
        let asked: i64 = sqlx::query_scalar(sql).bind(&order_id).fetch_one(&mut db).await.expect("read");
        assert_eq!(asked, 0, "it asks nothing");
        for filter in [&["--paused"][..], &["--paused", "--step", "reserve"], &["--step", "reserve", "--definition", "checkout"]] {
            assert_eq!(desk.listed(filter).await, [order_id.as_str()], "{filter:?}");
        }
        assert!(desk.listed(&["--paused", "--step", "charge"]).await.is_empty());

        desk.operate("resume", &order_id).await;
        let order = desk.outcome(&order_id).await;
        assert_eq!(order.status(), OrderStatus::Confirmed);
        assert_happened(&order, &["SagaPaused", "PaymentSucceeded", "SagaResumed", "InventoryReserved", "OrderCompleted"]);
        desk.close().await;
    });
}

#[test]
fn many_sagas_at_a_time_up_to_a_cap() {
    run(async {
        let dir = data_dir().expect("a directory");
        let desk = Desk::open(dir.path()).await;
        let mut stuck = [desk.stuck().await, desk.stuck().await, desk.stuck().await];
        stuck.sort_unstable();
        let skip = ["saga", "bulk", "skip", "--state", "NEEDS_ATTENTION"];
        let would = desk.platform.told(&[&skip[..], &["--max", "2", "--dry-run"]].concat()).await;
        assert_eq!((would["orderIds"].as_array().map(Vec::len), &would["more"]), (Some(2), &json!(true)), "{would}");
        assert_eq!(desk.listed(&["--state", "NEEDS_ATTENTION"]).await.len(), 3, "a dry run changes nothing");

        // What makes no sense for a saga is told of it: they are not paused.
        let none = desk.platform.told(&[&["saga", "bulk", "resume", "--definition", "checkout"][..], &BY].concat()).await;
        assert_eq!((&none["orderIds"], &none["refusedOrderIds"]), (&json!([]), &json!([])), "{none}");
        desk.refused(&["bulk", "skip"], &["InvalidArgument", "state"]).await;

        let done = desk.platform.told(&[&skip[..], &BY].concat()).await;
        let mut skipped: Vec<&str> = done["orderIds"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        skipped.sort_unstable();
        assert_eq!((skipped, &done["more"]), (stuck.iter().map(String::as_str).collect(), &json!(false)));
        for order_id in &stuck {
            let over = desk.saga(order_id, "the end of the saga", |saga| saga.state() == SagaState::Undone).await;
            assert_eq!((over.operations.len(), over.operations[0].kind.as_str()), (1, "SKIP"));
        }
        desk.close().await;
    });
}

#[test]
fn s15_a_saga_of_a_version_that_is_not_known_waits_and_others_go_on() {
    run(async {
        let dir = data_dir().expect("a directory");
        let desk = Desk::open(dir.path()).await;
        let order_id = desk.place("prod-A", "tok_slow").await;
        desk.saga(&order_id, "a saga", |_| true).await;
        desk.pin(&order_id, 99).await;
        let ended = desk.platform.ended(&["saga", "check"]).await;
        assert!(!ended.status.success(), "it would be stranded");
        let found = document(&ended);
        assert_eq!((&found["stranded"], &found["live"][0]["version"]), (&json!(1), &json!(99)), "{found}");
        assert_eq!((&found["live"][0]["orders"], &found["changed"]), (&json!([order_id]), &json!([])), "{found}");
        desk.refused(&["pause", &order_id], &["FailedPrecondition"]).await;

        let waiting = local::until("its answer to wait", SETTLE_WITHIN, || async {
            let sql = "select event_type from dead_letter_events where key = $1 and state = 'WAITING'";
            let mut db = desk.database("orchestrator").await;
            sqlx::query_scalar::<_, String>(sql).bind(&order_id).fetch_optional(&mut db).await.expect("read")
        });
        assert_eq!(waiting.await.expect("it waits"), "settle.payment.v1.PaymentSucceeded");
        let other = desk.place("prod-A", "").await;
        assert_eq!(desk.outcome(&other).await.status(), OrderStatus::Confirmed, "others go on");
        let strange = desk.saga(&order_id, "a saga", |_| true).await;
        assert_eq!((strange.definition_version, strange.steps.len()), (99, 0), "it is shown, though not understood");

        // A binary comes that knows it.
        desk.pin(&order_id, 1).await;
        let sound = desk.platform.told(&["saga", "check"]).await;
        assert_eq!(sound["stranded"], json!(0), "{sound}");
        assert_eq!(desk.outcome(&order_id).await.status(), OrderStatus::Confirmed);
        desk.close().await;
    });
}

#[test]
fn the_definitions_are_shown_and_their_models_hold() {
    run(async {
        let dir = data_dir().expect("a directory");
        let desk = Desk::open(dir.path()).await;
        let mut sagas = desk.sagas().await;
        for name in ["checkout", "checkout-reserve-first", "refund"] {
            let request = DescribeDefinitionRequest { name: name.into() };
            let described = sagas.describe_definition(request).await.expect(name).into_inner();
            assert_eq!((described.name.as_str(), described.version), (name, 1));
            assert_eq!(described.steps.iter().filter(|step| step.pivot).count(), 1, "{name}");
            assert!(described.mermaid.starts_with("flowchart LR"), "{}", described.mermaid);
        }
        let models = desk.platform.told(&["saga", "check", "--model", "--operations", "0"]).await;
        let models = models.as_array().expect("a list");
        assert_eq!(models.len(), 5, "each definition, and each checkout over the services' own rules");
        for model in models {
            assert!(model["holds"] == true && model["states"].as_u64() > Some(20), "{model}");
            assert_eq!(model["bounds"]["resends_max"], 1, "{model}");
        }
        desk.close().await;
    });
}

#[test]
fn bad_input_is_refused_by_the_name_of_the_field() {
    run(async {
        let dir = data_dir().expect("a directory");
        let desk = Desk::open(dir.path()).await;
        let order_id = desk.place("prod-A", "").await;
        desk.outcome(&order_id).await;
        let mut sagas = desk.sagas().await;
        let sound =
            RetrySagaRequest { order_id: order_id.clone(), who: "ann".into(), reason: "why not".into(), ..Default::default() };
        for (field, reason, request) in [
            ("order_id", "MALFORMED_ID", RetrySagaRequest { order_id: "x".into(), ..sound.clone() }),
            ("saga_id", "MALFORMED_ID", RetrySagaRequest { saga_id: "x".into(), ..sound.clone() }),
            ("expected_version", "BAD_VERSION", RetrySagaRequest { expected_version: -1, ..sound.clone() }),
            ("who", "BAD_LENGTH", RetrySagaRequest { who: String::new(), ..sound.clone() }),
            ("reason", "BAD_LENGTH", RetrySagaRequest { reason: "r".repeat(257), ..sound.clone() }),
            ("reason", "CONTROL_CHARACTER", RetrySagaRequest { reason: "a\0b".into(), ..sound.clone() }),
        ] {
            let status = sagas.retry_saga(request).await.expect_err(field);
            assert_eq!(
                (status.code(), fields_of(&status), reason_of(&status).as_str()),
                (Code::InvalidArgument, vec![field.to_owned()], reason)
            );
        }
        let over = sagas.retry_saga(sound.clone()).await.expect_err("it is over");
        assert_eq!((over.code(), reason_of(&over).as_str()), (Code::FailedPrecondition, "NOTHING_TO_DO"));
        let nobodys = RetrySagaRequest { saga_id: order_id.clone(), ..sound };
        assert_eq!(sagas.retry_saga(nobodys).await.expect_err("no such saga").code(), Code::NotFound);

        let sound = OperateSagasRequest {
            operation: "RETRY".into(),
            definition: "checkout".into(),
            sagas_max: 10,
            who: "ann".into(),
            reason: "why not".into(),
            ..Default::default()
        };
        for (field, reason, request) in [
            ("operation", "UNKNOWN_OPERATION", OperateSagasRequest { operation: "retry".into(), ..sound.clone() }),
            ("state", "NO_FILTER", OperateSagasRequest { definition: String::new(), ..sound.clone() }),
            ("state", "UNKNOWN_STATE", OperateSagasRequest { state: 99, ..sound.clone() }),
            ("step", "UNKNOWN_STEP", OperateSagasRequest { step: "dance".into(), ..sound.clone() }),
            ("age_s_min", "BAD_AGE", OperateSagasRequest { age_s_min: -1, ..sound.clone() }),
            ("sagas_max", "BAD_CAP", OperateSagasRequest { sagas_max: 1_001, ..sound.clone() }),
            ("who", "BAD_LENGTH", OperateSagasRequest { who: String::new(), ..sound.clone() }),
        ] {
            let status = sagas.operate_sagas(request).await.expect_err(field);
            assert_eq!(
                (status.code(), fields_of(&status), reason_of(&status).as_str()),
                (Code::InvalidArgument, vec![field.to_owned()], reason)
            );
        }
        desk.close().await;
    });
}
