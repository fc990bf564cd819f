#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod admission;
mod batch;
pub mod bus;
mod clock;
mod crash;
mod cursor;
mod fault;
mod group;
mod handler;
mod health;
mod item;
mod lag;
mod lease;
mod limits;
mod log;
mod meters;
pub mod operate;
pub mod outbox;
mod park_limit;
pub mod parking;
mod partition;
pub mod patience;
pub mod progress;
mod queue;
mod reader;
mod record;
mod retry;
mod runner;
mod shelf;
mod span;
mod tasks;
mod unknown_types;

pub use bus::Bus;
pub use fault::Error;
pub use handler::{Decision, Envelope, Handler, Heard, Refused, Verdict};
pub use health::Health;
pub use limits::Limits;
pub use meters::{Totals, totals};
pub use parking::{DeadLetters, Held, Parked, Rehearsal};
pub use partition::partition_of;
pub use record::{News, Place, Position, Record, Stream, Trace};
pub use runner::{CallError, Runner, Subscription, start};
pub use tasks::Tasks;

/// The tables of this crate, for the database of every service. Their history is kept apart from the service's own migrations.
///
/// Give it a connection of its own, and close that when this fails: the lock of a failed run stays with its connection.
///
/// # Errors
/// A database that does not answer, or that a newer version of this crate has migrated.
pub async fn migrate(db: &mut sqlx::PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("_messaging_migrations");
    migrator.run_direct(None, db, false).await
}
