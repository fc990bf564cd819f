//! What went wrong, and whose fault it is: an input is blamed and parked, an outage is waited out.

use std::collections::BTreeMap;

use crate::Stream;

/// Why messaging could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The partition count is part of where a key goes, so it never changes.
    #[error("the streams of this database have {stored} partitions, {asked} were asked for; the count is fixed at the first start")]
    PartitionsDiffer {
        /// Of the first start, or of the topic that is there.
        stored: i32,
        /// Of this start.
        asked: i32,
    },
    /// The [`Bus`](crate::Bus) has no [`Publisher`](crate::bus::Publisher) of a topic that the group reads.
    #[error("no service here publishes the topic {0}")]
    UnknownTopic(String),
    /// 1 to 249 characters of `A-Z a-z 0-9 . _ -`: what Kafka takes, on every bus.
    #[error("{0:?} cannot be the name of a topic")]
    TopicName(String),
    /// The service's own database, or one it reads.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Kafka, with what its client said.
    #[error("the broker does not answer: {0}")]
    Broker(String),
}

/// Why a batch was not settled.
#[derive(Debug)]
pub(crate) enum Fault {
    /// One of the inputs cannot be saved; bisecting finds it.
    Blame(sqlx::Error),
    /// Deciding this input panicked, or came to what cannot be published.
    Poison { index: usize, reason: String },
    /// Other instances moved these streams, or an in-doubt commit went through after all.
    Moved(Vec<Stream>),
    /// These would be dead letters, and that is more than may be parked.
    ParkLimit(Vec<usize>),
    /// The outbox has no range for the news yet: each topic with the number that must have room.
    NoRange { next: BTreeMap<String, i64>, error: sqlx::Error },
    /// The database is away or unwell: nobody's fault here.
    Away(sqlx::Error),
}

impl Fault {
    /// What the database said of it.
    pub(crate) fn said(self) -> sqlx::Error {
        match self {
            Self::Blame(error) | Self::Away(error) | Self::NoRange { error, .. } => error,
            other => sqlx::Error::Protocol(format!("{other:?}")),
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        if blames_input(&error) { Self::Blame(error) } else { Self::Away(error) }
    }
}

/// SQLSTATE classes 22 (data exception) and 23 (integrity constraint violation) name an input, and so do 21000 (one row twice in a
/// statement) and 54000 (a value too large for an index); everything else is infrastructure.
pub(crate) fn blames_input(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code == "21000" || code == "54000")
}

/// 23505: a unique key was taken a moment ago by another instance; loading again shows the row.
pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
