//! Orchestrator: takes every order through its saga, or back.
//!
//! `definitions.rs` has the sagas as one reads them aloud, `hear.rs` what each message means to them, `tell.rs` what each command says;
//! `instance.rs` takes one step of one saga, `operations.rs` is what people may do to it; all are pure. `events.rs` does that for a batch
//! at a time, `deadlines.rs` asks again, `grpc.rs` shows how sagas stand and lets operators in.

mod deadlines;
mod definitions;
mod error;
mod events;
mod grpc;
mod hear;
mod instance;
mod operations;
mod store;
mod tell;

use contracts::topic;
use messaging::Subscription;

pub use definitions::{CHECKOUT, CHECKOUT_RESERVE_FIRST, DEFINITIONS, REFUND, roles};
pub use store::{Live, live};

/// The tables of this service, for its own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/orchestrator");

const SUBSCRIPTION: Subscription = Subscription {
    group: "orchestrator",
    topics: &[topic::ORDER_EVENTS, topic::PAYMENT_EVENTS, topic::INVENTORY_EVENTS, topic::SHIPPING_EVENTS],
};

/// Starts the service; it ends with the room's tasks.
pub async fn start(room: kit::Room) -> anyhow::Result<grpc::Routes> {
    let runner = room.run(events::Orchestrator, SUBSCRIPTION).await?;
    let deadlines = deadlines::run(runner.clone(), room.pool.clone(), room.bus.partitions(), room.tasks.clone());
    room.tasks.spawn("saga deadlines", deadlines);
    Ok(grpc::routes(room.pool, runner))
}
