//! Orders as tests place them over gRPC and REST, what became of them, and what a refusal says.

use contracts::{
    inventory::v1::inventory_service_client::InventoryServiceClient,
    order::v1::{CreateOrderRequest, GetOrderRequest, Order, OrderItem, OrderStatus},
};
use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tonic::Status;
use tonic_types::StatusExt;

use crate::harness::{SETTLE_WITHIN, Stage};

/// A name that nobody has used.
pub(crate) fn fresh(prefix: &str) -> String {
    format!("{prefix}-{}", kit::fresh_id())
}

/// A currency in which no product of the examples has a price: whoever orders names his own.
pub(crate) const UNPRICED: &str = "SEK";

/// One piece at a price that hardly another order has, so that every charge of it is found, whatever its key.
pub(crate) fn at_own_price(sku: &str, token: &str) -> CreateOrderRequest {
    let dice = i64::try_from(kit::fresh_id().as_u128() % 1_000_000_000).expect("it is small");
    CreateOrderRequest {
        idempotency_key: String::new(),
        customer_id: fresh("customer"),
        currency: UNPRICED.into(),
        items: vec![OrderItem { sku: sku.into(), quantity: 1, unit_price: Some(1_000 + dice) }],
        payment_token: token.into(),
    }
}

pub(crate) async fn place(stage: &Stage, request: CreateOrderRequest) -> String {
    stage.orders().await.create_order(request).await.expect("accepted").into_inner().order_id
}

pub(crate) async fn shown(stage: &Stage, order_id: &str) -> Order {
    let request = GetOrderRequest { order_id: order_id.to_owned() };
    stage.orders().await.get_order(request).await.expect("there").into_inner().order.expect("an order")
}

pub(crate) fn is_final(order: &Order) -> bool {
    matches!(order.status(), OrderStatus::Confirmed | OrderStatus::Failed | OrderStatus::Cancelled)
}

/// Waits until an order is final or needs a person.
pub(crate) async fn ended(stage: &Stage, order_id: &str) -> Order {
    let orders = stage.orders().await;
    let request = || GetOrderRequest { order_id: order_id.to_owned() };
    let ended = local::until("the end of an order", SETTLE_WITHIN, || {
        let (mut orders, request) = (orders.clone(), request());
        async move {
            let order = orders.get_order(request).await.expect("there").into_inner().order.expect("an order");
            (is_final(&order) || order.needs_attention).then_some(order)
        }
    });
    match ended.await {
        Ok(order) => order,
        Err(error) => panic!("{order_id}: {error}\n{}", settle::orders::timeline(&shown(stage, order_id).await)),
    }
}

/// These events are in the timeline in this order, others between them allowed.
pub(crate) fn assert_happened(order: &Order, events: &[&str]) {
    let mut told = order.timeline.iter().map(|entry| entry.event.as_str());
    for event in events {
        assert!(told.any(|told| told == *event), "{event} is missing or out of place in\n{}", settle::orders::timeline(order));
    }
}

/// A product at this price in every currency of the examples.
pub(crate) async fn product(stage: &Stage, sku: &str, price: Option<i64>, pieces: i64) {
    let mut inventory = InventoryServiceClient::new(stage.channel().await);
    settle::seed::upsert(&mut inventory, sku, "For a test", price, pieces).await.expect("the product is taken");
}

/// Waits until the order service has heard of this product's price.
pub(crate) async fn priced(stage: &Stage, sku: &str) {
    let heard = local::until("the catalogue's price", SETTLE_WITHIN, || async {
        let mut db = stage.database("order").await;
        let sql = "select exists (select from prices where sku = $1)";
        let known: bool = sqlx::query_scalar(sql).bind(sku).fetch_one(&mut db).await.expect("read");
        known.then_some(())
    });
    heard.await.expect("it came");
}

/// The stable reason of a refusal; empty if it has none.
pub(crate) fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The fields a refusal names.
pub(crate) fn fields_of(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request();
    bad.map(|bad| bad.field_violations.into_iter().map(|violation| violation.field).collect()).unwrap_or_default()
}

/// A client of the REST side.
#[derive(Clone)]
pub(crate) struct Rest {
    client: reqwest::Client,
    base: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Null where it is no JSON.
    pub(crate) body: Value,
}

impl Rest {
    pub(crate) fn of(stage: &Stage) -> Self {
        Self { client: reqwest::Client::new(), base: format!("http://{}", stage.http) }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request("GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request("POST", path).header("content-type", "application/json").body(body)
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("REST answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.expect("a whole body");
    Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
}
