//! Orders of all kinds at once, cancelled at any moment: whatever overtakes what, afterwards all books agree.

use std::{collections::BTreeMap, time::Duration};

use contracts::order::v1::{
    CancelOrderRequest, CreateOrderRequest, Order, OrderItem, OrderStatus, WatchOrderRequest,
    order_service_client::OrderServiceClient,
};
use futures::{StreamExt, stream};
use tonic::{Code, transport::Channel};

use crate::{
    agreement::agree,
    every_bus::on_every_bus,
    harness::{Bus, Stage},
    placing::{UNPRICED, ended, fresh, reason_of},
};

on_every_bus! { all_kinds_at_once }

const ORDERS: usize = 200;
const AT_ONCE: usize = 64;
/// Other tests place orders on the same platform, and it must stand still for a moment.
const AGREE_WITHIN: Duration = Duration::from_secs(240);

/// (SKU, payment token, status unless it is cancelled; `None`: a person must act).
const KINDS: [(&str, &str, Option<OrderStatus>); 13] = [
    ("prod-A", "", Some(OrderStatus::Confirmed)),
    ("prod-B", "tok_visa", Some(OrderStatus::Confirmed)),
    ("SKU-123", "tok_duplicate_webhook", Some(OrderStatus::Confirmed)),
    ("prod-A", "tok_declined", Some(OrderStatus::Failed)),
    ("prod-A", "tok_insufficient_funds", Some(OrderStatus::Failed)),
    ("SKU-EMPTY", "", Some(OrderStatus::Failed)),
    ("SKU-UNSHIPPABLE", "", Some(OrderStatus::Failed)),
    ("prod-B", "tok_error_before", Some(OrderStatus::Confirmed)),
    ("prod-B", "tok_error_after", Some(OrderStatus::Confirmed)),
    ("prod-A", "tok_silent", Some(OrderStatus::Confirmed)),
    ("SKU-UNSHIPPABLE", "tok_error_after", Some(OrderStatus::Failed)),
    ("never-heard-of", "", Some(OrderStatus::Failed)),
    ("SKU-EMPTY", "tok_refund_refused", None),
];

async fn all_kinds_at_once(stage: &'static Stage) {
    let customer = fresh("mixed");
    let orders = stage.orders().await;
    let placed = stream::iter(0..ORDERS).map(|n| one(stage, orders.clone(), &customer, n));
    let ends: Vec<String> = placed.buffer_unordered(AT_ONCE).collect().await;

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for end in &ends {
        *counts.entry(end).or_default() += 1;
    }
    println!("{counts:?}");
    for end in ["CONFIRMED", "FAILED", "CANCELLED", "NEEDS_ATTENTION"] {
        assert!(counts.contains_key(end), "no order ended {end}: {counts:?}");
    }
    let mut violations = agree(&stage.databases, AGREE_WITHIN).await;
    if stage.bus == Bus::ShuffleWithoutDedupe {
        // A record that reaches a handler twice is answered twice, under the same derived id: to the next it is a repeat again.
        violations.retain(|violation| !violation.ends_with("ids twice"));
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Places an order and follows it to its end; every third one is cancelled, each after another number of changes.
async fn one(stage: &Stage, mut orders: OrderServiceClient<Channel>, customer: &str, n: usize) -> String {
    let (sku, token, ends) = KINDS[n % KINDS.len()];
    let quantity = i32::try_from(n % 3).expect("small") + 1;
    let request = CreateOrderRequest {
        idempotency_key: format!("{customer}-{n}"),
        customer_id: customer.to_owned(),
        currency: UNPRICED.into(),
        items: vec![OrderItem { sku: sku.into(), quantity, unit_price: Some(1_000 + i64::try_from(n).expect("small")) }],
        payment_token: token.into(),
    };
    let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
    let cancelled = if n.is_multiple_of(3) { cancel_after(&mut orders, &order_id, (n / 3) % 7).await } else { false };
    let order = ended(stage, &order_id).await;
    match (cancelled, ends) {
        (_, None) if order.needs_attention => "NEEDS_ATTENTION".to_owned(),
        // It was cancelled before it was charged, or afterwards: then its refund was refused.
        (true, _) => named(&order, OrderStatus::Cancelled, n),
        (false, Some(ends)) => named(&order, ends, n),
        (false, None) => panic!("{n} does not need attention:\n{}", settle::orders::timeline(&order)),
    }
}

/// Cancels an order when it was seen to change so often, if it is not over by then. Whether that was in time.
async fn cancel_after(orders: &mut OrderServiceClient<Channel>, order_id: &str, changes: usize) -> bool {
    let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: false };
    let mut watch = orders.watch_order(request).await.expect("watched").into_inner();
    for _ in 0..changes {
        match watch.message().await.expect("told") {
            Some(told) if !told.order.as_ref().is_some_and(|order| order.needs_attention) => {}
            _ => break,
        }
    }
    let request = CancelOrderRequest { order_id: order_id.to_owned(), reason: String::new() };
    match orders.cancel_order(request).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "ORDER_NOT_CANCELLABLE"));
            false
        }
    }
}

fn named(order: &Order, expected: OrderStatus, n: usize) -> String {
    assert_eq!(order.status(), expected, "{n}:\n{}", settle::orders::timeline(order));
    settle::orders::status_name(order).to_owned()
}
