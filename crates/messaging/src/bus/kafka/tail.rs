//! The end of a log, compared with the outbox before anything is sent: a database restored to an older copy, another database's topics or
//! a wiped topic are noticed here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use uuid::Uuid;

use super::{
    Cluster,
    client::{Context, blocking},
    headers,
};
use crate::{Error, Stream};

/// How far back from the end the last record of a stream is looked for: foreign records may lie behind it.
const LOOK_BACK: [i64; 2] = [64, LOOK_BACK_MAX];
const LOOK_BACK_MAX: i64 = 10_000;
/// How long the broker may say nothing at all.
const SILENCE_MS_MAX: u64 = 10_000;
/// For all partitions of a topic together.
const TOPIC_MS_MAX: u64 = 30_000;
const POLL_MS: u64 = 100;

/// The last record of a topic partition that has a place in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) seq: i64,
    pub(super) id: Uuid,
}

/// What the publisher's database knows of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// The oldest row that the outbox still has.
    pub(super) oldest_seq: Option<i64>,
    /// The id of the outbox's row at the tail.
    pub(super) id_at_tail: Option<Uuid>,
    /// Where the slowest reader stands.
    pub(super) slowest_seq: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The log goes on where the outbox does.
    Whole,
    /// The log has lost records that were sent, and that a reader may still want; 0: all of them.
    Short { log_seq: i64 },
    /// The log is another stream's, or this database is an older copy.
    Diverged(&'static str),
    /// How the log ends was not found.
    Unknown,
}

/// `cursor` is the last sequence number that was sent. Pure.
pub(super) fn judge(tail: Option<Tail>, kept: &Kept, cursor: i64) -> Found {
    let log_seq = tail.map_or(0, |tail| tail.seq);
    if let Some(tail) = tail {
        match (kept.id_at_tail, kept.oldest_seq) {
            (Some(id), _) if id != tail.id => return Found::Diverged("the last record of the topic is another one in the outbox"),
            (None, None) => return Found::Diverged("the topic has records of this stream and the outbox has none"),
            (None, Some(oldest)) if tail.seq >= oldest => {
                return Found::Diverged("the last record of the topic is not in the outbox");
            }
            // The same row, or one that is not kept any more.
            (Some(_), _) | (None, Some(_)) => {}
        }
    }
    let wanted = kept.slowest_seq.is_none_or(|slowest| slowest < cursor);
    if log_seq < cursor && wanted { Found::Short { log_seq } } else { Found::Whole }
}

/// The ends of logs.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// The last record of each partition that has one.
    pub(super) tails: HashMap<Stream, Tail>,
    /// Partitions of which it was not found: there are too many foreign records behind it.
    pub(super) unknown: HashSet<Stream>,
}

/// The ends of these partitions.
pub(super) async fn read(cluster: Arc<Cluster>, partitions: BTreeMap<String, Vec<i32>>) -> Result<Ends, Error> {
    blocking(move || {
        let consumer: BaseConsumer<Context> = cluster.tail_reader().create_with_context(Context)?;
        let mut ends = Ends::default();
        for (topic, partitions) in partitions {
            read_topic(&consumer, &topic, &partitions, &mut ends)?;
        }
        Ok(ends)
    })
    .await
}

/// A topic at a time: the end of a partition is told without its topic.
fn read_topic(consumer: &BaseConsumer<Context>, topic: &str, partitions: &[i32], ends: &mut Ends) -> KafkaResult<()> {
    let stream = |partition: i32| Stream { topic: topic.to_owned(), partition };
    let deadline = Instant::now() + Duration::from_millis(TOPIC_MS_MAX);
    for rows in LOOK_BACK {
        // With how many records of each were read.
        let mut open: BTreeMap<i32, i64> = partitions
            .iter()
            .filter(|partition| !ends.tails.contains_key(&stream(**partition)))
            .map(|partition| (*partition, 0))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(open.len());
        for partition in open.keys() {
            list.add_partition_offset(topic, *partition, Offset::OffsetTail(rows))?;
        }
        consumer.assign(&list)?;
        let mut heard_at = Instant::now();
        while !open.is_empty() && Instant::now() < deadline {
            if heard_at.elapsed() >= Duration::from_millis(SILENCE_MS_MAX) {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
            match consumer.poll(Duration::from_millis(POLL_MS)) {
                Some(Ok(message)) => {
                    heard_at = Instant::now();
                    let partition = message.partition();
                    if let Some((seq, id)) = headers::place(&message) {
                        ends.tails.insert(stream(partition), Tail { seq, id });
                    }
                    if let Some(read) = open.get_mut(&partition) {
                        *read += 1;
                    }
                    // Where others write faster than this reads there would be no end.
                    open.retain(|_, read| *read < 2 * rows);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard_at = Instant::now();
                    open.remove(&partition);
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(KafkaError::MessageConsumptionFatal(code)),
                // It passes, or the broker is given up.
                Some(Err(_)) | None => {}
            }
        }
        for partition in open.into_keys() {
            ends.tails.remove(&stream(partition));
            ends.unknown.insert(stream(partition));
        }
    }
    for stream in partitions.iter().map(|partition| stream(*partition)).filter(|stream| !ends.tails.contains_key(stream)) {
        let (low, high) = consumer.fetch_watermarks(topic, stream.partition, Duration::from_millis(SILENCE_MS_MAX))?;
        if high - low > LOOK_BACK_MAX {
            ends.unknown.insert(stream);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(seq: i64, id: u128) -> Option<Tail> {
        Some(Tail { seq, id: Uuid::from_u128(id) })
    }

    fn kept(oldest: i64, at_tail: Option<u128>, slowest: i64) -> Kept {
        Kept { oldest_seq: Some(oldest), id_at_tail: at_tail.map(Uuid::from_u128), slowest_seq: Some(slowest) }
    }

    #[test]
    fn a_log_that_goes_on_where_the_outbox_does_is_whole() {
        assert_eq!(judge(None, &Kept::default(), 0), Found::Whole, "nothing was ever sent");
        assert_eq!(judge(tail(7, 7), &kept(1, Some(7), 3), 7), Found::Whole);
        assert_eq!(judge(tail(9, 9), &kept(1, Some(9), 3), 7), Found::Whole, "sent, and not saved before a crash");
        assert_eq!(judge(tail(7, 7), &kept(8, None, 7), 7), Found::Whole, "the row is not kept any more");
    }

    #[test]
    fn another_history_is_noticed() {
        let diverged = |found| matches!(found, Found::Diverged(_));
        assert!(diverged(judge(tail(7, 7), &kept(1, Some(8), 7), 7)), "another row");
        assert!(diverged(judge(tail(9, 9), &kept(1, None, 9), 6)), "an older copy of the database");
        assert!(diverged(judge(tail(1, 1), &Kept::default(), 0)), "topics of somebody else");
    }

    #[test]
    fn a_log_that_lost_what_was_sent_is_noticed() {
        assert_eq!(judge(None, &kept(1, None, 3), 7), Found::Short { log_seq: 0 });
        assert_eq!(judge(tail(5, 5), &kept(1, Some(5), 3), 7), Found::Short { log_seq: 5 });
        assert_eq!(judge(None, &Kept { slowest_seq: None, ..kept(1, None, 0) }, 7), Found::Short { log_seq: 0 });
        assert_eq!(judge(tail(5, 5), &kept(1, Some(5), 7), 7), Found::Whole, "every reader has passed it, on the other bus");
    }
}
