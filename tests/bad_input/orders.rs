//! Bad orders, over gRPC and REST alike.

use contracts::order::v1::{CreateOrderRequest, OrderItem, OrderStatus};
use serde_json::{Value, json};

use super::{assert_invalid, assert_not_there, assert_nothing_stored};
use crate::{
    harness::{Bus, platform, run},
    placing::{Rest, answer, at_own_price, fresh, place, priced, shown},
};

struct Bad {
    what: &'static str,
    request: CreateOrderRequest,
    /// As gRPC names it.
    field: &'static str,
    reason: &'static str,
}

fn item(sku: &str, quantity: i32, unit_price: Option<i64>) -> OrderItem {
    OrderItem { sku: sku.into(), quantity, unit_price }
}

/// Requests with one mistake each. Every one has another key that begins with the marker, which is the customer's name too.
fn catalogue(marker: &str) -> Vec<Bad> {
    let mut all = Vec::new();
    let mut add = |what, field, reason, spoil: &dyn Fn(&mut CreateOrderRequest)| {
        let mut request = CreateOrderRequest {
            idempotency_key: format!("{marker}-{}", all.len()),
            customer_id: marker.to_owned(),
            ..at_own_price("SKU-123", "")
        };
        spoil(&mut request);
        all.push(Bad { what, request, field, reason });
    };
    let lines = |count: usize| (0..count).map(|n| item(&format!("line-{n}"), 1, Some(1))).collect::<Vec<_>>();

    add("no lines", "items", "BAD_LINES", &|r| r.items.clear());
    add("too many lines", "items", "BAD_LINES", &|r| r.items = lines(101));
    add("a product twice", "items[1].sku", "DUPLICATE_SKU", &|r| r.items = vec![item("x", 1, Some(1)), item("x", 2, Some(1))]);
    add("no pieces", "items[0].quantity", "BAD_QUANTITY", &|r| r.items[0].quantity = 0);
    add("minus one piece", "items[0].quantity", "BAD_QUANTITY", &|r| r.items[0].quantity = -1);
    add("too many pieces", "items[0].quantity", "BAD_QUANTITY", &|r| r.items[0].quantity = 10_001);
    add("the fewest pieces", "items[0].quantity", "BAD_QUANTITY", &|r| r.items[0].quantity = i32::MIN);
    add("the third line", "items[2].quantity", "BAD_QUANTITY", &|r| {
        r.items = lines(3);
        r.items[2].quantity = 0;
    });
    add("a negative price", "items[0].unit_price", "NEGATIVE_PRICE", &|r| r.items[0].unit_price = Some(-1));
    add("the lowest price", "items[0].unit_price", "NEGATIVE_PRICE", &|r| r.items[0].unit_price = Some(i64::MIN));
    add("a line beyond int64", "items", "TOTAL_TOO_LARGE", &|r| r.items = vec![item("x", 2, Some(i64::MAX / 2 + 1))]);
    add("a sum beyond int64", "items", "TOTAL_TOO_LARGE", &|r| r.items = vec![item("x", 1, Some(i64::MAX)), item("y", 1, Some(1))]);
    add("a sum beyond int64 with a price of the catalogue", "items", "TOTAL_TOO_LARGE", &|r| {
        r.currency = "USD".into();
        r.items = vec![item("x", 1, Some(i64::MAX)), item("prod-A", 1, None)];
    });
    add("nothing to pay", "items", "TOTAL_IS_ZERO", &|r| r.items = vec![item("x", 1, Some(0)), item("y", 2, Some(0))]);
    add("no price, none known", "items[0].unit_price", "PRICE_UNKNOWN", &|r| r.items[0].unit_price = None);
    add("no price, none in this currency", "items[1].unit_price", "PRICE_UNKNOWN", &|r| {
        r.currency = "AUD".into();
        r.items.push(item("prod-A", 1, None));
    });
    add("no price of an unknown product", "items[0].unit_price", "PRICE_UNKNOWN", &|r| {
        r.items = vec![item("never-heard-of", 1, None)]
    });

    add("no currency", "currency", "UNKNOWN_CURRENCY", &|r| r.currency.clear());
    add("a currency in lower case", "currency", "UNKNOWN_CURRENCY", &|r| r.currency = "usd".into());
    add("a currency of two letters", "currency", "UNKNOWN_CURRENCY", &|r| r.currency = "US".into());
    add("a currency of four letters", "currency", "UNKNOWN_CURRENCY", &|r| r.currency = "USDD".into());
    add("a currency nobody has", "currency", "UNKNOWN_CURRENCY", &|r| r.currency = "ZZZ".into());
    add("a currency with NUL", "currency", "UNKNOWN_CURRENCY", &|r| r.currency = "US\0".into());

    add("no customer", "customer_id", "BAD_LENGTH", &|r| r.customer_id.clear());
    add("a long customer", "customer_id", "BAD_LENGTH", &|r| r.customer_id = "c".repeat(129));
    add("a very long customer", "customer_id", "BAD_LENGTH", &|r| r.customer_id = "c".repeat(50_000));
    add("a customer with NUL", "customer_id", "CONTROL_CHARACTER", &|r| r.customer_id.push('\0'));
    add("a customer with a line break", "customer_id", "CONTROL_CHARACTER", &|r| r.customer_id.push('\n'));
    add("no SKU", "items[0].sku", "BAD_LENGTH", &|r| r.items[0].sku.clear());
    add("a long SKU", "items[0].sku", "BAD_LENGTH", &|r| r.items[0].sku = "s".repeat(65));
    add("a SKU with NUL", "items[0].sku", "CONTROL_CHARACTER", &|r| r.items[0].sku = "a\0b".into());
    add("a long token", "payment_token", "BAD_LENGTH", &|r| r.payment_token = "t".repeat(129));
    add("a token with NUL", "payment_token", "CONTROL_CHARACTER", &|r| r.payment_token = "tok\0".into());
    add("a long key", "idempotency_key", "BAD_IDEMPOTENCY_KEY", &|r| r.idempotency_key = "k".repeat(256));
    add("a key beyond ASCII", "idempotency_key", "BAD_IDEMPOTENCY_KEY", &|r| r.idempotency_key.push('ä'));
    add("a key with a line break", "idempotency_key", "BAD_IDEMPOTENCY_KEY", &|r| r.idempotency_key.push('\n'));
    add("a key with NUL", "idempotency_key", "BAD_IDEMPOTENCY_KEY", &|r| r.idempotency_key.push('\0'));
    all
}

#[test]
fn over_grpc() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        priced(stage, "prod-A").await;
        let mut orders = stage.orders().await;
        let marker = fresh("bad-grpc");
        for Bad { what, request, field, reason } in catalogue(&marker) {
            let key = request.idempotency_key.clone();
            let status = orders.create_order(request).await.expect_err(what);
            assert_invalid(what, &status, field, reason);
            assert_not_there(stage, what, &key).await;
        }
        assert_nothing_stored(stage, &marker).await;
    });
}

#[test]
fn over_rest() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        priced(stage, "prod-A").await;
        let rest = Rest::of(stage);
        let marker = fresh("bad-rest");
        for Bad { what, request, field, reason } in catalogue(&marker) {
            let told = answer(rest.post("/api/v1/orders", as_json(&request).to_string())).await;
            assert_eq!((told.status, &told.body["reason"]), (400, &json!(reason)), "{what}: {told:?}");
            assert_eq!(told.body["errors"][0]["field"], camel(field), "{what}: {told:?}");
            assert_eq!(told.body["errors"].as_array().map(Vec::len), Some(1), "{what}: {told:?}");
            assert_eq!(told.headers["content-type"], "application/problem+json", "{what}");
            assert_not_there(stage, what, &request.idempotency_key).await;
        }
        assert_nothing_stored(stage, &marker).await;
    });
}

/// At the very edge of what is allowed, and in any script: stored and given back as it came.
#[test]
fn odd_but_good() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let hundred = (0..100).map(|n| item(&format!("{n:064}"), 10_000, Some(1))).collect();
        for (what, request) in [
            ("128 characters of four bytes", CreateOrderRequest { customer_id: "🦀".repeat(128), ..at_own_price("SKU-123", "") }),
            (
                "right to left, zero width, combining",
                CreateOrderRequest { customer_id: "שלום\u{200b}\u{202e}e\u{301}".into(), ..at_own_price("SKU-123", "") },
            ),
            (
                "quotes and a statement",
                CreateOrderRequest { customer_id: "'; drop table orders; --".into(), ..at_own_price("SKU-123", "") },
            ),
            ("100 lines of 10,000", CreateOrderRequest { items: hundred, ..at_own_price("SKU-123", "") }),
            (
                "the largest total",
                CreateOrderRequest {
                    items: vec![item("never-heard-of", 1, Some(i64::MAX))],
                    ..at_own_price("SKU-123", "tok_declined")
                },
            ),
            (
                "255 characters of a key",
                CreateOrderRequest { idempotency_key: format!("{:~<255}", fresh("key ")), ..at_own_price("SKU-123", "") },
            ),
        ] {
            let order = shown(stage, &place(stage, request.clone()).await).await;
            assert_eq!(order.customer_id, request.customer_id, "{what}");
            assert_eq!(order.items, request.items, "{what}");
            assert_ne!(order.status(), OrderStatus::Unspecified, "{what}");
        }
    });
}

fn as_json(request: &CreateOrderRequest) -> Value {
    let items = request.items.iter().map(|item| match item.unit_price {
        Some(price) => json!({"sku": item.sku, "quantity": item.quantity, "unitPrice": price}),
        None => json!({"sku": item.sku, "quantity": item.quantity}),
    });
    json!({
        "idempotencyKey": request.idempotency_key,
        "customerId": request.customer_id,
        "currency": request.currency,
        "items": items.collect::<Vec<_>>(),
        "paymentToken": request.payment_token,
    })
}

/// `items[0].unit_price` is `items[0].unitPrice` in JSON.
fn camel(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}
