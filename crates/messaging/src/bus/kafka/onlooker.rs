//! A plain consumer for people: it joins no group, commits nothing and is in nobody's way.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use super::{
    Cluster, broker,
    client::{Context, blocking},
    headers,
};
use crate::{Error, Place, Record, Stream};

const ASK_MS_MAX: u64 = 15_000;
/// How long a look waits for the first record.
const POLL_MS: u64 = 250;
/// Records in one look, at most.
const FETCH_ROWS_MAX: usize = 500;

/// Where an onlooker begins, in each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// At the oldest record that is kept.
    Start,
    /// At what comes next.
    End,
    /// At so many records before the end.
    Last(i64),
}

/// Reads some topics from where it was told on.
pub struct Onlooker {
    /// None while a look runs, and after one that failed.
    consumer: Option<BaseConsumer<Context>>,
    /// Where each partition is read on.
    next: BTreeMap<Stream, i64>,
    /// Where each partition ended at the beginning.
    ends: BTreeMap<Stream, i64>,
}

impl Cluster {
    /// Looks on at these topics; those that are not there are left out.
    pub async fn look_on(&self, topics: &[String], since: Since) -> Result<Onlooker, Error> {
        let consumer = self.onlooker()?;
        let topics = topics.to_vec();
        blocking(move || Onlooker::open(consumer, &topics, since)).await
    }

    /// Where each partition of a topic ends: the offset of the next record. Empty if there is no such topic.
    pub async fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
        let consumer = self.onlooker()?;
        let topic = topic.to_owned();
        blocking(move || {
            let mut ends = BTreeMap::new();
            for partition in partitions(&consumer, &topic)? {
                ends.insert(partition, watermarks(&consumer, &topic, partition)?.1);
            }
            Ok(ends)
        })
        .await
    }

    /// The offset of the first record from this one on that has this place in the stream. None if it does not come in time.
    pub(crate) async fn find(&self, stream: &Stream, from: i64, place: Place, patience: Duration) -> Result<Option<i64>, Error> {
        let consumer = self.onlooker()?;
        let stream = stream.clone();
        let deadline = Instant::now() + patience;
        blocking(move || {
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition_offset(&stream.topic, stream.partition, Offset::Offset(from))?;
            consumer.assign(&list)?;
            while Instant::now() < deadline {
                // The topic may be made just now: what of errors does not pass, the deadline ends.
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(POLL_MS)) {
                    let record = headers::read(&message);
                    if record.place == Some(place) {
                        return Ok(record.kafka_offset);
                    }
                }
            }
            Ok(None)
        })
        .await
    }

    /// How many partitions these topics have; 0 where there is no such topic.
    pub async fn partition_counts(&self, topics: &[&str]) -> Result<BTreeMap<String, usize>, Error> {
        let consumer = self.onlooker()?;
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        blocking(move || {
            let mut counts = BTreeMap::new();
            for topic in topics {
                let count = partitions(&consumer, &topic)?.len();
                counts.insert(topic, count);
            }
            Ok(counts)
        })
        .await
    }

    fn onlooker(&self) -> Result<BaseConsumer<Context>, Error> {
        let mut config = self.tail_reader();
        // librdkafka wants a name to assign partitions; nothing is committed under it.
        config.set("group.id", "settle.onlooker");
        config.create_with_context(Context).map_err(broker)
    }
}

impl Onlooker {
    fn open(consumer: BaseConsumer<Context>, topics: &[String], since: Since) -> KafkaResult<Self> {
        let mut list = TopicPartitionList::new();
        let (mut next, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for topic in topics {
            for partition in partitions(&consumer, topic)? {
                let (low, high) = watermarks(&consumer, topic, partition)?;
                let from = match since {
                    Since::Start => low,
                    Since::End => high,
                    Since::Last(records) => high.saturating_sub(records).max(low),
                };
                list.add_partition_offset(topic, partition, Offset::Offset(from))?;
                let stream = Stream { topic: topic.clone(), partition };
                next.insert(stream.clone(), from);
                ends.insert(stream, high);
            }
        }
        consumer.assign(&list)?;
        Ok(Self { consumer: Some(consumer), next, ends })
    }

    /// What is there, in the order of each partition; waits a moment for the first.
    pub async fn fetch(&mut self) -> Result<Vec<Record>, Error> {
        let consumer = self.consumer.take().ok_or_else(|| Error::Broker("a look before this one failed".to_owned()))?;
        let (consumer, records) = blocking(move || {
            let records = poll(&consumer)?;
            Ok((consumer, records))
        })
        .await?;
        self.consumer = Some(consumer);
        for record in &records {
            if let Some(offset) = record.kafka_offset {
                self.next.insert(record.stream.clone(), offset + 1);
            }
        }
        Ok(records)
    }

    /// Whether it has come to where the topics ended at its beginning.
    #[must_use]
    pub fn is_through(&self) -> bool {
        self.ends.iter().all(|(stream, end)| self.next.get(stream).is_some_and(|next| next >= end))
    }
}

fn poll(consumer: &BaseConsumer<Context>) -> KafkaResult<Vec<Record>> {
    let mut records = Vec::new();
    let mut patience = Duration::from_millis(POLL_MS);
    while records.len() < FETCH_ROWS_MAX
        && let Some(polled) = consumer.poll(patience)
    {
        match polled {
            Ok(message) => {
                records.push(headers::read(&message));
                patience = Duration::ZERO;
            }
            // Nothing more of one partition, for now.
            Err(KafkaError::PartitionEOF(_)) => {}
            // Deleted while it was looked at.
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

fn partitions(consumer: &BaseConsumer<Context>, topic: &str) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_millis(ASK_MS_MAX))?;
    // Where there is an error there is no list of partitions either.
    let known = metadata.topics().iter().filter(|known| known.name() == topic && known.error().is_none());
    Ok(known.flat_map(|known| known.partitions()).map(|partition| partition.id()).collect())
}

fn watermarks(consumer: &BaseConsumer<Context>, topic: &str, partition: i32) -> KafkaResult<(i64, i64)> {
    consumer.fetch_watermarks(topic, partition, Duration::from_millis(ASK_MS_MAX))
}
