//! Records a group could not apply: early ones wait, poisoned ones park their key.
//!
//! A parked key keeps its order: later records of it queue behind, while the stream flows on. Records without a key have no order: each is
//! held back by itself. A person may [`redrive`] records, which only marks them READY, or [`discard`] one: the owner of the partition settles
//! them in order, in the same loop as everything else.

mod desk;
pub(crate) mod dlq;
pub(crate) mod rehearsal;
mod shelf;
pub(crate) mod store;

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

pub use desk::{
    Discarded, Filter, Intervention, REDRIVES_MAX, ROWS_MAX, Redrive, Redriven, Which, discard, interventions, list, missing, one,
    redrive,
};
pub use rehearsal::{DeadLetters, Rehearsal};
pub(crate) use shelf::{New, Shelf};

use crate::{Record, fault::Fault, group::Group};

/// Why a record is held back that has nothing wrong with itself.
pub(crate) const BEHIND: &str = "behind an earlier record of its key";

/// Why a record is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Needs something that is not there yet.
    Early,
    /// Is of a version that is not known here; waits without limit for a binary that knows it.
    Waiting,
    /// Waits for a person.
    Parked,
    /// To be tried again by the owner.
    Ready,
    /// A person gave it up: to be settled by the owner, with the answer that refuses it.
    Discard,
    /// Held back no longer: applied, or given up.
    Done,
}

impl Held {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Early, Self::Waiting, Self::Parked, Self::Ready, Self::Discard, Self::Done];

    /// As it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Early => "EARLY",
            Self::Waiting => "WAITING",
            Self::Parked => "PARKED",
            Self::Ready => "READY",
            Self::Discard => "DISCARD",
            Self::Done => "DONE",
        }
    }

    /// Which one bears this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|held| held.name() == name)
    }

    /// Whether it holds back only its own stream, and by itself may still be applied.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::Early | Self::Waiting)
    }
}

/// A record held back, with its row.
#[derive(Clone, Debug)]
pub struct Parked {
    /// Of the row in `dead_letter_events`; older ones are smaller.
    pub id: i64,
    /// What it waits for.
    pub held: Held,
    /// Why it was not applied.
    pub reason: String,
    /// Nothing is known to be wrong with the record itself: it came behind one of its key that is held back.
    pub behind: bool,
    /// How often a person had it tried again.
    pub redrives: i32,
    /// When it was held back, or failed last.
    pub failed_at: OffsetDateTime,
    /// As it came.
    pub record: Record,
}

/// Early records that have waited too long become dead letters, and so does what waits behind them: the oldest first, at most `limit`.
/// Gives back the id, the key and the reason of each.
pub(crate) async fn give_up(
    db: &mut PgConnection,
    group: &Group,
    early_wait_s: u64,
    limit: usize,
) -> sqlx::Result<Vec<(Uuid, String, String)>> {
    if !store::any_too_early(db, group.name, early_wait_s).await? {
        return Ok(Vec::new());
    }
    let mut tx = db.begin().await?;
    let rows = store::give_up(&mut tx, group.name, early_wait_s, limit).await?;
    dlq::append(&mut tx, group.partitions, group.copies.of_given_up(&rows)).await.map_err(Fault::said)?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|row| (row.record.id, row.record.key, row.reason)).collect())
}
