//! Inventory: products, their stock, and what orders have set aside of it.
//!
//! A saga asks with ReserveStock and ReleaseStock; a reservation is committed when the order completes. The rules are pure, in
//! `reservation.rs` and `stock.rs`; `events.rs` carries them out, a batch at a time; `grpc.rs` lets callers ask.

mod error;
mod events;
mod grpc;
pub mod reservation;
mod rows;
pub mod stock;
mod store;

use contracts::topic;
use messaging::Subscription;

pub use error::Refusal;

/// The tables of this service, for its own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/inventory");

const SUBSCRIPTION: Subscription = Subscription { group: "inventory", topics: &[topic::INVENTORY_COMMANDS, topic::ORDER_EVENTS] };

/// Starts the service; it ends with the room's tasks.
pub async fn start(room: kit::Room) -> anyhow::Result<grpc::Routes> {
    let runner = room.run(events::Inventory, SUBSCRIPTION).await?;
    Ok(grpc::routes(runner, room.pool))
}
