//! An HTTP request → the request message: the body first, then path, headers and query, each of which may not contradict what is
//! there already.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Uri};
use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, Value};

use crate::{
    amount,
    json::{Violation, read, strict},
    limits::QUERY_PARAMETERS_MAX,
    problem::Problem,
    routes::{Body, Route},
    shape::{Many, MessageRef, Shapes, Type},
};

pub(crate) fn message(
    shapes: &Shapes,
    route: &Route,
    captures: &[Cow<'_, str>],
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<DynamicMessage, Problem> {
    let message = from_body(shapes, route, body)?;
    let mut filler = Filler { shapes, of: route.call.input, message, violations: Vec::new() };
    for (places, raw) in route.variables.iter().zip(captures) {
        filler.bind(places, decode(raw, false).as_deref(), "the path");
    }
    for (name, places) in &route.headers {
        filler.header(places, name, headers);
    }
    if let Some(query) = uri.query() {
        filler.query(route, query);
    }
    if filler.violations.is_empty() { Ok(filler.message) } else { Err(Problem::fields(filler.violations)) }
}

/// No body is an empty message: the service says what it misses.
fn from_body(shapes: &Shapes, route: &Route, body: &[u8]) -> Result<DynamicMessage, Problem> {
    let input = shapes.get(route.call.input);
    if body.is_empty() || route.body == Body::None {
        return Ok(DynamicMessage::new(input.descriptor.clone()));
    }
    let json = strict::parse(body).map_err(Problem::malformed)?;
    let json = amount::as_line(input.descriptor.full_name(), json, body).map_err(Problem::fields)?;
    let Body::Field(place) = route.body else { return read::message(shapes, route.call.input, json).map_err(Problem::fields) };
    let field = &input.fields[place];
    let mut message = DynamicMessage::new(input.descriptor.clone());
    if let Some(value) = read::field(shapes, field, json).map_err(Problem::fields)? {
        message.set_field(&field.descriptor, value);
    }
    Ok(message)
}

struct Filler<'s> {
    shapes: &'s Shapes,
    of: MessageRef,
    message: DynamicMessage,
    violations: Vec<Violation>,
}

impl Filler<'_> {
    fn note(&mut self, field: &str, description: impl Into<String>) {
        self.violations.push(Violation::new(field, description));
    }

    /// Fills a field that must not be something else already; `None` is text that is not UTF-8.
    fn bind(&mut self, places: &[usize], text: Option<&str>, source: &str) {
        let Some((field, path)) = self.shapes.along(self.of, places) else { return };
        let Some(value) = text.and_then(|text| read::text(&field.kind, text)) else {
            return self.note(&path, format!("{} (in {source})", read::expected(&field.kind)));
        };
        match current(self.shapes, self.of, &self.message, places) {
            Some(other) if other != value => self.note(&path, format!("is something else in the body than in {source}")),
            Some(_) => {}
            None => put(self.shapes, self.of, &mut self.message, places, value),
        }
    }

    fn header(&mut self, places: &[usize], name: &HeaderName, headers: &HeaderMap) {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { return };
        let Some((_, path)) = self.shapes.along(self.of, places) else { return };
        if values.next().is_some() {
            return self.note(&path, format!("comes twice in the header {name}"));
        }
        match value.to_str() {
            // Taken for absent it would do what it was sent to prevent.
            Ok("") => self.note(&path, format!("must not be empty in the header {name}")),
            Ok(text) => self.bind(places, Some(text), &format!("the header {name}")),
            Err(_) => self.note(&path, format!("must be printable ASCII in the header {name}")),
        }
    }

    fn query(&mut self, route: &Route, query: &str) {
        let mut seen: Vec<Vec<usize>> = Vec::new();
        for (count, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if count == QUERY_PARAMETERS_MAX {
                return self.note("", format!("has more than {QUERY_PARAMETERS_MAX} query parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
                self.note(pair, "is not UTF-8 in the query");
                continue;
            };
            let Some(places) = self.shapes.resolve(self.of, &name) else {
                self.note(&name, "is not known in the query here");
                continue;
            };
            let Some((field, path)) = self.shapes.along(self.of, &places) else { continue };
            let elsewhere = match route.body {
                Body::Whole => true,
                Body::Field(place) => places[0] == place,
                Body::None => false,
            };
            if elsewhere || route.variables.contains(&places) {
                self.note(&path, "does not belong into the query");
                continue;
            }
            let list = matches!(field.many, Many::List);
            if !list && seen.contains(&places) {
                self.note(&path, "comes twice in the query");
                continue;
            }
            if list {
                match read::text(&field.kind, &value) {
                    Some(value) => put(self.shapes, self.of, &mut self.message, &places, value),
                    None => self.note(&path, read::expected(&field.kind)),
                }
            } else {
                self.bind(&places, Some(&value), "the query");
            }
            seen.push(places);
        }
    }
}

/// Percent-decoding; in a query a plus is a blank. `None` if the bytes are not UTF-8.
fn decode(raw: &str, query: bool) -> Option<Cow<'_, str>> {
    if query && raw.contains('+') {
        let spaced = raw.replace('+', " ");
        return percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()));
    }
    percent_decode_str(raw).decode_utf8().ok()
}

/// What a field holds, if it is set.
fn current(shapes: &Shapes, of: MessageRef, message: &DynamicMessage, places: &[usize]) -> Option<Value> {
    let (&place, rest) = places.split_first()?;
    let field = &shapes.get(of).fields[place];
    if !message.has_field(&field.descriptor) {
        return None;
    }
    let value = message.get_field(&field.descriptor);
    match (&field.kind, value.as_message()) {
        (Type::Message(inner), Some(message)) if !rest.is_empty() => current(shapes, *inner, message, rest),
        _ => Some(value.into_owned()),
    }
}

/// Sets a field; in a list, adds to it.
fn put(shapes: &Shapes, of: MessageRef, message: &mut DynamicMessage, places: &[usize], value: Value) {
    let Some((&place, rest)) = places.split_first() else { return };
    let field = &shapes.get(of).fields[place];
    match (&field.kind, &field.many) {
        (Type::Message(inner), _) => {
            if let Some(message) = message.get_field_mut(&field.descriptor).as_message_mut() {
                put(shapes, *inner, message, rest, value);
            }
        }
        (_, Many::List) => {
            if let Some(values) = message.get_field_mut(&field.descriptor).as_list_mut() {
                values.push(value);
            }
        }
        _ => message.set_field(&field.descriptor, value),
    }
}

#[cfg(test)]
mod tests {
    use contracts::order::v1::{CancelOrderRequest, CreateOrderRequest, ListOrdersRequest, RefundOrderRequest};
    use http::Method;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::routes::{Found, Routes};

    fn built(
        method: Method,
        uri: &str,
        headers: &[(&'static str, &[u8])],
        body: &str,
    ) -> Result<DynamicMessage, serde_json::Value> {
        let routes = Routes::read(&DescriptorPool::decode(contracts::DESCRIPTORS).unwrap()).unwrap();
        let uri: Uri = uri.parse().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        let Found::Route(route, captures) = routes.find(&method, uri.path()) else { panic!("no route") };
        message(&routes.shapes, route, &captures, &uri, &map, body.as_bytes())
            .map_err(|problem| serde_json::from_slice(&problem.json()).unwrap())
    }

    fn list(query: &str) -> Result<ListOrdersRequest, serde_json::Value> {
        built(Method::GET, &format!("/api/v1/orders?{query}"), &[], "").map(|message| message.transcode_to().unwrap())
    }

    fn create(headers: &[(&'static str, &[u8])], body: &str) -> Result<CreateOrderRequest, serde_json::Value> {
        built(Method::POST, "/api/v1/orders", headers, body).map(|message| message.transcode_to().unwrap())
    }

    fn key(value: &'static [u8]) -> (&'static str, &'static [u8]) {
        ("idempotency-key", value)
    }

    fn cancel(uri: &str, body: &str) -> Result<CancelOrderRequest, serde_json::Value> {
        built(Method::POST, uri, &[], body).map(|message| message.transcode_to().unwrap())
    }

    #[test]
    fn queries() {
        let read = list("page_size=7&pageToken=a%2Bb+c&status=PENDING&customer_id=").unwrap();
        assert_eq!((read.page_size, read.page_token.as_str(), read.status), (7, "a+b c", 1));
        for (query, field) in [
            ("page_size=x", "pageSize"),
            ("pageSize=1.0", "pageSize"),
            ("page_size=99999999999", "pageSize"),
            ("page_size=", "pageSize"),
            ("status=NOPE", "status"),
            ("colour=red", "colour"),
            ("page_size=1&pageSize=1", "pageSize"),
        ] {
            let problem = list(query).unwrap_err();
            assert_eq!((problem["status"].as_u64(), problem["errors"][0]["field"].as_str()), (Some(400), Some(field)), "{query}");
        }
        assert!(list("page_token=%ff").is_err());
        assert!(list(&"page_size=1&".repeat(QUERY_PARAMETERS_MAX + 1)).is_err());
    }

    #[test]
    fn the_header_is_the_key() {
        assert_eq!(create(&[key(b"k")], "{}").unwrap().idempotency_key, "k");
        assert_eq!(create(&[key(b"k")], r#"{"idempotencyKey":"k"}"#).unwrap().idempotency_key, "k");
        assert_eq!(create(&[], "").unwrap(), CreateOrderRequest::default());
        for (headers, body) in [
            (vec![key(b"k")], r#"{"idempotencyKey":"other"}"#),
            (vec![key(b"k"), key(b"k")], "{}"),
            (vec![key(b"")], "{}"),
            (vec![key(b"\xff")], "{}"),
        ] {
            let problem = create(&headers, body).unwrap_err();
            assert_eq!(problem["errors"][0]["field"], "idempotencyKey", "{headers:?}");
        }
    }

    #[test]
    fn the_path_is_the_id() {
        let read = cancel("/api/v1/orders/a%20b:cancel", r#"{"reason":"late","orderId":"a b"}"#).unwrap();
        assert_eq!((read.order_id.as_str(), read.reason.as_str()), ("a b", "late"));
        assert_eq!(cancel("/api/v1/orders/7:cancel", "").unwrap().order_id, "7");
        for (uri, body) in [
            ("/api/v1/orders/7:cancel", r#"{"orderId":"8"}"#),
            ("/api/v1/orders/%ff:cancel", "{}"),
            ("/api/v1/orders/7:cancel?orderId=7", "{}"),
        ] {
            assert_eq!(cancel(uri, body).unwrap_err()["errors"][0]["field"], "orderId", "{uri}");
        }
    }

    #[test]
    fn an_amount_is_an_order_of_one_line() {
        let order = create(&[key(b"k")], r#"{"userId":"u","amount":12.50,"currency":"EUR","paymentToken":"t"}"#).unwrap();
        let line = (order.items[0].sku.as_str(), order.items[0].quantity, order.items[0].unit_price);
        assert_eq!((line, order.items.len(), order.currency.as_str()), (("AMOUNT", 1, Some(1_250)), 1, "EUR"));
        assert_eq!((order.customer_id.as_str(), order.payment_token.as_str(), order.idempotency_key.as_str()), ("u", "t", "k"));
        assert_eq!(create(&[], r#"{"userId":"u","amount":12.505}"#).unwrap_err()["errors"][0]["field"], "amount");
        assert_eq!(create(&[], r#"{"amount":1,"colour":"red"}"#).unwrap_err()["errors"][0]["field"], "colour");
        assert_eq!(create(&[], r#"{"amount":1,"amount":2}"#).unwrap_err()["reason"], "MALFORMED_JSON");
    }

    #[test]
    fn a_refund_is_a_part_or_all() {
        let refund = |body: &str| -> RefundOrderRequest {
            built(Method::POST, "/api/v1/orders/7:refund", &[key(b"k")], body).unwrap().transcode_to().unwrap()
        };
        let part = refund(r#"{"amount":"400","reason":"late"}"#);
        assert_eq!((part.order_id.as_str(), part.amount, part.idempotency_key.as_str()), ("7", Some(400), "k"));
        assert_eq!(refund("").amount, None);
        assert_eq!(refund(r#"{"amount":null}"#).amount, None);
        assert!(built(Method::POST, "/api/v1/orders/7:refund", &[], r#"{"amount":4.00}"#).is_err(), "it is minor units");
    }

    #[test]
    fn bodies() {
        assert_eq!(create(&[], r#"{"items":[{"qty":1e400}]}"#).unwrap_err()["errors"][0]["field"], "items[0].qty");
        assert_eq!(create(&[], "{} {}").unwrap_err()["reason"], "MALFORMED_JSON");
        assert_eq!(create(&[], "[]").unwrap_err()["detail"], "The body must be an object.");
    }
}
