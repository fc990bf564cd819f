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
    /// Waits for a person.
    Parked,
    /// To be tried again by the owner.
    Ready,
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
    by_key: HashMap<String, Vec<Parked>>,
    /// Held back by this batch, in order.
    pub(crate) added: Vec<(Held, String, Record)>,
    /// Rows this batch is done with.
    pub(crate) done: Vec<i64>,
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
    /// own stream.
    pub(crate) fn holds(&self, record: &Record) -> Option<Held> {
        let held = self.by_key.get(&record.key).into_iter().flatten().map(|row| (row.held, &row.record));
        let held = held.chain(self.added.iter().map(|(held, _, r)| (*held, r)).filter(|(_, r)| r.key == record.key));
        let mut behind = None;
        for (held, earlier) in held {
            behind = match (held, behind) {
                (Held::Parked, _) => return Some(Held::Parked),
                (Held::Ready, _) | (_, Some(Held::Ready)) => Some(Held::Ready),
                (Held::Early, _) if earlier.stream == record.stream => Some(Held::Early),
                (Held::Early, _) => behind,
            };
        }
        behind
    }

    pub(crate) fn hold(&mut self, held: Held, reason: String, record: Record) {
        self.added.push((held, reason, record));
    }

    /// The early records of a key, oldest first: tried again once something was applied to the key.
    pub(crate) fn early(&self, key: &str) -> Vec<Parked> {
        self.by_key.get(key).into_iter().flatten().filter(|row| row.held == Held::Early).cloned().collect()
    }

    /// Whether this row is still held back; another batch may have settled it.
    pub(crate) fn has(&self, key: &str, id: i64) -> bool {
        self.by_key.get(key).into_iter().flatten().any(|row| row.id == id)
    }

    pub(crate) fn settled(&mut self, key: &str, id: i64) {
        self.done.push(id);
        if let Some(rows) = self.by_key.get_mut(key) {
            rows.retain(|row| row.id != id);
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
