//! Notification: tells the customer how the order ended, what was refunded and where the parcel is, each once.
//!
//! What the customer reads is made in `text.rs`, pure; `events.rs` decides who is told; `grpc.rs` lets callers look, and send again.

mod error;
mod events;
mod grpc;
mod store;
mod text;

use contracts::topic;
use messaging::Subscription;

/// The tables of this service, for its own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/notification");

const SUBSCRIPTION: Subscription = Subscription { group: "notification", topics: &[topic::ORDER_EVENTS, topic::SHIPPING_EVENTS] };

/// Starts the service; it ends with the room's tasks.
pub async fn start(room: kit::Room) -> anyhow::Result<grpc::Routes> {
    let runner = room.run(events::Notifications::default(), SUBSCRIPTION).await?;
    Ok(grpc::routes(runner, room.pool))
}
