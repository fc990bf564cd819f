//! Orders that name an amount in place of lines, as older clients send them: `{"userId": "u", "amount": 299.99}`. They become one piece of
//! `AMOUNT`, a product that nobody counts. The one thing here that knows an order.
//!
//! An amount is a decimal number of the currency's major unit, as a JSON number or as text, and is taken as it is written: no float is in
//! between, and nothing is rounded.

use contracts::money::{self, Currency};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json, value::RawValue};

use crate::json::Violation;

/// Where an amount may stand for lines.
const REQUEST: &str = "settle.order.v1.CreateOrderRequest";
const SKU: &str = "AMOUNT";
/// Whose order it is, and in which currency, where a client never heard of either.
const CUSTOMER: &str = "anonymous";
const CURRENCY: &str = "USD";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    amount: &'a RawValue,
}

/// The body with a line for its amount; any other body as it is. `bytes` are those that `json` was read from.
pub(crate) fn as_line(request: &str, json: Json, bytes: &[u8]) -> Result<Json, Vec<Violation>> {
    match json {
        Json::Object(body) if request == REQUEST && body.get("amount").is_some_and(|amount| !amount.is_null()) => {
            with_line(body, bytes).map(Json::Object).map_err(|violation| vec![violation])
        }
        other => Ok(other),
    }
}

fn with_line(mut body: Map<String, Json>, bytes: &[u8]) -> Result<Map<String, Json>, Violation> {
    let amount = body.remove("amount").unwrap_or_default();
    if body.get("items").is_some_and(|items| !items.is_null()) {
        return Err(Violation::new("amount", "excludes items: it stands for an order without lines"));
    }
    let named =
        |body: &Map<String, Json>, names: [&str; 3]| names.iter().any(|name| body.get(*name).is_some_and(|it| !it.is_null()));
    if !named(&body, ["customerId", "customer_id", "userId"]) {
        body.insert("customerId".to_owned(), json!(CUSTOMER));
    }
    if !named(&body, ["currency"; 3]) {
        body.insert("currency".to_owned(), json!(CURRENCY));
    }
    let currency = body.get("currency").and_then(Json::as_str).and_then(Currency::parse);
    let currency = currency.ok_or_else(|| Violation::new("currency", "must be an ISO 4217 code in upper case, such as USD"))?;
    let literal = match &amount {
        Json::String(text) => text.as_str(),
        Json::Number(_) => serde_json::from_slice::<Body<'_>>(bytes).map_or("", |body| body.amount.get()),
        _ => "",
    };
    let minor = money::minor_units(literal, currency).map_err(|error| Violation::new("amount", error.to_string()))?;
    if minor <= 0 {
        return Err(Violation::new("amount", "must be more than 0"));
    }
    body.insert("items".to_owned(), json!([{"sku": SKU, "quantity": 1, "unitPrice": minor}]));
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> Result<Json, (String, String)> {
        let json = serde_json::from_str(bytes).expect("JSON");
        as_line(REQUEST, json, bytes.as_bytes()).map_err(|violations| {
            let violation = violations.into_iter().next().expect("one");
            (violation.field, violation.description)
        })
    }

    fn minor(bytes: &str) -> Json {
        read(bytes).expect("good")["items"][0]["unitPrice"].clone()
    }

    fn bad(bytes: &str) -> String {
        read(bytes).expect_err(bytes).0
    }

    #[test]
    fn the_orders_of_the_documents_have_one_line() {
        let line = |minor: i64| json!([{"sku": "AMOUNT", "quantity": 1, "unitPrice": minor}]);
        let order = read(r#"{"userId": "550e8400-e29b-41d4-a716-446655440001", "amount": 299.99}"#).expect("good");
        let expected = json!({"userId": "550e8400-e29b-41d4-a716-446655440001", "currency": "USD", "items": line(29_999)});
        assert_eq!(order, expected);
        let order = read(r#"{"customerId": "cust-12345", "amount": 99.99}"#).expect("good");
        assert_eq!(order, json!({"customerId": "cust-12345", "currency": "USD", "items": line(9_999)}));
        let order = read(r#"{"amount": 222.22}"#).expect("good");
        assert_eq!(order, json!({"customerId": "anonymous", "currency": "USD", "items": line(22_222)}));
    }

    #[test]
    fn an_amount_is_taken_as_it_is_written() {
        for (body, expected) in [
            (r#"{"amount": 100}"#, 10_000_i64),
            (r#"{"amount": "12.50"}"#, 1_250),
            (r#"{"amount": 12.5, "currency": "KWD"}"#, 12_500),
            (r#"{"amount": 0.001, "currency": "KWD"}"#, 1),
            (r#"{"amount": 1234, "currency": "JPY"}"#, 1_234),
            // As floats they would be others.
            (r#"{"amount": 9007199254740993.01}"#, 900_719_925_474_099_301),
            (r#"{"amount": 92233720368547758.07}"#, i64::MAX),
            (r#"{"amount": 1.005, "currency": "BHD"}"#, 1_005),
        ] {
            assert_eq!(minor(body), json!(expected), "{body}");
        }
    }

    #[test]
    fn bad_amounts_and_currencies_are_named() {
        for body in [
            r#"{"amount": 0}"#,
            r#"{"amount": 0.00}"#,
            r#"{"amount": -1}"#,
            r#"{"amount": 0.001}"#,
            r#"{"amount": 0.5, "currency": "JPY"}"#,
            r#"{"amount": 1e2}"#,
            r#"{"amount": ""}"#,
            r#"{"amount": "ten"}"#,
            r#"{"amount": true}"#,
            r#"{"amount": []}"#,
            r#"{"amount": {"value": 1}}"#,
            r#"{"amount": 92233720368547758.08}"#,
            r#"{"amount": 1, "items": []}"#,
        ] {
            assert_eq!(bad(body), "amount", "{body}");
        }
        for body in [r#"{"amount": 1, "currency": "usd"}"#, r#"{"amount": 1, "currency": 7}"#, r#"{"amount": 1, "currency": ""}"#] {
            assert_eq!(bad(body), "currency", "{body}");
        }
    }

    #[test]
    fn other_bodies_stay_as_they_are() {
        for body in [r#"{"customerId": "c", "items": []}"#, r#"{"amount": null}"#, "[]", "7", "{}"] {
            assert_eq!(read(body), Ok(serde_json::from_str(body).expect("JSON")), "{body}");
        }
        let cancel = json!({"amount": 1});
        assert_eq!(as_line("settle.order.v1.RefundOrderRequest", cancel.clone(), b""), Ok(cancel), "an amount of its own");
    }
}
