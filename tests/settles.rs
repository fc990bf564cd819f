//! Every kind of order ends as it must, on every bus: status, money, stock, shipment and the story that is told of it.

use contracts::{
    order::v1::{CancelOrderRequest, CreateOrderRequest, Order, OrderStatus},
    payment::v1::{GetPaymentRequest, Payment, PaymentState, payment_service_client::PaymentServiceClient},
    saga::v1::{GetSagaRequest, ListSagasRequest, Saga, SagaState, saga_service_client::SagaServiceClient},
};
use tonic::Code;

use crate::{
    every_bus::on_every_bus,
    harness::{SETTLE_WITHIN, Stage},
    placing::{assert_happened, at_own_price, ended, place, reason_of},
};

on_every_bus! {
    confirmed
    declined
    insufficient_funds
    out_of_stock
    unshippable
    cancelled_in_time
    cancelled_while_the_outcome_is_unknown
    cancelled_before_a_charge_is_declined
    a_charge_that_fails_before_it_is_made
    a_charge_that_fails_after_it_was_made
    a_charge_that_is_never_answered
    a_charge_that_is_answered_too_late
    a_refund_that_is_refused
    a_charge_of_unknown_outcome_is_refunded
    the_lines_of_an_order_are_all_or_none
}

/// How long the payment service waits for the provider, less what a slow clock may take off.
const PROVIDER_TIMEOUT_MS: i64 = 1_900;

async fn confirmed(stage: &'static Stage) {
    let order = stage.settle(at_own_price("prod-A", "")).await;
    is_confirmed(stage, &order).await;
}

async fn declined(stage: &'static Stage) {
    is_refused_by_the_provider(stage, "tok_declined", "CARD_DECLINED").await;
}

async fn insufficient_funds(stage: &'static Stage) {
    is_refused_by_the_provider(stage, "tok_insufficient_funds", "INSUFFICIENT_FUNDS").await;
}

async fn out_of_stock(stage: &'static Stage) {
    let order = stage.settle(at_own_price("SKU-EMPTY", "")).await;
    assert_eq!((order.status(), order.reason.as_str()), (OrderStatus::Failed, "OUT_OF_STOCK"));
    assert_happened(&order, &["PaymentSucceeded", "InventoryFailed", "SagaCompensating", "PaymentRefunded", "OrderFailed"]);
    is_refunded(stage, &order).await;
    assert_eq!(bookings(stage, "inventory", &order).await, ["REFUSED"]);
    assert!(bookings(stage, "shipping", &order).await.is_empty());
}

async fn unshippable(stage: &'static Stage) {
    let order = stage.settle(at_own_price("SKU-UNSHIPPABLE", "")).await;
    assert_eq!((order.status(), order.reason.as_str()), (OrderStatus::Failed, "UNSHIPPABLE"));
    assert_happened(
        &order,
        &["InventoryReserved", "ShippingFailed", "SagaCompensating", "InventoryReleased", "PaymentRefunded", "OrderFailed"],
    );
    is_refunded(stage, &order).await;
    assert_eq!(bookings(stage, "inventory", &order).await, ["RELEASED"]);
    assert_eq!(bookings(stage, "shipping", &order).await, ["REFUSED"]);
}

async fn cancelled_in_time(stage: &'static Stage) {
    // Its provider is slow, so the cancel comes first.
    is_cancelled(stage, at_own_price("prod-A", "tok_slow")).await;
}

async fn cancelled_while_the_outcome_is_unknown(stage: &'static Stage) {
    is_cancelled(stage, at_own_price("prod-A", "tok_silent")).await;
}

async fn cancelled_before_a_charge_is_declined(stage: &'static Stage) {
    let request = at_own_price("prod-A", "tok_declined");
    let order_id = place(stage, request).await;
    // Either may win; nothing is held in both cases.
    let cancel = CancelOrderRequest { order_id: order_id.clone(), reason: "too dear".into() };
    let cancelled = stage.orders().await.cancel_order(cancel).await;
    let order = stage.outcome(&order_id).await;
    match cancelled {
        Ok(_) => assert_eq!((order.status(), order.reason.as_str()), (OrderStatus::Cancelled, "too dear")),
        Err(status) => {
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "ORDER_NOT_CANCELLABLE"));
            assert_eq!(order.status(), OrderStatus::Failed);
        }
    }
    assert_eq!(order.refunded_amount, 0);
    nothing_is_held(stage, &order).await;
}

async fn a_charge_that_fails_before_it_is_made(stage: &'static Stage) {
    let order = stage.settle(at_own_price("prod-A", "tok_error_before")).await;
    is_confirmed(stage, &order).await;
    let failed = "select count(*) from failed_calls where key = $1";
    let failed: i64 = sqlx::query_scalar(failed)
        .bind(payment(stage, &order).await.payment_id)
        .fetch_one(&mut stage.database("provider").await)
        .await
        .expect("read");
    assert_eq!(failed, 1, "the fault did not happen");
}

async fn a_charge_that_fails_after_it_was_made(stage: &'static Stage) {
    let order = stage.settle(at_own_price("prod-A", "tok_error_after")).await;
    is_confirmed(stage, &order).await;
}

async fn a_charge_that_is_never_answered(stage: &'static Stage) {
    let order = stage.settle(at_own_price("prod-A", "tok_silent")).await;
    is_confirmed(stage, &order).await;
    assert!(charged_after_ms(&order) >= PROVIDER_TIMEOUT_MS, "the fault did not happen");
}

async fn a_charge_that_is_answered_too_late(stage: &'static Stage) {
    let order = stage.settle(at_own_price("prod-A", "tok_slow")).await;
    is_confirmed(stage, &order).await;
    assert!(charged_after_ms(&order) >= PROVIDER_TIMEOUT_MS, "the fault did not happen");
}

async fn a_refund_that_is_refused(stage: &'static Stage) {
    let order_id = place(stage, at_own_price("SKU-EMPTY", "tok_refund_refused")).await;
    let order = ended(stage, &order_id).await;
    assert_eq!((order.status(), order.needs_attention), (OrderStatus::Compensating, true), "it is not over");
    assert_happened(&order, &["InventoryFailed", "SagaCompensating", "PaymentRefundFailed", "SagaNeedsAttention"]);
    let payment = payment(stage, &order).await;
    assert_eq!((payment.state(), payment.captured, payment.refunded), (PaymentState::RefundRefused, order.total, 0));

    let saga = saga(stage, &order_id).await;
    assert_eq!(saga.state(), SagaState::NeedsAttention);
    assert!(saga.reason.contains("RefundPayment is refused"), "{}", saga.reason);
    assert_eq!(saga.remaining, ["RefundPayment", "CloseOrder"]);
    assert!(stuck(stage).await.contains(&order_id), "it is not listed");

    let cancel = CancelOrderRequest { order_id, reason: String::new() };
    let refused = stage.orders().await.cancel_order(cancel).await.expect_err("it unwinds already");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

async fn a_charge_of_unknown_outcome_is_refunded(stage: &'static Stage) {
    for token in ["tok_error_before", "tok_error_after", "tok_silent"] {
        let order = stage.settle(at_own_price("SKU-EMPTY", token)).await;
        assert_eq!(order.status(), OrderStatus::Failed, "{token}");
        is_refunded(stage, &order).await;
    }
}

async fn the_lines_of_an_order_are_all_or_none(stage: &'static Stage) {
    let mut request = at_own_price("prod-A", "");
    let line = |sku: &str| contracts::order::v1::OrderItem { sku: sku.into(), quantity: 3, unit_price: Some(10) };
    request.items.extend([line("prod-B"), line("SKU-EMPTY")]);
    let order = stage.settle(request).await;
    assert_eq!((order.status(), order.reason.as_str()), (OrderStatus::Failed, "OUT_OF_STOCK"));
    is_refunded(stage, &order).await;
    assert_eq!(bookings(stage, "inventory", &order).await, ["REFUSED"]);
}

async fn is_confirmed(stage: &Stage, order: &Order) {
    assert_eq!((order.status(), order.needs_attention), (OrderStatus::Confirmed, false));
    assert_happened(
        order,
        &["OrderCreated", "SagaStarted", "PaymentSucceeded", "InventoryReserved", "ShippingScheduled", "OrderCompleted"],
    );
    let payment = payment(stage, order).await;
    assert_eq!((payment.state(), payment.captured, payment.refunded), (PaymentState::Captured, order.total, 0));
    assert_eq!(charges(stage, order).await, [(order.total, 0)], "charged once");
    // Both follow the confirmation.
    for (service, state) in [("inventory", "COMMITTED"), ("shipping", "RELEASED")] {
        let carried_out =
            local::until(state, SETTLE_WITHIN, || async { (bookings(stage, service, order).await == [state]).then_some(()) });
        carried_out.await.expect("it follows");
    }
    saga_comes_to(stage, order, SagaState::Done).await;
}

async fn is_refused_by_the_provider(stage: &Stage, token: &str, reason: &str) {
    let order = stage.settle(at_own_price("prod-A", token)).await;
    assert_eq!((order.status(), order.reason.as_str(), order.refunded_amount), (OrderStatus::Failed, reason, 0));
    assert_happened(&order, &["OrderCreated", "SagaStarted", "PaymentFailed", "OrderFailed"]);
    assert_eq!(payment(stage, &order).await.state(), PaymentState::Declined);
    assert!(charges(stage, &order).await.is_empty());
    assert!(bookings(stage, "inventory", &order).await.is_empty());
    assert!(bookings(stage, "shipping", &order).await.is_empty());
}

/// Charged once and given back in full.
async fn is_refunded(stage: &Stage, order: &Order) {
    let payment = payment(stage, order).await;
    assert_eq!((payment.state(), payment.captured, payment.refunded), (PaymentState::Refunded, order.total, order.total));
    assert_eq!(charges(stage, order).await, [(order.total, order.total)]);
    assert_eq!(order.refunded_amount, order.total);
}

async fn is_cancelled(stage: &Stage, request: CreateOrderRequest) {
    let mut orders = stage.orders().await;
    let order_id = place(stage, request).await;
    let cancel = CancelOrderRequest { order_id: order_id.clone(), reason: "changed my mind".into() };
    let told = orders.cancel_order(cancel.clone()).await.expect("in time").into_inner();
    assert_eq!(told.status(), OrderStatus::Cancelling);
    let again = orders.cancel_order(cancel.clone()).await.expect("asked for again").into_inner();
    assert!(matches!(again.status(), OrderStatus::Cancelling | OrderStatus::Cancelled));

    let order = stage.outcome(&order_id).await;
    assert_eq!((order.status(), order.reason.as_str()), (OrderStatus::Cancelled, "changed my mind"));
    assert_happened(&order, &["OrderCreated", "OrderCancelRequested", "OrderCancelled"]);
    assert_eq!(order.timeline.iter().filter(|entry| entry.event == "OrderCancelRequested").count(), 1);
    nothing_is_held(stage, &order).await;
    let told = orders.cancel_order(cancel).await.expect("said again").into_inner();
    assert_eq!(told.status(), OrderStatus::Cancelled);
    saga_comes_to(stage, &order, SagaState::Undone).await;
}

async fn nothing_is_held(stage: &Stage, order: &Order) {
    for (taken, back) in charges(stage, order).await {
        assert_eq!((taken, back), (order.total, order.total), "{} is held", taken - back);
        assert_eq!(order.refunded_amount, back);
    }
    assert!(charges(stage, order).await.len() <= 1, "charged more than once");
    for (service, carried_out) in [("inventory", "COMMITTED"), ("shipping", "RELEASED")] {
        let states = bookings(stage, service, order).await;
        assert!(!states.iter().any(|state| state == "HELD" || state == carried_out), "{service} has {states:?}");
    }
}

async fn payment(stage: &Stage, order: &Order) -> Payment {
    let request = GetPaymentRequest { order_id: order.order_id.clone() };
    let mut payments = PaymentServiceClient::new(stage.channel().await);
    payments.get_payment(request).await.expect("there is a payment").into_inner().payment.expect("a payment")
}

/// What the provider's statement has of this amount, which no other order has: (taken, given back).
async fn charges(stage: &Stage, order: &Order) -> Vec<(i64, i64)> {
    sqlx::query_as("select amount, refunded from statement where kind = 'CHARGE' and outcome = 'SUCCEEDED' and amount = $1")
        .bind(order.total)
        .fetch_all(&mut stage.database("provider").await)
        .await
        .expect("read")
}

/// The states of the reservations or shipments of an order.
async fn bookings(stage: &Stage, service: &str, order: &Order) -> Vec<String> {
    let sql = match service {
        "inventory" => "select state from reservations where order_id = $1::uuid",
        _ => "select state from shipments where order_id = $1::uuid",
    };
    sqlx::query_scalar(sql).bind(&order.order_id).fetch_all(&mut stage.database(service).await).await.expect("read")
}

async fn saga(stage: &Stage, order_id: &str) -> Saga {
    let request = GetSagaRequest { order_id: order_id.to_owned(), ..Default::default() };
    SagaServiceClient::new(stage.channel().await)
        .get_saga(request)
        .await
        .expect("there is a saga")
        .into_inner()
        .saga
        .expect("a saga")
}

/// It hears of the order's end afterwards.
async fn saga_comes_to(stage: &Stage, order: &Order, state: SagaState) {
    let over = local::until(state.as_str_name(), SETTLE_WITHIN, || async {
        (saga(stage, &order.order_id).await.state() == state).then_some(())
    });
    over.await.expect("it hears of it");
}

/// The orders whose sagas need a person.
async fn stuck(stage: &Stage) -> Vec<String> {
    let mut sagas = SagaServiceClient::new(stage.channel().await);
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            ListSagasRequest { page_size: 200, page_token, state: SagaState::NeedsAttention.into(), ..Default::default() };
        let page = sagas.list_sagas(request).await.expect("listed").into_inner();
        assert!(page.sagas.iter().all(|saga| saga.state() == SagaState::NeedsAttention));
        listed.extend(page.sagas.into_iter().map(|saga| saga.order_id));
        if page.next_page_token.is_empty() {
            return listed;
        }
        page_token = page.next_page_token;
    }
}

fn charged_after_ms(order: &Order) -> i64 {
    let at = |event: &str| {
        let entry = order.timeline.iter().find(|entry| entry.event == event).expect("it happened");
        let at = entry.at.as_ref().expect("a time");
        at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000
    };
    at("PaymentSucceeded") - at("OrderCreated")
}
