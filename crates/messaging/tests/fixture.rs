//! What the suite stands on: a publisher and a consumer, each with a fresh database of its own, and a bus between them.

pub(crate) mod consumer;
#[cfg(feature = "kafka")]
pub(crate) mod foreign;
pub(crate) mod load;
pub(crate) mod publisher;
pub(crate) mod store;

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
use messaging::{Bus, CallError, Handler, News, Parked, Runner, Subscription, Tasks, Trace, partition_of};
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
/// The name under which instances of the publisher connect, and its service's name.
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
    RUNTIME.get_or_init(|| Runtime::new().unwrap()).block_on(test)
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
    publisher_url: Arc<str>,
    consumer_url: Arc<str>,
    /// `synchronous_commit` of the instances.
    commit: &'static str,
    pools: Arc<Mutex<Vec<PgPool>>>,
}

impl Pair {
    pub(crate) async fn new(on: On) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let notes: &'static str = format!("notes-{nth}").leak();
        let flags: &'static str = format!("flags-{nth}").leak();
        let (publisher_url, publisher) = database(PUBLISHER).await;
        store::make_publisher(&publisher).await;
        let (consumer_url, consumer) = database(CONSUMER).await;
        store::make_consumer(&consumer).await;
        Self {
            on,
            group: CONSUMER,
            notes,
            flags,
            topics: vec![notes, flags].leak(),
            echoes: "echoes",
            mind: Arc::default(),
            largest: Arc::default(),
            publisher,
            consumer,
            publisher_url,
            consumer_url,
            commit: "off",
            pools: Arc::default(),
        }
    }

    /// Another service that hears the same publisher, with a database and a mind of its own.
    pub(crate) async fn another_consumer(&self) -> Self {
        let (consumer_url, consumer) = database(CONSUMER).await;
        store::make_consumer(&consumer).await;
        Self { group: "another", echoes: "other-echoes", mind: Arc::default(), consumer, consumer_url, ..self.clone() }
    }

    /// The same, for another runtime: its pools are its own affair.
    pub(crate) fn elsewhere(&self) -> Self {
        Self { pools: Arc::default(), ..self.clone() }
    }

    /// Commits of its instances wait for a standby, if the server has been told that there is one.
    pub(crate) fn waiting_for_a_standby(self) -> Self {
        Self { commit: "on", ..self }
    }

    pub(crate) async fn bus(&self, on: On) -> Bus {
        let pool = self.pool(&self.publisher_url, READER);
        // Readers of the unkind bus are told across processes too.
        let remote = on == On::Shuffle;
        let publishers = vec![messaging::bus::Publisher { service: PUBLISHER, topics: self.topics.to_vec(), pool, remote }];
        match on {
            On::Postgres => Bus::postgres(PARTITIONS, publishers),
            On::Shuffle => Bus::shuffle(PARTITIONS, publishers, 7),
            #[cfg(feature = "kafka")]
            On::Kafka => {
                let brokers = local::kafka::shared_for_tests().await.brokers();
                Bus::kafka(PARTITIONS, publishers, messaging::bus::kafka::Cluster::new(brokers))
            }
        }
    }

    pub(crate) async fn publisher(&self, bus: &Bus) -> Instance<Publisher> {
        let tasks = Tasks::new();
        let subscription = Subscription { group: PUBLISHER, topics: &[] };
        let handler = Publisher { largest: self.largest.clone() };
        let pool = self.pool(&self.publisher_url, PUBLISHER);
        Instance { runner: messaging::start(handler, subscription, pool, bus, &tasks).await.unwrap(), tasks }
    }

    /// An instance of the consumer; `name` is left on what it applies.
    pub(crate) async fn consumer(&self, bus: &Bus, name: &'static str) -> Instance<Consumer> {
        let tasks = Tasks::new();
        let subscription = Subscription { group: self.group, topics: self.topics };
        let handler = Consumer { name, echoes: self.echoes, mind: self.mind.clone() };
        let pool = self.pool(&self.consumer_url, CONSUMER);
        Instance { runner: messaging::start(handler, subscription, pool, bus, &tasks).await.unwrap(), tasks }
    }

    /// Set as `kit` sets them.
    fn pool(&self, url: &str, name: &str) -> PgPool {
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.application_name(name).options([
            ("synchronous_commit", self.commit),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "2s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .acquire_timeout(Duration::from_secs(5))
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
        let say = Say::plain(vec![self.note(key, n, text)]);
        publisher.call(id(&format!("{key}/{n}")), key.to_owned(), Trace::default(), say).await.unwrap();
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
        wait(&format!("{wanted} notes to be applied"), || async { store::seen(&self.consumer).await == wanted }).await;
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
        messaging::parked(&mut self.consumer.acquire().await.unwrap(), self.group, 1_000).await.unwrap()
    }

    pub(crate) async fn wait_parked(&self, rows: usize) {
        wait(&format!("{rows} records to be held back"), || async { self.parked().await.len() == rows }).await;
    }

    pub(crate) async fn redrive(&self, key: &str) -> u64 {
        messaging::redrive(&mut self.consumer.acquire().await.unwrap(), self.group, key).await.unwrap()
    }

    /// The last thing a test does, when all its instances have stopped.
    pub(crate) async fn close(self) {
        let pools = std::mem::take(&mut *self.pools.lock().unwrap());
        let closed = join_all(pools.iter().chain([&self.publisher, &self.consumer]).map(|pool| pool.close()));
        assert!(tokio::time::timeout(SOON, closed).await.is_ok(), "all connections come back");
        for url in [&self.publisher_url, &self.consumer_url] {
            store::drop_database(&local::postgres::shared_for_tests().await.url("postgres"), url).await;
        }
    }
}

async fn database(name: &str) -> (Arc<str>, PgPool) {
    let url = local::postgres::shared_for_tests().await.fresh_database(name).await.unwrap();
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
    messaging::migrate(&mut pool.acquire().await.unwrap()).await.unwrap();
    (url.into(), pool)
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
