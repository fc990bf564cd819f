//! REST for every service whose protos carry `google.api.http`. Nothing here knows an order: routes, names and kinds come from
//! the descriptors, read once at start.
//!
//! What the JSON reader refuses goes no further; what a service refuses comes back as an RFC 9457 problem.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::{Json, Router, routing::get};
use prost_reflect::DescriptorPool;

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

pub use grpc::Upstreams;

/// All REST routes and `/healthz`. A route to a service that is not among the upstreams answers 501.
pub fn router(upstreams: Upstreams) -> Result<Router> {
    let pool = DescriptorPool::decode(contracts::DESCRIPTORS).context("the descriptors of the protos")?;
    let gateway = Arc::new(rest::Gateway::new(routes::Routes::read(&pool)?, upstreams));
    Ok(Router::new().route("/healthz", get(healthz)).fallback(rest::serve).with_state(gateway))
}

/// A typed message as REST shows it, for tools that print what they were told.
pub fn to_json<M: prost::Message + prost::Name>(message: &M) -> Result<serde_json::Value> {
    let pool = DescriptorPool::decode(contracts::DESCRIPTORS).context("the descriptors of the protos")?;
    let descriptor =
        pool.get_message_by_name(&M::full_name()).with_context(|| format!("{} is not in the protos", M::full_name()))?;
    let mut shapes = shape::Shapes::new(&pool);
    let of = shapes.add(&descriptor)?;
    let message = prost_reflect::DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    Ok(serde_json::from_slice(&json::write::answer(&shapes, of, None, &message)?)?)
}

async fn healthz() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok" }))
}
