//! What every service stands on.

pub mod admin;
pub mod body;
pub mod counts;
pub mod database;
mod desks;
mod exporter;
pub mod grpc;
pub mod serve;
pub mod settings;
pub mod signal;
pub mod telemetry;

use std::sync::Arc;

use contracts::Message;
pub use desks::Desks;
use messaging::{Handler, Heard, News, Record, Runner, Subscription};
pub use settings::Settings;

/// What a service is given to start.
#[derive(Clone)]
pub struct Room {
    /// The service's own database, migrated.
    pub pool: sqlx::PgPool,
    pub bus: messaging::Bus,
    pub tasks: messaging::Tasks,
    pub settings: Arc<Settings>,
    pub desks: Desks,
    pub readiness: admin::Readiness,
}

impl Room {
    /// Starts a service's handler on what it subscribes to, has readiness watch it, and opens the desk where people look after its dead
    /// letters.
    pub async fn run<H: Handler>(&self, handler: H, subscription: Subscription) -> Result<Runner<H>, messaging::Error> {
        let runner = messaging::start(handler, subscription, self.pool.clone(), &self.bus, &self.tasks).await?;
        self.desks.open(runner.dead_letters());
        self.readiness.watch(self.pool.clone(), runner.health());
        Ok(runner)
    }
}

/// A message as news. The key is the order's id; on `product.events` the SKU.
pub fn news(key: impl ToString, message: impl Into<Message>) -> News {
    let message = message.into();
    News { topic: message.topic(), type_name: message.type_name(), key: key.to_string(), payload: message.encode().into() }
}

/// Decodes a record and asks `pick` what it means to the service: `None` if nothing, an error if it cannot be read. A newer version of a
/// type that means something here waits; other types that are not known here are passed over.
pub fn hear<I, E: std::fmt::Display>(record: &Record, pick: impl FnOnce(Message) -> Option<Result<I, E>>) -> Heard<I> {
    match Message::decode(&record.type_name, &record.payload) {
        None => unknown(record, |message| pick(message).is_some()),
        Some(Ok(message)) => match pick(message) {
            None => Heard::Ignored,
            Some(Ok(input)) => Heard::Input(input),
            Some(Err(unreadable)) => Heard::Undecodable(unreadable.to_string()),
        },
        Some(Err(error)) => Heard::Undecodable(format!("{}: {error}", record.type_name)),
    }
}

/// What a service is asked instead, where a person gave up the command that a record carries; `None` if it carries none that is known.
pub fn refuse<I>(record: &Record, pick: impl FnOnce(Message) -> Option<I>) -> Option<I> {
    pick(Message::decode(&record.type_name, &record.payload)?.ok()?)
}

/// A type that is not known here: perhaps a newer version of one that is.
pub fn unknown<I>(record: &Record, means_something: impl FnOnce(Message) -> bool) -> Heard<I> {
    let older = older_version(&record.type_name).and_then(|name| Message::decode(&name, &record.payload));
    let waits = older.map(|message| message.map_or(true, means_something));
    match waits {
        None => Heard::UnknownType,
        Some(false) => Heard::Ignored,
        // As the older version it may say something else than was meant, or cannot even be read.
        Some(true) => Heard::NewerVersion,
    }
}

/// `settle.order.v1.OrderCreated` of `settle.order.v2.OrderCreated`. All that is known here is version 1.
fn older_version(type_name: &str) -> Option<String> {
    let (package, name) = type_name.rsplit_once('.')?;
    let (package, version) = package.rsplit_once(".v")?;
    version.parse::<u32>().is_ok_and(|version| version > 1).then(|| format!("{package}.v1.{name}"))
}

/// A fresh id, for what has no cause to derive one from: a call without an idempotency key.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that makes fresh ids, called at the front door only")]
pub fn fresh_id() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use contracts::order::v1::{OrderCreated, OrderFailed};
    use messaging::{Stream, Trace};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn heard(type_name: &str, payload: &[u8]) -> Heard<()> {
        let record = Record {
            stream: Stream { topic: "order.events".into(), partition: 0 },
            place: None,
            kafka_offset: None,
            id: Uuid::nil(),
            key: String::new(),
            type_name: type_name.into(),
            payload: payload.to_vec().into(),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: String::new(),
            causation: None,
            trace: Trace::default(),
        };
        hear(&record, |message| matches!(message, Message::OrderCreated(_)).then_some(Ok::<_, Infallible>(())))
    }

    #[test]
    fn a_newer_version_waits_where_it_means_something() {
        let created = Message::from(OrderCreated { order_id: "x".into(), ..OrderCreated::default() });
        let failed = Message::from(OrderFailed::default());
        assert!(matches!(heard(created.type_name(), &created.encode()), Heard::Input(())));
        assert!(matches!(heard(failed.type_name(), &failed.encode()), Heard::Ignored));
        assert!(matches!(heard("settle.order.v2.OrderCreated", &created.encode()), Heard::NewerVersion));
        assert!(matches!(heard("settle.order.v2.OrderCreated", &[0xff]), Heard::NewerVersion));
        assert!(matches!(heard("settle.order.v2.OrderFailed", &failed.encode()), Heard::Ignored));
        for stranger in
            ["settle.order.v2.Dreamt", "settle.order.v1.Dreamt", "settle.order.v0.OrderCreated", "OrderCreated", "a.b.c", ""]
        {
            assert!(matches!(heard(stranger, &[]), Heard::UnknownType), "{stranger}");
        }
    }
}
