//! The end of a log, compared with the outbox before anything is sent: a database restored to an older copy, another database's topics or
//! a wiped topic are noticed here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
const LOOK_BACK: [Offset; 3] = [Offset::OffsetTail(64), Offset::OffsetTail(10_000), Offset::Beginning];
const READ_MS_MAX: u64 = 10_000;
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

/// The last record of each of these partitions that has one.
pub(super) async fn read(cluster: Arc<Cluster>, partitions: BTreeMap<String, Vec<i32>>) -> Result<HashMap<Stream, Tail>, Error> {
    blocking(move || {
        let consumer: BaseConsumer<Context> = cluster.tail_reader().create_with_context(Context)?;
        let deadline = Instant::now() + Duration::from_millis(READ_MS_MAX);
        let mut tails = HashMap::new();
        for (topic, partitions) in partitions {
            for (partition, tail) in read_topic(&consumer, &topic, &partitions, deadline)? {
                tails.insert(Stream { topic: topic.clone(), partition }, tail);
            }
        }
        Ok(tails)
    })
    .await
}

/// A topic at a time: the end of a partition is told without its topic.
fn read_topic(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
    deadline: Instant,
) -> KafkaResult<HashMap<i32, Tail>> {
    let mut tails = HashMap::new();
    for from in LOOK_BACK {
        let mut open: BTreeSet<i32> = partitions.iter().copied().filter(|partition| !tails.contains_key(partition)).collect();
        if open.is_empty() {
            break;
        }
        let mut list = TopicPartitionList::with_capacity(open.len());
        for partition in &open {
            list.add_partition_offset(topic, *partition, from)?;
        }
        consumer.assign(&list)?;
        while !open.is_empty() {
            if Instant::now() >= deadline {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
            match consumer.poll(Duration::from_millis(POLL_MS)) {
                Some(Ok(message)) => {
                    if let Some((seq, id)) = headers::place(&message) {
                        tails.insert(message.partition(), Tail { seq, id });
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(KafkaError::MessageConsumptionFatal(code)),
                // It passes, or the deadline does.
                Some(Err(_)) | None => {}
            }
        }
    }
    Ok(tails)
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
