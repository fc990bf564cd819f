//! `POST /webhooks/provider`: what the payment provider sends unasked. The body goes on as it came, since its signature is over its
//! bytes; the payment service judges it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use contracts::payment::v1::{ReceiveWebhookRequest, payment_service_client::PaymentServiceClient};
use http::{HeaderMap, Method};
use messaging::Trace;
use tonic::Status;

use crate::{
    grpc::{self, Upstreams},
    limits::{BODY_BYTES_MAX, DEADLINE_MS},
    problem::Problem,
    trace,
};

pub(crate) const PATH: &str = "/webhooks/provider";
const SERVICE: &str = "settle.payment.v1.PaymentService";
const SIGNATURE: &str = "settle-signature";

pub(crate) async fn receive(State(upstreams): State<Arc<Upstreams>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let scope = kit::telemetry::server_span("gateway", format!("HTTP POST {PATH}"), &trace::of(&parts.headers));
    let received = hand_on(&upstreams, &parts.headers, body, &scope.trace()).await;
    let response = received.map_or_else(|problem| problem.into_response(), |()| Json(serde_json::json!({})).into_response());
    scope.end(!response.status().is_server_error());
    response
}

pub(crate) async fn other_method() -> Response {
    Problem::other_methods(&[&Method::POST]).into_response()
}

async fn hand_on(upstreams: &Upstreams, headers: &HeaderMap, body: Body, trace: &Trace) -> Result<(), Problem> {
    let channel = upstreams.of(SERVICE).ok_or_else(|| Problem::no_upstream(SERVICE))?;
    let body = kit::body::whole(body, BODY_BYTES_MAX).await?.to_vec();
    let mut request = grpc::request(ReceiveWebhookRequest { body, signature: signature(headers) }, trace);
    request.set_timeout(Duration::from_millis(DEADLINE_MS));
    let mut payments = PaymentServiceClient::new(channel.clone());
    let received = tokio::time::timeout(Duration::from_millis(DEADLINE_MS), payments.receive_webhook(request)).await;
    match received {
        Ok(received) => received.map(drop).map_err(|status| grpc::plain(status).into()),
        Err(_) => Err(Status::deadline_exceeded("The payment service did not answer in time.").into()),
    }
}

/// Empty where there is none, or more than one: nobody is believed then.
fn signature(headers: &HeaderMap) -> String {
    let mut signatures = headers.get_all(SIGNATURE).iter();
    match (signatures.next(), signatures.next()) {
        (Some(signature), None) => signature.to_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_signature_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(signature(&headers), "");
        headers.append(SIGNATURE, HeaderValue::from_static("t=1,v1=00"));
        assert_eq!(signature(&headers), "t=1,v1=00");
        headers.append(SIGNATURE, HeaderValue::from_static("t=1,v1=00"));
        assert_eq!(signature(&headers), "");
        headers.insert(SIGNATURE, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(signature(&headers), "");
    }

    #[tokio::test]
    async fn a_body_is_bounded_and_a_gateway_without_payments_says_so() {
        let nowhere = hand_on(&Upstreams::new(), &HeaderMap::new(), Body::empty(), &Trace::default()).await;
        assert_eq!(nowhere.unwrap_err().into_response().status(), 501);
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let upstreams = Upstreams::new().add("settle.payment.v1", channel);
        let long = Body::from(vec![b' '; BODY_BYTES_MAX + 1]);
        assert_eq!(
            hand_on(&upstreams, &HeaderMap::new(), long, &Trace::default()).await.unwrap_err().into_response().status(),
            413
        );
        let away = hand_on(&upstreams, &HeaderMap::new(), Body::from("{}"), &Trace::default()).await;
        assert_eq!(away.unwrap_err().into_response().status(), 503, "the provider comes again");
    }
}
