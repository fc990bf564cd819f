//! What the suite stands on: a publisher and a consumer, each with a fresh database of its own, and a bus between them.

#[cfg(feature = "kafka")]
pub(crate) mod broker;
pub(crate) mod consumer;
pub(crate) mod desk;
pub(crate) mod faults;
#[cfg(feature = "kafka")]
pub(crate) mod foreign;
pub(crate) mod guards;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod publisher;
pub(crate) mod small_disk;
pub(crate) mod store;
pub(crate) mod variants;

use std::{
    future::Future,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use local::Postgres;
use messaging::{Bus, CallError, Handler, News, Parked, Runner, Tasks, Trace, partition_of};
use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use consumer::{Consumer, Mind};
use publisher::{No, Publisher, Say};

pub(crate) const PARTITIONS: i32 = 4;
/// For what comes at once, on a machine that does ten other things.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The name under which instances of the publisher connect.
pub(crate) const PUBLISHER: &str = "publisher";
/// The name under which instances of the consumer connect.
pub(crate) const CONSUMER: &str = "consumer";
/// The name under which consumers read the publisher's database.
pub(crate) const READER: &str = "reader";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Postgres,
    Shuffle,
    #[cfg(feature = "kafka")]
    Kafka,
}

/// Runs a test on the runtime that all share: Postgres, Kafka and what a test starts outlive the thread it began on.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let start = || {
        log::keep();
        Runtime::new().unwrap()
    };
    RUNTIME.get_or_init(start).block_on(test)
}

/// Waits until it is so.
pub(crate) async fn wait<F, Fut>(what: &str, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let waited = local::until(what, SOON, || {
        let asked = probe();
        async move { asked.await.then_some(()) }
    });
    waited.await.unwrap();
}

/// The same name is the same id.
pub(crate) fn id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

/// The nth key that goes to this partition.
pub(crate) fn key_in(partition: i32, nth: usize) -> String {
    (0..).map(|k| format!("key-{k}")).filter(|key| partition_of(key, PARTITIONS) == partition).nth(nth).unwrap()
}

/// A few keys in each partition.
pub(crate) fn keys_everywhere(each: usize) -> Vec<String> {
    (0..PARTITIONS).flat_map(|partition| (0..each).map(move |nth| key_in(partition, nth))).collect()
}

/// A running service.
pub(crate) struct Instance<H: Handler> {
    pub(crate) runner: Runner<H>,
    pub(crate) tasks: Tasks,
    /// What it works through.
    pub(crate) pool: PgPool,
}

impl<H: Handler> Instance<H> {
    pub(crate) async fn stop(self) {
        assert!(self.tasks.drain(SOON).await, "all tasks end when asked to");
    }
}

impl Instance<Publisher> {
    pub(crate) async fn call(&self, name: &str, key: &str, say: Say) -> Result<usize, CallError<No>> {
        self.runner.call(id(name), key.to_owned(), Trace::default(), say).await
    }
}

/// A publisher's and a consumer's databases, and the topics between them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) on: On,
    nth: usize,
    /// The publisher's name, as a service and as a group.
    pub(crate) service: &'static str,
    pub(crate) group: &'static str,
    pub(crate) notes: &'static str,
    pub(crate) flags: &'static str,
    topics: &'static [&'static str],
    /// What the consumer says: a word for every note, in its own outbox.
    pub(crate) echoes: &'static str,
    /// What the consumer's handlers have seen, and may be told.
    pub(crate) mind: Arc<Mind>,
    /// Rows of the publisher's largest batch.
    pub(crate) largest: Arc<AtomicUsize>,
    /// To look into the databases; no instance works through these.
    pub(crate) publisher: PgPool,
    pub(crate) consumer: PgPool,
    server_url: Arc<str>,
    publisher_url: Arc<str>,
    consumer_url: Arc<str>,
    /// Settings of the server's, for the instances.
    settings: Vec<(&'static str, &'static str)>,
    /// How long instances wait for a connection.
    patience: Duration,
    pools: Arc<Mutex<Vec<PgPool>>>,
}

impl Pair {
    pub(crate) async fn new(on: On) -> Self {
        let server = local::postgres::shared_for_tests().await;
        Self::on_server(on, server, server.port()).await
    }

    /// On this server, reached through this port.
    pub(crate) async fn on_server(on: On, server: &Postgres, port: u16) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let (publisher_url, publisher) = database(server, port, PUBLISHER).await;
        store::make_publisher(&publisher).await;
        let (consumer_url, consumer) = database(server, port, CONSUMER).await;
        store::make_consumer(&consumer).await;
        let server_url = variants::with_port(&server.url("postgres"), port);
        Self::named(on, nth, server_url, (publisher_url, publisher), (consumer_url, consumer))
    }

    pub(crate) async fn bus(&self, on: On) -> Bus {
        // Readers of the unkind bus are told across processes too.
        let publishers = self.publishers(on == On::Shuffle);
        match on {
            On::Postgres => Bus::postgres(PARTITIONS, publishers),
            On::Shuffle => Bus::shuffle(PARTITIONS, publishers, 7),
            #[cfg(feature = "kafka")]
            On::Kafka => Bus::kafka(PARTITIONS, publishers, messaging::bus::kafka::Cluster::new(process::brokers().await)),
        }
    }

    fn publishers(&self, remote: bool) -> Vec<messaging::bus::Publisher> {
        let pool = self.pool(&self.publisher_url, READER);
        vec![messaging::bus::Publisher {
            service: self.service,
            topics: self.topics.to_vec(),
            readers: vec![self.group],
            pool,
            remote,
        }]
    }

    pub(crate) async fn publisher(&self, bus: &Bus) -> Instance<Publisher> {
        let handler = Publisher { largest: self.largest.clone() };
        self.start(handler, self.service, &[], self.pool(&self.publisher_url, PUBLISHER), bus).await
    }

    /// An instance of the consumer; `name` is left on what it applies.
    pub(crate) async fn consumer(&self, bus: &Bus, name: &'static str) -> Instance<Consumer> {
        let handler = Consumer { name, echoes: self.echoes, mind: self.mind.clone() };
        self.start(handler, self.group, self.topics, self.pool(&self.consumer_url, CONSUMER), bus).await
    }

    /// Set as `kit` sets them.
    fn pool(&self, url: &str, name: &str) -> PgPool {
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.application_name(name).options([
            ("synchronous_commit", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_bitmapscan", "off"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "2s"),
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "30s"),
        ]);
        let options = options.options(self.settings.iter().copied());
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .acquire_timeout(self.patience)
            .test_before_acquire(false)
            .after_release(|db, _| Box::pin(async move { Ok(!db.is_in_transaction()) }))
            .connect_lazy_with(options);
        self.pools.lock().unwrap().push(pool.clone());
        pool
    }

    pub(crate) fn note(&self, key: &str, n: i64, text: &str) -> News {
        self.news(self.notes, "test.Note", key, format!("{n} {text}").into_bytes())
    }

    pub(crate) fn flag(&self, key: &str) -> News {
        self.news(self.flags, "test.Flag", key, Vec::new())
    }

    /// Moves its key, and that is all.
    pub(crate) fn nudge(&self, key: &str) -> News {
        self.news(self.flags, "test.Nudge", key, Vec::new())
    }

    pub(crate) fn news(&self, topic: &'static str, type_name: &'static str, key: &str, payload: Vec<u8>) -> News {
        News { topic, type_name, key: key.to_owned(), payload: Bytes::from(payload) }
    }

    /// Says the nth note of a key.
    pub(crate) async fn say(&self, publisher: &Runner<Publisher>, key: &str, n: i64, text: &str) {
        loop {
            let say = Say::plain(vec![self.note(key, n, text)]);
            match publisher.call(id(&format!("{key}/{n}")), key.to_owned(), Trace::default(), say).await {
                // As every caller should.
                Err(CallError::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
                answer => {
                    answer.unwrap();
                    return;
                }
            }
        }
    }

    /// Says these notes of every key, all keys at once.
    pub(crate) async fn say_all(&self, publisher: &Runner<Publisher>, keys: &[String], notes: RangeInclusive<i64>) {
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let notes = notes.clone();
            all.push(async move {
                for n in notes {
                    self.say(publisher, key, n, "ok").await;
                }
            });
        }
        join_all(all).await;
    }

    /// The notes of a key, as they were applied.
    pub(crate) async fn seen_of(&self, key: &str) -> Vec<i64> {
        store::applied(&self.consumer).await.remove(key).unwrap_or_default()
    }

    pub(crate) async fn wait_seen(&self, key: &str, notes: &[i64]) {
        wait(&format!("{key} to have {notes:?} applied"), || async { self.seen_of(key).await == notes }).await;
    }

    /// Waits for the notes 1 to `last` of every key: each applied once, in order, and said on once.
    pub(crate) async fn all_applied(&self, keys: &[String], last: i64) {
        let wanted = i64::try_from(keys.len()).unwrap() * last;
        // A busy machine may take its time, as long as it gets on.
        let mut seen = store::seen(&self.consumer).await;
        while seen != wanted {
            let before = seen;
            wait(&format!("more than {before} of {wanted} notes to be applied"), || async {
                store::seen(&self.consumer).await != before
            })
            .await;
            seen = store::seen(&self.consumer).await;
        }
        let applied = store::applied(&self.consumer).await;
        for key in keys {
            assert_eq!(applied.get(key), Some(&(1..=last).collect()), "the notes of {key}");
        }
        assert_eq!(store::said_on(&self.consumer, self.echoes).await, wanted, "what the consumer says of them");
        assert_eq!(store::holes(&self.consumer).await, 0, "holes in the consumer's streams");
        assert_eq!(store::holes(&self.publisher).await, 0, "holes in the publisher's streams");
        assert_eq!(self.mind.repeats.load(Ordering::Relaxed), 0, "repeats that got through to the handler");
    }

    pub(crate) async fn parked(&self) -> Vec<Parked> {
        let mut db = self.consumer.acquire().await.unwrap();
        messaging::parking::list(&mut db, self.group, &messaging::parking::Filter::default(), 0, 1_000).await.unwrap()
    }

    pub(crate) async fn wait_parked(&self, rows: usize) {
        wait(&format!("{rows} records to be held back"), || async { self.parked().await.len() == rows }).await;
    }

    /// Redrives all that is parked under a key; how many records that are.
    pub(crate) async fn redrive(&self, key: &str) -> usize {
        let what = messaging::parking::Redrive::of(messaging::parking::Which::Key(key));
        self.redrive_as(&what).await.marked.len()
    }

    /// The last thing a test does, when all its instances have stopped.
    pub(crate) async fn close(self) {
        let pools = std::mem::take(&mut *self.pools.lock().unwrap());
        let closed = join_all(pools.iter().chain([&self.publisher, &self.consumer]).map(|pool| pool.close()));
        assert!(tokio::time::timeout(SOON, closed).await.is_ok(), "all connections come back");
        for url in [&self.publisher_url, &self.consumer_url] {
            store::drop_database(&self.server_url, url).await;
        }
    }
}

async fn database(server: &Postgres, port: u16, name: &str) -> (Arc<str>, PgPool) {
    let url = variants::with_port(&server.fresh_database(name).await.unwrap(), port);
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
    messaging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    (url, pool)
}

/// The usual cast: one publisher, one consumer.
pub(crate) struct Stage {
    pub(crate) pair: Pair,
    pub(crate) publisher: Instance<Publisher>,
    pub(crate) consumer: Instance<Consumer>,
}

impl Stage {
    pub(crate) async fn start(on: On) -> Self {
        Self::of(Pair::new(on).await).await
    }

    pub(crate) async fn of(pair: Pair) -> Self {
        let bus = pair.bus(pair.on).await;
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        Self { pair, publisher, consumer }
    }

    pub(crate) async fn say(&self, key: &str, n: i64, text: &str) {
        self.pair.say(&self.publisher.runner, key, n, text).await;
    }

    /// Says what is no note; `name` makes the id of the input.
    pub(crate) async fn say_news(&self, name: &str, news: Vec<News>) {
        self.publisher.call(name, name, Say::plain(news)).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.consumer.stop().await;
        self.publisher.stop().await;
        self.pair.close().await;
    }
}
