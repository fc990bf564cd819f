//! Shipping: a shipment is booked and held while the saga runs, released when the order completes, cancelled when it is undone. People say
//! when it leaves and when it arrives.
//!
//! The rules are pure, in `shipment.rs`; `events.rs` carries them out, a batch at a time; `grpc.rs` lets callers ask.

mod error;
mod events;
mod grpc;
pub mod shipment;
mod store;

use contracts::topic;
use messaging::Subscription;

pub use error::Refusal;

/// The tables of this service, for its own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/shipping");

const SUBSCRIPTION: Subscription = Subscription { group: "shipping", topics: &[topic::SHIPPING_COMMANDS, topic::ORDER_EVENTS] };

/// Starts the service; it ends with the room's tasks.
pub async fn start(room: kit::Room) -> anyhow::Result<grpc::Routes> {
    let runner = room.run(events::Shipping, SUBSCRIPTION).await?;
    Ok(grpc::routes(runner, room.pool))
}
