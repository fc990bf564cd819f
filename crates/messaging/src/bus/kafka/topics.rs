//! The reader's side: we assign partitions and seek to stored offsets ourselves, so there are no rebalances to survive.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{Cluster, broker, headers};
use crate::{Error, Position, Record, Stream, bus::Fetched};

const POLL_MS: u64 = 100;
/// Records in one look, at most.
const FETCH_ROWS_MAX: usize = 2_048;
/// How often offsets are committed, for people's lag tools only.
const COMMIT_EVERY_MS: u128 = 1_000;

pub(crate) struct Topics {
    cluster: Arc<Cluster>,
    group: String,
    consumer: Option<BaseConsumer>,
    /// Where each assigned stream is read on.
    assigned: BTreeMap<Stream, Offset>,
    committed_at: Instant,
}

impl Topics {
    pub(crate) fn new(cluster: Arc<Cluster>, group: &str) -> Self {
        Self { cluster, group: group.to_owned(), consumer: None, assigned: BTreeMap::new(), committed_at: Instant::now() }
    }

    /// These streams are read again from the position given next.
    pub(crate) fn forget(&mut self, streams: &HashSet<Stream>) {
        self.assigned.retain(|stream, _| !streams.contains(stream));
    }

    pub(crate) async fn fetch(&mut self, at: &[(Stream, Position)]) -> Result<Vec<Fetched>, Error> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => {
                self.assigned.clear();
                self.cluster.consumer(&self.group).create().map_err(broker)?
            }
        };
        if at.len() != self.assigned.len() || at.iter().any(|(stream, _)| !self.assigned.contains_key(stream)) {
            self.assign(&consumer, at)?;
        }
        if self.committed_at.elapsed().as_millis() > COMMIT_EVERY_MS {
            self.committed_at = Instant::now();
            commit(&consumer, at);
        }
        // A consumer that fails is dropped and made anew.
        let (consumer, polled) = tokio::task::spawn_blocking(move || {
            let polled = poll(&consumer);
            (consumer, polled)
        })
        .await
        .map_err(|error| Error::Broker(error.to_string()))?;
        let records = polled.map_err(broker)?;
        self.consumer = Some(consumer);
        for record in &records {
            if let (Some(next), Some(offset)) = (self.assigned.get_mut(&record.stream), record.kafka_offset) {
                *next = Offset::Offset(offset + 1);
            }
        }
        Ok(records.into_iter().map(|record| Fetched::Record(Arc::new(record))).collect())
    }

    /// Reads exactly these streams: the new ones from their stored offset, the others on from where they are.
    fn assign(&mut self, consumer: &BaseConsumer, at: &[(Stream, Position)]) -> Result<(), Error> {
        let mut assigned = BTreeMap::new();
        let mut list = TopicPartitionList::with_capacity(at.len());
        for (stream, position) in at {
            let stored = position.kafka_offset.map_or(Offset::Beginning, Offset::Offset);
            let offset = self.assigned.get(stream).copied().unwrap_or(stored);
            list.add_partition_offset(&stream.topic, stream.partition, offset).map_err(broker)?;
            assigned.insert(stream.clone(), offset);
        }
        consumer.assign(&list).map_err(broker)?;
        self.assigned = assigned;
        Ok(())
    }
}

/// All there is, waiting a moment for the first.
fn poll(consumer: &BaseConsumer) -> Result<Vec<Record>, KafkaError> {
    let mut records = Vec::new();
    let mut patience = Duration::from_millis(POLL_MS);
    while records.len() < FETCH_ROWS_MAX
        && let Some(polled) = consumer.poll(patience)
    {
        match polled {
            Ok(message) => records.push(headers::read(&message)),
            // Not there yet: the service that writes the topic makes it.
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition)) => break,
            Err(error) => return Err(error),
        }
        patience = Duration::ZERO;
    }
    Ok(records)
}

fn commit(consumer: &BaseConsumer, at: &[(Stream, Position)]) {
    let mut list = TopicPartitionList::with_capacity(at.len());
    for (stream, position) in at {
        if let Some(offset) = position.kafka_offset
            && let Err(error) = list.add_partition_offset(&stream.topic, stream.partition, Offset::Offset(offset))
        {
            tracing::debug!(%error, "an offset is not committed");
        }
    }
    if list.count() > 0
        && let Err(error) = consumer.commit(&list, CommitMode::Async)
    {
        tracing::debug!(%error, "offsets are not committed");
    }
}
