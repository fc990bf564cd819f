//! Orchestrator: takes every order through its saga, or back.
//!
//! `checkout.rs` is the saga as one reads it aloud, with what each message means to it and each command says; `instance.rs`
//! takes one step of one saga; both are pure. `events.rs` does that for a batch at a time, `deadlines.rs` asks again, `grpc.rs`
//! shows how sagas stand.

mod checkout;
mod deadlines;
mod error;
mod events;
mod grpc;
mod instance;
mod store;

use contracts::topic;
use messaging::Subscription;

pub use checkout::CHECKOUT;

/// The tables of this service, for its own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/orchestrator");

const SUBSCRIPTION: Subscription = Subscription {
    group: "orchestrator",
    topics: &[topic::ORDER_EVENTS, topic::PAYMENT_EVENTS, topic::INVENTORY_EVENTS, topic::SHIPPING_EVENTS],
};

/// Starts the service; it ends with the room's tasks.
pub async fn start(room: kit::Room) -> anyhow::Result<grpc::Routes> {
    let runner = room.run(events::Orchestrator, SUBSCRIPTION).await?;
    room.tasks.spawn("saga deadlines", deadlines::run(runner, room.pool.clone(), room.tasks.clone()));
    Ok(grpc::routes(room.pool))
}
