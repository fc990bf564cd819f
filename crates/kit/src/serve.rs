//! The gRPC server: reflection, health, traces, status codes as the gRPC specification has them, and an end that comes.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use messaging::{Tasks, Trace};
use tokio::net::TcpListener;
use tonic::{service::Routes, transport::server::TcpIncoming};
use tower::{Layer, Service};

use crate::telemetry::server_span;

/// Adds reflection (v1, and v1alpha for older clients) and health to the services.
pub async fn with_reflection(routes: Routes, services: &[&'static str]) -> anyhow::Result<Routes> {
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(contracts::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = (described().build_v1()?, described().build_v1alpha()?);
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in services {
        reporter.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    Ok(routes.add_service(v1).add_service(v1alpha).add_service(health))
}

/// Serves until the stop signal, then finishes what is in flight, for no longer than `drain`.
pub async fn grpc(listener: TcpListener, routes: Routes, tasks: Tasks, drain: Duration) -> anyhow::Result<()> {
    let stop = tasks.clone();
    let server = tonic::transport::Server::builder()
        .layer(Edge)
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move { stop.stopping().await });
    tokio::select! {
        ended = server => Ok(ended?),
        () = async { tasks.stopping().await; tokio::time::sleep(drain).await } => {
            tracing::warn!("a client held its connection; it is closed now");
            Ok(())
        }
    }
}

/// Serves REST or the admin port until the stop signal.
pub async fn http(listener: TcpListener, router: axum::Router, tasks: Tasks, drain: Duration) -> anyhow::Result<()> {
    let stop = tasks.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { stop.stopping().await });
    tokio::select! {
        ended = server => Ok(ended?),
        () = async { tasks.stopping().await; tokio::time::sleep(drain).await } => Ok(()),
    }
}

/// A server span a call, and the status codes that tonic leaves to us.
#[derive(Clone, Copy)]
struct Edge;

impl<S> Layer<S> for Edge {
    type Service = AtEdge<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AtEdge(inner)
    }
}

#[derive(Clone)]
struct AtEdge<S>(S);

impl<S, B, R> Service<Request<B>> for AtEdge<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let get = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let incoming = Trace { parent: get("traceparent"), state: get("tracestate") };
        let path = request.uri().path().trim_start_matches('/');
        let span = server_span(service_of(path), path.to_owned(), &incoming);
        for (name, value) in [("traceparent", span.trace().parent), ("tracestate", span.trace().state)] {
            match value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                Some(value) => drop(request.headers_mut().insert(name, value)),
                None => drop(request.headers_mut().remove(name)),
            }
        }
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            normalise(response.headers_mut());
            span.end(response.headers().get("grpc-status").is_none_or(|status| status == "0"));
            Ok(response)
        })
    }
}

/// `order` of `settle.order.v1.OrderService/CreateOrder`; the sagas are the orchestrator's.
fn service_of(path: &str) -> String {
    match path.split('.').nth(1) {
        Some("saga") => "orchestrator".to_owned(),
        // Dead letters are of all services.
        Some("messaging") | None => "settle".to_owned(),
        Some(service) => service.to_owned(),
    }
}

/// tonic says INTERNAL where a message cannot be decoded, CANCELLED where its own timeout fired, and OUT_OF_RANGE where a message is too
/// large; the specification says INVALID_ARGUMENT, DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED.
fn normalise(headers: &mut HeaderMap) {
    let message = headers.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let code = match headers.get("grpc-status").and_then(|value| value.to_str().ok()) {
        Some("13") if message.contains("decode") => "3",
        Some("1") if message.contains("imeout") => "4",
        Some("11") if message.contains("too%20large") || message.contains("too large") => "8",
        _ => return,
    };
    headers.insert("grpc-status", HeaderValue::from_static(code));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_specification() {
        for (code, message, expected) in [
            ("13", "failed%20to%20decode%20Protobuf%20message", "3"),
            ("13", "the%20request%20failed", "13"),
            ("1", "Timeout%20expired", "4"),
            ("1", "operation%20was%20cancelled", "1"),
            ("11", "Error,%20decoded%20message%20length%20too%20large", "8"),
            ("5", "decode", "5"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static(code));
            headers.insert("grpc-message", HeaderValue::from_static(message));
            normalise(&mut headers);
            assert_eq!(headers["grpc-status"], expected, "{message}");
        }
    }
}
