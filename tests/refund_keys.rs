//! Keys of refunds at the provider: what was refused is asked for again under another key, and a key belongs to one payment.

use contracts::{
    ids,
    order::v1::{OrderStatus, RefundOrderRequest},
    payment::v1::{
        GetPaymentRequest, Payment, PaymentState, ReconcileRequest, payment_service_client::PaymentServiceClient,
        reconcile_response::Difference,
    },
    saga::v1::{RetrySagaRequest, saga_service_client::SagaServiceClient},
};
use sqlx::Connection;
use uuid::Uuid;

use crate::{
    harness::{Bus, SETTLE_WITHIN, Stage, platform, run},
    placing::{at_own_price, ended, place, shown},
};

async fn payment(stage: &Stage, order_id: &str) -> Payment {
    let request = GetPaymentRequest { order_id: order_id.to_owned() };
    let mut payments = PaymentServiceClient::new(stage.channel().await);
    payments.get_payment(request).await.expect("there is a payment").into_inner().payment.expect("a payment")
}

/// What books and statement say differently of this order.
async fn differences(stage: &Stage, order_id: &str, payment_id: &str) -> Vec<Difference> {
    let request = ReconcileRequest { differences_max: 1_000, ..Default::default() };
    let mut payments = PaymentServiceClient::new(stage.channel().await);
    let report = payments.reconcile(request).await.expect("compared").into_inner();
    assert!(!report.truncated, "more differences than are kept");
    let sql = r#"select key from statement where "of" = $1"#;
    let keys: Vec<String> =
        sqlx::query_scalar(sql).bind(payment_id).fetch_all(&mut stage.database("provider").await).await.expect("read");
    let of_it = |difference: &Difference| difference.order_id == order_id || keys.contains(&difference.key);
    report.differences.into_iter().filter(of_it).collect()
}

/// Key and outcome of each try at the provider, the oldest first.
async fn tries(stage: &Stage, payment_id: &str) -> Vec<(String, String)> {
    let sql = r#"select key, outcome from statement where kind = 'REFUND' and "of" = $1 order by at"#;
    sqlx::query_as(sql).bind(payment_id).fetch_all(&mut stage.database("provider").await).await.expect("read")
}

#[test]
fn s6_a_retry_of_a_refused_refund_is_asked_under_a_key_the_provider_has_not_refused() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let order_id = place(stage, at_own_price("SKU-EMPTY", "tok_refund_refused")).await;
        assert!(ended(stage, &order_id).await.needs_attention);
        let refused = payment(stage, &order_id).await;
        assert_eq!((refused.state(), refused.needs_attention), (PaymentState::RefundRefused, true));
        let payment_id = refused.payment_id;
        let first = tries(stage, &payment_id).await;
        assert!(matches!(&first[..], [(_, outcome)] if outcome == "DECLINED"), "{first:?}");

        // The provider changes its mind; of a key it has refused it says what it said.
        let changed = sqlx::query("update statement set token = '' where key = $1 and token = 'tok_refund_refused'")
            .bind(&payment_id)
            .execute(&mut stage.database("provider").await)
            .await;
        assert_eq!(changed.expect("written").rows_affected(), 1);
        let (who, reason) = ("a test".to_owned(), "the provider is ready now".to_owned());
        let retry = RetrySagaRequest { order_id: order_id.clone(), who, reason, ..Default::default() };
        SagaServiceClient::new(stage.channel().await).retry_saga(retry).await.expect("taken up again");
        let order = stage.outcome(&order_id).await;
        assert_eq!((order.status(), order.refunded_amount), (OrderStatus::Failed, order.total));

        let paid = payment(stage, &order_id).await;
        assert_eq!((paid.state(), paid.refunded, paid.needs_attention), (PaymentState::Refunded, order.total, false));
        let tries = tries(stage, &payment_id).await;
        assert!(matches!(&tries[..], [_, (_, outcome)] if outcome == "SUCCEEDED"), "{tries:?}");
        assert_ne!(tries[0].0, tries[1].0);
        let ours: Vec<(&str, &str)> =
            paid.refunds.iter().map(|refund| (refund.refund_id.as_str(), refund.state.as_str())).collect();
        assert_eq!(ours, [(tries[0].0.as_str(), "REFUSED"), (tries[1].0.as_str(), "SUCCEEDED")]);
        assert_eq!(differences(stage, &order_id, &payment_id).await, [], "both keys are in our books");
    });
}

#[test]
fn a_refund_id_that_another_payment_takes_at_the_same_moment_is_refused_and_left_alone() {
    const AMOUNT: i64 = 4;
    run(async {
        let stage = platform(Bus::Postgres).await;
        let (one, other) = (stage.settle(at_own_price("prod-A", "")).await, stage.settle(at_own_price("prod-A", "")).await);
        let of_one: Uuid = payment(stage, &one.order_id).await.payment_id.parse().expect("an id");
        let key = "taken";
        let order_id: Uuid = other.order_id.parse().expect("an id");
        let refund_id = ids::derive(order_id, &format!("refund/{key}"));

        // As another instance writes it: nobody sees the row yet.
        let mut db = stage.database("payment").await;
        let mut taking = db.begin().await.expect("begun");
        sqlx::query(
            "insert into refunds (id, payment_id, command_id, amount, currency, state, reason, created_at, changed_at)
             values ($1, $2, $1, 7, 'USD', 'REFUSED', 'a test', now(), now())",
        )
        .bind(refund_id)
        .bind(of_one)
        .execute(&mut *taking)
        .await
        .expect("written");
        let (idempotency_key, reason) = (key.to_owned(), "late".to_owned());
        let ask = RefundOrderRequest { order_id: other.order_id.clone(), idempotency_key, amount: Some(AMOUNT), reason };
        let asked = stage.orders().await.refund_order(ask).await.expect("there is enough").into_inner();
        assert_eq!(asked.refund_id, refund_id.to_string());
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *taking).await.expect("read");
        let wanted = local::until("somebody to wait for the row", SETTLE_WITHIN, || async {
            let sql = "select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))";
            let mut db = stage.database("payment").await;
            let waits: bool = sqlx::query_scalar(sql).bind(pid).fetch_one(&mut db).await.expect("read");
            waits.then_some(())
        });
        wanted.await.expect("the refund meets the row that is being written");
        taking.commit().await.expect("committed");

        let refused = local::until("the refusal", SETTLE_WITHIN, || async {
            let now = shown(stage, &other.order_id).await;
            now.timeline.iter().any(|entry| entry.event == "OrderRefundRefused").then_some(now)
        });
        let refused = refused.await.expect("it is refused");
        assert_eq!((refused.refunded_amount, refused.refund_pending), (0, 0));
        assert!(refused.timeline.iter().any(|entry| entry.detail.contains("REFUND_ID_TAKEN")), "{:?}", refused.timeline);
        let sql = "select payment_id, amount, state from refunds where id = $1";
        let kept: (Uuid, i64, String) =
            sqlx::query_as(sql).bind(refund_id).fetch_one(&mut stage.database("payment").await).await.expect("read");
        assert_eq!(kept, (of_one, 7, "REFUSED".to_owned()), "the row is who had it first's");
        assert_eq!(payment(stage, &other.order_id).await.refund_pending, 0);
    });
}
