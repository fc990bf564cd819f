//! The reader's side: we assign partitions and seek to stored offsets ourselves, so there are no rebalances to survive. Without a
//! subscription there is no membership either, and so no limit on the time between two polls: while the database is slow we do not poll,
//! the client's queue fills to its bound and it fetches nothing more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use super::{
    Cluster, broker,
    client::{Aside, Context, blocking},
    committed, headers,
};
use crate::{Error, Position, Record, Stream, bus::Fetched};

/// How long a look waits for the first record.
const POLL_MS: u64 = 100;
/// Records and bytes in one look, at most.
const FETCH_ROWS_MAX: usize = 1_024;
const FETCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pause before a new client looks for a topic that is not there.
const MISSING_MS: u64 = 5_000;
const WATERMARK_MS_MAX: u64 = 5_000;

type Client = Arc<Aside<StreamConsumer<Context>>>;

pub(crate) struct Topics {
    cluster: Arc<Cluster>,
    group: String,
    client: Option<Client>,
    /// The streams and where each is read on.
    reading: BTreeMap<Stream, Offset>,
    /// The client reads something else than `reading` says.
    stale: bool,
    /// When the client is to be made anew.
    renew_at: Option<Instant>,
    /// What the group has applied, to be told to Kafka.
    applied: Vec<(Stream, Position)>,
}

/// What keeps a client from reading on.
enum Trouble {
    /// The log does not have the offset that was asked for.
    OutOfRange,
    /// A topic is not there: the service that writes it makes it.
    Missing,
    /// The client mends it by itself.
    Passing(KafkaError),
    /// The client is of no use any more.
    Broken(KafkaError),
}

impl Topics {
    pub(crate) fn new(cluster: Arc<Cluster>, group: &str) -> Self {
        Self {
            cluster,
            group: group.to_owned(),
            client: None,
            reading: BTreeMap::new(),
            stale: false,
            renew_at: None,
            applied: Vec::new(),
        }
    }

    /// These streams are read again from the position given next.
    pub(crate) fn forget(&mut self, streams: &HashSet<Stream>) {
        self.reading.retain(|stream, _| !streams.contains(stream));
    }

    /// What the group has applied and committed to its database. It is told to Kafka with the next look: the offset for people's lag tools,
    /// and the sequence number beside it for the publisher, who keeps rows until every reader has passed them.
    pub(crate) fn applied(&mut self, applied: Vec<(Stream, Position)>) {
        self.applied = applied;
    }

    /// How far the group has told Kafka to be in these streams. Not known is an error: who reads on without it could do again what it has
    /// done, and nobody would notice.
    pub(crate) async fn told(&mut self, streams: &[Stream]) -> Result<Vec<(Stream, i64)>, Error> {
        let (client, group, asked) = (self.connected()?, self.group.clone(), streams.to_vec());
        // On a thread of its own also because the client panics at metadata that is no text.
        let told = blocking(move || committed::told(&**client, &group, &asked)).await?;
        Ok(told.into_iter().map(|told| (told.stream, told.seq)).collect())
    }

    /// Those of these streams whose log has never had a record, and whether all the others have had one: of a topic that is not there, or
    /// cannot be looked at, it is not known.
    pub(crate) async fn unwritten(&mut self, streams: Vec<Stream>) -> Result<(Vec<Stream>, bool), Error> {
        let client = self.connected()?;
        blocking(move || {
            let wait = Duration::from_millis(WATERMARK_MS_MAX);
            let mut partitions: HashMap<String, usize> = HashMap::new();
            let (mut unwritten, mut all_known) = (Vec::new(), true);
            for stream in streams {
                let there = match partitions.get(&stream.topic) {
                    Some(there) => *there,
                    None => {
                        let metadata = client.fetch_metadata(Some(&stream.topic), wait)?;
                        // Where there is an error there is no list of partitions either.
                        let there = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
                        partitions.insert(stream.topic.clone(), there);
                        there
                    }
                };
                if usize::try_from(stream.partition).is_ok_and(|partition| partition >= there) {
                    all_known = false;
                    continue;
                }
                match client.fetch_watermarks(&stream.topic, stream.partition, wait) {
                    Ok((_, 0)) => unwritten.push(stream),
                    Ok(_) => {}
                    // One wait is enough: what can be read is read meanwhile.
                    Err(_) => return Ok((unwritten, false)),
                }
            }
            Ok((unwritten, all_known))
        })
        .await
    }

    pub(crate) async fn fetch(&mut self, at: &[(Stream, Position)]) -> Result<Vec<Fetched>, Error> {
        let client = self.client(at).await?;
        self.commit(&client);
        let Polled { records, trouble, .. } = poll(&client).await;
        let fetched = self.note(records);
        let failed = match trouble {
            None => None,
            Some(Trouble::OutOfRange) => self.find_lost(client).await.err(),
            Some(Trouble::Missing) => {
                self.renew_at.get_or_insert_with(|| Instant::now() + Duration::from_millis(MISSING_MS));
                None
            }
            Some(Trouble::Passing(error)) => Some(broker(error)),
            Some(Trouble::Broken(error)) => {
                self.client = None;
                Some(broker(error))
            }
        };
        match failed {
            // What came before it counts.
            Some(error) if fetched.is_empty() => Err(error),
            _ => Ok(fetched),
        }
    }

    fn connected(&mut self) -> Result<Client, Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client: StreamConsumer<Context> = self.cluster.consumer(&self.group).create_with_context(Context).map_err(broker)?;
        self.renew_at = None;
        self.stale = true;
        Ok(self.client.insert(Arc::new(Aside::new(client))).clone())
    }

    /// The client, reading exactly these streams: new ones from their stored offsets, the others on from where they are.
    async fn client(&mut self, at: &[(Stream, Position)]) -> Result<Client, Error> {
        if self.renew_at.is_some_and(|at| at <= Instant::now()) {
            self.client = None;
        }
        let client = self.connected()?;
        if at.len() != self.reading.len() || at.iter().any(|(stream, _)| !self.reading.contains_key(stream)) {
            let mut reading = BTreeMap::new();
            for (stream, position) in at {
                let stored = position.kafka_offset.map_or(Offset::Beginning, Offset::Offset);
                reading.insert(stream.clone(), self.reading.get(stream).copied().unwrap_or(stored));
            }
            self.reading = reading;
            self.stale = true;
        }
        if self.stale {
            let mut list = TopicPartitionList::with_capacity(self.reading.len());
            for (stream, next) in &self.reading {
                list.add_partition_offset(&stream.topic, stream.partition, *next).map_err(broker)?;
            }
            let assigning = client.clone();
            blocking(move || assigning.assign(&list)).await?;
            self.stale = false;
        }
        Ok(client)
    }

    /// Takes note of how far the client has read. Records of streams that are not read any more are dropped.
    fn note(&mut self, records: Vec<Record>) -> Vec<Fetched> {
        let mut fetched = Vec::with_capacity(records.len());
        for record in records {
            if let (Some(next), Some(offset)) = (self.reading.get_mut(&record.stream), record.kafka_offset) {
                *next = Offset::Offset(offset + 1);
                fetched.push(Fetched::Record(Arc::new(record)));
            }
        }
        fetched
    }

    /// Some log does not reach to where it was left: it was wiped, or is not kept for long enough. It is read from its beginning, and the
    /// cursor judges what is there: what is missing stops the stream, nothing is ever skipped. A log that was wiped and has grown beyond
    /// the old place again is not noticed here; the sequence numbers tell.
    async fn find_lost(&mut self, client: Client) -> Result<(), Error> {
        // The partition in question is not read any more until it is assigned again, whatever the watermarks say.
        self.stale = true;
        let place = |(stream, next): (&Stream, &Offset)| match next {
            Offset::Offset(next) => Some((stream.clone(), *next)),
            _ => None,
        };
        let asked: Vec<(Stream, i64)> = self.reading.iter().filter_map(place).collect();
        let lost = blocking(move || {
            let mut lost = Vec::new();
            for (stream, next) in asked {
                let wait = Duration::from_millis(WATERMARK_MS_MAX);
                let (low, high) = client.fetch_watermarks(&stream.topic, stream.partition, wait)?;
                if next < low || next > high {
                    lost.push((stream, next, low, high));
                }
            }
            Ok(lost)
        })
        .await?;
        if lost.is_empty() {
            return Err(Error::Broker("an offset was out of range and is not any more".to_owned()));
        }
        for (stream, next, low, high) in lost {
            self.cluster.counts.rewound.add(1);
            let Stream { topic, partition } = &stream;
            tracing::warn!(
                service = self.group,
                topic,
                partition,
                next,
                low,
                high,
                "the log does not reach to where it was left; it is read from its beginning"
            );
            self.reading.insert(stream, Offset::Beginning);
        }
        Ok(())
    }

    fn commit(&mut self, client: &Client) {
        let mut list = TopicPartitionList::with_capacity(self.applied.len());
        for (stream, position) in std::mem::take(&mut self.applied) {
            let Some(offset) = position.kafka_offset.filter(|_| self.reading.contains_key(&stream)) else { continue };
            let mut place = list.add_partition(&stream.topic, stream.partition);
            match place.set_offset(Offset::Offset(offset)) {
                Ok(()) => place.set_metadata(position.seq.to_string()),
                Err(error) => tracing::debug!(%error, offset, "no offset to commit"),
            }
        }
        if list.count() > 0
            && let Err(error) = client.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "offsets are not committed");
        }
    }
}

#[derive(Default)]
struct Polled {
    records: Vec<Record>,
    bytes: usize,
    trouble: Option<Trouble>,
}

impl Polled {
    /// Whether there is room for more.
    fn take(&mut self, message: KafkaResult<BorrowedMessage<'_>>) -> bool {
        match message {
            Ok(message) => {
                let record = headers::read(&message);
                self.bytes += record.payload.len() + record.key.len();
                self.records.push(record);
            }
            Err(error) => self.trouble = Some(trouble(error)),
        }
        self.trouble.is_none() && self.records.len() < FETCH_ROWS_MAX && self.bytes < FETCH_BYTES_MAX
    }
}

/// All there is, waiting a moment for the first. The client wakes us, so that no thread waits.
async fn poll(client: &StreamConsumer<Context>) -> Polled {
    let mut polled = Polled::default();
    let mut messages = client.stream();
    let Ok(Some(first)) = tokio::time::timeout(Duration::from_millis(POLL_MS), messages.next()).await else { return polled };
    let mut room = polled.take(first);
    while room && let Some(Some(message)) = messages.next().now_or_never() {
        room = polled.take(message);
    }
    polled
}

fn trouble(error: KafkaError) -> Trouble {
    use RDKafkaErrorCode::{
        AutoOffsetReset, OffsetOutOfRange, UnknownPartition, UnknownTopic, UnknownTopicId, UnknownTopicOrPartition,
    };
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Trouble::Broken(error);
    }
    match error.rdkafka_error_code() {
        Some(AutoOffsetReset | OffsetOutOfRange) => Trouble::OutOfRange,
        Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition | UnknownTopicId) => Trouble::Missing,
        _ => Trouble::Passing(error),
    }
}
