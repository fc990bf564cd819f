//! The relay: copies the outbox of a service to its topics, a run at a time, each stream in its order.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt};
use rand::RngExt;
use sqlx::{
    PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgListener, PgNotification, PgPoolOptions},
};
use tokio::sync::Notify;

use super::{
    Cluster, is_shared,
    lanes::{self, Lanes, Step},
    producer::Producer,
    run::Run,
    store,
    tail::{self, Found, Tail},
};
use crate::{
    Bus, Error, Stream, Tasks,
    bus::{Publisher, tail::Tail as Memory},
    outbox::store::{CHANNEL, announce},
    patience,
};

/// Pause before a new client: doubles from the first to the last, jitter.
const RETRY_MS: (u64, u64) = (100, 5_000);
/// Its own connections: for its work and to listen. Another pool of that kind tells others.
const CONNECTIONS_MAX: u32 = 2;
const ACQUIRE_MS_MAX: u64 = 5_000;
/// Pause between two notifications of other relays.
const ANNOUNCE_EVERY_MS: u64 = 5;
/// How long a run may still take when the process stops.
const STOP_MS_MAX: u64 = 1_000;

/// Creates the topics and starts copying.
pub(crate) async fn relay(
    cluster: Arc<Cluster>,
    publisher: &Publisher,
    bus: &Bus,
    pool: PgPool,
    bell: Arc<Notify>,
    memory: Arc<Memory>,
    tasks: &Tasks,
) -> Result<(), Error> {
    let (partitions, database_ms_max) = (bus.partitions(), bus.limits().database_ms_max);
    let fresh = cluster.ensure_topics(&publisher.topics, partitions).await?;
    let streams: Vec<Stream> = publisher
        .topics
        .iter()
        .flat_map(|topic| (0..partitions).map(|partition| Stream { topic: (*topic).to_owned(), partition }))
        .collect();
    let moved = store::open(&mut *pool.acquire().await?, &streams).await?;
    if moved > 0 {
        tracing::info!(
            service = publisher.service,
            streams = moved,
            "coming from another bus, the relay starts at the slowest reader"
        );
    }
    let relay = Relay {
        cluster,
        service: publisher.service,
        source: format!("settle/{}", publisher.service),
        topics: publisher.topics.clone(),
        partitions,
        database_ms_max,
        pool: own_pool(&pool),
        bell,
        memory,
        others: Arc::default(),
    };
    let (others, told, stop) = (relay.others.clone(), relay.pool.clone(), tasks.clone());
    tasks.spawn("relay announcer", async move {
        tokio::select! {
            () = tell(others, database_ms_max, told) => {}
            () = stop.stopping() => {}
        }
    });
    let stop = tasks.clone();
    tasks.spawn("relay", async move { relay.run(&stop, fresh).await });
    Ok(())
}

/// A saved cursor is behind what is durable elsewhere: losing one costs a repeat, so its commit waits for no disk.
fn own_pool(pool: &PgPool) -> PgPool {
    let options = (*pool.connect_options()).clone().options([("synchronous_commit", "off")]);
    PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(Duration::from_millis(ACQUIRE_MS_MAX))
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Tells the relays of other processes that there are rows, at most so often.
async fn tell(others: Arc<Notify>, limit_ms: u64, pool: PgPool) {
    loop {
        others.notified().await;
        if let Err(error) = patience::at(limit_ms, &pool, async |db| announce(db).await).await {
            // They look by themselves too.
            tracing::debug!(%error, "cannot notify");
        }
        tokio::time::sleep(Duration::from_millis(ANNOUNCE_EVERY_MS)).await;
    }
}

struct Relay {
    cluster: Arc<Cluster>,
    service: &'static str,
    source: String,
    topics: Vec<&'static str>,
    partitions: i32,
    database_ms_max: u64,
    pool: PgPool,
    /// Rings when this process has committed rows.
    bell: Arc<Notify>,
    /// Has these rows, the newest of them.
    memory: Arc<Memory>,
    /// To be told of it.
    others: Arc<Notify>,
}

impl Relay {
    /// Any failure means: a new client, and again from the saved cursors. What was sent already is sent again and seen through.
    async fn run(self, tasks: &Tasks, fresh: Vec<String>) {
        let mut fresh = Some(fresh);
        let mut attempt = 0;
        while !tasks.is_stopping() {
            let copied = tokio::select! {
                copied = self.copy(tasks, fresh.take(), &mut attempt) => copied,
                () = too_late(tasks) => return,
            };
            let Err(error) = copied else { return };
            self.cluster.counts.restarts.add(1);
            let (first, last) = RETRY_MS;
            let ceiling = (first << attempt.min(16)).min(last);
            let pause = rand::rng().random_range(ceiling / 2..=ceiling);
            attempt += 1;
            tracing::warn!(service = self.service, %error, pause_ms = pause, "the relay starts again from its cursors");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                () = tasks.stopping() => return,
            }
        }
    }

    /// Copies until the process stops, with one client. `fresh` are topics made a moment ago, if they have been looked at.
    async fn copy(&self, tasks: &Tasks, fresh: Option<Vec<String>>, attempt: &mut u32) -> Result<(), Error> {
        let mut fresh = match fresh {
            Some(fresh) => fresh,
            // Somebody may have deleted one: this also is how that comes to light.
            None => self.cluster.ensure_topics(&self.topics, self.partitions).await?,
        };
        let producer = Producer::new(&self.cluster)?;
        // Anew as well: connections that the last one has given up may be waited for.
        let pool = own_pool(&self.pool);
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        // A stream, so that a look at it in passing cuts nothing off half-way.
        let mut told = patience::within(self.database_ms_max, listening).await?.into_stream();
        let mut db = pool.acquire().await?;
        // The database may be an older copy by now: what was said to it before is read from it.
        self.memory.forget();
        let mut lanes = Lanes::default();
        let mut turn = 0;
        while !tasks.is_stopping() {
            if lanes.look_is_due(Instant::now()) {
                self.look(&mut db, &mut lanes, &std::mem::take(&mut fresh)).await?;
            }
            // One look serves all that was told.
            while let Some(Some(heard)) = told.next().now_or_never() {
                heard?;
                lanes.told();
            }
            let mut due = lanes.sending();
            if !due.is_empty() {
                let first = turn % due.len();
                due.rotate_left(first);
            }
            let hand_over = async |db: &mut PgConnection| Run::hand_over(&producer, &self.source, &self.memory, db, &due).await;
            let run = patience::on(self.database_ms_max, &mut db, hand_over).await?;
            self.cluster.counts.remembered.add(run.remembered);
            lanes.seen(&run.seen);
            if run.steps.is_empty() {
                self.wait(&mut told, &mut lanes, tasks).await?;
                continue;
            }
            // Who had no room this time comes first the next.
            turn += run.turn;
            producer.delivered().await?;
            let mut steps = run.steps;
            steps.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
            let saved = patience::on(self.database_ms_max, &mut db, async |db| store::advance(db, &steps).await).await?;
            self.count(&steps, &saved);
            lanes.saved(&steps, &saved);
            *attempt = 0;
        }
        Ok(())
    }

    fn count(&self, steps: &[Step], saved: &HashSet<Stream>) {
        let rows: i64 = steps.iter().filter(|step| saved.contains(&step.stream)).map(|step| step.after - step.before).sum();
        self.cluster.counts.relayed.add(u64::try_from(rows).unwrap_or(0));
        let lost = steps.len().saturating_sub(saved.len());
        if lost > 0 {
            self.cluster.counts.overtaken.add(lost as u64);
            tracing::debug!(service = self.service, streams = lost, "cursors were moved by somebody else");
        }
    }

    /// Looks at the saved cursors, and at the end of every log before it is written to.
    async fn look(&self, db: &mut PoolConnection<Postgres>, lanes: &mut Lanes, fresh: &[String]) -> Result<(), Error> {
        let cursors = patience::on(self.database_ms_max, db, async |db| store::cursors(db, &self.topics).await).await?;
        let looked = lanes.look(cursors, Instant::now());
        if looked.overtaken > 0 {
            self.cluster.counts.overtaken.add(looked.overtaken);
            tracing::debug!(service = self.service, streams = looked.overtaken, "another relay is ahead: standing by");
        }
        for stream in &looked.set_back {
            self.memory.forget_stream(stream);
        }
        let due = lanes.unchecked();
        if due.is_empty() {
            return Ok(());
        }
        // A topic made a moment ago has no end yet, and one with several writers has no streams.
        let mut wanted: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (stream, _) in due.iter().filter(|(stream, _)| !is_shared(&stream.topic) && !fresh.contains(&stream.topic)) {
            wanted.entry(stream.topic.clone()).or_default().push(stream.partition);
        }
        let tail::Ends { tails, unknown } = match wanted.is_empty() {
            true => tail::Ends::default(),
            false => tail::read(self.cluster.clone(), wanted).await?,
        };
        let ends: Vec<(Stream, Option<Tail>)> =
            due.iter().map(|(stream, _)| (stream.clone(), tails.get(stream).copied())).collect();
        let kept = patience::on(self.database_ms_max, db, async |db| store::kept(db, &ends).await).await?;
        for (((stream, cursor), (_, tail)), kept) in due.iter().zip(&ends).zip(&kept) {
            let found = match unknown.contains(stream) {
                true => Found::Unknown,
                false if is_shared(&stream.topic) => Found::Whole,
                false => tail::judge(*tail, kept, *cursor),
            };
            self.report(stream, *cursor, &found);
            lanes.checked(stream, !matches!(found, Found::Diverged(_)), Instant::now());
        }
        Ok(())
    }

    fn report(&self, stream: &Stream, cursor: i64, found: &Found) {
        let (service, topic, partition) = (self.service, stream.topic.as_str(), stream.partition);
        match found {
            Found::Whole => {}
            Found::Short { log_seq } => tracing::warn!(
                r#type = "LOG_GAP",
                service,
                topic,
                partition,
                log_seq,
                cursor,
                "the topic ends before what was published: readers that miss the rest will stop; `settle events republish` says it again"
            ),
            Found::Unknown => tracing::warn!(
                r#type = "LOG_UNCHECKED",
                service,
                topic,
                partition,
                cursor,
                "records of other producers hide the last one of this stream: whether the topic goes on where the outbox does is left to its readers"
            ),
            Found::Diverged(detail) => {
                self.cluster.counts.diverged.add(1);
                tracing::error!(
                    r#type = "LOG_DIVERGED",
                    service,
                    topic,
                    partition,
                    detail,
                    "nothing of this stream is published until a person has looked"
                );
            }
        }
    }

    /// Until there may be something to send.
    async fn wait(
        &self,
        told: &mut (impl futures::Stream<Item = sqlx::Result<PgNotification>> + Unpin),
        lanes: &mut Lanes,
        tasks: &Tasks,
    ) -> Result<(), Error> {
        tokio::select! {
            () = self.bell.notified() => {
                if lanes.stands_by() {
                    self.others.notify_one();
                }
            }
            Some(heard) = told.next() => {
                heard?;
                lanes.told();
            }
            () = tokio::time::sleep(lanes::LOOK) => {}
            () = tasks.stopping() => {}
        }
        Ok(())
    }
}

async fn too_late(tasks: &Tasks) {
    tasks.stopping().await;
    tokio::time::sleep(Duration::from_millis(STOP_MS_MAX)).await;
}
