//! A server stream as Server-Sent Events.

use std::{convert::Infallible, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use prost_reflect::DynamicMessage;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{grpc::Messages, limits::KEEP_ALIVE_S, problem::Problem};

/// Ends when the service's stream ends. The permit is given back then, or when the caller leaves.
pub(crate) fn answer<W>(status: StatusCode, messages: Messages, permit: OwnedSemaphorePermit, write: W) -> Response
where
    W: Fn(&DynamicMessage) -> Result<Vec<u8>, Problem> + Send + 'static,
{
    let events = futures::stream::unfold(Some((messages, permit, write)), |open| async move {
        let (mut messages, permit, write) = open?;
        let waited = timeout(Duration::from_secs(KEEP_ALIVE_S), messages.next()).await;
        let next = match waited {
            Err(_) => Ok(Bytes::from_static(b": keep-alive\n\n")),
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(message))) => write(&message).map(|json| event("", &json)),
            Ok(Err(status)) => Err(Problem::from(status)),
        };
        Some(match next {
            Ok(bytes) => (Ok::<_, Infallible>(bytes), Some((messages, permit, write))),
            Err(problem) => (Ok(event("event: error\n", &problem.json())), None),
        })
    });
    let mut response = Response::new(Body::from_stream(events));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds events back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The JSON has no line breaks of its own.
fn event(head: &str, json: &[u8]) -> Bytes {
    Bytes::from([head.as_bytes(), b"data: ", json, b"\n\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        assert_eq!(event("", b"{}"), "data: {}\n\n");
        assert_eq!(event("event: error\n", b"{}"), "event: error\ndata: {}\n\n");
    }
}
