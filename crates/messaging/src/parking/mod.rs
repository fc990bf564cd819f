//! Records a group could not apply: early ones wait, poisoned ones park their key.
//!
//! A parked key keeps its order: later records of it queue behind, while the stream flows on. [`redrive`] only marks rows READY; the owner
//! of the partition applies them in order, in the same loop as everything else.

pub(crate) mod store;

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::Record;

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
}

impl Held {
    /// Whether it holds back only its own stream, and by itself may still be applied.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::Early | Self::Waiting)
    }
}

/// A record held back, with its row.
#[derive(Clone, Debug)]
pub struct Parked {
    pub id: i64,
    pub held: Held,
    pub reason: String,
    pub record: Record,
}

/// What is held back for the keys of a batch, kept up to date while the batch is decided.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Oldest first.
    by_key: HashMap<String, Vec<Parked>>,
    /// Held back by this batch, in order.
    pub(crate) added: Vec<(Held, String, Record)>,
    /// Rows this batch is done with.
    pub(crate) done: Vec<i64>,
    /// Rows that failed again, with the new reason.
    pub(crate) again: Vec<(i64, String)>,
}

impl Shelf {
    pub(crate) fn new(rows: Vec<Parked>) -> Self {
        let mut by_key: HashMap<String, Vec<Parked>> = HashMap::new();
        for row in rows {
            by_key.entry(row.record.key.clone()).or_default().push(row);
        }
        Self { by_key, ..Self::default() }
    }

    /// Whether a record that comes now must queue behind one of its key: a parked one holds the whole group back, an early one only its
    /// own stream. Behind what is being drained it is drained too.
    pub(crate) fn holds(&self, record: &Record) -> Option<Held> {
        let held = self.by_key.get(&record.key).into_iter().flatten().map(|row| (row.held, &row.record));
        let held = held.chain(self.added.iter().map(|(held, _, r)| (*held, r)).filter(|(_, r)| r.key == record.key));
        let mut behind = None;
        for (held, earlier) in held {
            behind = match (held, behind) {
                (Held::Parked, _) => return Some(Held::Parked),
                (Held::Ready, _) | (_, Some(Held::Ready)) => Some(Held::Ready),
                (Held::Early | Held::Waiting, _) if earlier.stream == record.stream => Some(held),
                (Held::Early | Held::Waiting, _) => behind,
            };
        }
        behind
    }

    /// Whether a row that was brought back comes next: it is still held, nothing older holds it, and nothing older failed again just now.
    pub(crate) fn is_next(&self, row: &Parked) -> bool {
        let rows = self.by_key.get(&row.record.key).map(Vec::as_slice).unwrap_or_default();
        let Some(place) = rows.iter().position(|held| held.id == row.id) else { return false };
        let in_the_way = |older: &Parked| !older.held.passes() || older.record.stream == row.record.stream;
        !rows[..place].iter().any(in_the_way) && !self.again.iter().any(|(id, _)| rows.iter().any(|held| held.id == *id))
    }

    pub(crate) fn settled(&mut self, row: &Parked) {
        self.done.push(row.id);
        if let Some(rows) = self.by_key.get_mut(&row.record.key) {
            rows.retain(|held| held.id != row.id);
        }
    }
}

/// Everything this group holds back, oldest first, at most `limit` rows.
pub async fn list(db: &mut PgConnection, group: &str, limit: i64) -> sqlx::Result<Vec<Parked>> {
    store::list(db, group, limit).await
}

/// Marks what is parked under a key to be tried again, in order. Gives back how many records that are.
pub async fn redrive(db: &mut PgConnection, group: &str, key: &str) -> sqlx::Result<u64> {
    store::redrive(db, group, key).await
}
