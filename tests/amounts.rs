//! Orders of the documents that name nothing but an amount, and currencies with other than two digits: to the minor unit, never a float.

use contracts::{
    notification::v1::{ListNotificationsRequest, notification_service_client::NotificationServiceClient},
    order::v1::{CreateOrderRequest, Order, OrderItem, OrderStatus},
    payment::v1::{GetPaymentRequest, payment_service_client::PaymentServiceClient},
};
use serde_json::{Value, json};

use crate::{
    every_bus::on_every_bus,
    harness::{Bus, SETTLE_WITHIN, Stage, platform, run},
    placing::{Rest, answer, at_own_price, ended, fresh},
};

on_every_bus! { an_order_of_an_amount_settles }

async fn accepted(stage: &Stage, body: &str, key: &str) -> String {
    let told = answer(Rest::of(stage).post("/api/v1/orders", body.to_owned()).header("Idempotency-Key", key)).await;
    assert_eq!((told.status, &told.body["status"]), (202, &json!("PENDING")), "{body}: {told:?}");
    told.body["orderId"].as_str().expect("an id").to_owned()
}

async fn an_order_of_an_amount_settles(stage: &'static Stage) {
    let (customer, key) = (fresh("amount"), fresh("key"));
    let order_id = accepted(stage, &format!(r#"{{"userId":"{customer}","amount":299.99}}"#), &key).await;
    // Written in another way it is the same request.
    let again = accepted(stage, &format!(r#"{{"customerId":"{customer}","amount":"299.990","currency":"USD"}}"#), &key).await;
    assert_eq!(again, order_id);
    let order = ended(stage, &order_id).await;
    assert_eq!((order.status(), order.total, order.currency.as_str()), (OrderStatus::Confirmed, 29_999, "USD"));
    assert_eq!(order.items, [OrderItem { sku: "AMOUNT".into(), quantity: 1, unit_price: Some(29_999) }]);
    let id: uuid::Uuid = order_id.parse().expect("an id");
    let committed = local::until("the reservation to be committed", SETTLE_WITHIN, || async {
        let sql = "select state from reservations where order_id = $1";
        let states: Vec<String> =
            sqlx::query_scalar(sql).bind(id).fetch_all(&mut stage.database("inventory").await).await.expect("read");
        (states == ["COMMITTED"]).then_some(())
    });
    committed.await.expect("it is carried out, though nothing is counted");
    let sql = "select count(*) from stock_journal where sku = 'AMOUNT'";
    let entries: i64 = sqlx::query_scalar(sql).fetch_one(&mut stage.database("inventory").await).await.expect("read");
    assert_eq!(entries, 0, "nobody counts it");
}

#[test]
fn a_declined_amount_is_undone() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let body = r#"{"customerId":"c","amount":1,"paymentToken":"tok_declined"}"#;
        let order = ended(stage, &accepted(stage, body, &fresh("key")).await).await;
        assert_eq!((order.status(), order.reason.as_str()), (OrderStatus::Failed, "CARD_DECLINED"));
    });
}

#[test]
fn bad_amounts_are_named_and_nothing_is_stored() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let rest = Rest::of(stage);
        let marker = fresh("bad-amount");
        for (amount, currency, field) in [
            ("0", "USD", "amount"),
            ("-12.50", "USD", "amount"),
            ("12.505", "USD", "amount"),
            ("0.5", "JPY", "amount"),
            ("0.0001", "KWD", "amount"),
            ("1e2", "USD", "amount"),
            ("\"ten\"", "USD", "amount"),
            ("true", "USD", "amount"),
            ("92233720368547758.08", "USD", "amount"),
            ("1", "usd", "currency"),
            ("1", "XXX", "currency"),
        ] {
            let body = format!(r#"{{"userId":"{marker}","amount":{amount},"currency":"{currency}"}}"#);
            let told = answer(rest.post("/api/v1/orders", body.clone())).await;
            assert_eq!((told.status, &told.body["reason"]), (400, &json!("INVALID_FIELD")), "{body}: {told:?}");
            assert_eq!(told.body["errors"][0]["field"], field, "{body}: {told:?}");
        }
        let both = format!(r#"{{"userId":"{marker}","amount":1,"items":[{{"sku":"prod-A","quantity":1}}]}}"#);
        let told = answer(rest.post("/api/v1/orders", both)).await;
        assert_eq!((told.status, &told.body["errors"][0]["field"]), (400, &json!("amount")), "{told:?}");
        let twice = format!(r#"{{"userId":"{marker}","amount":1,"amount":2}}"#);
        let told = answer(rest.post("/api/v1/orders", twice)).await;
        assert_eq!((told.status, &told.body["reason"]), (400, &json!("MALFORMED_JSON")), "{told:?}");
        let sql = "select count(*) from orders where customer_id = $1";
        let stored: i64 = sqlx::query_scalar(sql).bind(&marker).fetch_one(&mut stage.database("order").await).await.expect("read");
        assert_eq!(stored, 0);
    });
}

/// What the customer was told of the confirmation.
async fn told(stage: &Stage, order: &Order) -> String {
    let told = local::until("the notification", SETTLE_WITHIN, || {
        let request = ListNotificationsRequest { order_id: order.order_id.clone(), ..Default::default() };
        async {
            let mut client = NotificationServiceClient::new(stage.channel().await);
            let told = client.list_notifications(request).await.expect("listed").into_inner().notifications;
            told.into_iter().next().map(|notification| notification.text)
        }
    });
    told.await.expect("the customer is told")
}

#[test]
fn currencies_have_their_own_digits() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        for (currency, amount, minor, shown) in
            [("JPY", "1234", 1_234, "1234 JPY"), ("KWD", "1.234", 1_234, "1.234 KWD"), ("EUR", "12.34", 1_234, "12.34 EUR")]
        {
            let body = format!(r#"{{"userId":"{}","amount":{amount},"currency":"{currency}"}}"#, fresh("digits"));
            let by_amount = ended(stage, &accepted(stage, &body, &fresh("key")).await).await;
            let mut request = CreateOrderRequest { currency: currency.into(), ..at_own_price("SKU-123", "") };
            request.items[0].unit_price = Some(minor);
            let by_line = stage.settle(request).await;
            for order in [by_amount, by_line] {
                assert_eq!((order.status(), order.total), (OrderStatus::Confirmed, minor), "{currency}");
                assert_eq!(told(stage, &order).await, format!("Your order {} is confirmed. You paid {shown}.", order.order_id));
                let request = GetPaymentRequest { order_id: order.order_id.clone() };
                let paid = PaymentServiceClient::new(stage.channel().await).get_payment(request).await.expect("paid").into_inner();
                assert_eq!(paid.payment.map(|payment| payment.captured), Some(minor));
                let shown: Value = answer(Rest::of(stage).get(&format!("/api/v1/orders/{}", order.order_id))).await.body;
                assert_eq!(shown["total"], minor.to_string(), "REST tells minor units");
            }
        }
    });
}
