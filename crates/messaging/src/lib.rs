//! Effectively-once messaging over Postgres, a batch at a time.
//!
//! A service implements [`Handler`]: load the rows a batch touches, decide each input in memory, save what changed. The [`Runner`] feeds
//! it from callers, from the streams of a [`Bus`] and from timers, and settles every batch in one transaction: progress in the streams,
//! effect, news. See `DESIGN` in the crate's README for why this is both the fast and the safe way.
//!
//! Patterns: transactional outbox, idempotent consumer, competing consumers with leases, dead letter queue (enterpriseintegrationpatterns.com,
//! microservices.io); the gapless stream takes the place of both the polling publisher and the inbox table.

mod batch;
pub mod bus;
mod clock;
mod cursor;
mod fault;
mod handler;
mod item;
mod lease;
mod meters;
pub mod outbox;
mod parking;
mod partition;
pub mod progress;
mod reader;
mod record;
mod runner;
mod span;
mod tasks;

pub use bus::Bus;
pub use fault::Error;
pub use handler::{Decision, Envelope, Handler, Heard, Refused, Verdict};
pub use parking::{Parked, list as parked, redrive};
pub use partition::partition_of;
pub use record::{News, Place, Position, Record, Stream, Trace};
pub use runner::{CallError, Runner, Subscription, start};
pub use tasks::Tasks;

/// The tables of this crate, for the database of every service. Their history is kept apart from the service's own migrations.
pub async fn migrate(db: &mut sqlx::PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("_messaging_migrations");
    migrator.run_direct(None, db, false).await
}
