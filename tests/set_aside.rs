//! What is no record and cannot be saved is set aside for a person, and nothing else waits for it: an outcome of the provider, and a saga
//! that wants to ask again.

use contracts::{
    order::v1::{CreateOrderRequest, Order, OrderStatus},
    payment::v1::{ListProviderCallsRequest, RetryProviderCallRequest, payment_service_client::PaymentServiceClient},
    saga::v1::{GetSagaRequest, Saga, SagaState, saga_service_client::SagaServiceClient},
};
use sqlx::{AssertSqlSafe, PgConnection};
use tonic::Code;
use uuid::Uuid;

use crate::{
    harness::{Bus, SETTLE_WITHIN, Stage, platform, run},
    placing::{at_own_price, ended, place, reason_of, shown},
};

/// An order whose charge succeeds and cannot be booked, until somebody mends it.
struct Unbooked {
    order_id: String,
    amount: i64,
}

impl Unbooked {
    async fn place(stage: &Stage) -> Self {
        let request: CreateOrderRequest = at_own_price("prod-A", "");
        let amount = request.items[0].unit_price.expect("its own price");
        let sql = format!("alter table ledger_transfers add constraint never_{amount} check (amount <> {amount}) not valid");
        change(stage, "payment", sql).await;
        let this = Self { order_id: place(stage, request).await, amount };
        let aside = local::until("its call to be set aside", SETTLE_WITHIN, || async {
            let sql = "select attention from provider_calls where order_id = $1 and attention <> '' and due_at = 'infinity'";
            let mut db = stage.database("payment").await;
            sqlx::query_scalar::<_, String>(sql).bind(this.id()).fetch_optional(&mut db).await.expect("read")
        });
        assert!(aside.await.expect("it needs attention").contains("could not be saved"));
        this
    }

    fn id(&self) -> Uuid {
        self.order_id.parse().expect("a UUID")
    }

    async fn calls_made(&self, stage: &Stage) -> i32 {
        let mut db = stage.database("payment").await;
        let sql = "select attempts from provider_calls where order_id = $1";
        sqlx::query_scalar(sql).bind(self.id()).fetch_one(&mut db).await.expect("read")
    }

    /// What stood in the way is gone, and an operator has the provider asked again.
    async fn mend(&self, stage: &Stage) -> Order {
        change(stage, "payment", format!("alter table ledger_transfers drop constraint never_{}", self.amount)).await;
        let mut payments = PaymentServiceClient::new(stage.channel().await);
        let waiting = ListProviderCallsRequest { page_size: 200, needs_attention: true, ..Default::default() };
        let waiting = payments.list_provider_calls(waiting).await.expect("listed").into_inner().calls;
        let call = waiting.into_iter().find(|call| call.order_id == self.order_id).expect("it is listed");
        let (key, who, reason) = (call.key, "a test".to_owned(), "mended".to_owned());
        let retry = RetryProviderCallRequest { key, who, reason, never_made: false };
        let never_made = RetryProviderCallRequest { never_made: true, ..retry.clone() };
        let refused = payments.retry_provider_call(never_made).await.expect_err("the provider has said what became of it");
        assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::FailedPrecondition, "NOT_FORGOTTEN"));
        let taken = payments.retry_provider_call(retry.clone()).await.expect("taken up again").into_inner().call.expect("the call");
        assert_eq!((taken.order_id.as_str(), taken.attention.as_str(), taken.due_at.is_some()), (&*self.order_id, "", true));
        let again = payments.retry_provider_call(retry).await.expect_err("it does not wait any more").code();
        assert!(matches!(again, Code::FailedPrecondition | Code::NotFound), "{again:?}");
        let sql = "select who || ': ' || reason || ': ' || attention from call_operations where order_id = $1";
        let mut db = stage.database("payment").await;
        let kept: Vec<String> = sqlx::query_scalar(sql).bind(self.id()).fetch_all(&mut db).await.expect("read");
        assert_eq!(kept, [format!("a test: mended: {}", call.attention)]);
        let order = ended(stage, &self.order_id).await;
        let sql = "select count(*) from statement where kind = 'CHARGE' and amount = $1";
        let charges: i64 =
            sqlx::query_scalar(sql).bind(self.amount).fetch_one(&mut stage.database("provider").await).await.expect("read");
        assert_eq!(charges, 1, "asked again, not charged again");
        order
    }
}

async fn change(stage: &Stage, service: &str, sql: String) {
    let mut db: PgConnection = stage.database(service).await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.expect("changed");
}

#[test]
fn an_outcome_that_cannot_be_saved_waits_for_an_operator() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let unbooked = Unbooked::place(stage).await;
        let made = unbooked.calls_made(stage).await;
        let other = stage.settle(at_own_price("prod-A", "")).await;
        assert_eq!(other.status(), OrderStatus::Confirmed, "nobody else waits");
        assert_eq!(shown(stage, &unbooked.order_id).await.status(), OrderStatus::Processing);
        assert_eq!(unbooked.calls_made(stage).await, made, "it is not taken again");
        assert_eq!(unbooked.mend(stage).await.status(), OrderStatus::Confirmed);
    });
}

async fn saga(stage: &Stage, order_id: &str) -> Saga {
    let mut sagas = SagaServiceClient::new(stage.channel().await);
    let request = GetSagaRequest { order_id: order_id.to_owned(), ..Default::default() };
    sagas.get_saga(request).await.expect("there").into_inner().saga.expect("a saga")
}

#[test]
fn a_saga_that_cannot_ask_again_waits_for_a_person_or_a_late_answer() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let unbooked = Unbooked::place(stage).await;
        let (order_id, id) = (&unbooked.order_id, unbooked.id());
        // Its progress may not change, and its deadline has passed.
        let mut db = stage.database("orchestrator").await;
        let sql = "select progress from sagas where order_id = $1";
        let progress: String = sqlx::query_scalar(sql).bind(id).fetch_one(&mut db).await.expect("read");
        let name = id.simple();
        let check = format!(
            "alter table sagas add constraint stays_{name} check (order_id <> '{id}' or progress = '{progress}') not valid"
        );
        change(stage, "orchestrator", check).await;
        let sql = "update sagas set started_at = now() - interval '1 hour', deadline_at = now() - interval '1 second' where order_id = $1";
        assert_eq!(sqlx::query(sql).bind(id).execute(&mut db).await.expect("written").rows_affected(), 1);

        let attention = local::until("it to need attention", SETTLE_WITHIN, || async {
            let saga = saga(stage, order_id).await;
            (saga.state() == SagaState::NeedsAttention).then_some(saga)
        });
        let stuck = attention.await.expect("it cannot ask again");
        assert!(stuck.reason.contains("could not ask again"), "{}", stuck.reason);
        assert_eq!(stuck.deadline, None, "it is not claimed again");

        change(stage, "orchestrator", format!("alter table sagas drop constraint stays_{name}")).await;
        assert_eq!(unbooked.mend(stage).await.status(), OrderStatus::Confirmed, "the late answer moved it on");
        let done = local::until("the end of the saga", SETTLE_WITHIN, || async {
            let saga = saga(stage, order_id).await;
            (saga.state() == SagaState::Done).then_some(saga)
        });
        done.await.expect("it is done");
    });
}
