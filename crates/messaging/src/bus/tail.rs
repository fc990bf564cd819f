//! What this process committed last, kept in memory: readers beside the writer, and on Kafka its relay, need not read it back.
//!
//! A tail is never the truth. It holds unbroken runs of committed records; where it does not reach, or breaks off, the outbox is read.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Position, Record, Stream};

/// Records kept of a stream, at most.
const STREAM_ROWS_MAX: usize = 2_048;
/// Bytes of payload kept of a stream, at most.
const STREAM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The newest records of a publisher's streams, as far as somebody in this process reads or relays them.
#[derive(Default)]
pub(crate) struct Tail(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    topics: HashSet<String>,
    runs: HashMap<Stream, Run>,
}

#[derive(Default)]
struct Run {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
}

/// What a tail knows of a stream behind a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// That many of the records that follow were given.
    Given(usize),
    /// The position is the end.
    Nothing,
    /// Nothing was committed to it here, or nothing since it was forgotten.
    Unheard,
    /// Too old, or of another history.
    Unknown,
}

impl Tail {
    pub(crate) fn keep<T: AsRef<str>>(&self, topics: &[T]) {
        self.lock().topics.extend(topics.iter().map(|topic| topic.as_ref().to_owned()));
    }

    /// All that was said so far is left to the outbox: the database may not be the one that it was said to.
    #[cfg(feature = "kafka")]
    pub(crate) fn forget(&self) {
        self.lock().runs.clear();
    }

    /// The same of one stream.
    #[cfg(feature = "kafka")]
    pub(crate) fn forget_stream(&self, stream: &Stream) {
        self.lock().runs.remove(stream);
    }

    /// Takes what was just committed, each stream in its order.
    pub(crate) fn push(&self, records: &[Arc<Record>]) {
        let inner = &mut *self.lock();
        for record in records.iter().filter(|record| inner.topics.contains(&record.stream.topic)) {
            match inner.runs.get_mut(&record.stream) {
                Some(run) => run.push(record),
                None => inner.runs.entry(record.stream.clone()).or_default().push(record),
            }
        }
    }

    /// Appends what follows the position, at most `limit` records; the first of them names the position's record as its predecessor.
    pub(crate) fn after(&self, stream: &Stream, position: &Position, limit: usize, to: &mut Vec<Arc<Record>>) -> Behind {
        let inner = self.lock();
        let Some(run) = inner.runs.get(stream) else { return Behind::Unheard };
        let (Some(first), Some(last)) = (run.records.front().and_then(seq), run.records.back().and_then(seq)) else {
            return Behind::Unheard;
        };
        if position.seq == last {
            let same = run.records.back().map(|record| record.id) == position.last_id;
            return if same { Behind::Nothing } else { Behind::Unknown };
        }
        if position.seq > last || position.seq + 1 < first {
            return Behind::Unknown;
        }
        let skipped = usize::try_from(position.seq + 1 - first).unwrap_or(usize::MAX);
        let prev = run.records.get(skipped).and_then(|next| next.place).and_then(|place| place.prev);
        if prev != position.last_id {
            return Behind::Unknown;
        }
        let before = to.len();
        to.extend(run.records.iter().skip(skipped).take(limit).cloned());
        Behind::Given(to.len() - before)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    fn push(&mut self, record: &Arc<Record>) {
        let follows = match (self.records.back(), record.place) {
            (None, _) => true,
            (Some(last), Some(place)) => seq(last) == Some(place.seq - 1) && place.prev == Some(last.id),
            (Some(_), None) => false,
        };
        if !follows {
            // Another process wrote in between, or the database is not the one it was.
            self.records.clear();
            self.bytes = 0;
        }
        self.bytes += record.payload.len();
        self.records.push_back(record.clone());
        while self.records.len() > STREAM_ROWS_MAX || self.bytes > STREAM_BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { return };
            self.bytes -= oldest.payload.len();
        }
    }
}

fn seq(record: &Arc<Record>) -> Option<i64> {
    record.place.map(|place| place.seq)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::{Place, Trace};

    fn record(seq: i64, id: u128, prev: Option<u128>) -> Arc<Record> {
        Arc::new(Record {
            stream: stream(),
            place: Some(Place { seq, prev: prev.map(Uuid::from_u128) }),
            kafka_offset: None,
            id: Uuid::from_u128(id),
            key: "k".into(),
            type_name: "x".into(),
            payload: Bytes::from_static(b"four"),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: "k".into(),
            causation: None,
            trace: Trace::default(),
        })
    }

    fn stream() -> Stream {
        Stream { topic: "t".into(), partition: 0 }
    }

    fn at(seq: i64, id: u128) -> Position {
        Position { seq, last_id: (seq > 0).then(|| Uuid::from_u128(id)), kafka_offset: None }
    }

    fn tail(records: &[Arc<Record>]) -> Tail {
        let tail = Tail::default();
        tail.keep(&["t".to_owned()]);
        tail.push(records);
        tail
    }

    fn after(tail: &Tail, position: &Position) -> (Behind, Vec<i64>) {
        let mut to = Vec::new();
        let behind = tail.after(&stream(), position, 10, &mut to);
        (behind, to.iter().filter_map(seq).collect())
    }

    #[test]
    fn gives_what_follows() {
        let tail = tail(&[record(3, 3, Some(2)), record(4, 4, Some(3)), record(5, 5, Some(4))]);
        assert_eq!(after(&tail, &at(2, 2)), (Behind::Given(3), vec![3, 4, 5]));
        assert_eq!(after(&tail, &at(4, 4)), (Behind::Given(1), vec![5]));
        assert_eq!(after(&tail, &at(5, 5)), (Behind::Nothing, vec![]));
    }

    #[test]
    fn does_not_guess() {
        let tail = tail(&[record(3, 3, Some(2))]);
        assert_eq!(after(&tail, &at(1, 1)).0, Behind::Unknown, "too old");
        assert_eq!(after(&tail, &at(7, 7)).0, Behind::Unknown, "the database is older than the reader");
        assert_eq!(after(&tail, &at(3, 9)).0, Behind::Unknown, "another history");
        assert_eq!(after(&tail, &at(2, 9)).0, Behind::Unknown, "the next record has another predecessor");
        let unknown = Position { seq: 2, last_id: None, kafka_offset: None };
        assert_eq!(after(&tail, &unknown).0, Behind::Unknown, "whose successor it is cannot be told");
        let other = Stream { partition: 1, ..stream() };
        assert_eq!(tail.after(&other, &at(0, 0), 10, &mut Vec::new()), Behind::Unheard);
    }

    #[test]
    fn starts_again_behind_a_hole() {
        let tail = tail(&[record(3, 3, Some(2)), record(5, 5, Some(4)), record(6, 6, Some(5))]);
        assert_eq!(after(&tail, &at(2, 2)).0, Behind::Unknown);
        assert_eq!(after(&tail, &at(4, 4)), (Behind::Given(2), vec![5, 6]));
        tail.push(&[record(7, 7, Some(60))]);
        assert_eq!(after(&tail, &at(5, 5)).0, Behind::Unknown, "the same number, another predecessor");
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn what_is_forgotten_is_not_given_and_what_comes_then_is() {
        let tail = tail(&[record(1, 1, None), record(2, 2, Some(1))]);
        tail.forget();
        assert_eq!(after(&tail, &at(1, 1)).0, Behind::Unheard);
        tail.push(&[record(3, 3, Some(2))]);
        assert_eq!(after(&tail, &at(1, 1)).0, Behind::Unknown);
        assert_eq!(after(&tail, &at(2, 2)), (Behind::Given(1), vec![3]));
        tail.forget_stream(&stream());
        assert_eq!(after(&tail, &at(2, 2)).0, Behind::Unheard);
    }

    #[test]
    fn keeps_only_so_much_and_only_what_is_read() {
        let many: Vec<_> = (1..=3_000).map(|n| record(n, n as u128, (n > 1).then_some(n as u128 - 1))).collect();
        let tail = tail(&many);
        assert_eq!(after(&tail, &at(0, 0)).0, Behind::Unknown);
        assert_eq!(after(&tail, &at(952, 952)).0, Behind::Given(10));
        let unread = Tail::default();
        unread.push(&many);
        assert_eq!(after(&unread, &at(2_999, 2_999)).0, Behind::Unheard);
    }
}
