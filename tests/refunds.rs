//! Money of a confirmed order is given back in parts or whole, however many ask at once: never more than was taken, and order, payment and
//! the provider's own statement agree to the minor unit.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{
    ids,
    notification::v1::{ListNotificationsRequest, notification_service_client::NotificationServiceClient},
    order::v1::{
        CreateOrderRequest, Order, OrderStatus, RefundOrderRequest, RefundOrderResponse, order_service_client::OrderServiceClient,
    },
    payment::v1::{GetPaymentRequest, Payment, PaymentState, payment_service_client::PaymentServiceClient},
};
use futures::future::join_all;
use prost::Message as _;
use serde_json::json;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    every_bus::on_every_bus,
    harness::{Bus, SETTLE_WITHIN, Stage, platform, run},
    placing::{Rest, answer, assert_happened, at_own_price, fresh, reason_of, shown},
};

on_every_bus! {
    in_parts_until_nothing_is_left
    s13_of_64_refunds_of_40_percent_two_succeed
    a_refund_that_the_provider_refuses_frees_its_money
}

const CALLERS: usize = 64;
const TOTAL: i64 = 10_000;

/// A confirmed order of 100.00.
async fn confirmed(stage: &Stage, token: &str) -> Order {
    let mut request: CreateOrderRequest = at_own_price("SKU-123", token);
    request.items[0].unit_price = Some(TOTAL);
    let order = stage.settle(request).await;
    assert_eq!(order.status(), OrderStatus::Confirmed);
    order
}

fn refund(order: &Order, amount: Option<i64>, key: &str) -> RefundOrderRequest {
    let (order_id, idempotency_key) = (order.order_id.clone(), key.to_owned());
    RefundOrderRequest { order_id, idempotency_key, amount, reason: "late".into() }
}

/// The answer, and whether it is the first one said again.
async fn ask(mut orders: OrderServiceClient<Channel>, request: RefundOrderRequest) -> Result<(RefundOrderResponse, bool), Status> {
    let response = orders.refund_order(request).await?;
    let replayed = response.metadata().get("idempotent-replayed").is_some_and(|value| value == "true");
    Ok((response.into_inner(), replayed))
}

/// Waits until so much of the order is back and nothing is under way.
async fn comes_to(stage: &Stage, order: &Order, refunded: i64) -> Order {
    let done = local::until("the refunds", SETTLE_WITHIN, || async {
        let now = shown(stage, &order.order_id).await;
        ((now.refunded_amount, now.refund_pending) == (refunded, 0)).then_some(now)
    });
    match done.await {
        Ok(order) => order,
        Err(error) => panic!("{error}\n{}", settle::orders::timeline(&shown(stage, &order.order_id).await)),
    }
}

async fn payment(stage: &Stage, order: &Order) -> Payment {
    let request = GetPaymentRequest { order_id: order.order_id.clone() };
    let mut payments = PaymentServiceClient::new(stage.channel().await);
    payments.get_payment(request).await.expect("there is a payment").into_inner().payment.expect("a payment")
}

/// What the provider's statement has given back of the order's charge, refund by refund.
async fn given_back(stage: &Stage, order: &Order) -> BTreeMap<String, i64> {
    let sql = r#"select key, amount from statement where kind = 'REFUND' and outcome = 'SUCCEEDED' and "of" = $1"#;
    let payment_id = payment(stage, order).await.payment_id;
    let mut db = stage.database("provider").await;
    let refunds: Vec<(String, i64)> = sqlx::query_as(sql).bind(payment_id).fetch_all(&mut db).await.expect("read");
    refunds.into_iter().collect()
}

fn assert_refused(refused: &Status, reason: &str) {
    assert_eq!((refused.code(), reason_of(refused).as_str()), (Code::FailedPrecondition, reason), "{refused:?}");
}

async fn in_parts_until_nothing_is_left(stage: &'static Stage) {
    let orders = stage.orders().await;
    let order = confirmed(stage, "").await;
    let (part, replayed) = ask(orders.clone(), refund(&order, Some(2_500), "")).await.expect("there is enough");
    assert_eq!((part.amount, part.currency.as_str(), replayed), (2_500, order.currency.as_str(), false));
    let after = comes_to(stage, &order, 2_500).await;
    assert_eq!(after.status(), OrderStatus::Confirmed, "it stays what it is");
    assert_happened(&after, &["OrderCompleted", "OrderRefundRequested", "PaymentRefunded", "OrderRefunded"]);
    let paid = payment(stage, &order).await;
    assert_eq!((paid.state(), paid.captured, paid.refunded, paid.refund_pending), (PaymentState::Captured, TOTAL, 2_500, 0));

    let (rest, _) = ask(orders.clone(), refund(&order, None, "")).await.expect("the rest");
    assert_eq!(rest.amount, 7_500, "all that is left");
    comes_to(stage, &order, TOTAL).await;
    assert_eq!(payment(stage, &order).await.state(), PaymentState::Refunded);
    let expected = BTreeMap::from([(part.refund_id, 2_500), (rest.refund_id, 7_500)]);
    assert_eq!(given_back(stage, &order).await, expected, "the provider has them under the order's own ids");
    for amount in [None, Some(1)] {
        let refused = ask(orders.clone(), refund(&order, amount, "")).await.expect_err("nothing is left");
        assert_refused(&refused, "REFUND_EXCEEDS_TOTAL");
    }
    told_of_each(stage, &order, 2).await;
}

/// The customer reads of every refund, once.
async fn told_of_each(stage: &Stage, order: &Order, refunds: usize) {
    let told = local::until("a notification a refund", SETTLE_WITHIN, || async {
        let request = ListNotificationsRequest { order_id: order.order_id.clone(), ..Default::default() };
        let mut client = NotificationServiceClient::new(stage.channel().await);
        let told = client.list_notifications(request).await.expect("listed").into_inner().notifications;
        let of_refunds: BTreeSet<String> =
            told.into_iter().filter(|told| told.kind == "ORDER_REFUNDED").map(|told| told.notification_id).collect();
        (of_refunds.len() == refunds).then_some(())
    });
    told.await.expect("each is told once");
}

async fn s13_of_64_refunds_of_40_percent_two_succeed(stage: &'static Stage) {
    let orders = stage.orders().await;
    let order = confirmed(stage, "").await;
    let asked = join_all((0..CALLERS).map(|n| ask(orders.clone(), refund(&order, Some(4_000), &format!("k{n}"))))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
    assert_eq!((accepted.len(), refused.len()), (2, CALLERS - 2));
    for refused in refused.into_iter().filter_map(Result::err) {
        assert_refused(&refused, "REFUND_EXCEEDS_TOTAL");
        let left = refused.get_details_error_info().and_then(|info| info.metadata.get("left").cloned());
        assert_eq!(left.as_deref(), Some("2000"), "it names what is left");
        assert!(refused.message().contains("2000 of 10000"), "{}", refused.message());
    }
    comes_to(stage, &order, 8_000).await;
    let paid = payment(stage, &order).await;
    assert_eq!((paid.captured, paid.refunded, paid.refund_pending), (TOTAL, 8_000, 0));
    let given = given_back(stage, &order).await;
    let ids: BTreeSet<String> = accepted.into_iter().filter_map(Result::ok).map(|(told, _)| told.refund_id).collect();
    assert_eq!(given.keys().cloned().collect::<BTreeSet<_>>(), ids);
    assert_eq!(given.values().sum::<i64>(), 8_000, "the provider's statement");
}

async fn a_refund_that_the_provider_refuses_frees_its_money(stage: &'static Stage) {
    let orders = stage.orders().await;
    let order = confirmed(stage, "tok_refund_refused").await;
    let (told, _) = ask(orders.clone(), refund(&order, Some(4_000), "")).await.expect("there is enough");
    let refused = local::until("the refusal", SETTLE_WITHIN, || async {
        let now = shown(stage, &order.order_id).await;
        now.timeline.iter().any(|entry| entry.event == "OrderRefundRefused").then_some(now)
    });
    let refused = refused.await.expect("it is refused");
    assert_eq!((refused.status(), refused.refunded_amount, refused.refund_pending), (OrderStatus::Confirmed, 0, 0));
    let paid = payment(stage, &order).await;
    assert_eq!((paid.state(), paid.refunded, paid.refund_pending), (PaymentState::Captured, 0, 0));
    assert!(given_back(stage, &order).await.is_empty());
    let (again, _) = ask(orders, refund(&order, None, "")).await.expect("all of it is left");
    assert_eq!(again.amount, TOTAL);
    assert_ne!(again.refund_id, told.refund_id);
}

#[test]
fn the_same_key_is_one_refund_of_its_order() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let (rest, orders) = (Rest::of(stage), stage.orders().await);
        let order = confirmed(stage, "").await;
        let key = fresh("key");
        let asked = join_all((0..CALLERS).map(|_| ask(orders.clone(), refund(&order, Some(4_000), &key)))).await;
        let asked: Vec<(RefundOrderResponse, bool)> = asked.into_iter().map(|told| told.expect("accepted")).collect();
        assert_eq!(asked.iter().filter(|(_, replayed)| !replayed).count(), 1, "one of them made the refund");
        let order_id = order.order_id.parse().expect("an id");
        let refund_id = ids::derive(order_id, &format!("refund/{key}")).to_string();
        assert!(asked.iter().all(|(told, _)| told.refund_id == refund_id), "the id is derived from order and key");
        comes_to(stage, &order, 4_000).await;

        let path = format!("/api/v1/orders/{}:refund", order.order_id);
        let told = answer(rest.post(&path, r#"{"amount":"4000","reason":"late"}"#).header("Idempotency-Key", &key)).await;
        assert_eq!((told.status, &told.body["refundId"]), (202, &json!(refund_id)), "{told:?}");
        assert_eq!(told.headers["idempotent-replayed"], "true");
        let told = answer(rest.post(&path, r#"{"amount":"4001","reason":"late"}"#).header("Idempotency-Key", &key)).await;
        assert_eq!((told.status, &told.body["reason"]), (409, &json!("IDEMPOTENCY_KEY_REUSED")), "{told:?}");
        // The key is of this order alone.
        let other = confirmed(stage, "").await;
        let (of_other, replayed) = ask(orders, refund(&other, Some(4_000), &key)).await.expect("accepted");
        assert!(!replayed && of_other.refund_id != refund_id);
        assert_eq!(given_back(stage, &order).await.len(), 1);
    });
}

/// As the order service leaves a refund whose request an older orchestrator has passed over: PENDING, set aside, and without a saga.
async fn passed_over(stage: &Stage, order: &Order, key: &str, amount: i64) -> String {
    let id: uuid::Uuid = order.order_id.parse().expect("an id");
    let refund_id = ids::derive(id, &format!("refund/{key}"));
    let mut db = stage.database("order").await;
    sqlx::query("update orders set refund_pending = refund_pending + $2 where id = $1")
        .bind(id)
        .bind(amount)
        .execute(&mut db)
        .await
        .expect("set aside");
    sqlx::query(
        "insert into order_refunds (order_id, refund_id, amount, state, reason, request_hash, created_at, updated_at)
         values ($1, $2, $3, 'PENDING', 'late', sha256($4), now(), now())",
    )
    .bind(id)
    .bind(refund_id)
    .bind(amount)
    .bind(refund(order, Some(amount), "").encode_to_vec())
    .execute(&mut db)
    .await
    .expect("written");
    refund_id.to_string()
}

/// How often the order service has said that a refund of this order is asked for.
async fn said(stage: &Stage, order: &Order) -> i64 {
    let sql = "select count(*) from outbox where topic = 'order.events' and key = $1 and type like '%.OrderRefundRequested'";
    sqlx::query_scalar(sql).bind(&order.order_id).fetch_one(&mut stage.database("order").await).await.expect("counted")
}

#[test]
fn a_refund_that_was_passed_over_is_settled_when_it_is_asked_for_again() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let (orders, order, key) = (stage.orders().await, confirmed(stage, "").await, fresh("key"));
        let refund_id = passed_over(stage, &order, &key, 4_000).await;
        let request = refund(&order, Some(4_000), &key);

        let (told, replayed) = ask(orders.clone(), request.clone()).await.expect("the first answer again");
        assert_eq!((&told.refund_id, replayed), (&refund_id, true));
        assert_eq!(said(stage, &order).await, 0, "whoever settles it may be at it");
        let sql = "select count(*) from sagas where order_id = $1::uuid and definition = 'refund'";
        let sagas: i64 = sqlx::query_scalar(sql)
            .bind(&order.order_id)
            .fetch_one(&mut stage.database("orchestrator").await)
            .await
            .expect("counted");
        assert_eq!(sagas, 0, "nobody settles it");

        let sql = "update order_refunds set updated_at = updated_at - interval '1 hour' where refund_id = $1::uuid";
        let aged = sqlx::query(sql).bind(&refund_id).execute(&mut stage.database("order").await).await.expect("aged");
        assert_eq!(aged.rows_affected(), 1);
        let asked = join_all((0..CALLERS).map(|_| ask(orders.clone(), request.clone()))).await;
        for told in asked {
            let (told, replayed) = told.expect("the first answer again");
            assert_eq!((&told.refund_id, replayed), (&refund_id, true));
        }
        comes_to(stage, &order, 4_000).await;
        assert_eq!(said(stage, &order).await, 1, "however many ask");
        assert_eq!(given_back(stage, &order).await, BTreeMap::from([(refund_id, 4_000)]));
    });
}

#[test]
fn without_a_key_every_call_is_a_refund() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let order = confirmed(stage, "").await;
        let orders = stage.orders().await;
        let asked = join_all((0..10).map(|_| ask(orders.clone(), refund(&order, Some(1_000), "")))).await;
        let ids: BTreeSet<String> = asked.into_iter().map(|told| told.expect("accepted").0.refund_id).collect();
        assert_eq!(ids.len(), 10);
        let after = comes_to(stage, &order, TOTAL).await;
        assert_eq!(after.timeline.iter().filter(|entry| entry.event == "OrderRefunded").count(), 10);
        assert_eq!(given_back(stage, &order).await.len(), 10);
    });
}
