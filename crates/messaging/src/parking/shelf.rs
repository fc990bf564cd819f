//! The shelf: what a batch finds held back, and holds back itself.

mod store;

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::{Held, Parked};
use crate::{
    Handler, Record, Stream,
    item::{Item, Origin},
};

/// A record that a batch holds back.
#[derive(Clone, Debug)]
pub(crate) struct New {
    pub(crate) held: Held,
    pub(crate) behind: bool,
    pub(crate) reason: String,
    pub(crate) record: Record,
}

/// A row that is held back, as far as others of its key are concerned.
#[derive(Debug)]
pub(crate) struct Open {
    id: i64,
    held: Held,
    stream: Stream,
}

/// What is held back for the keys of a batch, kept up to date while the batch is decided. Of rows that hold back the same there is one.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Oldest first.
    pub(super) by_key: HashMap<String, Vec<Open>>,
    /// Held back by this batch, in order.
    pub(crate) added: Vec<New>,
    /// Rows this batch is done with.
    pub(crate) done: Vec<i64>,
    /// Rows that failed again, with the new reason.
    pub(crate) again: Vec<(Parked, String)>,
}

impl Shelf {
    /// Looks up what the records of a batch have before them.
    pub(crate) async fn of<H: Handler>(db: &mut PgConnection, group: &str, items: &[&Item<H>]) -> sqlx::Result<Self> {
        let records = items.iter().filter_map(|item| item.record()).filter(|record| !record.key.is_empty());
        let mut of: Vec<(&str, &Stream)> = records.map(|record| (record.key.as_str(), &record.stream)).collect();
        of.sort_unstable();
        of.dedup();
        let mut keys: Vec<&str> = of.iter().map(|(key, _)| *key).collect();
        keys.dedup();
        let brought: Vec<(&str, i64)> = items
            .iter()
            .filter_map(|item| match &item.origin {
                Origin::Held(row) => Some((row.record.key.as_str(), row.id)),
                Origin::Call(_) | Origin::Stream { .. } | Origin::Again(_) => None,
            })
            .collect();
        if keys.is_empty() && brought.is_empty() {
            return Ok(Self::default());
        }
        let mut rows = store::lock(db, group, &keys, &brought).await?;
        let held: HashSet<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
        of.retain(|(key, _)| held.contains(key));
        if !of.is_empty() {
            let brought: Vec<i64> = brought.iter().map(|(_, id)| *id).collect();
            rows.extend(store::before(db, group, &of, &brought).await?);
        }
        Ok(Self::new(rows))
    }

    fn new(rows: Vec<(String, Open)>) -> Self {
        let mut by_key: HashMap<String, Vec<Open>> = HashMap::new();
        for (key, row) in rows {
            by_key.entry(key).or_default().push(row);
        }
        for rows in by_key.values_mut() {
            rows.sort_unstable_by_key(|row| row.id);
        }
        Self { by_key, ..Self::default() }
    }

    /// Whether a record that comes now must queue behind one of its key: a parked one holds the whole group back, an early one only its
    /// own stream. Behind what is being drained it is drained too.
    pub(crate) fn holds(&self, record: &Record) -> Option<Held> {
        if record.key.is_empty() {
            return None;
        }
        let held = self.by_key.get(&record.key).into_iter().flatten().map(|row| (row.held, &row.stream));
        let added = self.added.iter().filter(|new| new.record.key == record.key).map(|new| (new.held, &new.record.stream));
        let mut behind = None;
        for (held, stream) in held.chain(added) {
            behind = match (held, behind) {
                (Held::Parked, _) => return Some(Held::Parked),
                (Held::Ready | Held::Discard, _) | (_, Some(Held::Ready)) => Some(Held::Ready),
                (Held::Early | Held::Waiting, _) if *stream == record.stream => Some(held),
                (Held::Early | Held::Waiting | Held::Done, _) => behind,
            };
        }
        behind
    }

    /// Whether a row that was brought back comes next: it is still held and nobody changed his mind about it, nothing older holds it, and
    /// nothing older failed again just now.
    pub(crate) fn is_next(&self, row: &Parked) -> bool {
        let Record { key, stream, .. } = &row.record;
        let rows = self.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        if !rows.iter().any(|open| open.id == row.id && open.held == row.held) {
            return false;
        }
        let in_the_way = |older: &Open| older.id < row.id && (!older.held.passes() || older.stream == *stream);
        let failed = |(failed, _): &(Parked, String)| failed.record.key == *key;
        key.is_empty() || !rows.iter().any(in_the_way) && !self.again.iter().any(failed)
    }

    pub(crate) fn settled(&mut self, row: &Parked) {
        self.done.push(row.id);
        if let Some(rows) = self.by_key.get_mut(&row.record.key) {
            rows.retain(|held| held.id != row.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::Trace;

    fn stream(partition: i32) -> Stream {
        Stream { topic: "t".to_owned(), partition }
    }

    fn record(key: &str, partition: i32) -> Record {
        Record {
            stream: stream(partition),
            place: None,
            kafka_offset: None,
            id: Uuid::nil(),
            key: key.to_owned(),
            type_name: "x".to_owned(),
            payload: Bytes::new(),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: key.to_owned(),
            causation: None,
            trace: Trace::default(),
        }
    }

    /// Rows of one key: id, state, partition.
    fn shelf(key: &str, rows: &[(i64, Held, i32)]) -> Shelf {
        Shelf::new(
            rows.iter().map(|&(id, held, partition)| (key.to_owned(), Open { id, held, stream: stream(partition) })).collect(),
        )
    }

    fn row(key: &str, id: i64, held: Held, partition: i32) -> Parked {
        let record = record(key, partition);
        Parked { id, held, reason: String::new(), behind: false, redrives: 0, failed_at: OffsetDateTime::UNIX_EPOCH, record }
    }

    #[test]
    fn a_parked_record_holds_its_key_and_an_early_one_its_stream() {
        use Held::{Discard, Early, Parked, Ready, Waiting};
        let holds = |rows: &[(i64, Held, i32)]| shelf("k", rows).holds(&record("k", 0));
        assert_eq!((holds(&[]), holds(&[(1, Early, 1)])), (None, None));
        assert_eq!((holds(&[(1, Early, 0)]), holds(&[(1, Waiting, 0)])), (Some(Early), Some(Waiting)));
        assert_eq!((holds(&[(1, Ready, 1)]), holds(&[(1, Discard, 1), (2, Early, 0)])), (Some(Ready), Some(Ready)));
        assert_eq!(holds(&[(3, Parked, 1), (1, Ready, 0), (2, Early, 0)]), Some(Parked));
        assert_eq!(shelf("k", &[(1, Parked, 0)]).holds(&record("other", 0)), None);
        assert_eq!(shelf("", &[(1, Parked, 0)]).holds(&record("", 0)), None, "no key, no order");
    }

    #[test]
    fn a_row_is_next_when_nothing_older_is_in_its_way() {
        use Held::{Early, Parked, Ready};
        let is_next = |rows: &[(i64, Held, i32)], key| shelf(key, rows).is_next(&row(key, 5, Ready, 0));
        assert!(is_next(&[(5, Ready, 0)], "k") && is_next(&[(5, Ready, 0), (6, Parked, 0)], "k"));
        assert!(is_next(&[(4, Early, 1), (5, Ready, 0)], "k"), "an early one of another stream lets it pass");
        assert!(!is_next(&[(4, Early, 0), (5, Ready, 0)], "k") && !is_next(&[(4, Ready, 1), (5, Ready, 0)], "k"));
        assert!(!is_next(&[], "k") && !is_next(&[(5, Parked, 0)], "k"), "settled, or meant otherwise by now");
        assert!(is_next(&[(4, Parked, 0), (5, Ready, 0)], ""), "no key, no order");

        let mut shelf = shelf("k", &[(4, Ready, 0), (5, Ready, 0)]);
        shelf.settled(&row("k", 4, Ready, 0));
        assert!(shelf.is_next(&row("k", 5, Ready, 0)));
        shelf.again.push((row("k", 4, Ready, 0), String::new()));
        assert!(!shelf.is_next(&row("k", 5, Ready, 0)), "what was before it failed again");
    }
}
