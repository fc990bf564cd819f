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

use sqlx::{PgConnection, PgPool};

use crate::{Error, Limits, Position, Record, Stream, Tasks, outbox, progress};

/// What a source brings.
#[derive(Debug)]
pub(crate) enum Fetched {
    Record(Arc<Record>),
    /// The record that was read last is not in the log any more.
    Diverged(Stream),
}

/// One place to read from. `fetch` gives what is there after these positions, in order a stream, and waits a while when there is nothing.
pub(crate) enum Source {
    Postgres(Box<postgres::Outboxes>),
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

    /// How far the group has told to be in these streams, whoever told it. A stream of which it has told nothing is left out.
    pub(crate) async fn told(&mut self, group: &str, streams: &[Stream]) -> Result<Vec<(Stream, i64)>, Error> {
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Postgres(outboxes) => outboxes.told(group, streams).await,
            Self::Shuffle(shuffled) => shuffled.told(group, streams).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(topics) => topics.told(streams).await,
        }
    }

    /// Those of these streams, new to the group, whose log has never had a record, and whether that is known of all. Only topics tell.
    pub(crate) async fn unwritten(&mut self, new: Vec<Stream>) -> Result<(Vec<Stream>, bool), Error> {
        match self {
            Self::Postgres(_) | Self::Shuffle(_) => Ok((Vec::new(), new.is_empty())),
            #[cfg(feature = "kafka")]
            Self::Kafka(topics) => topics.unwritten(new).await,
        }
    }

    /// Whether it passes on what the group has applied.
    pub(crate) fn wants_applied(&self) -> bool {
        match self {
            Self::Postgres(_) | Self::Shuffle(_) => false,
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => true,
        }
    }

    /// What the group has applied and committed.
    pub(crate) fn applied(&mut self, at: Vec<(Stream, Position)>) {
        match self {
            Self::Postgres(_) | Self::Shuffle(_) => drop(at),
            #[cfg(feature = "kafka")]
            Self::Kafka(topics) => topics.applied(at),
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
    /// Also the name of its group, if it reads: see [`Subscription`](crate::Subscription).
    pub service: &'static str,
    /// What it writes; no other service writes them. Only a `.dlq` topic may have several writers: a service that lists `<topic>.dlq` copies
    /// the dead letters of what it hears on the topic to it.
    pub topics: Vec<&'static str>,
    /// The groups that read it: on Kafka it asks the brokers how far they have come, and keeps its rows for them.
    pub readers: Vec<&'static str>,
    /// For readers of its outbox: a connection a group that reads it, and one more to listen where it is `remote`.
    pub pool: PgPool,
    /// Whether its runner may live in another process: readers then listen for its notifications.
    pub remote: bool,
}

impl Publisher {
    #[cfg(feature = "kafka")]
    fn streams(&self, partitions: i32) -> Vec<Stream> {
        let stream = |topic: &&'static str, partition| Stream { topic: (*topic).to_owned(), partition };
        self.topics.iter().flat_map(|topic| (0..partitions).map(move |partition| stream(topic, partition))).collect()
    }
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
    limits: Limits,
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
        Self {
            kind: Kind::Postgres,
            partitions,
            dedupe: true,
            limits: Limits::default(),
            publishers: Arc::new(publishers),
            tails: Arc::new(tails),
            wake: wake::Wake::default(),
        }
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

    /// Streams a topic: a key goes to [`partition_of`](crate::partition_of) of this.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Other bounds than the default, for the groups that are started on it.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn dedupes(&self) -> bool {
        self.dedupe
    }

    /// Whom readers tell how far they have come. On Kafka they tell the brokers.
    pub(crate) fn told_by_readers(&self) -> &[Publisher] {
        match self.kind {
            Kind::Postgres | Kind::Shuffle { .. } => &self.publishers,
            #[cfg(feature = "kafka")]
            Kind::Kafka(_) => &[],
        }
    }

    /// Settles where a group begins in the streams of these topics that it has never read, before it reads them. On Kafka the topics tell
    /// what they keep: see [`progress::open_unwritten`] and [`progress::adopt`].
    pub(crate) async fn open(&self, db: &mut PgConnection, group: &str, topics: &[String]) -> sqlx::Result<()> {
        #[cfg(feature = "kafka")]
        if let Kind::Kafka(_) = self.kind {
            return Ok(());
        }
        for publisher in self.publishers.iter() {
            let of_publisher = |topic: &&String| publisher.topics.contains(&topic.as_str());
            let topics: Vec<String> = topics.iter().filter(of_publisher).cloned().collect();
            if !topics.is_empty() {
                progress::open(db, &publisher.pool, group, &topics).await?;
            }
        }
        Ok(())
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
            let outboxes =
                || postgres::Outboxes::new(publisher, tail.clone(), self.wake.listener(&read), self.limits.database_ms_max);
            let source = match &self.kind {
                Kind::Shuffle { seed } => {
                    Source::Shuffle(Box::new(shuffle::Shuffled::new(outboxes(), *seed ^ hash(group) ^ hash(publisher.service))))
                }
                _ => Source::Postgres(Box::new(outboxes())),
            };
            sources.push((read, source));
        }
        match topics.iter().find(|topic| !sources.iter().any(|(read, _)| read.iter().any(|t| t == *topic))) {
            Some(missing) => Err(Error::UnknownTopic((*missing).to_owned())),
            None => Ok(sources),
        }
    }

    /// Sees to it that what this service says gets to its readers: a relay on Kafka, a note for the view `outbox_published` on both. And
    /// looks after its outbox.
    pub(crate) async fn carry(&self, service: &str, pool: &PgPool, tasks: &Tasks) -> Result<(), Error> {
        let publisher = self.publishers.iter().find(|publisher| publisher.service == service);
        let topics = publisher.map(|publisher| publisher.topics.as_slice()).unwrap_or_default();
        if let Some(name) = topics.iter().find(|topic| !is_topic_name(topic)) {
            return Err(Error::TopicName((*name).to_owned()));
        }
        outbox::retention::start(service, topics, pool, &self.limits, tasks).await?;
        match &self.kind {
            Kind::Postgres | Kind::Shuffle { .. } => {
                outbox::store::carried_by(&mut *pool.acquire().await?, "postgres").await?;
                if let Some(publisher) = publisher.filter(|publisher| publisher.remote) {
                    self.wake.announce(publisher.topics.clone(), self.limits.database_ms_max, pool.clone(), tasks);
                }
            }
            #[cfg(feature = "kafka")]
            Kind::Kafka(cluster) => {
                if let Some(publisher) = publisher {
                    let wake = self.wake.listener(&publisher.topics);
                    let memory = self.tails.get(publisher.service).cloned().unwrap_or_default();
                    memory.keep(&publisher.topics);
                    // A shared topic has no sequence numbers that a group could tell.
                    let mut streams = publisher.streams(self.partitions);
                    streams.retain(|stream| !stream.topic.ends_with(".dlq"));
                    let limit_ms = self.limits.database_ms_max;
                    kafka::copy_readers(cluster.clone(), publisher.readers.clone(), streams, limit_ms, pool.clone(), tasks);
                    kafka::relay(cluster.clone(), publisher, self, pool.clone(), wake, memory, tasks).await?;
                }
                // Behind the relay's start, which sees by it that the bus has changed.
                outbox::store::carried_by(&mut *pool.acquire().await?, "kafka").await?;
            }
        }
        Ok(())
    }

    /// What a service writes.
    pub(crate) fn topics_of(&self, service: &str) -> &[&'static str] {
        self.publishers.iter().find(|publisher| publisher.service == service).map_or(&[], |publisher| &publisher.topics)
    }

    /// What a service has committed: its readers in this process are told, on Kafka its relay.
    pub(crate) fn said(&self, service: &str, records: &[Arc<Record>]) {
        if let Some(tail) = self.tails.get(service) {
            tail.push(records);
        }
        let topics: HashSet<&str> = records.iter().map(|record| record.stream.topic.as_str()).collect();
        self.wake.ring(topics);
    }
}

/// What Kafka takes for a topic, on every bus: changing the bus must not find out.
fn is_topic_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != ".."
}

fn hash(text: &str) -> u64 {
    u64::from(crate::partition_of(text, i32::MAX).cast_unsigned())
}
