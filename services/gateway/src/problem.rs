//! Errors as RFC 9457 problems: the gateway's own, and those of the services with their google.rpc details.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use kit::body::BodyError;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    json::Violation,
    limits::{RETRY_AFTER_S, STREAMS_MAX},
};

#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// Stable, for programs; empty where there is none.
    reason: String,
    detail: String,
    errors: Vec<Violation>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, reason: &str, detail: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), detail: detail.into(), errors: Vec::new(), retry_after_s: None, allow: None }
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NO_SUCH_PATH", "There is nothing at this path.")
    }

    pub(crate) fn other_methods(allowed: &[&Method]) -> Self {
        let allowed = allowed.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
        let detail = format!("This path takes {allowed}.");
        Self { allow: Some(allowed), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail) }
    }

    pub(crate) fn media_type() -> Self {
        let detail = "The body must be application/json in UTF-8, not compressed.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", detail)
    }

    pub(crate) fn too_many_streams() -> Self {
        let detail = format!("There are {STREAMS_MAX} open streams already.");
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_STREAMS", detail);
        Self { retry_after_s: Some(RETRY_AFTER_S), ..problem }
    }

    pub(crate) fn no_upstream(service: &str) -> Self {
        let detail = format!("This gateway was not told where {service} is.");
        Self::new(StatusCode::NOT_IMPLEMENTED, "SERVICE_NOT_CONFIGURED", detail)
    }

    pub(crate) fn unwritable() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNWRITABLE_ANSWER", "The answer cannot be written as JSON.")
    }

    /// The body is no JSON, or JSON with a loophole.
    pub(crate) fn malformed(violation: Violation) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "MALFORMED_JSON", "");
        if violation.field.is_empty() {
            problem.detail = format!("The body is not the JSON wanted: {}.", violation.description);
        } else {
            problem.detail = sentence(&violation);
            problem.errors.push(violation);
        }
        problem
    }

    /// Fields that are not what the request wants.
    pub(crate) fn fields(errors: Vec<Violation>) -> Self {
        let detail = errors.iter().map(sentence).collect::<Vec<_>>().join(" ");
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "INVALID_FIELD", detail) }
    }

    pub(crate) fn json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Json<'a> {
            #[serde(rename = "type")]
            kind: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            reason: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [Violation],
        }
        let json = Json {
            kind: if self.reason.is_empty() { "about:blank".to_owned() } else { format!("urn:settle:error:{}", self.reason) },
            title: self.status.canonical_reason().unwrap_or("Client Closed Request"),
            status: self.status.as_u16(),
            detail: &self.detail,
            reason: &self.reason,
            errors: &self.errors,
        };
        // Text, numbers and lists of text: there is nothing in it that JSON cannot say.
        serde_json::to_vec(&json).unwrap_or_default()
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        Self::new(error.status(), error.reason(), error.to_string())
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let code = status.code();
        let mut problem = Self::new(http_status(code), "", status.message());
        if let Some(info) = details.error_info() {
            problem.reason.clone_from(&info.reason);
        }
        if let Some(bad) = details.bad_request() {
            let errors = bad.field_violations.iter().map(|bad| Violation::new(camel(&bad.field), bad.description.as_str()));
            problem.errors = errors.collect();
        }
        let asked = details.retry_info().and_then(|info| info.retry_delay);
        let asked = asked.map(|delay| (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1));
        let busy = matches!(code, Code::ResourceExhausted | Code::Unavailable);
        problem.retry_after_s = asked.or(busy.then_some(RETRY_AFTER_S));
        // A status that a service made bears details; the text of another is of a library, and not for callers.
        if status.details().is_empty() {
            match code {
                Code::Internal | Code::Unknown | Code::DataLoss | Code::Ok => {
                    tracing::error!(?code, text = status.message(), "a service failed");
                    problem.detail = "Something went wrong inside. It is in the log.".to_owned();
                }
                Code::Unavailable => {
                    tracing::warn!(?code, text = status.message(), "a service cannot be reached");
                    problem.detail = "The service cannot be reached. Try again, with the same idempotency key.".to_owned();
                }
                _ => {}
            }
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

/// The table of google/rpc/code.proto.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // Not registered, hence without a name.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Ok => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `items[2].unit_price` → `items[2].unitPrice`.
fn camel(field: &str) -> String {
    let mut camel = String::with_capacity(field.len());
    let mut raise = false;
    for c in field.chars() {
        match c {
            '_' => raise = true,
            c if raise => {
                camel.push(c.to_ascii_uppercase());
                raise = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

fn sentence(violation: &Violation) -> String {
    let field = if violation.field.is_empty() { "The body" } else { violation.field.as_str() };
    format!("{field} {}.", violation.description)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use serde_json::{Value, json};
    use tonic_types::ErrorDetails;

    use super::*;

    fn json_of(problem: &Problem) -> Value {
        serde_json::from_slice(&problem.json()).unwrap()
    }

    #[test]
    fn details_of_a_service() {
        let mut details = ErrorDetails::with_bad_request_violation("items[2].unit_price", "must not be negative");
        details.set_error_info("INVALID_PRICE", "settle", HashMap::<String, String>::new());
        let problem = Problem::from(Status::with_error_details(Code::InvalidArgument, "items[2].unit_price is wrong", details));
        let expect = json!({
            "type": "urn:settle:error:INVALID_PRICE",
            "title": "Bad Request",
            "status": 400,
            "detail": "items[2].unit_price is wrong",
            "reason": "INVALID_PRICE",
            "errors": [{"field": "items[2].unitPrice", "description": "must not be negative"}],
        });
        assert_eq!(json_of(&problem), expect);
    }

    #[test]
    fn without_details() {
        let problem = Problem::from(Status::not_found("there is no such order"));
        let expect = json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is no such order"});
        assert_eq!(json_of(&problem), expect);
    }

    #[test]
    fn the_text_of_a_library_is_not_for_callers() {
        for status in [Status::internal("secret"), Status::unknown("secret"), Status::unavailable("secret")] {
            assert!(!String::from_utf8(Problem::from(status).json()).unwrap().contains("secret"));
        }
    }

    #[test]
    fn when_to_come_again() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(2_100)));
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        let response = Problem::from(status).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "3");
        assert_eq!(Problem::from(Status::unavailable("")).into_response().headers()["retry-after"], "1");
        assert!(!Problem::from(Status::aborted("")).into_response().headers().contains_key("retry-after"));
    }

    #[test]
    fn the_table() {
        let table = [
            (Code::FailedPrecondition, 400),
            (Code::Unauthenticated, 401),
            (Code::PermissionDenied, 403),
            (Code::Aborted, 409),
            (Code::AlreadyExists, 409),
            (Code::Cancelled, 499),
            (Code::DataLoss, 500),
            (Code::Unimplemented, 501),
            (Code::Unavailable, 503),
            (Code::DeadlineExceeded, 504),
        ];
        for (code, status) in table {
            assert_eq!(http_status(code).as_u16(), status);
        }
    }

    #[test]
    fn the_allowed_methods_are_said() {
        let response = Problem::other_methods(&[&Method::GET, &Method::POST]).into_response();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["allow"], "GET, POST");
    }
}
