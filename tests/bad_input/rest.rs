//! What only REST can get wrong: JSON with loopholes, methods, paths, headers.

use serde_json::json;

use super::assert_nothing_stored;
use crate::{
    harness::{Bus, platform, run},
    placing::{Answer, Rest, answer, fresh},
};

/// (what, the body in which CUSTOMER is replaced, reason, field or "" where none can be named)
const BODIES: &[(&str, &str, &str, &str)] = &[
    (
        "a word as quantity",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":"x"}]}"#,
        "INVALID_FIELD",
        "items[0].quantity",
    ),
    (
        "a fraction",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":1.5}]}"#,
        "INVALID_FIELD",
        "items[0].quantity",
    ),
    (
        "a float that is whole",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":1.0}]}"#,
        "INVALID_FIELD",
        "items[0].quantity",
    ),
    (
        "a float as price",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":1,"unitPrice":12.00}]}"#,
        "INVALID_FIELD",
        "items[0].unitPrice",
    ),
    (
        "a price beyond int64",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":1,"unitPrice":9223372036854775808}]}"#,
        "INVALID_FIELD",
        "items[0].unitPrice",
    ),
    (
        "a price beyond int64 as text",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":1,"price":"9223372036854775808"}]}"#,
        "INVALID_FIELD",
        "items[0].unitPrice",
    ),
    (
        "a quantity beyond int32",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","qty":2147483648,"price":1}]}"#,
        "INVALID_FIELD",
        "items[0].quantity",
    ),
    (
        "a yes as quantity",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":true}]}"#,
        "INVALID_FIELD",
        "items[0].quantity",
    ),
    (
        "a null as quantity",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","quantity":null,"price":1}]}"#,
        "BAD_QUANTITY",
        "items[0].quantity",
    ),
    (
        "a number as customer",
        r#"{"customerId":7,"currency":"USD","items":[{"sku":"CUSTOMER","quantity":1,"price":1}]}"#,
        "INVALID_FIELD",
        "customerId",
    ),
    ("an object as lines", r#"{"customerId":"CUSTOMER","currency":"USD","items":{"sku":"a"}}"#, "INVALID_FIELD", "items"),
    ("a text as line", r#"{"customerId":"CUSTOMER","currency":"USD","items":["a"]}"#, "INVALID_FIELD", "items[0]"),
    (
        "an unknown field",
        r#"{"customerId":"CUSTOMER","currency":"USD","colour":"red","items":[{"sku":"a","qty":1,"price":1}]}"#,
        "INVALID_FIELD",
        "colour",
    ),
    (
        "an unknown field of a line",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","qty":1,"price":1,"colour":"red"}]}"#,
        "INVALID_FIELD",
        "items[0].colour",
    ),
    (
        "one field under two names",
        r#"{"customerId":"CUSTOMER","userId":"CUSTOMER","currency":"USD","items":[{"sku":"a","qty":1,"price":1}]}"#,
        "INVALID_FIELD",
        "customerId",
    ),
    (
        "a name twice",
        r#"{"customerId":"CUSTOMER","currency":"USD","currency":"USD","items":[{"sku":"a","qty":1,"price":1}]}"#,
        "MALFORMED_JSON",
        "currency",
    ),
    (
        "a name twice in a line",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","qty":1,"qty":1,"price":1}]}"#,
        "MALFORMED_JSON",
        "items[0].qty",
    ),
    (
        "NaN",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","qty":NaN,"price":1}]}"#,
        "MALFORMED_JSON",
        "items[0].qty",
    ),
    (
        "a number beyond all",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","qty":1e400,"price":1}]}"#,
        "MALFORMED_JSON",
        "items[0].qty",
    ),
    (
        "half a surrogate",
        r#"{"customerId":"CUSTOMER\ud800","currency":"USD","items":[{"sku":"a","qty":1,"price":1}]}"#,
        "MALFORMED_JSON",
        "customerId",
    ),
    (
        "NUL in text",
        r#"{"customerId":"CUSTOMER\u0000","currency":"USD","items":[{"sku":"a","qty":1,"price":1}]}"#,
        "CONTROL_CHARACTER",
        "customerId",
    ),
    (
        "a byte order mark",
        "\u{feff}{\"customerId\":\"CUSTOMER\",\"currency\":\"USD\",\"items\":[{\"sku\":\"a\",\"qty\":1,\"price\":1}]}",
        "MALFORMED_JSON",
        "",
    ),
    (
        "something behind",
        r#"{"customerId":"CUSTOMER","currency":"USD","items":[{"sku":"a","qty":1,"price":1}]} {}"#,
        "MALFORMED_JSON",
        "",
    ),
    ("half an object", r#"{"customerId":"CUSTOMER","currency":"USD""#, "MALFORMED_JSON", ""),
    ("an array", r#"["CUSTOMER"]"#, "INVALID_FIELD", ""),
    ("a text", r#""CUSTOMER""#, "INVALID_FIELD", ""),
    ("nothing", "", "BAD_LENGTH", "customerId"),
    ("an empty object", "{}", "BAD_LENGTH", "customerId"),
];

fn assert_problem(what: &str, told: &Answer, status: u16, reason: &str) {
    assert_eq!((told.status, &told.body["reason"]), (status, &json!(reason)), "{what}: {told:?}");
    assert_eq!(told.headers["content-type"], "application/problem+json", "{what}");
    assert_eq!(told.body["status"], status, "{what}");
    assert_eq!(told.body["type"], format!("urn:settle:error:{reason}"), "{what}");
    assert!(told.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {told:?}");
}

fn good(customer: &str) -> String {
    json!({"customerId": customer, "currency": "USD", "items": [{"sku": "SKU-123", "quantity": 1, "unitPrice": 1}]}).to_string()
}

#[test]
fn json_with_loopholes() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let rest = Rest::of(stage);
        let marker = fresh("bad-json");
        for (what, body, reason, field) in BODIES {
            let told = answer(rest.post("/api/v1/orders", body.replace("CUSTOMER", &marker))).await;
            assert_problem(what, &told, 400, reason);
            if !field.is_empty() {
                assert_eq!(told.body["errors"][0]["field"], *field, "{what}: {told:?}");
            }
        }
        let deep = format!(r#"{{"customerId":"{marker}","items":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_problem("ten thousand levels", &answer(rest.post("/api/v1/orders", deep)).await, 400, "MALFORMED_JSON");
        let latin1 = [&b"{\"customerId\":\""[..], marker.as_bytes(), b"\xe4\"}"].concat();
        assert_problem("no UTF-8", &answer(rest.post("/api/v1/orders", latin1)).await, 400, "MALFORMED_JSON");
        let long = format!("{}{}", good(&marker), " ".repeat(512 * 1024));
        assert_problem("too long", &answer(rest.post("/api/v1/orders", long)).await, 413, "BODY_TOO_LARGE");
        assert_nothing_stored(stage, &marker).await;
    });
}

#[test]
fn content_types_methods_and_paths() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let rest = Rest::of(stage);
        let marker = fresh("bad-http");
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/jsonx", ""]
        {
            let told = answer(rest.request("POST", "/api/v1/orders").header("content-type", kind).body(good(&marker))).await;
            assert_problem(kind, &told, 415, "UNSUPPORTED_MEDIA_TYPE");
        }
        let told = answer(rest.request("POST", "/api/v1/orders").body(good(&marker))).await;
        assert_problem("no content type", &told, 415, "UNSUPPORTED_MEDIA_TYPE");
        let told = answer(rest.post("/api/v1/orders", good(&marker)).header("content-encoding", "gzip")).await;
        assert_problem("compressed", &told, 415, "UNSUPPORTED_MEDIA_TYPE");

        for (method, path, allowed) in [
            ("PUT", "/api/v1/orders", vec!["GET", "POST"]),
            ("DELETE", "/api/v1/orders/0190d3a8-7c1e-7000-8000-000000000001", vec!["GET"]),
            ("GET", "/api/v1/orders/0190d3a8-7c1e-7000-8000-000000000001:cancel", vec!["POST"]),
            ("POST", "/api/v1/orders/0190d3a8-7c1e-7000-8000-000000000001:watch", vec!["GET"]),
        ] {
            let told = answer(rest.request(method, path).header("content-type", "application/json").body(good(&marker))).await;
            assert_problem(path, &told, 405, "METHOD_NOT_ALLOWED");
            let allow = told.headers["allow"].to_str().expect("text");
            assert!(allowed.iter().all(|method| allow.split(", ").any(|told| told == *method)), "{path}: {allow}");
        }
        for path in ["/api/v1/nothing", "/api/v2/orders", "/api/v1/orders/", "/api/v1/orders/a/b", "/api/v1/orders/a:explode"] {
            assert_problem(path, &answer(rest.get(path)).await, 404, "NO_SUCH_PATH");
        }
        assert_nothing_stored(stage, &marker).await;
    });
}

#[test]
fn headers() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let rest = Rest::of(stage);
        let marker = fresh("bad-header");
        let post = || rest.post("/api/v1/orders", good(&marker));
        let with_key = json!({"customerId": marker, "idempotencyKey": "one", "items": []}).to_string();
        for (what, request) in [
            ("an empty key", post().header("Idempotency-Key", "")),
            ("two keys", post().header("Idempotency-Key", "one").header("Idempotency-Key", "two")),
            ("a key beyond ASCII", post().header("Idempotency-Key", "ä".as_bytes())),
            ("another key in the body", rest.post("/api/v1/orders", with_key).header("Idempotency-Key", "two")),
        ] {
            let told = answer(request).await;
            assert_problem(what, &told, 400, "INVALID_FIELD");
            assert_eq!(told.body["errors"][0]["field"], "idempotencyKey", "{what}");
        }
        let told = answer(post().header("Idempotency-Key", "k".repeat(256))).await;
        assert_problem("a long key", &told, 400, "BAD_IDEMPOTENCY_KEY");
        assert_nothing_stored(stage, &marker).await;

        // A trace that cannot be read begins anew; it is nobody's mistake that counts.
        for trace in ["", "x", "00-0-0-00", "ff-00000000000000000000000000000000-0000000000000000-01"] {
            let told = answer(rest.post("/api/v1/orders", good(&fresh("traced"))).header("traceparent", trace)).await;
            assert_eq!(told.status, 202, "{trace}: {told:?}");
        }
    });
}

#[test]
fn queries() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let rest = Rest::of(stage);
        for (query, reason, field) in [
            ("pageSize=x", "INVALID_FIELD", "pageSize"),
            ("pageSize=1.0", "INVALID_FIELD", "pageSize"),
            ("pageSize=99999999999", "INVALID_FIELD", "pageSize"),
            ("pageSize=1&page_size=1", "INVALID_FIELD", "pageSize"),
            ("pageSize=-1", "BAD_PAGE_SIZE", "pageSize"),
            ("pageSize=201", "BAD_PAGE_SIZE", "pageSize"),
            ("pageToken=zz", "BAD_PAGE_TOKEN", "pageToken"),
            ("pageToken=%c3%a4", "BAD_PAGE_TOKEN", "pageToken"),
            ("status=NOPE", "INVALID_FIELD", "status"),
            ("status=pending", "INVALID_FIELD", "status"),
            ("customerId=%00", "CONTROL_CHARACTER", "customerId"),
            ("colour=red", "INVALID_FIELD", "colour"),
        ] {
            let told = answer(rest.get(&format!("/api/v1/orders?{query}"))).await;
            assert_problem(query, &told, 400, reason);
            assert_eq!(told.body["errors"][0]["field"], field, "{query}: {told:?}");
        }
    });
}
