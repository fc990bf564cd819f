//! The sandbox over HTTP and JSON, as docs/provider.md describes it: what [`crate::provider::http`] speaks to.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use contracts::ids;
use kit::body::BodyError;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Semaphore, time::timeout};
use uuid::Uuid;

use super::Sandbox;
use crate::provider::{
    Capture, Charge, Known, Outcome, Provider, Refund, Void,
    wire::{
        CaptureBody, ChargeBody, EntryBody, ErrorBody, ErrorDetail, KEY_HEADER, NO_SUCH_KEY, OutcomeBody, RefundBody,
        STATEMENT_ENTRIES_MAX, StatementBody, VoidBody, place_text, read_place, read_time,
    },
};

/// A longer request body is 413.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Longer than the slowest answer a profile may ask for; what is never answered ends here.
const REQUEST_MS_MAX: u64 = 150_000;
/// Requests at a time; one more is 503.
const REQUESTS_MAX: usize = 4_096;
const STATEMENT_ENTRIES: u32 = 100;

struct Counter {
    sandbox: Sandbox,
    requests: Semaphore,
}

/// All routes of the sandbox.
pub fn router(sandbox: Sandbox) -> Router {
    let counter = Arc::new(Counter { sandbox, requests: Semaphore::new(REQUESTS_MAX) });
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/charges", post(charge))
        .route("/v1/authorizations", post(authorize))
        .route("/v1/captures", post(capture))
        .route("/v1/voids", post(void))
        .route("/v1/refunds", post(refund))
        .route("/v1/outcomes/{key}", get(outcome))
        .route("/v1/statement", get(statement))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "NO_SUCH_PATH", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this path takes another method")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&counter), bounded))
        .with_state(counter)
}

/// No more requests than there is room for, and none for ever.
async fn bounded(State(counter): State<Arc<Counter>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = counter.requests.try_acquire() else {
        let text = format!("{REQUESTS_MAX} requests are under way already");
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", text).into_response();
    };
    let answered = timeout(Duration::from_millis(REQUEST_MS_MAX), next.run(request)).await;
    answered.unwrap_or_else(|_| Refusal::new(StatusCode::GATEWAY_TIMEOUT, "TOO_SLOW", "there is no answer").into_response())
}

async fn charge(State(counter): State<Arc<Counter>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let (key, ChargeBody { token, amount, currency }) = asked(&headers, body).await?;
    answer(counter.sandbox.charge(&Charge { key, token, amount, currency }).await)
}

async fn authorize(State(counter): State<Arc<Counter>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let (key, ChargeBody { token, amount, currency }) = asked(&headers, body).await?;
    answer(counter.sandbox.authorize(&Charge { key, token, amount, currency }).await)
}

async fn capture(State(counter): State<Arc<Counter>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let (key, CaptureBody { authorization_key, amount, currency }) = asked(&headers, body).await?;
    answer(counter.sandbox.capture(&Capture { key, authorization_key, amount, currency }).await)
}

async fn void(State(counter): State<Arc<Counter>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let (key, VoidBody { authorization_key }) = asked(&headers, body).await?;
    answer(counter.sandbox.void(&Void { key, authorization_key }).await)
}

async fn refund(State(counter): State<Arc<Counter>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let (key, RefundBody { charge_key, amount, currency }) = asked(&headers, body).await?;
    answer(counter.sandbox.refund(&Refund { key, charge_key, amount, currency }).await)
}

async fn outcome(State(counter): State<Arc<Counter>>, Path(key): Path<String>) -> Result<Response, Refusal> {
    let key = ids::parse(&key).map_err(|_| Refusal::bad("MALFORMED_KEY", "the key must be a UUID"))?;
    match counter.sandbox.query(key).await {
        Ok(Some(known)) => Ok(Json(OutcomeBody::from(known)).into_response()),
        Ok(None) => Err(Refusal::new(StatusCode::NOT_FOUND, NO_SUCH_KEY, "there is no such key")),
        Err(error) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    since: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

async fn statement(
    State(counter): State<Arc<Counter>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<StatementBody>, Refusal> {
    let Query(page) = page.map_err(|bad| Refusal::bad("BAD_QUERY", bad.body_text()))?;
    let limit = page.limit.unwrap_or(STATEMENT_ENTRIES);
    if !(1..=STATEMENT_ENTRIES_MAX).contains(&limit) {
        return Err(Refusal::bad("BAD_LIMIT", format!("limit must be 1 to {STATEMENT_ENTRIES_MAX}")));
    }
    let since = page.since.as_deref().map(|text| read_time(text).ok_or("since must be a time such as 2026-01-31T10:00:00Z"));
    let since = since.transpose().map_err(|text| Refusal::bad("BAD_SINCE", text))?;
    let after = page.after.as_deref().map(|text| read_place(text).ok_or("after must be what a page gave as next"));
    let after = after.transpose().map_err(|text| Refusal::bad("BAD_AFTER", text))?;
    let entries = counter.sandbox.statement(since, after, limit).await;
    let entries = entries.map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string()))?;
    let full = entries.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next = entries.last().filter(|_| full).map(|last| place_text(last.at, &last.key));
    Ok(Json(StatementBody { entries: entries.into_iter().map(EntryBody::from).collect(), next }))
}

/// The key and the body of a call.
async fn asked<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<(Uuid, T), Refusal> {
    let mut keys = headers.get_all(KEY_HEADER).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.to_str().ok().and_then(|key| ids::parse(key).ok()),
        _ => None,
    };
    let key = key.ok_or_else(|| Refusal::bad("MALFORMED_KEY", "the header Idempotency-Key must be there once, a UUID"))?;
    let refused = |error: BodyError| Refusal::new(error.status(), error.reason(), error.to_string());
    let body = kit::body::whole(body, BODY_BYTES_MAX).await.map_err(refused)?;
    let body = serde_json::from_slice(&body).map_err(|error| Refusal::bad("MALFORMED_BODY", error.to_string()))?;
    Ok((key, body))
}

fn answer(outcome: Outcome) -> Result<Response, Refusal> {
    match outcome {
        Outcome::Known(known @ Known::Succeeded { .. }) => Ok(Json(OutcomeBody::from(known)).into_response()),
        Outcome::Known(known) => Ok((StatusCode::PAYMENT_REQUIRED, Json(OutcomeBody::from(known))).into_response()),
        Outcome::Unknown(reason) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "FAILED", reason)),
    }
}

/// Why there is no outcome.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = ErrorDetail { code: self.code.to_owned(), message: self.message };
        (self.status, Json(ErrorBody { error })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::sandbox::Options;

    const KEY: &str = "0190d3a8-7c1e-7000-8000-000000000001";
    const CHARGE: &str = r#"{"token":"tok_visa","amount":100,"currency":"USD"}"#;

    /// A sandbox whose database is away, at an address of its own.
    async fn serving() -> String {
        let options = PgPoolOptions::new().acquire_timeout(Duration::from_millis(100));
        let pool = options.connect_lazy("postgres://127.0.0.1:1/none").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Sandbox::start(pool, Options::default()).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn told(request: reqwest::RequestBuilder) -> (u16, String) {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: ErrorBody = answer.json().await.unwrap();
        (status, body.error.code)
    }

    fn client() -> reqwest::Client {
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    #[tokio::test]
    async fn what_cannot_be_a_call_is_refused_with_a_code() {
        let (base, client) = (serving().await, client());
        let post =
            |key: &str, body: &str| client.post(format!("{base}/v1/charges")).header("idempotency-key", key).body(body.to_owned());
        let long = format!("{}{CHARGE}", " ".repeat(BODY_BYTES_MAX));
        for (request, status, code) in [
            (client.post(format!("{base}/v1/charges")).body(CHARGE), 400, "MALFORMED_KEY"),
            (post("7", CHARGE), 400, "MALFORMED_KEY"),
            (post(KEY, CHARGE).header("idempotency-key", KEY), 400, "MALFORMED_KEY"),
            (post(KEY, ""), 400, "MALFORMED_BODY"),
            (post(KEY, r#"{"amount":1.5,"currency":"USD"}"#), 400, "MALFORMED_BODY"),
            (post(KEY, r#"{"amount":1,"currency":"USD","colour":"red"}"#), 400, "MALFORMED_BODY"),
            (post(KEY, &long), 413, "BODY_TOO_LARGE"),
            (client.get(format!("{base}/v1/charges")), 405, "METHOD_NOT_ALLOWED"),
            (client.get(format!("{base}/v2")), 404, "NO_SUCH_PATH"),
            (client.get(format!("{base}/v1/outcomes/7")), 400, "MALFORMED_KEY"),
            (client.get(format!("{base}/v1/statement?limit=0")), 400, "BAD_LIMIT"),
            (client.get(format!("{base}/v1/statement?limit=1001")), 400, "BAD_LIMIT"),
            (client.get(format!("{base}/v1/statement?limit=x")), 400, "BAD_QUERY"),
            (client.get(format!("{base}/v1/statement?colour=red")), 400, "BAD_QUERY"),
            (client.get(format!("{base}/v1/statement?since=yesterday")), 400, "BAD_SINCE"),
            (client.get(format!("{base}/v1/statement?after=x")), 400, "BAD_AFTER"),
            (client.get(format!("{base}/v1/statement?after=2025-03-04T05:06:07Z|%00")), 400, "BAD_AFTER"),
        ] {
            assert_eq!(told(request).await, (status, code.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_no_answer() {
        let (base, client) = (serving().await, client());
        let charge = client.post(format!("{base}/v1/charges")).header("idempotency-key", KEY).body(CHARGE);
        assert_eq!(told(charge).await, (500, "FAILED".to_owned()));
        assert_eq!(told(client.get(format!("{base}/v1/outcomes/{KEY}"))).await, (503, "UNAVAILABLE".to_owned()));
        assert_eq!(told(client.get(format!("{base}/v1/statement"))).await, (503, "UNAVAILABLE".to_owned()));
    }

    #[tokio::test]
    async fn what_no_book_can_hold_is_declined() {
        let (base, client) = (serving().await, client());
        let charge = client.post(format!("{base}/v1/charges")).header("idempotency-key", KEY);
        let answer = charge.body(r#"{"amount":0,"currency":"USD"}"#).send().await.unwrap();
        assert_eq!(answer.status(), 402);
        let outcome: Known = answer.json::<OutcomeBody>().await.unwrap().into();
        assert_eq!(outcome, Known::Declined { reason: "INVALID_AMOUNT".into() });
    }
}
