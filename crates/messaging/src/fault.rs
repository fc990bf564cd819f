//! What went wrong, and whose fault it is: an input is blamed and parked, an outage is waited out.

use crate::Stream;

/// Why messaging could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the streams of this database have {stored} partitions, {asked} were asked for; the count is fixed at the first start")]
    PartitionsDiffer { stored: i32, asked: i32 },
    #[error("no service here publishes the topic {0}")]
    UnknownTopic(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the broker does not answer: {0}")]
    Broker(String),
}

/// Why a batch was not settled.
#[derive(Debug)]
pub(crate) enum Fault {
    /// One of the inputs cannot be saved; bisecting finds it.
    Blame(sqlx::Error),
    /// Deciding this input panicked.
    Panic { index: usize, message: String },
    /// Other instances moved these streams, or an in-doubt commit went through after all.
    Moved(Vec<Stream>),
    /// The database is away or unwell: nobody's fault here.
    Away(sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        if blames_input(&error) { Self::Blame(error) } else { Self::Away(error) }
    }
}

/// SQLSTATE classes 22 (data exception) and 23 (integrity constraint violation) name an input, and so do 21000 (one row twice in a
/// statement) and 54000 (a value too large for an index); everything else is infrastructure.
fn blames_input(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code == "21000" || code == "54000")
}

/// 23505: a unique key was taken a moment ago by another instance; loading again shows the row.
pub(crate) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
