//! A cancel against a saga that hurries to the confirmation, at every moment of it: one of them wins, the caller is told which, and order,
//! payment, stock and shipment agree. `SETTLE_RACES` says how often; `make races` runs the long form.

use std::{collections::BTreeMap, time::Duration};

use contracts::order::v1::{
    CancelOrderRequest, CreateOrderRequest, OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient,
};
use futures::{StreamExt, future::join_all, stream};
use tonic::{Code, transport::Channel};

use crate::{
    agreement::agree,
    harness::{Bus, Stage, platform, run},
    placing::{at_own_price, ended, fresh, place, product, reason_of},
};

const RACES: usize = 300;
const AT_ONCE: usize = 64;
/// Who cancels the same order at the same time.
const CANCELLERS: usize = 3;
/// An order is confirmed with its sixth change; by then it is too late.
const CHANGES_MAX: usize = 6;
/// Other tests place orders on the same platform, and it must stand still for a moment.
const AGREE_WITHIN: Duration = Duration::from_secs(600);

#[test]
fn s07_a_cancel_and_the_confirmation_have_one_winner() {
    run(races(Bus::Postgres));
}

#[test]
fn s07_a_cancel_and_the_confirmation_have_one_winner_on_kafka() {
    run(races(Bus::Kafka));
}

async fn races(bus: Bus) {
    let stage = platform(bus).await;
    let races: usize = std::env::var("SETTLE_RACES").ok().and_then(|races| races.parse().ok()).unwrap_or(RACES);
    // A product of its own: its pieces tell how many orders took one.
    let sku = fresh("race");
    let pieces = i64::try_from(races).expect("small");
    product(stage, &sku, None, pieces).await;
    let orders = stage.orders().await;
    let raced = stream::iter(0..races).map(|n| race(stage, orders.clone(), at_own_price(&sku, ""), n % (CHANGES_MAX + 1)));
    let raced: Vec<(usize, OrderStatus)> = raced.buffer_unordered(AT_ONCE).collect().await;

    let mut ends: BTreeMap<(OrderStatus, usize), usize> = BTreeMap::new();
    for (changes, end) in raced {
        *ends.entry((end, changes)).or_default() += 1;
    }
    println!("{races} races, by end and by the changes seen before the cancel: {ends:?}");
    let count = |wanted| ends.iter().filter(|((end, _), _)| *end == wanted).map(|(_, count)| *count).sum::<usize>();
    let (confirmed, cancelled) = (count(OrderStatus::Confirmed), count(OrderStatus::Cancelled));
    assert_eq!(confirmed + cancelled, races);
    assert!(confirmed > 0 && cancelled > 0, "nobody raced: {ends:?}");

    let violations = agree(&stage.databases, AGREE_WITHIN).await;
    assert!(violations.is_empty(), "{violations:#?}");
    let sql = "select on_hand, reserved from stock where sku = $1";
    let left: (i64, i64) = sqlx::query_as(sql).bind(&sku).fetch_one(&mut stage.database("inventory").await).await.expect("read");
    assert_eq!(left, (pieces - i64::try_from(confirmed).expect("small"), 0), "a piece left for every confirmed order");
}

/// Cancels an order once it was seen to change so often. How it ended, which is what the callers were told.
async fn race(
    stage: &Stage,
    mut orders: OrderServiceClient<Channel>,
    request: CreateOrderRequest,
    changes: usize,
) -> (usize, OrderStatus) {
    let order_id = place(stage, request).await;
    if changes > 0 {
        let request = WatchOrderRequest { order_id: order_id.clone(), final_only: false };
        let mut watch = orders.watch_order(request).await.expect("watched").into_inner();
        for _ in 0..changes {
            if watch.message().await.expect("told").is_none() {
                break;
            }
        }
    }
    let cancels = join_all((0..CANCELLERS).map(|_| cancel(orders.clone(), &order_id))).await;
    let order = ended(stage, &order_id).await;
    assert!(!order.needs_attention, "{order_id}:\n{}", settle::orders::timeline(&order));
    let expected = if cancels[0] { OrderStatus::Cancelled } else { OrderStatus::Confirmed };
    assert!(cancels.iter().all(|won| *won == cancels[0]), "callers were told otherwise than each other: {cancels:?}");
    assert_eq!(order.status(), expected, "{order_id}:\n{}", settle::orders::timeline(&order));
    let requested = order.timeline.iter().filter(|entry| entry.event == "OrderCancelRequested").count();
    assert_eq!(requested, usize::from(cancels[0]), "it is written down once, and only where it won");
    // Whoever comes later is told the same.
    assert_eq!(cancel(orders, &order_id).await, cancels[0]);
    (changes, order.status())
}

/// Whether the cancel was in time.
async fn cancel(mut orders: OrderServiceClient<Channel>, order_id: &str) -> bool {
    let request = CancelOrderRequest { order_id: order_id.to_owned(), reason: "changed my mind".into() };
    match orders.cancel_order(request).await {
        Ok(told) => {
            let status = told.into_inner().status();
            assert!(matches!(status, OrderStatus::Cancelling | OrderStatus::Cancelled), "{status:?}");
            true
        }
        Err(status) => {
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "ORDER_NOT_CANCELLABLE"));
            false
        }
    }
}
