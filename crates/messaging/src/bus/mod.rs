//! What carries the streams from the outbox of one service to the readers of another.
//!
//! On Postgres the outbox itself is the log: readers select the publisher's rows. On Kafka a relay copies the streams to topics. Both give
//! the same streams, and one conformance suite tells.

#[cfg(feature = "kafka")]
pub mod kafka;
mod postgres;
mod shuffle;
mod tail;
mod wake;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlx::PgPool;

use crate::{Error, Position, Record, Stream, Tasks, outbox};

/// What a source brings.
#[derive(Debug)]
pub(crate) enum Fetched {
    Record(Arc<Record>),
    /// The record that was read last is not in the log any more.
    Diverged(Stream),
}

/// One place to read from. `fetch` gives what is there after these positions, in order a stream, and waits a while when there is nothing.
pub(crate) enum Source {
    Postgres(postgres::Outboxes),
    Shuffle(Box<shuffle::Shuffled>),
    #[cfg(feature = "kafka")]
    Kafka(kafka::Topics),
}

impl Source {
    /// Other streams, or other positions of these streams, are asked for next.
    pub(crate) fn reopened(&mut self, streams: &HashSet<Stream>) {
        match (self, streams) {
            (Self::Postgres(outboxes), _) => outboxes.reopened(),
            (Self::Shuffle(shuffled), _) => shuffled.reopened(),
            #[cfg(feature = "kafka")]
            (Self::Kafka(topics), streams) => topics.forget(streams),
        }
    }

    pub(crate) async fn fetch(&mut self, at: &[(Stream, Position)]) -> Result<Vec<Fetched>, Error> {
        match self {
            Self::Postgres(outboxes) => outboxes.fetch(at).await,
            Self::Shuffle(shuffled) => shuffled.fetch(at).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(topics) => topics.fetch(at).await,
        }
    }
}

/// A service that writes streams: its topics and its database.
#[derive(Clone)]
pub struct Publisher {
    pub service: &'static str,
    pub topics: Vec<&'static str>,
    pub pool: PgPool,
    /// Whether its runner may live in another process: readers then listen for its notifications.
    pub remote: bool,
}

#[derive(Clone)]
enum Kind {
    Postgres,
    Shuffle {
        seed: u64,
    },
    #[cfg(feature = "kafka")]
    Kafka(Arc<kafka::Cluster>),
}

/// The bus of a process. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    kind: Kind,
    partitions: i32,
    dedupe: bool,
    publishers: Arc<Vec<Publisher>>,
    /// What each publisher committed last in this process.
    tails: Arc<HashMap<&'static str, Arc<tail::Tail>>>,
    wake: wake::Wake,
}

impl Bus {
    /// The embedded bus: readers look into the publishers' outboxes.
    #[must_use]
    pub fn postgres(partitions: i32, publishers: Vec<Publisher>) -> Self {
        let tails = publishers.iter().map(|publisher| (publisher.service, Arc::default())).collect();
        let (publishers, tails) = (Arc::new(publishers), Arc::new(tails));
        Self { kind: Kind::Postgres, partitions, dedupe: true, publishers, tails, wake: wake::Wake::default() }
    }

    /// The embedded bus made unkind, for tests: interleaves streams at random, delivers in dribs, and repeats what was delivered.
    #[must_use]
    pub fn shuffle(partitions: i32, publishers: Vec<Publisher>, seed: u64) -> Self {
        Self { kind: Kind::Shuffle { seed }, ..Self::postgres(partitions, publishers) }
    }

    /// Apache Kafka: relays copy the outboxes to topics.
    #[cfg(feature = "kafka")]
    #[must_use]
    pub fn kafka(partitions: i32, publishers: Vec<Publisher>, cluster: kafka::Cluster) -> Self {
        Self { kind: Kind::Kafka(Arc::new(cluster)), ..Self::postgres(partitions, publishers) }
    }

    /// Hands repeats to the handlers instead of dropping them, for tests: effects must be idempotent by themselves.
    #[must_use]
    pub fn without_dedupe(self) -> Self {
        Self { dedupe: false, ..self }
    }

    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    pub(crate) fn dedupes(&self) -> bool {
        self.dedupe
    }

    /// The sources of a group, each with its topics: one a publisher on Postgres, so that one database away holds up only its own streams.
    pub(crate) fn sources(&self, group: &str, topics: &[&str]) -> Result<Vec<(Vec<String>, Source)>, Error> {
        #[cfg(feature = "kafka")]
        if let Kind::Kafka(cluster) = &self.kind {
            let read = topics.iter().map(|topic| (*topic).to_owned()).collect();
            return Ok(vec![(read, Source::Kafka(kafka::Topics::new(cluster.clone(), group)))]);
        }
        let mut sources = Vec::new();
        for publisher in self.publishers.iter() {
            let read: Vec<String> =
                topics.iter().filter(|topic| publisher.topics.contains(topic)).map(|topic| (*topic).to_owned()).collect();
            if read.is_empty() {
                continue;
            }
            let tail = self.tails.get(publisher.service).cloned().unwrap_or_default();
            tail.keep(&read);
            let outboxes = || postgres::Outboxes::new(publisher, tail.clone(), self.wake.listener(&read));
            let source = match &self.kind {
                Kind::Shuffle { seed } => {
                    Source::Shuffle(Box::new(shuffle::Shuffled::new(outboxes(), *seed ^ hash(group) ^ hash(publisher.service))))
                }
                _ => Source::Postgres(outboxes()),
            };
            sources.push((read, source));
        }
        match topics.iter().find(|topic| !sources.iter().any(|(read, _)| read.iter().any(|t| t == *topic))) {
            Some(missing) => Err(Error::UnknownTopic((*missing).to_owned())),
            None => Ok(sources),
        }
    }

    /// Sees to it that what this service says gets to its readers: a relay on Kafka, a note for the view `outbox_published` on both.
    pub(crate) async fn carry(&self, service: &str, pool: &PgPool, tasks: &Tasks) -> Result<(), Error> {
        let name = match &self.kind {
            Kind::Postgres | Kind::Shuffle { .. } => "postgres",
            #[cfg(feature = "kafka")]
            Kind::Kafka(_) => "kafka",
        };
        outbox::store::carried_by(&mut *pool.acquire().await?, name).await?;
        let Some(publisher) = self.publishers.iter().find(|publisher| publisher.service == service) else { return Ok(()) };
        match &self.kind {
            Kind::Postgres | Kind::Shuffle { .. } if publisher.remote => {
                self.wake.announce(publisher.topics.clone(), pool.clone(), tasks)
            }
            Kind::Postgres | Kind::Shuffle { .. } => {}
            #[cfg(feature = "kafka")]
            Kind::Kafka(cluster) => {
                let wake = self.wake.listener(&publisher.topics);
                kafka::relay(cluster.clone(), publisher, self.partitions, pool.clone(), wake, tasks).await?;
            }
        }
        Ok(())
    }

    /// What a service has committed: its readers in this process are told.
    pub(crate) fn said(&self, service: &str, records: &[Arc<Record>]) {
        if let Some(tail) = self.tails.get(service) {
            tail.push(records);
        }
        let topics: HashSet<&str> = records.iter().map(|record| record.stream.topic.as_str()).collect();
        self.wake.ring(topics);
    }
}

fn hash(text: &str) -> u64 {
    u64::from(crate::partition_of(text, i32::MAX).cast_unsigned())
}
