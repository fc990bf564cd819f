//! One request: find its route, build the message, ask the service, answer.

use std::{borrow::Cow, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use messaging::Trace;
use tokio::sync::Semaphore;

use crate::{
    grpc::{self, Upstreams},
    json::write,
    limits::{BODY_BYTES_MAX, STREAMS_MAX},
    problem::Problem,
    request,
    routes::{self, Found, Route, Routes},
    sse, trace,
};

pub(crate) struct Gateway {
    routes: Routes,
    upstreams: Upstreams,
    /// One permit an open event stream.
    streams: Arc<Semaphore>,
}

impl Gateway {
    pub(crate) fn new(routes: Routes, upstreams: Upstreams) -> Self {
        Self { routes, upstreams, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    async fn answer(
        &self,
        route: &Arc<Route>,
        captures: &[Cow<'_, str>],
        parts: &Parts,
        body: Body,
        trace: &Trace,
    ) -> Result<Response, Problem> {
        let call = &route.call;
        let shapes = &self.routes.shapes;
        let channel = self.upstreams.of(&call.service).ok_or_else(|| Problem::no_upstream(&call.service))?;
        let body = match route.body {
            routes::Body::None => Bytes::new(),
            _ => json_body(&parts.headers, body).await?,
        };
        let message = request::message(shapes, route, captures, &parts.uri, &parts.headers, &body)?;
        let output = shapes.get(call.output).descriptor.clone();

        if call.streaming {
            let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Problem::too_many_streams())?;
            let messages = grpc::streaming(channel, call, output, message, trace).await?;
            let (shapes, route) = (Arc::clone(shapes), Arc::clone(route));
            return Ok(sse::answer(call.status, messages, permit, move |message| {
                write::answer(&shapes, route.call.output, route.response_body, message).map_err(unwritable)
            }));
        }

        let answer = grpc::unary(channel, call, output, message, trace).await?;
        let json = write::answer(shapes, call.output, route.response_body, &answer.message).map_err(unwritable)?;
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = call.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if answer.replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}

pub(crate) async fn serve(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (route, captures) = match gateway.routes.find(&parts.method, parts.uri.path()) {
        Found::Route(route, captures) => (route, captures),
        Found::OtherMethods(allowed) => return Problem::other_methods(&allowed).into_response(),
        Found::Nothing => return Problem::no_route().into_response(),
    };
    let scope = kit::telemetry::server_span("gateway", route.name.clone(), &trace::of(&parts.headers));
    let answer = gateway.answer(route, &captures, &parts, body, &scope.trace()).await;
    let response = answer.unwrap_or_else(|problem| problem.into_response());
    scope.end(!response.status().is_server_error());
    response
}

fn unwritable(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "an answer cannot be written as JSON");
    Problem::unwritable()
}

/// The whole body, within its bounds; JSON if there is any.
async fn json_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let body = kit::body::whole(body, BODY_BYTES_MAX).await?;
    if body.is_empty() || is_json(headers) { Ok(body) } else { Err(Problem::media_type()) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => value.trim_matches('"').eq_ignore_ascii_case("utf-8"),
        _ => true,
    });
    plain && json && utf8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(value: &'static str) -> bool {
        is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
    }

    #[test]
    fn content_types() {
        assert!(kind("application/json"));
        assert!(kind("Application/JSON; charset=UTF-8"));
        assert!(kind("application/json;charset=\"utf-8\""));
        assert!(!kind("application/json; charset=latin1"));
        assert!(!kind("application/x-www-form-urlencoded"));
        assert!(!kind("text/plain"));
        assert!(!kind(""));
        assert!(!is_json(&HeaderMap::new()));
        let packed = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        ];
        assert!(!is_json(&HeaderMap::from_iter(packed)));
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        assert_eq!(json_body(&headers, Body::from(vec![b' '; BODY_BYTES_MAX])).await.unwrap().len(), BODY_BYTES_MAX);
        let known = Body::from(vec![b' '; BODY_BYTES_MAX + 1]);
        assert_eq!(json_body(&headers, known).await.unwrap_err().into_response().status(), 413);
        let chunks = vec![Ok::<_, std::convert::Infallible>(vec![b' '; BODY_BYTES_MAX]); 2];
        let unknown = Body::from_stream(futures::stream::iter(chunks));
        assert_eq!(json_body(&headers, unknown).await.unwrap_err().into_response().status(), 413);
        assert_eq!(json_body(&HeaderMap::new(), Body::from("{}")).await.unwrap_err().into_response().status(), 415);
        assert!(json_body(&HeaderMap::new(), Body::empty()).await.unwrap().is_empty());
    }
}
