//! What a person does with dead letters: looks at them, has them tried again, gives one up. Whatever changes a row is written down with who
//! asked and why, in the same statement.
//!
//! What changes rows first locks all that is held back of their keys, as a batch does that meets such a key: so none of them comes or goes
//! unseen.

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

use super::{Held, Parked, store};
use crate::operate::By;

/// How often a record may be redriven before somebody has to insist.
pub const REDRIVES_MAX: i32 = 10;
/// Rows of one list, or marked by one redrive, at most.
pub const ROWS_MAX: i64 = 1_000;

/// Which records a list shows. None of them: all that is held back.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this key.
    pub key: Option<String>,
    /// Of this topic.
    pub topic: Option<String>,
    /// In this state; the settled ones are only shown if they are asked for.
    pub state: Option<Held>,
}

/// What a group holds back, oldest first: at most `limit` rows behind the row `after`.
pub async fn list(db: &mut PgConnection, group: &str, filter: &Filter, after: i64, limit: i64) -> sqlx::Result<Vec<Parked>> {
    store::list(db, group, filter, after, limit.clamp(0, ROWS_MAX)).await
}

/// One record, settled or not.
pub async fn one(db: &mut PgConnection, group: &str, id: i64) -> sqlx::Result<Option<Parked>> {
    store::one(db, group, id).await
}

/// Those of these ids that are no record of the group.
pub async fn missing(db: &mut PgConnection, group: &str, ids: &[i64]) -> sqlx::Result<Vec<i64>> {
    store::missing(db, group, ids).await
}

/// What a person did with a record.
#[derive(Clone, Debug)]
pub struct Intervention {
    /// When.
    pub at: OffsetDateTime,
    /// REDRIVE or DISCARD.
    pub action: String,
    /// Who asked.
    pub who: String,
    /// And why.
    pub why: String,
}

/// What people did with a record, oldest first.
pub async fn interventions(db: &mut PgConnection, group: &str, id: i64) -> sqlx::Result<Vec<Intervention>> {
    store::interventions(db, group, id, ROWS_MAX).await
}

/// Which records are to be redriven.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// These, and what only queues behind them.
    Ids(&'a [i64]),
    /// All that is parked under this key.
    Key(&'a str),
}

/// What is to be redriven.
#[derive(Clone, Copy, Debug)]
pub struct Redrive<'a> {
    /// Of what is parked; anything else is left as it is.
    pub which: Which<'a>,
    /// Only rows behind this one; 0 for all. Whoever marks in slices goes on here.
    pub after: i64,
    /// Rows to mark, at most, and never more than [`ROWS_MAX`].
    pub rows_max: i64,
    /// Also what was redriven [`REDRIVES_MAX`] times already.
    pub force: bool,
}

impl<'a> Redrive<'a> {
    /// As much as may be at once, from the first row on.
    #[must_use]
    pub fn of(which: Which<'a>) -> Self {
        Self { which, after: 0, rows_max: ROWS_MAX, force: false }
    }
}

/// What a redrive came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Marked to be tried again, oldest first.
    pub marked: Vec<i64>,
    /// Left as they are: redriven too often already. So is what waits behind them.
    pub refused: Vec<i64>,
}

impl Redriven {
    /// The last row that was looked at; `None` if there was none.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.marked.iter().chain(&self.refused).max().copied()
    }
}

/// Marks parked records to be tried again, in order, by the owner of their partition. What is marked or settled already is left alone, so a
/// second redrive marks nothing.
///
/// A transaction: not to be cancelled half-way.
pub async fn redrive(db: &mut PgConnection, group: &str, what: &Redrive<'_>, by: By<'_>) -> sqlx::Result<Redriven> {
    let mut tx = db.begin().await?;
    store::lock(&mut tx, group, what.which).await?;
    let rows = store::redrive(&mut tx, group, what, REDRIVES_MAX, by).await?;
    tx.commit().await?;
    let mut redriven = Redriven::default();
    for (id, marked) in rows {
        if marked { redriven.marked.push(id) } else { redriven.refused.push(id) }
    }
    Ok(redriven)
}

/// What a discard came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The owner of its partition settles it in its turn. What only waited behind it is tried again.
    Marked,
    /// It was given up before.
    Before,
    /// Too late: it is settled.
    Settled,
    /// There is no such record.
    Absent,
}

/// Gives a record up: it will not be applied. The handler is asked for what refuses it, see [`Handler::refuse`](crate::Handler::refuse).
///
/// A transaction: not to be cancelled half-way.
pub async fn discard(db: &mut PgConnection, group: &str, id: i64, by: By<'_>) -> sqlx::Result<Discarded> {
    let mut tx = db.begin().await?;
    store::lock(&mut tx, group, Which::Ids(&[id])).await?;
    let row = store::discard(&mut tx, group, id, by).await?;
    tx.commit().await?;
    Ok(match row {
        None => Discarded::Absent,
        Some((_, true, _)) => Discarded::Marked,
        Some((Held::Discard, false, _)) | Some((_, false, true)) => Discarded::Before,
        Some((_, false, false)) => Discarded::Settled,
    })
}
