//! Lists come in pages: the newest first, none twice and none left out, whatever is placed meanwhile.

use std::collections::BTreeSet;

use contracts::{
    inventory::v1::{ListProductsRequest, ListStockRequest, inventory_service_client::InventoryServiceClient},
    notification::v1::{ListNotificationsRequest, notification_service_client::NotificationServiceClient},
    order::v1::{CreateOrderRequest, ListOrdersRequest, ListOrdersResponse, Order, OrderStatus},
    payment::v1::{ListPaymentsRequest, payment_service_client::PaymentServiceClient},
    saga::v1::{ListSagasRequest, SagaState, saga_service_client::SagaServiceClient},
    shipping::v1::{ListShipmentsRequest, shipping_service_client::ShippingServiceClient},
};
use serde_json::Value;

use crate::{
    harness::{Bus, SETTLE_WITHIN, Stage, platform, run},
    placing::{Rest, answer, at_own_price, fresh, place, product},
};

/// One order after another of this customer, declined and so soon over. Ids, newest first.
async fn placed(stage: &Stage, customer: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(
            place(stage, CreateOrderRequest { customer_id: customer.to_owned(), ..at_own_price("prod-A", "tok_declined") }).await,
        );
    }
    ids.reverse();
    ids
}

async fn list(stage: &Stage, request: ListOrdersRequest) -> ListOrdersResponse {
    stage.orders().await.list_orders(request).await.expect("listed").into_inner()
}

fn of(customer: &str, page_size: i32, page_token: &str) -> ListOrdersRequest {
    ListOrdersRequest { customer_id: customer.to_owned(), page_size, page_token: page_token.to_owned(), ..Default::default() }
}

fn ids(orders: &[Order]) -> Vec<String> {
    orders.iter().map(|order| order.order_id.clone()).collect()
}

#[test]
fn orders_newest_first_and_stable() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let customer = fresh("lister");
        let all = placed(stage, &customer, 7).await;
        let first = list(stage, of(&customer, 3, "")).await;
        assert_eq!(ids(&first.orders), all[..3]);
        // Newer ones do not push others into the next page.
        let newer = placed(stage, &customer, 2).await;
        let second = list(stage, of(&customer, 3, &first.next_page_token)).await;
        assert_eq!(ids(&second.orders), all[3..6]);
        // The same token is the same page, and its size may be another.
        assert_eq!(ids(&list(stage, of(&customer, 3, &first.next_page_token)).await.orders), all[3..6]);
        assert_eq!(ids(&list(stage, of(&customer, 2, &first.next_page_token)).await.orders), all[3..5]);
        let third = list(stage, of(&customer, 3, &second.next_page_token)).await;
        assert_eq!((ids(&third.orders), third.next_page_token.as_str()), (all[6..].to_vec(), ""), "the last page says so");
        let whole = list(stage, of(&customer, 200, "")).await;
        assert_eq!((ids(&whole.orders), whole.next_page_token.as_str()), ([newer, all].concat(), ""));
        // Of nine, a third page of three is the last, though it is full.
        let first = list(stage, of(&customer, 9, "")).await;
        assert_eq!((first.orders.len(), first.next_page_token.as_str()), (9, ""));
    });
}

#[test]
fn orders_by_customer_and_status() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let customer = fresh("filter");
        let failed = placed(stage, &customer, 3).await;
        let good = CreateOrderRequest { customer_id: customer.clone(), ..at_own_price("prod-A", "") };
        let confirmed = stage.settle(good).await;
        for id in &failed {
            stage.outcome(id).await;
        }
        for (status, expected) in [
            (OrderStatus::Failed, failed.clone()),
            (OrderStatus::Confirmed, vec![confirmed.order_id.clone()]),
            (OrderStatus::Cancelled, vec![]),
        ] {
            let listed = list(stage, ListOrdersRequest { status: status.into(), ..of(&customer, 0, "") }).await;
            assert_eq!(ids(&listed.orders), expected, "{status:?}");
            assert!(listed.orders.iter().all(|order| order.status() == status && order.customer_id == customer));
        }
        // A filtered list has pages too.
        let failed_only =
            |page_token: &str| ListOrdersRequest { status: OrderStatus::Failed.into(), ..of(&customer, 2, page_token) };
        let page = list(stage, failed_only("")).await;
        assert_eq!(ids(&page.orders), failed[..2]);
        assert_eq!(ids(&list(stage, failed_only(&page.next_page_token)).await.orders), failed[2..]);

        let listed = list(stage, of(&customer, 1, "")).await.orders;
        let brief = Order { timeline: vec![], ..confirmed };
        assert_eq!(listed, [brief], "all of an order but its timeline");
        assert_eq!(list(stage, of(&fresh("nobody"), 0, "")).await, ListOrdersResponse::default());
    });
}

#[test]
fn orders_over_rest() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let rest = Rest::of(stage);
        let customer = fresh("rest-lister");
        let all = placed(stage, &customer, 3).await;
        for id in &all {
            stage.outcome(id).await;
        }
        let ids = |body: &Value| -> Vec<String> {
            let orders = body["orders"].as_array().expect("a list");
            orders.iter().map(|order| order["orderId"].as_str().expect("an id").to_owned()).collect()
        };
        let first = answer(rest.get(&format!("/api/v1/orders?customerId={customer}&pageSize=2"))).await.body;
        assert_eq!(ids(&first), all[..2]);
        let token = first["nextPageToken"].as_str().expect("a token");
        let second = answer(rest.get(&format!("/api/v1/orders?customer_id={customer}&page_size=2&page_token={token}"))).await.body;
        assert_eq!((ids(&second), &second["nextPageToken"]), (all[2..].to_vec(), &Value::from("")));
        for status in ["FAILED", "ORDER_STATUS_FAILED"] {
            let failed = answer(rest.get(&format!("/api/v1/orders?customerId={customer}&status={status}"))).await.body;
            assert_eq!(ids(&failed), all, "{status}");
            assert!(failed["orders"].as_array().expect("a list").iter().all(|order| order["status"] == "FAILED"));
        }
    });
}

/// Walks through pages of seven, for so many pages. Each key comes once, and only the last page is short.
async fn walk(what: &str, pages: usize, page: impl AsyncFn(i32, String) -> (Vec<String>, String)) -> Vec<String> {
    const SIZE: i32 = 7;
    let (mut seen, mut token) = (Vec::new(), String::new());
    for _ in 0..pages {
        let (keys, next) = page(SIZE, token).await;
        assert!(keys.len() == 7 || (next.is_empty() && keys.len() < 7), "{what}: a page of {}", keys.len());
        seen.extend(keys);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    let once: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "{what}: something came twice");
    seen
}

#[test]
fn the_lists_of_the_other_services() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        for _ in 0..3 {
            let settled = (0..8).map(|_| stage.settle(at_own_price("prod-A", "")));
            futures::future::join_all(settled).await;
        }
        let channel = stage.channel().await;
        let payments = walk("payments", 3, async |page_size: i32, page_token: String| -> (Vec<String>, String) {
            let request = ListPaymentsRequest { page_size, page_token };
            let page = PaymentServiceClient::new(channel.clone()).list_payments(request).await.expect("listed").into_inner();
            (page.payments.into_iter().map(|payment| payment.payment_id).collect(), page.next_page_token)
        });
        let sagas = walk("sagas", 3, async |page_size: i32, page_token: String| -> (Vec<String>, String) {
            let request = ListSagasRequest { page_size, page_token, ..Default::default() };
            let page = SagaServiceClient::new(channel.clone()).list_sagas(request).await.expect("listed").into_inner();
            (page.sagas.into_iter().map(|saga| saga.saga_id).collect(), page.next_page_token)
        });
        let done = walk("sagas that are done", 2, async |page_size: i32, page_token: String| -> (Vec<String>, String) {
            let request = ListSagasRequest { page_size, page_token, state: SagaState::Done.into(), ..Default::default() };
            let page = SagaServiceClient::new(channel.clone()).list_sagas(request).await.expect("listed").into_inner();
            assert!(page.sagas.iter().all(|saga| saga.state() == SagaState::Done));
            (page.sagas.into_iter().map(|saga| saga.saga_id).collect(), page.next_page_token)
        });
        let shipments = walk("shipments", 3, async |page_size: i32, page_token: String| -> (Vec<String>, String) {
            let request = ListShipmentsRequest { page_size, page_token };
            let page = ShippingServiceClient::new(channel.clone()).list_shipments(request).await.expect("listed").into_inner();
            (page.shipments.into_iter().map(|shipment| shipment.shipment_id).collect(), page.next_page_token)
        });
        let notifications = walk("notifications", 3, async |page_size: i32, page_token: String| -> (Vec<String>, String) {
            let request = ListNotificationsRequest { page_size, page_token, ..Default::default() };
            let mut client = NotificationServiceClient::new(channel.clone());
            let page = client.list_notifications(request).await.expect("listed").into_inner();
            (page.notifications.into_iter().map(|told| told.notification_id).collect(), page.next_page_token)
        });
        // Two dozen orders are over, whatever else there is; the last of them may still be told of.
        for walked in [payments.await, sagas.await, done.await, shipments.await, notifications.await] {
            assert!(walked.len() >= 14, "{walked:?}");
        }
    });
}

#[test]
fn products_and_stock_by_sku() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let skus: Vec<String> = (0..9).map(|n| fresh(&format!("shelf-{n}"))).collect();
        for (n, sku) in (1..).zip(&skus) {
            product(stage, sku, Some(n), n).await;
        }
        let channel = stage.channel().await;
        let products = walk("products", usize::MAX, async |page_size: i32, page_token: String| -> (Vec<String>, String) {
            let request = ListProductsRequest { page_size, page_token };
            let page = InventoryServiceClient::new(channel.clone()).list_products(request).await.expect("listed").into_inner();
            (page.products.into_iter().map(|product| product.sku).collect(), page.next_page_token)
        });
        let stock = walk("stock", usize::MAX, async |page_size: i32, page_token: String| -> (Vec<String>, String) {
            let request = ListStockRequest { page_size, page_token };
            let page = InventoryServiceClient::new(channel.clone()).list_stock(request).await.expect("listed").into_inner();
            (page.stock.into_iter().map(|stock| stock.sku).collect(), page.next_page_token)
        });
        for listed in [products.await, stock.await] {
            assert!(listed.is_sorted(), "by SKU: {listed:?}");
            assert!(skus.iter().chain(&["prod-A".to_owned(), "SKU-EMPTY".to_owned()]).all(|sku| listed.contains(sku)));
        }
    });
}

#[test]
fn what_a_customer_was_told_of_an_order() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let order = stage.settle(at_own_price("prod-A", "tok_declined")).await;
        let request = ListNotificationsRequest { order_id: order.order_id.clone(), ..Default::default() };
        let client = NotificationServiceClient::new(stage.channel().await);
        let told = local::until("the notification", SETTLE_WITHIN, || {
            let (mut client, request) = (client.clone(), request.clone());
            async move {
                let told = client.list_notifications(request).await.expect("listed").into_inner().notifications;
                (!told.is_empty()).then_some(told)
            }
        });
        let told = told.await.expect("it was told");
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].kind.as_str(), &told[0].customer_id), ("ORDER_FAILED", &order.customer_id));
        assert!(told[0].text.contains(&order.order_id), "{}", told[0].text);
    });
}
