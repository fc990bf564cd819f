//! Notification: tells the customer how the order ended, once an order and kind.
//!
//! What the customer reads is made in `text.rs`, pure; `events.rs` decides who is told; `grpc.rs` lets callers look.

mod error;
mod events;
mod grpc;
mod store;
mod text;

use contracts::topic;
use messaging::Subscription;

/// The tables of this service, for its own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/notification");

const SUBSCRIPTION: Subscription = Subscription { group: "notification", topics: &[topic::ORDER_EVENTS] };

/// Starts the service; it ends with the room's tasks.
pub async fn start(room: kit::Room) -> anyhow::Result<grpc::Routes> {
    room.run(events::Notifications::default(), SUBSCRIPTION).await?;
    Ok(grpc::routes(room.pool))
}
