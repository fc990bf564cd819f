//! What every service stands on.

pub mod admin;
pub mod database;
mod exporter;
pub mod grpc;
pub mod serve;
pub mod settings;
pub mod signal;
pub mod telemetry;

use std::sync::Arc;

use contracts::Message;
use messaging::{Heard, News, Record};
pub use settings::Settings;

/// What a service is given to start.
#[derive(Clone)]
pub struct Room {
    /// The service's own database, migrated.
    pub pool: sqlx::PgPool,
    pub bus: messaging::Bus,
    pub tasks: messaging::Tasks,
    pub settings: Arc<Settings>,
}

/// A message as news. The key is the order's id; on `product.events` the SKU.
pub fn news(key: impl ToString, message: impl Into<Message>) -> News {
    let message = message.into();
    News { topic: message.topic(), type_name: message.type_name(), key: key.to_string(), payload: message.encode().into() }
}

/// Decodes a record and asks `pick` what it means to the service: `None` if nothing, an error if it cannot be read. Types that are not
/// known here are ignored.
pub fn hear<I, E: std::fmt::Display>(record: &Record, pick: impl FnOnce(Message) -> Option<Result<I, E>>) -> Heard<I> {
    match Message::decode(&record.type_name, &record.payload) {
        None => Heard::Ignored,
        Some(Ok(message)) => match pick(message) {
            None => Heard::Ignored,
            Some(Ok(input)) => Heard::Input(input),
            Some(Err(unreadable)) => Heard::Undecodable(unreadable.to_string()),
        },
        Some(Err(error)) => Heard::Undecodable(format!("{}: {error}", record.type_name)),
    }
}

/// A fresh id, for what has no cause to derive one from: a call without an idempotency key.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that makes fresh ids, called at the front door only")]
pub fn fresh_id() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}
