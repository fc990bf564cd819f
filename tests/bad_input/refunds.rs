//! Refunds and prices that are refused: what is wrong is named, and nothing of it is stored.

use contracts::order::v1::{CancelOrderRequest, CreateOrderRequest, OrderItem, OrderStatus, RefundOrderRequest};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{assert_invalid, assert_nothing_stored};
use crate::{
    harness::{Bus, Stage, platform, run},
    placing::{Rest, answer, at_own_price, ended, fields_of, fresh, place, priced, product, reason_of, shown},
};

fn refund(order_id: &str, amount: Option<i64>) -> RefundOrderRequest {
    RefundOrderRequest { order_id: order_id.to_owned(), amount, ..Default::default() }
}

async fn refused(stage: &Stage, request: RefundOrderRequest) -> Status {
    stage.orders().await.refund_order(request).await.expect_err("it is refused")
}

#[test]
fn refunds() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let order = stage.settle(at_own_price("prod-A", "")).await;
        assert_eq!(order.status(), OrderStatus::Confirmed);
        let id = order.order_id.as_str();
        for (field, reason, request) in [
            ("amount", "BAD_AMOUNT", refund(id, Some(0))),
            ("amount", "BAD_AMOUNT", refund(id, Some(-1))),
            ("amount", "BAD_AMOUNT", refund(id, Some(i64::MIN))),
            ("reason", "BAD_LENGTH", RefundOrderRequest { reason: "r".repeat(257), ..refund(id, None) }),
            ("reason", "CONTROL_CHARACTER", RefundOrderRequest { reason: "a\0b".into(), ..refund(id, None) }),
            ("idempotency_key", "BAD_IDEMPOTENCY_KEY", RefundOrderRequest { idempotency_key: "k".repeat(256), ..refund(id, None) }),
            ("idempotency_key", "BAD_IDEMPOTENCY_KEY", RefundOrderRequest { idempotency_key: "ä".into(), ..refund(id, None) }),
        ] {
            assert_invalid(field, &refused(stage, request).await, field, reason);
        }
        for amount in [order.total + 1, i64::MAX] {
            let status = refused(stage, refund(id, Some(amount))).await;
            let told = (status.code(), fields_of(&status), reason_of(&status));
            assert_eq!(told, (Code::FailedPrecondition, vec!["amount".to_owned()], "REFUND_EXCEEDS_TOTAL".to_owned()));
            assert!(status.message().contains(&order.total.to_string()), "it says what is left: {}", status.message());
        }
        let rest = Rest::of(stage);
        let path = format!("/api/v1/orders/{id}:refund");
        for (body, reason) in [
            (r#"{"amount":0}"#, "BAD_AMOUNT"),
            (r#"{"amount":"-5"}"#, "BAD_AMOUNT"),
            (r#"{"amount":1.5}"#, "INVALID_FIELD"),
            (r#"{"amount":9223372036854775808}"#, "INVALID_FIELD"),
            (r#"{"amount":9223372036854775807}"#, "REFUND_EXCEEDS_TOTAL"),
        ] {
            let told = answer(rest.post(&path, body)).await;
            assert_eq!((told.status, &told.body["reason"]), (400, &json!(reason)), "{body}: {told:?}");
            assert_eq!(told.body["errors"][0]["field"], "amount", "{body}: {told:?}");
        }
        assert_eq!(shown(stage, id).await, order, "a refused refund changed the order");
    });
}

#[test]
fn refunds_of_orders_that_are_not_confirmed() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let failed = stage.settle(at_own_price("prod-A", "tok_declined")).await.order_id;
        let stuck = ended(stage, &place(stage, at_own_price("SKU-EMPTY", "tok_refund_refused")).await).await.order_id;
        let open = place(stage, at_own_price("prod-A", "tok_slow")).await;
        for order_id in [&failed, &stuck, &open] {
            let status = refused(stage, refund(order_id, Some(1))).await;
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "NOT_REFUNDABLE"), "{status:?}");
        }
        assert_eq!(stage.outcome(&open).await.status(), OrderStatus::Confirmed);
    });
}

#[test]
fn a_cancel_that_is_repeated_changes_nothing() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let mut orders = stage.orders().await;
        let order_id = place(stage, at_own_price("prod-A", "tok_slow")).await;
        let cancel = |reason: &str| CancelOrderRequest { order_id: order_id.clone(), reason: reason.into() };
        for reason in ["too late", "too late", "another reason"] {
            let told = orders.cancel_order(cancel(reason)).await.expect("in time").into_inner();
            assert_eq!(told.status(), OrderStatus::Cancelling);
        }
        let cancelled = stage.outcome(&order_id).await;
        assert_eq!((cancelled.status(), cancelled.reason.as_str()), (OrderStatus::Cancelled, "too late"), "the first one counts");
        let told = orders.cancel_order(cancel("too late")).await.expect("said again").into_inner();
        assert_eq!(told.status(), OrderStatus::Cancelled);
        assert_eq!(shown(stage, &order_id).await, cancelled);
        let requested = cancelled.timeline.iter().filter(|entry| entry.event == "OrderCancelRequested").count();
        assert_eq!(requested, 1);
    });
}

#[test]
fn a_price_that_is_not_the_catalogues() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let (sku, marker) = (fresh("priced"), fresh("price-changed"));
        product(stage, &sku, Some(1_500), 10).await;
        priced(stage, &sku).await;
        let request = |currency: &str, unit_price| CreateOrderRequest {
            customer_id: marker.clone(),
            currency: currency.into(),
            items: vec![
                OrderItem { sku: "SKU-123".into(), quantity: 1, unit_price: Some(7) },
                OrderItem { sku: sku.clone(), quantity: 2, unit_price },
            ],
            ..Default::default()
        };
        let mut orders = stage.orders().await;
        for asked in [1_499, 1_501, 0, i64::MAX / 4] {
            let status = orders.create_order(request("USD", Some(asked))).await.expect_err("the price is another");
            let told = (status.code(), fields_of(&status), reason_of(&status));
            assert_eq!(told, (Code::FailedPrecondition, vec!["items[1].unit_price".to_owned()], "PRICE_CHANGED".to_owned()));
            let facts = status.get_details_error_info().expect("a reason").metadata;
            assert_eq!((facts["unit_price"].as_str(), facts["catalogue_price"].as_str()), (asked.to_string().as_str(), "1500"));
            assert!(status.message().contains("1500") && status.message().contains(&asked.to_string()), "{}", status.message());
        }
        let body = json!({"customerId": marker, "currency": "USD", "items": [{"sku": sku, "qty": 1, "price": 1}]});
        let told = answer(Rest::of(stage).post("/api/v1/orders", body.to_string())).await;
        assert_eq!((told.status, &told.body["reason"]), (400, &json!("PRICE_CHANGED")), "{told:?}");
        assert_eq!(told.body["errors"][0]["field"], "items[0].unitPrice", "{told:?}");
        assert_nothing_stored(stage, &marker).await;

        // The same price, none, and one in a currency that the catalogue has none in.
        for request in [request("USD", Some(1_500)), request("USD", None), request("AUD", Some(1))] {
            orders.create_order(request).await.expect("a price that counts");
        }
    });
}

#[test]
fn a_repeat_is_judged_before_its_price() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let sku = fresh("repriced");
        product(stage, &sku, Some(1_500), 10).await;
        priced(stage, &sku).await;
        let mut request = CreateOrderRequest { currency: "USD".into(), idempotency_key: fresh("key"), ..at_own_price(&sku, "") };
        request.items[0].unit_price = Some(1_500);
        let mut orders = stage.orders().await;
        let first = orders.create_order(request.clone()).await.expect("accepted").into_inner();
        product(stage, &sku, Some(1_600), 10).await;
        let other = CreateOrderRequest { idempotency_key: String::new(), ..request.clone() };
        let changed = local::until("the new price", crate::harness::SETTLE_WITHIN, || async {
            let refused = stage.orders().await.create_order(other.clone()).await.err()?;
            (reason_of(&refused) == "PRICE_CHANGED").then_some(())
        });
        changed.await.expect("the catalogue's price is heard of");
        let again = orders.create_order(request).await.expect("said again").into_inner();
        assert_eq!(again, first);
    });
}
