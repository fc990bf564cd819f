//! What an operator does with streams: looks at them, and leads a stopped reader out of LOG_GAP and LOG_DIVERGED.
//!
//! All of it works straight on the databases of publisher and consumer; no service need run. What changes something says who asked and
//! why, in the append-only table `stream_operations` of every database it changes.

pub mod events;
mod marks;
mod notice;
mod older_copy;
mod rejoin;
mod store;

use sqlx::{Connection, PgConnection, migrate::Migrator};
use time::OffsetDateTime;
use uuid::Uuid;

pub use marks::{Log, Mark, Marks};
pub(crate) use notice::Notice;
pub(crate) use older_copy::older_copy;
pub use rejoin::rejoin;
#[cfg(feature = "kafka")]
pub use rejoin::rejoin_on_kafka;

use crate::{Position, Stream};

/// A group that has reported within this time lives.
pub const DEAD_AFTER_S: f64 = 60.0;

/// Why an operation is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The consumer's database has no such row in `progress`.
    #[error("the group {group} does not read {topic}/{partition}")]
    NotRead {
        /// Which was named.
        group: String,
        /// Of the stream.
        topic: String,
        /// Of the stream.
        partition: i32,
    },
    /// Forgetting it would let retention drop what it has not read.
    #[error("the group {group} lives: it reported {reported_ago_s:.0} s ago")]
    Alive {
        /// Which was named.
        group: String,
        /// Seconds since its youngest report.
        reported_ago_s: f64,
    },
    /// There is nothing to republish.
    #[error("the outbox has nothing of {0}")]
    NothingKept(String),
    /// Republishing is for Kafka.
    #[error("nothing to rebuild: on the embedded bus the outbox is the log")]
    Embedded,
    /// What was asked is for the embedded bus.
    #[error("the streams are carried by Kafka: its brokers must be known")]
    NoBroker,
    /// The relay did not do what it was asked to; the group stands where it stood.
    #[error("{topic}/{partition} is not published again from {seq} on: does the service that writes it run?")]
    NotPublished {
        /// Of the stream.
        topic: String,
        /// Of the stream.
        partition: i32,
        /// Which record was to come first.
        seq: i64,
    },
    /// Kafka.
    #[error(transparent)]
    Broker(#[from] crate::Error),
    /// One of the two databases.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Who asks for an operation, and why.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// A person's name.
    pub who: &'a str,
    /// For whoever reads it later.
    pub why: &'a str,
}

/// One stream in an outbox. It has no holes, so it has `last_seq - first_seq + 1` records.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Which stream.
    pub stream: Stream,
    /// The oldest record that is kept.
    pub first_seq: i64,
    /// The newest record.
    pub last_seq: i64,
    /// Seconds since the oldest record was decided.
    pub oldest_age_s: f64,
    /// Seconds since the newest record was decided.
    pub newest_age_s: f64,
}

/// What a group said of itself in a publisher's database.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who reads.
    pub group: String,
    /// What it reads.
    pub stream: Stream,
    /// How far it was.
    pub seq: i64,
    /// How far it has ever been, since a person sent it elsewhere.
    pub furthest_seq: i64,
    /// Seconds since it reported.
    pub reported_ago_s: f64,
}

/// Where a group stands, in its own database.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who reads.
    pub group: String,
    /// What it reads.
    pub stream: Stream,
    /// How far it is.
    pub position: Position,
    /// How far it knows to have come, before a person sent it back. Who has told more has lost it: its database is an older copy.
    pub known_seq: i64,
    /// The instance that holds the lease, while it holds.
    pub owner: Option<Uuid>,
}

/// How a group was sent elsewhere.
#[derive(Clone, Debug)]
pub struct Rejoined {
    /// Which stream.
    pub stream: Stream,
    /// What its log was to the group.
    pub log: Log,
    /// Where the group stood; where its database is an older copy, how far it had told to be.
    pub from_seq: i64,
    /// From where it goes on.
    pub to: Position,
    /// The newest record there is.
    pub last_seq: i64,
}

/// How far a relay was set back.
#[derive(Clone, Debug)]
pub struct Republished {
    /// Which stream.
    pub stream: Stream,
    /// Where its cursor stood.
    pub from_seq: i64,
    /// Where it stands: what comes after it is copied again. The same as before where nothing of it was copied yet.
    pub to_seq: i64,
}

/// A row of the audit.
#[derive(Clone, Debug)]
pub struct Operation {
    /// When.
    pub at: OffsetDateTime,
    /// rejoin, forget or republish.
    pub operation: String,
    /// Which group it was about.
    pub group: Option<String>,
    /// Which stream.
    pub stream: Stream,
    /// Where the group or the relay stood.
    pub from_seq: i64,
    /// Where it was sent.
    pub to_seq: i64,
    /// Who asked.
    pub who: String,
    /// And why.
    pub why: String,
}

/// Records that the groups of a database hold back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Dead letters: they wait for a person.
    pub parked: i64,
    /// They come by themselves.
    pub waiting: i64,
}

/// The streams that an outbox has.
pub async fn extents(db: &mut PgConnection) -> sqlx::Result<Vec<Extent>> {
    store::extents(db).await
}

/// The groups that read an outbox, as they reported.
pub async fn reports(db: &mut PgConnection) -> sqlx::Result<Vec<Report>> {
    store::reports(db).await
}

/// Where the groups of a database stand.
pub async fn standings(db: &mut PgConnection) -> sqlx::Result<Vec<Standing>> {
    store::standings(db).await
}

/// What an outbox has around these positions, in their order.
pub async fn marks(db: &mut PgConnection, at: &[(Stream, Position)]) -> sqlx::Result<Vec<Marks>> {
    store::marks(db, at).await
}

/// What the groups of a database hold back.
pub async fn held_back(db: &mut PgConnection) -> sqlx::Result<HeldBack> {
    store::held_back(db).await
}

/// The partition count of a database; none before the first start of its service.
pub async fn partitions(db: &mut PgConnection) -> sqlx::Result<Option<i32>> {
    store::partitions(db).await
}

/// Whether Kafka carries the streams of a service; else the outbox itself is the log.
pub async fn is_on_kafka(publisher: &mut PgConnection) -> sqlx::Result<bool> {
    store::is_on_kafka(publisher).await
}

/// The newest operations on the streams of a database, the newest first.
pub async fn operations(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Operation>> {
    store::operations(db, limit).await
}

/// Versions of this crate's tables that a database does not have yet.
pub async fn unapplied_migrations(db: &mut PgConnection) -> sqlx::Result<Vec<i64>> {
    static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
    let applied = store::applied_migrations(db).await?;
    Ok(MIGRATIONS.iter().map(|migration| migration.version).filter(|version| !applied.contains(version)).collect())
}

/// Forgets what a dead group has reported to a publisher, so that retention does not wait for it for ever. Gives back what it was. A group
/// that has reported within the last minute is refused, unless `force`.
pub async fn forget(publisher: &mut PgConnection, group: &str, force: bool, by: By<'_>) -> Result<Vec<Report>, Error> {
    let mut tx = publisher.begin().await?;
    let reports = store::reports_of(&mut tx, group).await?;
    if !force {
        refuse_living(group, &reports)?;
    }
    store::forget(&mut tx, group).await?;
    for report in &reports {
        store::note(&mut tx, "forget", Some(group), &report.stream, (report.seq, report.seq), by).await?;
    }
    tx.commit().await?;
    Ok(reports)
}

/// Refuses a group of which one of these reports is young.
pub fn refuse_living(group: &str, reports: &[Report]) -> Result<(), Error> {
    let mine = reports.iter().filter(|report| report.group == group);
    match mine.map(|report| report.reported_ago_s).min_by(f64::total_cmp) {
        Some(reported_ago_s) if reported_ago_s < DEAD_AFTER_S => Err(Error::Alive { group: group.to_owned(), reported_ago_s }),
        _ => Ok(()),
    }
}

/// Rebuilds a topic from the outbox: sets the relay's cursors back, so that it copies again from `from_seq` on, or all that is kept. Readers
/// see through the repeats.
pub async fn republish(
    publisher: &mut PgConnection,
    topic: &str,
    partition: Option<i32>,
    from_seq: Option<i64>,
    by: By<'_>,
) -> Result<Vec<Republished>, Error> {
    if !store::is_on_kafka(publisher).await? {
        return Err(Error::Embedded);
    }
    let mut kept = store::extents(publisher).await?;
    kept.retain(|extent| extent.stream.topic == topic && partition.is_none_or(|partition| extent.stream.partition == partition));
    if kept.is_empty() {
        return Err(Error::NothingKept(partition.map_or_else(|| topic.to_owned(), |partition| format!("{topic}/{partition}"))));
    }
    let mut tx = publisher.begin().await?;
    let mut republished = Vec::with_capacity(kept.len());
    for Extent { stream, first_seq, .. } in kept {
        let to_seq = from_seq.unwrap_or(first_seq).max(first_seq) - 1;
        let (from_seq, to_seq) = store::set_back(&mut tx, &stream, to_seq).await?;
        store::note(&mut tx, "republish", None, &stream, (from_seq, to_seq), by).await?;
        republished.push(Republished { stream, from_seq, to_seq });
    }
    tx.commit().await?;
    Ok(republished)
}
