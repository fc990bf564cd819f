//! A run of the relay: the rows behind the cursors, handed over to the client in one go, each stream in its order.
//!
//! What this process has said itself comes from memory, where memory has the very successor of what was sent last. Everything else is read
//! from the outbox: what was there at the start or before a failure, what other processes say, and what memory has let go of.

use std::sync::Arc;

use sqlx::PgConnection;

use super::{
    is_shared,
    lanes::{Due, Step},
    producer::Producer,
    store::{self, Line},
};
use crate::{
    Error, Record, Stream,
    bus::tail::{Behind, Tail},
};

/// Rows in one run, at most: fewer than the client queues.
const RUN_ROWS_MAX: i64 = 20_000;
const STREAM_ROWS_MAX: i64 = 512;
/// Payloads and keys in one run, about: well below what the client queues.
const RUN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What was handed over.
#[derive(Default)]
pub(super) struct Run {
    pub(super) steps: Vec<Step>,
    bytes: usize,
    /// How many of the rows were in memory.
    pub(super) remembered: u64,
    /// Streams of which the outbox has no more than that.
    pub(super) seen: Vec<Stream>,
    /// How many streams had their turn when there was no room for the others.
    pub(super) turn: usize,
}

impl Run {
    /// Hands over what is due, and gives back what that was.
    pub(super) async fn hand_over(
        producer: &Producer,
        source: &str,
        memory: &Tail,
        db: &mut PgConnection,
        due: &[Due],
    ) -> Result<Self, Error> {
        let mut run = Self::default();
        if due.is_empty() {
            return Ok(run);
        }
        let streams = i64::try_from(due.len()).unwrap_or(i64::MAX);
        let limit = (RUN_ROWS_MAX / streams).clamp(1, STREAM_ROWS_MAX);
        let (records, asked) = remember(memory, due, usize::try_from(limit).unwrap_or(usize::MAX));
        // First, because it is little and grows no faster than it is committed: the outbox does not wait for it for long.
        for line in records.iter().filter_map(|record| Line::of(record)) {
            if !run.take(producer, source, due, &line)? {
                run.turn = run.steps.len();
                return Ok(run);
            }
            run.remembered += 1;
        }
        if asked.is_empty() {
            return Ok(run);
        }
        let (remembered, mut full) = (run.steps.len(), false);
        store::each(db, &asked, limit, |line| {
            full = !run.take(producer, source, due, line)?;
            Ok(!full)
        })
        .await?;
        let read = &run.steps[remembered..];
        if full {
            run.turn = read.len();
        } else {
            let has_more = |stream: &Stream| read.iter().any(|step| step.stream == *stream && step.after - step.before >= limit);
            run.seen = asked.iter().map(|due| &due.stream).filter(|&stream| !has_more(stream)).cloned().collect();
        }
        Ok(run)
    }

    /// `false`: no room for it. Rows come a stream at a time.
    fn take(&mut self, producer: &Producer, source: &str, due: &[Due], line: &Line<'_>) -> Result<bool, Error> {
        if self.bytes >= RUN_BYTES_MAX || !producer.send(line, source)? {
            return Ok(false);
        }
        self.bytes += line.payload.len() + line.key.len();
        let is_its = |stream: &Stream| stream.partition == line.partition && stream.topic == line.topic;
        if let Some(step) = self.steps.last_mut().filter(|step| is_its(&step.stream)) {
            say_if_missing(step.after, line);
            (step.after, step.last_id) = (line.seq, line.id);
        } else if let Some(Due { stream, at, .. }) = due.iter().find(|due| is_its(&due.stream)) {
            say_if_missing(at.seq, line);
            self.steps.push(Step { stream: stream.clone(), before: at.seq, after: line.seq, last_id: line.id });
        }
        Ok(true)
    }
}

/// What memory has of these streams, at most `limit` of each, and those of which the outbox has to be asked.
fn remember<'d>(memory: &Tail, due: &'d [Due], limit: usize) -> (Vec<Arc<Record>>, Vec<&'d Due>) {
    let (mut records, mut asked) = (Vec::new(), Vec::new());
    for one in due {
        let before = records.len();
        match memory.after(&one.stream, &one.at, limit, &mut records) {
            // The row of a dead letter's copy has more than a record does.
            Behind::Given(_) if is_shared(&one.stream.topic) => {
                records.truncate(before);
                asked.push(one);
            }
            Behind::Given(_) => {}
            Behind::Nothing | Behind::Unheard if !one.unseen => {}
            Behind::Nothing | Behind::Unheard | Behind::Unknown => asked.push(one),
        }
    }
    (records, asked)
}

/// Rows that retention has dropped every reader has passed. Others are for the readers to judge; they do not pass over a hole.
fn say_if_missing(before: i64, line: &Line<'_>) {
    if line.seq != before + 1 {
        let Line { topic, partition, seq, .. } = line;
        tracing::warn!(r#type = "LOG_GAP", topic, partition, after = before, next = seq, "rows are missing in the outbox");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::{Place, Position, Trace};

    fn stream(topic: &str) -> Stream {
        Stream { topic: topic.to_owned(), partition: 0 }
    }

    /// The record with this number; its id is the number too.
    fn record(topic: &str, seq: i64) -> Arc<Record> {
        Arc::new(Record {
            stream: stream(topic),
            place: Some(Place { seq, prev: id(seq - 1) }),
            kafka_offset: None,
            id: id(seq).unwrap(),
            key: "k".to_owned(),
            type_name: "x".to_owned(),
            payload: Bytes::new(),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: "k".to_owned(),
            causation: None,
            trace: Trace::default(),
        })
    }

    fn id(seq: i64) -> Option<Uuid> {
        (seq > 0).then(|| Uuid::from_u128(seq.unsigned_abs().into()))
    }

    fn memory(records: &[Arc<Record>]) -> Tail {
        let memory = Tail::default();
        memory.keep(&["t", "t.dlq"]);
        memory.push(records);
        memory
    }

    fn due(topic: &str, seq: i64, last_id: Option<Uuid>, unseen: bool) -> Due {
        Due { stream: stream(topic), at: Position { seq, last_id, kafka_offset: None }, unseen }
    }

    /// The numbers that memory has, and whether the outbox is asked.
    fn remembered(memory: &Tail, due: Due) -> (Vec<i64>, bool) {
        let due = [due];
        let (records, asked) = remember(memory, &due, 10);
        (records.iter().filter_map(|record| Some(record.place?.seq)).collect(), !asked.is_empty())
    }

    #[test]
    fn what_this_process_has_said_comes_from_memory() {
        let memory = memory(&[record("t", 1), record("t", 2), record("t", 3)]);
        assert_eq!(remembered(&memory, due("t", 0, None, true)), (vec![1, 2, 3], false));
        assert_eq!(remembered(&memory, due("t", 2, id(2), true)), (vec![3], false));
        assert_eq!(remembered(&memory, due("t", 3, id(3), false)), (vec![], false));
        assert_eq!(remembered(&memory, due("t", 3, id(3), true)), (vec![], true), "there may be more than memory knows of");
    }

    #[test]
    fn the_outbox_is_asked_where_memory_does_not_go_on() {
        let memory = memory(&[record("t", 3), record("t", 4)]);
        assert_eq!(remembered(&memory, due("t", 1, id(1), false)), (vec![], true), "another process has said something between");
        assert_eq!(remembered(&memory, due("t", 2, None, false)), (vec![], true), "it is not known what was sent last");
        assert_eq!(remembered(&memory, due("t", 2, id(9), false)), (vec![], true), "something else was sent last");
        assert_eq!(remembered(&memory, due("t", 5, id(5), false)), (vec![], true), "another process has said more");
        let unsaid = stream("t.dlq");
        assert_eq!(remembered(&memory, Due { stream: unsaid, ..due("t", 7, id(7), false) }), (vec![], false), "nothing was said");
    }

    #[test]
    fn a_copy_of_a_dead_letter_is_read_with_all_its_row_has() {
        let memory = memory(&[record("t.dlq", 1)]);
        assert_eq!(remembered(&memory, due("t.dlq", 0, None, false)), (vec![], true));
        assert_eq!(remembered(&memory, due("t.dlq", 1, id(1), false)), (vec![], false));
    }

    #[test]
    fn a_record_and_its_row_are_the_same_line() {
        let record = record("t", 2);
        let line = Line::of(&record).unwrap();
        assert_eq!((line.topic, line.partition, line.seq, line.prev), ("t", 0, 2, id(1)));
        assert_eq!((Some(line.id), line.key, line.type_name, line.payload), (id(2), "k", "x", &b""[..]));
        assert!(Line::of(&Record { place: None, ..(*record).clone() }).is_none(), "of no stream");
    }
}
