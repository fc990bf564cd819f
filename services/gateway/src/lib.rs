//! REST for every service whose protos carry `google.api.http`. Nothing here but `amount.rs` knows an order: routes, names and kinds come
//! from the descriptors, read once at start.
//!
//! What the JSON reader refuses goes no further; what a service refuses comes back as an RFC 9457 problem.

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    routing::{get, post},
};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

mod amount;
mod grpc;
mod json;
pub mod limits;
mod problem;
mod request;
mod rest;
mod routes;
mod shape;
mod sse;
mod template;
mod trace;
mod webhooks;

pub use grpc::Upstreams;

/// All REST routes, `/webhooks/provider` and `/healthz`. A route to a service that is not among the upstreams answers 501.
pub fn router(upstreams: Upstreams) -> Result<Router> {
    let webhooks = post(webhooks::receive).fallback(webhooks::other_method).with_state(Arc::new(upstreams.clone()));
    let gateway = Arc::new(rest::Gateway::new(routes::Routes::read(descriptors()?)?, upstreams));
    let router = Router::new().route("/healthz", get(healthz)).route(webhooks::PATH, webhooks);
    Ok(router.fallback(rest::serve).with_state(gateway))
}

/// A typed message as REST shows it, for tools that print what they were told.
pub fn to_json<M: prost::Message + prost::Name>(message: &M) -> Result<serde_json::Value> {
    let pool = descriptors()?;
    let descriptor =
        pool.get_message_by_name(&M::full_name()).with_context(|| format!("{} is not in the protos", M::full_name()))?;
    shown(pool, descriptor, &message.encode_to_vec())
}

/// The bytes of a message of this full name as REST shows it; `None` if the protos have no such name, or the bytes are no such message.
#[must_use]
pub fn json_of(type_name: &str, bytes: &[u8]) -> Option<serde_json::Value> {
    let pool = descriptors().ok()?;
    shown(pool, pool.get_message_by_name(type_name)?, bytes).ok()
}

fn descriptors() -> Result<&'static DescriptorPool> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let pool = DescriptorPool::decode(contracts::DESCRIPTORS).context("the descriptors of the protos")?;
    Ok(POOL.get_or_init(|| pool))
}

fn shown(pool: &DescriptorPool, descriptor: MessageDescriptor, bytes: &[u8]) -> Result<serde_json::Value> {
    let mut shapes = shape::Shapes::new(pool);
    let of = shapes.add(&descriptor)?;
    let message = DynamicMessage::decode(descriptor, bytes)?;
    Ok(serde_json::from_slice(&json::write::answer(&shapes, of, None, &message)?)?)
}

async fn healthz() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok" }))
}

#[cfg(test)]
mod tests {
    use contracts::{Message, payment::v1::ChargePayment};

    use super::json_of;

    #[test]
    fn bytes_are_shown_where_they_are_what_their_type_says() {
        let message = Message::from(ChargePayment { order_id: "o".into(), amount: 7, ..ChargePayment::default() });
        let json = json_of(message.type_name(), &message.encode()).expect("it is known");
        assert_eq!((&json["orderId"], &json["amount"]), (&"o".into(), &"7".into()));
        for (name, bytes) in [("settle.nothing.v1.Nothing", &b""[..]), (message.type_name(), &b"\xff\xfe"[..]), ("", &b""[..])] {
            assert!(json_of(name, bytes).is_none(), "{name}");
        }
    }
}
