//! Readers: from the sources of a bus, through the cursor's judgement, into the runner.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::sync::watch;

use crate::{
    Bus, Error, Handler, Position, Record, Runner, Stream, Subscription, Tasks,
    batch::Group,
    bus::{Fetched, Source},
    cursor::{Cursor, Judgement},
    lease,
    meters::Meters,
    parking,
    progress::store,
    runner::{Item, Origin},
};

/// How long a hole in a stream may last before the stream stops loudly.
const GAP_WAIT_MS: u64 = 10_000;
/// Pause after a source failed.
const SOURCE_RETRY_MS: u64 = 250;
/// How often redriven and early records are looked after.
const SHELF_ROUND_MS: u64 = 500;
const SHELF_ROWS_MAX: i64 = 256;
/// How long an early record waits before it is a dead letter.
const EARLY_WAIT_S: i64 = 600;

/// Streams a reader is asked to start again from their stored positions.
#[derive(Clone, Default)]
pub(crate) struct Restart(Arc<Mutex<HashSet<Stream>>>);

impl Restart {
    pub(crate) fn ask(&self, stream: Stream) {
        self.lock().insert(stream);
    }

    fn take(&self) -> HashSet<Stream> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Stream>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Opens the group's streams, keeps its leases, and starts one reader a source.
#[expect(clippy::too_many_arguments, reason = "called once, by the runner's start")]
pub(crate) async fn start<H: Handler>(
    runner: &Runner<H>,
    handler: &Arc<H>,
    group: &Arc<Group>,
    subscription: Subscription,
    pool: &PgPool,
    bus: &Bus,
    meters: &Arc<Meters>,
    tasks: &Tasks,
) -> Result<(), Error> {
    if subscription.topics.is_empty() {
        return Ok(());
    }
    let streams: Vec<Stream> = subscription
        .topics
        .iter()
        .flat_map(|topic| (0..group.partitions).map(|partition| Stream { topic: (*topic).to_owned(), partition }))
        .collect();
    store::open(&mut *pool.acquire().await?, group.name, &streams).await?;
    let owned = lease::keep(group.clone(), pool.clone(), tasks);
    for (topics, source) in bus.sources(group.name, subscription.topics)? {
        let reader = Reader {
            topics,
            source,
            dedupe: bus.dedupes(),
            runner: runner.clone(),
            handler: handler.clone(),
            group: group.clone(),
            pool: pool.clone(),
            owned: owned.clone(),
            restart: Restart::default(),
            cursors: BTreeMap::new(),
            gaps: HashMap::new(),
            stopped: HashSet::new(),
            meters: meters.clone(),
        };
        let stop = tasks.clone();
        tasks.spawn("reader", async move {
            tokio::select! {
                () = reader.run() => {}
                () = stop.stopping() => {}
            }
        });
    }
    let shelf = shelf_rounds(runner.clone(), handler.clone(), group.clone(), pool.clone(), owned);
    let stop = tasks.clone();
    tasks.spawn("parked records", async move {
        tokio::select! {
            () = shelf => {}
            () = stop.stopping() => {}
        }
    });
    Ok(())
}

struct Reader<H: Handler> {
    topics: Vec<String>,
    source: Source,
    dedupe: bool,
    runner: Runner<H>,
    handler: Arc<H>,
    group: Arc<Group>,
    pool: PgPool,
    owned: watch::Receiver<Vec<i32>>,
    restart: Restart,
    cursors: BTreeMap<Stream, Cursor>,
    /// Since when a stream has a hole.
    gaps: HashMap<Stream, Instant>,
    /// Streams that are not read any more: their log is not the one that was read before.
    stopped: HashSet<Stream>,
    meters: Arc<Meters>,
}

impl<H: Handler> Reader<H> {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.reopen().await {
                self.pause(&error).await;
                continue;
            }
            let at: Vec<(Stream, Position)> = self
                .cursors
                .iter()
                .filter(|(stream, _)| !self.stopped.contains(*stream))
                .map(|(stream, cursor)| (stream.clone(), cursor.0))
                .collect();
            if at.is_empty() {
                // Nothing owned: wait for a lease, or look again a little later.
                let mut owned = self.owned.clone();
                let _ = tokio::time::timeout(Duration::from_millis(SOURCE_RETRY_MS), owned.changed()).await;
                continue;
            }
            match self.source.fetch(&at).await {
                Ok(fetched) => {
                    for item in fetched {
                        if !self.take(item).await {
                            return;
                        }
                    }
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn pause(&self, error: &(dyn std::fmt::Display + Sync)) {
        tracing::warn!(group = self.group.name, topics = ?self.topics, %error, "cannot read");
        tokio::time::sleep(Duration::from_millis(SOURCE_RETRY_MS)).await;
    }

    /// Takes over streams that are newly owned, and those that were asked to start again, at their stored positions; lets go of lost ones.
    async fn reopen(&mut self) -> sqlx::Result<()> {
        let again = self.restart.take();
        if again.is_empty() && !self.owned.has_changed().unwrap_or(false) {
            return Ok(());
        }
        self.cursors.retain(|stream, _| !again.contains(stream));
        self.source.reopened(&again);
        let owned = self.owned.borrow().clone();
        self.cursors.retain(|stream, _| owned.contains(&stream.partition));
        let stored = store::all(&mut *self.pool.acquire().await?, self.group.name).await?;
        for (stream, position) in stored {
            if self.topics.contains(&stream.topic) && owned.contains(&stream.partition) {
                self.cursors.entry(stream).or_insert(Cursor(position));
            }
        }
        self.owned.mark_unchanged();
        Ok(())
    }

    /// Judges what came and hands it on; false when the runner is gone.
    async fn take(&mut self, fetched: Fetched) -> bool {
        let record = match fetched {
            Fetched::Record(record) => record,
            Fetched::Diverged(stream) => {
                self.stop(stream, "LOG_DIVERGED", "the record read last is not in the log any more");
                return true;
            }
        };
        let Some(cursor) = self.cursors.get_mut(&record.stream) else { return true };
        match cursor.judge(&record) {
            Judgement::Next { before, after } => {
                self.gaps.remove(&record.stream);
                let origin = Origin::Stream { record, before, after, restart: self.restart.clone() };
                self.runner.deliver(Item::heard(self.handler.as_ref(), self.group.name, origin)).await
            }
            Judgement::Repeat => {
                self.meters.duplicate();
                tracing::debug!(r#type = "DUPLICATE_EVENT", group = self.group.name, event_id = %record.id, event_type = record.type_name, "skipped");
                if self.dedupe {
                    return true;
                }
                self.runner.deliver(Item::heard(self.handler.as_ref(), self.group.name, Origin::Again(record))).await
            }
            Judgement::Gap { expected_seq } => {
                self.gap(&record, expected_seq);
                true
            }
            Judgement::Diverged => {
                self.stop(record.stream, "LOG_DIVERGED", "the log continues another history than the one read before");
                true
            }
        }
    }

    fn gap(&mut self, record: &Record, expected_seq: i64) {
        let since = *self.gaps.entry(record.stream.clone()).or_insert_with(Instant::now);
        if since.elapsed() > Duration::from_millis(GAP_WAIT_MS) {
            let detail = format!("expected sequence number {expected_seq}, the log goes on at {:?}", record.place.map(|p| p.seq));
            self.stop(record.stream.clone(), "LOG_GAP", &detail);
        }
    }

    fn stop(&mut self, stream: Stream, what: &str, detail: &str) {
        if self.stopped.insert(stream.clone()) {
            tracing::error!(
                r#type = what,
                group = self.group.name,
                topic = stream.topic,
                partition = stream.partition,
                detail,
                "the stream is stopped: nothing of it is applied until a person has looked"
            );
        }
    }
}

/// Brings back what was marked READY, one record a key at a time, and turns early records that waited too long into dead letters.
async fn shelf_rounds<H: Handler>(
    runner: Runner<H>,
    handler: Arc<H>,
    group: Arc<Group>,
    pool: PgPool,
    owned: watch::Receiver<Vec<i32>>,
) {
    loop {
        tokio::time::sleep(Duration::from_millis(SHELF_ROUND_MS)).await;
        let partitions = owned.borrow().clone();
        let rows = async {
            let mut db = pool.acquire().await?;
            parking::store::give_up(&mut db, group.name, EARLY_WAIT_S).await?;
            parking::store::ready(&mut db, group.name, &partitions, SHELF_ROWS_MAX).await
        };
        match rows.await {
            Ok(rows) => {
                for row in rows {
                    let item = Item::heard(handler.as_ref(), group.name, Origin::Ready(Box::new(row)));
                    if !runner.deliver(item).await {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(group = group.name, %error, "cannot look after parked records"),
        }
    }
}
