//! Orchestrator: takes every order through its saga, or back.
//!
//! `definitions.rs` has the sagas as one reads them aloud, `hear.rs` what each message means to them, `tell.rs` what each command says;
//! `instance.rs` takes one step of one saga, `operations.rs` is what people may do to it, `known.rs` tells of which versions this binary
//! may take sagas on; all are pure. `events.rs` does that for a batch at a time, `deadlines.rs` asks again, `grpc.rs` shows how sagas stand
//! and lets operators in.

mod deadlines;
mod definitions;
mod error;
mod events;
mod grpc;
mod hear;
mod instance;
mod known;
mod operations;
mod store;
mod tell;

use anyhow::Context;
use contracts::topic;
use messaging::Subscription;

pub use definitions::{CHECKOUT, CHECKOUT_RESERVE_FIRST, DEFINITIONS, REFUND, roles};
pub use known::{Changed, Known};
use sqlx::PgConnection;
pub use store::{Live, live, orders_of};

/// The tables of this service, for its own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/orchestrator");

const SUBSCRIPTION: Subscription = Subscription {
    group: "orchestrator",
    topics: &[topic::ORDER_EVENTS, topic::PAYMENT_EVENTS, topic::INVENTORY_EVENTS, topic::SHIPPING_EVENTS],
};

/// The definitions of this binary, held against what the database of the orchestrator remembers of them.
pub async fn known(db: &mut PgConnection) -> sqlx::Result<Known> {
    store::known(db, &DEFINITIONS).await
}

/// Starts the service; it ends with the room's tasks.
pub async fn start(room: kit::Room) -> anyhow::Result<grpc::Routes> {
    let known = store::remember(&room.pool, &DEFINITIONS).await.context("what the definitions of sagas were")?;
    for Changed { definition, version, began_as, here } in known.changed() {
        tracing::error!(definition, version, began_as, here, "a definition has changed without a new version: its sagas wait");
    }
    let runner = room.run(events::Orchestrator { known: known.clone() }, SUBSCRIPTION).await?;
    let deadlines = deadlines::run(runner.clone(), room.pool.clone(), known.clone(), room.bus.partitions(), room.tasks.clone());
    room.tasks.spawn("saga deadlines", deadlines);
    Ok(grpc::routes(room.pool, runner, known))
}
