//! Whoever watches an order is told of it at once, then of every change, until it is final.

use std::time::Duration;

use contracts::order::v1::{
    CreateOrderRequest, Order, OrderItem, OrderStatus, WatchOrderRequest, WatchOrderResponse,
    order_service_client::OrderServiceClient,
};
use futures::future::join_all;
use kit::settings::BusKind;
use serde_json::Value;
use tokio::time::timeout;
use tonic::Streaming;

use crate::{
    every_bus::on_every_bus,
    harness::{Bus, SETTLE_WITHIN, Stage, data_dir, platform, run},
    placing::{Rest, UNPRICED, at_own_price, is_final, place, shown},
    process::Process,
};

on_every_bus! { each_change_until_it_is_final }

/// Far less than the drain may take.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

async fn watch(stage: &Stage, order_id: &str, final_only: bool) -> Streaming<WatchOrderResponse> {
    let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only };
    stage.orders().await.watch_order(request).await.expect("watched").into_inner()
}

/// Everything a watcher is told, to the end of the stream.
async fn told(mut watch: Streaming<WatchOrderResponse>) -> Vec<Order> {
    let all = async {
        let mut told = Vec::new();
        while let Some(response) = watch.message().await.expect("told") {
            told.push(response.order.expect("an order"));
        }
        told
    };
    timeout(SETTLE_WITHIN, all).await.expect("the stream ends")
}

/// It grows from one telling to the next and ends as the order does.
fn assert_a_story(told: &[Order], after: &Order) {
    assert!(told.windows(2).all(|pair| pair[0].version < pair[1].version), "{told:#?}");
    assert!(told.windows(2).all(|pair| pair[1].timeline.starts_with(&pair[0].timeline)), "{told:#?}");
    assert!(told.iter().all(|order| usize::try_from(order.version) == Ok(order.timeline.len())), "{told:#?}");
    let (last, before) = told.split_last().expect("told something");
    assert!(is_final(last) && !before.iter().any(is_final), "{told:#?}");
    assert_eq!(last, after);
}

async fn each_change_until_it_is_final(stage: &'static Stage) {
    // The slow provider leaves time to begin before the end.
    let order_id = place(stage, at_own_price("prod-A", "tok_slow")).await;
    let mut first = watch(stage, &order_id, false).await;
    let at_once = timeout(ENDS_WITHIN, first.message()).await.expect("at once").expect("told").expect("something");
    assert!(!is_final(&at_once.order.clone().expect("an order")));
    let others = join_all((0..20).map(|_| watch(stage, &order_id, false))).await;
    // One that leaves takes nothing from the others.
    drop(watch(stage, &order_id, false).await);
    let outcome = watch(stage, &order_id, true).await;

    let mut story = vec![at_once.order.expect("an order")];
    story.extend(told(first).await);
    let after = shown(stage, &order_id).await;
    assert_eq!(after.status(), OrderStatus::Confirmed);
    assert_a_story(&story, &after);
    for other in others {
        assert_a_story(&told(other).await, &after);
    }
    assert_eq!(told(outcome).await, [after], "the outcome and nothing else");
}

#[test]
fn a_final_order_is_told_once() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let order = stage.settle(at_own_price("prod-A", "tok_declined")).await;
        for final_only in [false, true] {
            assert_eq!(told(watch(stage, &order.order_id, final_only).await).await, std::slice::from_ref(&order));
        }
    });
}

/// The events of a stream that ends by itself.
async fn events(mut response: reqwest::Response) -> Vec<Value> {
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.expect("a whole stream") {
        text.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(text).expect("text");
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.map(|json| serde_json::from_str(json).expect("JSON")).collect()
}

#[test]
fn over_rest_as_server_sent_events() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let order_id = place(stage, at_own_price("prod-A", "tok_slow")).await;
        let path = format!("/api/v1/orders/{order_id}:watch");
        let response = Rest::of(stage).get(&path).send().await.expect("REST answers");
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let told = timeout(SETTLE_WITHIN, events(response)).await.expect("the stream ends");
        assert!(told.len() > 1, "{told:#?}");
        assert!(told.iter().all(|order| order["orderId"] == order_id.as_str()));
        let versions: Vec<i64> = told.iter().map(|order| order["version"].as_i64().expect("a number")).collect();
        assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
        let (last, before) = told.split_last().expect("told something");
        assert_eq!(last["status"], "CONFIRMED");
        assert!(before.iter().all(|order| order["status"] != "CONFIRMED"), "{told:#?}");

        let outcome = Rest::of(stage).get(&format!("{path}?finalOnly=true")).send().await.expect("REST answers");
        assert_eq!(events(outcome).await, std::slice::from_ref(last));
    });
}

/// Else one open watch would hold up the end for as long as its watcher likes.
#[test]
fn watchers_of_a_stopped_platform_end() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        let mut orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("connected"));
        // It needs a person in the end: it will never be final.
        let request = CreateOrderRequest {
            customer_id: "watched".into(),
            currency: UNPRICED.into(),
            items: vec![OrderItem { sku: "SKU-EMPTY".into(), quantity: 1, unit_price: Some(1) }],
            payment_token: "tok_refund_refused".into(),
            ..Default::default()
        };
        let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
        let request = WatchOrderRequest { order_id: order_id.clone(), final_only: false };
        let mut over_grpc = orders.watch_order(request.clone()).await.expect("watched").into_inner();
        let mut for_the_end =
            orders.watch_order(WatchOrderRequest { final_only: true, ..request }).await.expect("watched").into_inner();
        let mut over_rest =
            reqwest::get(format!("http://{}/api/v1/orders/{order_id}:watch", platform.ready.http)).await.expect("REST answers");
        over_grpc.message().await.expect("told").expect("the order as it is");
        over_rest.chunk().await.expect("told").expect("the order as it is");

        let stopped = tokio::spawn(platform.stop());
        let ends = async {
            // An error or an end: both tell a client to come again.
            while let Ok(Some(_)) = over_grpc.message().await {}
            while let Ok(Some(_)) = for_the_end.message().await {}
            while let Ok(Some(_)) = over_rest.chunk().await {}
        };
        timeout(ENDS_WITHIN, ends).await.expect("the watches end");
        stopped.await.expect("no panic").expect("it ends well");
    });
}
