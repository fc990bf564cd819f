//! `<topic>.dlq`: a copy of every record that becomes a dead letter, as it came and with why, for tools that follow topics.
//!
//! A copy is for those who look; what is done with a dead letter is done with its row. What only queues behind another is not copied: it
//! is no dead letter by itself. A service copies what it hears of a topic if its [`Publisher`](crate::bus::Publisher) lists `<topic>.dlq`.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Held, Parked, Shelf, store};
use crate::{Place, Record, Stream, fault::Fault, outbox, partition_of};

const SUFFIX: &str = ".dlq";
/// Larger records stay in the table alone: Kafka takes 1 MB with all headers, and a copy it does not take would hold up its relay.
const COPY_BYTES_MAX: usize = 900_000;
const REASON_CHARS_MAX: usize = 1_000;

/// What a group copies.
pub(crate) struct Copies {
    group: &'static str,
    /// The topics of copies that it may write.
    topics: Vec<&'static str>,
}

/// A copy to be said.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As it will be said, but for its place.
    pub(super) copy: Record,
    pub(super) group: &'static str,
    pub(super) reason: String,
    /// As it came.
    pub(super) record: Record,
}

impl Copies {
    /// `topics` is all that the service writes.
    pub(crate) fn new(group: &'static str, topics: &[&'static str]) -> Self {
        Self { group, topics: topics.iter().copied().filter(|topic| topic.ends_with(SUFFIX)).collect() }
    }

    /// The copies of what a batch makes dead letters of, by a fault of their own. A record that a person gave up is one already.
    pub(crate) fn of(&self, shelf: &Shelf) -> Vec<Entry> {
        let new = shelf.added.iter().filter(|new| new.held == Held::Parked && !new.behind);
        let new = new.filter_map(|new| self.entry(&new.record, &new.reason, 0));
        let again = shelf.again.iter().filter(|(row, _)| row.held != Held::Discard);
        let again = again.filter_map(|(row, reason)| self.entry(&row.record, reason, row.redrives));
        new.chain(again).collect()
    }

    /// The copies of early records whose patience has run out.
    pub(crate) fn of_given_up(&self, rows: &[Parked]) -> Vec<Entry> {
        let at_fault = rows.iter().filter(|row| !row.behind);
        at_fault.filter_map(|row| self.entry(&row.record, &row.reason, row.redrives)).collect()
    }

    /// The copy of a record that was redriven so often. None of what is a copy itself: there must be no end of it somewhere.
    fn entry(&self, record: &Record, reason: &str, redrives: i32) -> Option<Entry> {
        let Stream { topic, partition } = &record.stream;
        let to =
            self.topics.iter().find(|to| to.strip_suffix(SUFFIX) == Some(topic.as_str())).filter(|_| !topic.ends_with(SUFFIX))?;
        // As it is sent, and as the table counts: the key is also the header ce_subject.
        let texts = [record.key.as_str(), record.key.as_str(), record.type_name.as_str(), record.correlation.as_str()];
        let trace = [record.trace.parent.as_deref(), record.trace.state.as_deref()];
        let bytes = record.payload.len() + texts.into_iter().chain(trace.into_iter().flatten()).map(str::len).sum::<usize>();
        if bytes > COPY_BYTES_MAX {
            tracing::warn!(service = self.group, eventId = %record.id, bytes, "too large for a copy: it is in dead_letter_events alone");
            return None;
        }
        let place = record.place.map(|place| place.seq).or(record.kafka_offset).unwrap_or_default();
        let name = format!("dead letter/{}/{topic}/{partition}/{place}/{redrives}", self.group);
        let copy = Record {
            stream: Stream { topic: (*to).to_owned(), partition: 0 },
            place: None,
            kafka_offset: None,
            id: Uuid::new_v5(&record.id, name.as_bytes()),
            ..record.clone()
        };
        Some(Entry { copy, group: self.group, reason: reason.chars().take(REASON_CHARS_MAX).collect(), record: record.clone() })
    }
}

/// Appends the copies and gives back what they became, for after the commit. After all other news of the transaction, so that streams are
/// locked in one order everywhere.
pub(crate) async fn append(db: &mut PgConnection, partitions: i32, mut entries: Vec<Entry>) -> Result<Vec<Arc<Record>>, Fault> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    for Entry { copy, .. } in &mut entries {
        copy.stream.partition = partition_of(&copy.key, partitions);
    }
    let streams: BTreeSet<&Stream> = entries.iter().map(|entry| &entry.copy.stream).collect();
    let mut last = outbox::lock(db, &streams).await?;
    let mut said = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let end = last.get(&entry.copy.stream).copied();
        let place = Place { seq: end.map_or(1, |(seq, _)| seq + 1), prev: end.map(|(_, id)| id) };
        last.insert(entry.copy.stream.clone(), (place.seq, entry.copy.id));
        entry.copy.place = Some(place);
        let stored = store::copy(db, place, &entry).await;
        let copy = Arc::new(entry.copy);
        if let Err(error) = stored {
            return Err(match outbox::ranges::store::without_range(&error, std::slice::from_ref(&copy)) {
                Some(next) => Fault::NoRange { next, error },
                None => error.into(),
            });
        }
        said.push(copy);
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use time::OffsetDateTime;

    use super::*;
    use crate::{Trace, parking::New};

    fn record(topic: &str, seq: Option<i64>, bytes: usize) -> Record {
        Record {
            stream: Stream { topic: topic.to_owned(), partition: 1 },
            place: seq.map(|seq| Place { seq, prev: None }),
            kafka_offset: Some(7),
            id: Uuid::from_u128(1),
            key: "k".to_owned(),
            type_name: "x".to_owned(),
            payload: Bytes::from(vec![0; bytes]),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: "k".to_owned(),
            causation: None,
            trace: Trace::default(),
        }
    }

    fn copies(group: &'static str) -> Copies {
        Copies::new(group, &["said", "t.dlq", "u.dlq", "t.dlq.dlq"])
    }

    fn id(group: &'static str, record: &Record, redrives: i32) -> Uuid {
        copies(group).entry(record, "why", redrives).expect("it is copied").copy.id
    }

    #[test]
    fn the_same_failure_has_the_same_id_and_another_has_another() {
        let one = record("t", Some(3), 1);
        assert_eq!(id("a", &one, 0), id("a", &one, 0));
        let others = [id("b", &one, 0), id("a", &one, 1), id("a", &record("u", Some(3), 1), 0), id("a", &record("t", None, 1), 0)];
        assert!(!others.contains(&id("a", &one, 0)));
    }

    #[test]
    fn neither_a_copy_nor_what_kafka_would_not_take_is_copied() {
        let copies = copies("a");
        assert!(copies.entry(&record("t.dlq", None, 1), "why", 0).is_none());
        assert!(copies.entry(&record("unlisted", None, 1), "why", 0).is_none());
        assert!(copies.entry(&record("t", None, COPY_BYTES_MAX + 1), "why", 0).is_none());
        let keyed = |key: usize| Record { key: "k".repeat(key), ..record("t", None, COPY_BYTES_MAX / 2) };
        assert!(copies.entry(&keyed(COPY_BYTES_MAX / 4 - 1), "why", 0).is_some());
        assert!(copies.entry(&keyed(COPY_BYTES_MAX / 4), "why", 0).is_none(), "the key is sent twice");
        let long = copies.entry(&record("t", None, 1), &"é".repeat(5_000), 0).expect("it is copied");
        assert_eq!(long.reason.chars().count(), REASON_CHARS_MAX);
    }

    #[test]
    fn what_only_queues_behind_another_is_no_dead_letter() {
        let new = |held, behind| New { held, behind, reason: String::new(), record: record("t", Some(1), 1) };
        let added = vec![new(Held::Parked, false), new(Held::Parked, true), new(Held::Early, false), new(Held::Ready, true)];
        assert_eq!(copies("a").of(&Shelf { added, ..Shelf::default() }).len(), 1);
    }
}
