//! Where a reader stands in a stream, and what the next record is to it. Pure.

use crate::{Position, Record};

/// The last position handed to the runner; ahead of the stored one by what is still in its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) Position);

/// What a record is to a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The next one: applying it moves the stream from here to there.
    Next { before: Position, after: Position },
    /// Applied before.
    Repeat,
    /// Something is missing in between.
    Gap { expected_seq: i64 },
    /// The log is not the one that was read before: a restored backup, a wiped topic, another cluster.
    Diverged,
}

impl Cursor {
    /// A record of a foreign producer has no place in the stream: it only moves the offset, and dedupe is by its id.
    pub(crate) fn judge(&mut self, record: &Record) -> Judgement {
        let before = self.0;
        let kafka_offset = record.kafka_offset.map(|offset| offset + 1).or(before.kafka_offset);
        let Some(place) = record.place else {
            self.0.kafka_offset = kafka_offset;
            return Judgement::Next { before, after: self.0 };
        };
        if place.seq < before.seq {
            return Judgement::Repeat;
        }
        if place.seq == before.seq {
            return if before.last_id == Some(record.id) { Judgement::Repeat } else { Judgement::Diverged };
        }
        if place.seq > before.seq + 1 {
            return Judgement::Gap { expected_seq: before.seq + 1 };
        }
        if place.prev != before.last_id {
            return Judgement::Diverged;
        }
        self.0 = Position { seq: place.seq, last_id: Some(record.id), kafka_offset };
        Judgement::Next { before, after: self.0 }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::{Place, Stream, Trace};

    fn record(seq: i64, id: u128, prev: Option<u128>) -> Record {
        Record {
            stream: Stream { topic: "t".into(), partition: 0 },
            place: Some(Place { seq, prev: prev.map(Uuid::from_u128) }),
            kafka_offset: None,
            id: Uuid::from_u128(id),
            key: "k".into(),
            type_name: "x".into(),
            payload: Bytes::new(),
            at: time::OffsetDateTime::UNIX_EPOCH,
            correlation: "k".into(),
            causation: None,
            trace: Trace::default(),
        }
    }

    fn at(seq: i64, id: u128) -> Cursor {
        Cursor(Position { seq, last_id: (seq > 0).then(|| Uuid::from_u128(id)), kafka_offset: None })
    }

    #[test]
    fn accepts_only_the_successor() {
        let mut cursor = at(0, 0);
        assert!(matches!(cursor.judge(&record(1, 1, None)), Judgement::Next { .. }));
        assert!(matches!(cursor.judge(&record(2, 2, Some(1))), Judgement::Next { .. }));
        assert_eq!(cursor, at(2, 2));
    }

    #[test]
    fn tells_repeats_gaps_and_another_log_apart() {
        assert_eq!(at(2, 2).judge(&record(1, 1, None)), Judgement::Repeat);
        assert_eq!(at(2, 2).judge(&record(2, 2, Some(1))), Judgement::Repeat);
        assert_eq!(at(2, 2).judge(&record(2, 9, Some(1))), Judgement::Diverged);
        assert_eq!(at(2, 2).judge(&record(3, 3, Some(9))), Judgement::Diverged);
        assert_eq!(at(2, 2).judge(&record(4, 4, Some(3))), Judgement::Gap { expected_seq: 3 });
    }

    #[test]
    fn a_foreign_record_moves_only_the_offset() {
        let foreign = Record { place: None, kafka_offset: Some(7), ..record(0, 5, None) };
        let mut cursor = at(2, 2);
        let Judgement::Next { before, after } = cursor.judge(&foreign) else { panic!("not accepted") };
        assert_eq!((before.seq, after.seq, after.kafka_offset), (2, 2, Some(8)));
    }
}
