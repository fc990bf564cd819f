//! Ids, pages, cancels, products: every other field a caller can get wrong.

use contracts::{
    inventory::v1::{
        ListProductsRequest, ListStockRequest, Price, Product, SetStockRequest, UpsertProductRequest,
        inventory_service_client::InventoryServiceClient,
    },
    notification::v1::{ListNotificationsRequest, notification_service_client::NotificationServiceClient},
    order::v1::{CancelOrderRequest, GetOrderRequest, ListOrdersRequest, OrderStatus, RefundOrderRequest, WatchOrderRequest},
    payment::v1::{GetPaymentRequest, ListPaymentsRequest, payment_service_client::PaymentServiceClient},
    saga::v1::{DescribeDefinitionRequest, GetSagaRequest, ListSagasRequest, saga_service_client::SagaServiceClient},
    shipping::v1::{
        GetShipmentRequest, ListShipmentsRequest, MarkDeliveredRequest, MarkDispatchedRequest,
        shipping_service_client::ShippingServiceClient,
    },
};
use serde_json::json;
use tonic::{Code, Status};

use super::assert_invalid;
use crate::{
    harness::{Bus, Stage, platform, run},
    placing::{Rest, answer, at_own_price, ended, fresh, place, reason_of, shown},
};

const MALFORMED: [&str; 7] = [
    "",
    "x",
    "00000000-0000-0000-0000-000000000000",
    "0190d3a87c1e70008000000000000001",
    "{0190d3a8-7c1e-7000-8000-000000000001}",
    "0190d3a8-7c1e-7000-8000-00000000000\0",
    "0190d3a8-7c1e-7000-8000-0000000000011",
];
const NOBODYS: &str = "0190d3a8-7c1e-7000-8000-000000000001";

/// What every call that takes an order's id says of this one.
async fn asked_about(stage: &Stage, order_id: &str) -> Vec<(&'static str, Status)> {
    let channel = stage.channel().await;
    let mut orders = stage.orders().await;
    let id = || order_id.to_owned();
    let cancel = CancelOrderRequest { order_id: id(), reason: String::new() };
    let refund = RefundOrderRequest { order_id: id(), ..Default::default() };
    let watch = WatchOrderRequest { order_id: id(), final_only: false };
    let dispatched = MarkDispatchedRequest { order_id: id(), ..Default::default() };
    let delivered = MarkDeliveredRequest { order_id: id() };
    let mut sagas = SagaServiceClient::new(channel.clone());
    let mut payments = PaymentServiceClient::new(channel.clone());
    let mut shipping = ShippingServiceClient::new(channel);
    vec![
        ("GetOrder", orders.get_order(GetOrderRequest { order_id: id() }).await.expect_err("GetOrder")),
        ("CancelOrder", orders.cancel_order(cancel).await.expect_err("CancelOrder")),
        ("RefundOrder", orders.refund_order(refund).await.expect_err("RefundOrder")),
        ("WatchOrder", orders.watch_order(watch).await.expect_err("WatchOrder")),
        ("GetSaga", sagas.get_saga(GetSagaRequest { order_id: id(), ..Default::default() }).await.expect_err("GetSaga")),
        ("GetPayment", payments.get_payment(GetPaymentRequest { order_id: id() }).await.expect_err("GetPayment")),
        ("GetShipment", shipping.get_shipment(GetShipmentRequest { order_id: id() }).await.expect_err("GetShipment")),
        ("MarkDispatched", shipping.mark_dispatched(dispatched).await.expect_err("MarkDispatched")),
        ("MarkDelivered", shipping.mark_delivered(delivered).await.expect_err("MarkDelivered")),
    ]
}

#[test]
fn ids_that_are_none_and_ids_of_nothing() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        for id in MALFORMED {
            for (call, status) in asked_about(stage, id).await {
                assert_invalid(&format!("{call} {id:?}"), &status, "order_id", "MALFORMED_ID");
            }
        }
        for (call, status) in asked_about(stage, NOBODYS).await {
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::NotFound, "NOT_FOUND"), "{call}");
        }
        let mut sagas = SagaServiceClient::new(stage.channel().await);
        let nothing = sagas.describe_definition(DescribeDefinitionRequest { name: "nothing".into() }).await.expect_err("nothing");
        assert_eq!(nothing.code(), Code::NotFound);

        let rest = Rest::of(stage);
        for (method, verb) in [("GET", ""), ("POST", ":cancel"), ("POST", ":refund"), ("GET", ":watch")] {
            let told = answer(rest.request(method, &format!("/api/v1/orders/nonsense{verb}"))).await;
            assert_eq!((told.status, &told.body["reason"]), (400, &json!("MALFORMED_ID")), "{verb}: {told:?}");
            assert_eq!(told.body["errors"][0]["field"], "orderId", "{verb}");
            let told = answer(rest.request(method, &format!("/api/v1/orders/{NOBODYS}{verb}"))).await;
            assert_eq!((told.status, &told.body["reason"]), (404, &json!("NOT_FOUND")), "{verb}: {told:?}");
        }
    });
}

/// What every list says of this page.
async fn listed(stage: &Stage, page_size: i32, page_token: &str) -> Vec<(&'static str, Status)> {
    let channel = stage.channel().await;
    let token = || page_token.to_owned();
    let mut orders = stage.orders().await;
    let mut sagas = SagaServiceClient::new(channel.clone());
    let mut payments = PaymentServiceClient::new(channel.clone());
    let mut shipping = ShippingServiceClient::new(channel.clone());
    let mut inventory = InventoryServiceClient::new(channel.clone());
    let mut notifications = NotificationServiceClient::new(channel);
    let of_orders = ListOrdersRequest { page_size, page_token: token(), ..Default::default() };
    let of_sagas = ListSagasRequest { page_size, page_token: token(), ..Default::default() };
    let of_notifications = ListNotificationsRequest { page_size, page_token: token(), ..Default::default() };
    let of_payments = ListPaymentsRequest { page_size, page_token: token() };
    let of_shipments = ListShipmentsRequest { page_size, page_token: token() };
    let of_products = ListProductsRequest { page_size, page_token: token() };
    let of_stock = ListStockRequest { page_size, page_token: token() };
    vec![
        ("ListOrders", orders.list_orders(of_orders).await.expect_err("ListOrders")),
        ("ListSagas", sagas.list_sagas(of_sagas).await.expect_err("ListSagas")),
        ("ListNotifications", notifications.list_notifications(of_notifications).await.expect_err("ListNotifications")),
        ("ListPayments", payments.list_payments(of_payments).await.expect_err("ListPayments")),
        ("ListShipments", shipping.list_shipments(of_shipments).await.expect_err("ListShipments")),
        ("ListProducts", inventory.list_products(of_products).await.expect_err("ListProducts")),
        ("ListStock", inventory.list_stock(of_stock).await.expect_err("ListStock")),
    ]
}

#[test]
fn pages_that_nobody_gave_out() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        for size in [-1, 201, i32::MIN, i32::MAX] {
            for (call, status) in listed(stage, size, "").await {
                assert_invalid(&format!("{call} {size}"), &status, "page_size", "BAD_PAGE_SIZE");
            }
        }
        for token in ["zz", "7", "ffff", "é", "76323a78", "\0"] {
            for (call, status) in listed(stage, 10, token).await {
                assert_invalid(&format!("{call} {token:?}"), &status, "page_token", "BAD_PAGE_TOKEN");
            }
        }
        // Well made, and of a place where nothing can be: lists by SKU take any text, so theirs are not among them.
        let far_past = format!("-377705116800000000000|{NOBODYS}");
        for after in ["", "x", "|", "1|", "|x", "99999999999999999999999999|x", &far_past, &far_past.replace('|', "/")] {
            for (call, status) in timed_lists(stage, &kit::grpc::page_token(after)).await {
                assert_invalid(&format!("{call} {after:?}"), &status, "page_token", "BAD_PAGE_TOKEN");
            }
        }
    });
}

/// The lists whose tokens are of a place in time.
async fn timed_lists(stage: &Stage, page_token: &str) -> Vec<(&'static str, Status)> {
    let channel = stage.channel().await;
    let page_token = page_token.to_owned();
    let of_orders = ListOrdersRequest { page_token: page_token.clone(), ..Default::default() };
    let of_sagas = ListSagasRequest { page_token: page_token.clone(), ..Default::default() };
    let of_payments = ListPaymentsRequest { page_token, ..Default::default() };
    vec![
        ("ListOrders", stage.orders().await.list_orders(of_orders).await.expect_err("ListOrders")),
        ("ListSagas", SagaServiceClient::new(channel.clone()).list_sagas(of_sagas).await.expect_err("ListSagas")),
        ("ListPayments", PaymentServiceClient::new(channel).list_payments(of_payments).await.expect_err("ListPayments")),
    ]
}

#[test]
fn filters() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let mut orders = stage.orders().await;
        for (field, reason, request) in [
            ("status", "UNKNOWN_STATUS", ListOrdersRequest { status: 99, ..Default::default() }),
            ("customer_id", "BAD_LENGTH", ListOrdersRequest { customer_id: "c".repeat(129), ..Default::default() }),
            ("customer_id", "CONTROL_CHARACTER", ListOrdersRequest { customer_id: "\0".into(), ..Default::default() }),
        ] {
            assert_invalid(field, &orders.list_orders(request).await.expect_err(field), field, reason);
        }
        let mut sagas = SagaServiceClient::new(stage.channel().await);
        let status = sagas.list_sagas(ListSagasRequest { state: 99, ..Default::default() }).await.expect_err("no state");
        assert_invalid("ListSagas", &status, "state", "UNKNOWN_STATE");
        let mut notifications = NotificationServiceClient::new(stage.channel().await);
        let request = ListNotificationsRequest { order_id: "x".into(), ..Default::default() };
        assert_invalid(
            "ListNotifications",
            &notifications.list_notifications(request).await.expect_err("no id"),
            "order_id",
            "MALFORMED_ID",
        );
    });
}

#[test]
fn cancels() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let mut orders = stage.orders().await;
        let order_id = place(stage, at_own_price("prod-A", "")).await;
        for (reason, why) in [("r".repeat(257), "BAD_LENGTH"), ("a\0b".into(), "CONTROL_CHARACTER")] {
            let request = CancelOrderRequest { order_id: order_id.clone(), reason };
            assert_invalid(why, &orders.cancel_order(request).await.expect_err(why), "reason", why);
        }
        let confirmed = ended(stage, &order_id).await;
        assert_eq!(confirmed.status(), OrderStatus::Confirmed);
        let failed = stage.settle(at_own_price("prod-A", "tok_declined")).await;
        let rest = Rest::of(stage);
        for order in [confirmed, failed] {
            let request = CancelOrderRequest { order_id: order.order_id.clone(), reason: String::new() };
            let status = orders.cancel_order(request).await.expect_err("it is over");
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "ORDER_NOT_CANCELLABLE"));
            let told = answer(rest.request("POST", &format!("/api/v1/orders/{}:cancel", order.order_id))).await;
            assert_eq!((told.status, &told.body["reason"]), (400, &json!("ORDER_NOT_CANCELLABLE")), "{told:?}");
            assert_eq!(shown(stage, &order.order_id).await, order, "a refused cancel changed the order");
        }
    });
}

#[test]
fn products_and_stock() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let mut inventory = InventoryServiceClient::new(stage.channel().await);
        let sku = fresh("bad-product");
        let price = |currency: &str, unit_price| Price { currency: currency.into(), unit_price };
        let product = |sku: &str, name: &str, prices: Vec<Price>| Some(Product { sku: sku.into(), name: name.into(), prices });
        for (field, product) in [
            ("product", None),
            ("product.sku", product("", "", vec![])),
            ("product.sku", product(&"s".repeat(65), "", vec![])),
            ("product.sku", product("a\0b", "", vec![])),
            ("product.name", product(&sku, &"n".repeat(201), vec![])),
            ("product.prices[0].currency", product(&sku, "", vec![price("usd", 1)])),
            ("product.prices[1].currency", product(&sku, "", vec![price("USD", 1), price("USD", 2)])),
            ("product.prices[0].unit_price", product(&sku, "", vec![price("USD", -1)])),
        ] {
            let status = inventory.upsert_product(UpsertProductRequest { product }).await.expect_err(field);
            assert_invalid(field, &status, field, &reason_of(&status));
            assert_ne!(reason_of(&status), "", "{field}");
        }
        for (field, wanted, on_hand) in
            [("sku", "", 1), ("sku", "a\0b", 1), ("on_hand", "prod-A", -1), ("on_hand", "prod-A", i64::MAX)]
        {
            let status = inventory.set_stock(SetStockRequest { sku: wanted.into(), on_hand }).await.expect_err(field);
            assert_invalid(field, &status, field, &reason_of(&status));
        }
        // None of the refused products is there.
        let status = inventory.set_stock(SetStockRequest { sku, on_hand: 1 }).await.expect_err("there is no such product");
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
    });
}
