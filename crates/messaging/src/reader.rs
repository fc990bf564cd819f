//! Readers: from the sources of a bus, through the cursor's judgement, into the runner.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::sync::watch;

use crate::{
    Bus, Error, Handler, Position, Runner, Stream, Subscription, Tasks,
    batch::Group,
    bus::{Fetched, Source},
    cursor::{Cursor, Judgement},
    item::{Item, Origin},
    lease,
    meters::Meters,
    parking,
    progress::store,
};

/// How long a hole in a stream may last before the stream stops loudly.
const GAP_WAIT_MS: u64 = 10_000;
/// Pause between two looks at a stream with a hole.
const GAP_POLL_MS: u64 = 50;
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
            owned_now: owned.borrow().clone(),
            unread: true,
            restart: Restart::default(),
            again: HashSet::new(),
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

struct Gap {
    expected_seq: i64,
    since: Instant,
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
    owned_now: Vec<i32>,
    /// What is owned has changed, and the cursors do not show it yet.
    unread: bool,
    restart: Restart,
    /// Asked to start again, not done yet.
    again: HashSet<Stream>,
    cursors: BTreeMap<Stream, Cursor>,
    /// Streams with a hole.
    gaps: HashMap<Stream, Gap>,
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
                    if !self.gaps.is_empty() {
                        self.stop_old_gaps();
                        tokio::time::sleep(Duration::from_millis(GAP_POLL_MS)).await;
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
        self.again.extend(self.restart.take());
        if self.owned.has_changed().unwrap_or(false) {
            self.owned_now = self.owned.borrow_and_update().clone();
            self.unread = true;
        }
        if self.again.is_empty() && !self.unread {
            return Ok(());
        }
        let stored = store::all(&mut *self.pool.acquire().await?, self.group.name).await?;
        self.unread = false;
        let again = std::mem::take(&mut self.again);
        self.cursors.retain(|stream, _| !again.contains(stream) && self.owned_now.contains(&stream.partition));
        let mut opened = HashSet::new();
        for (stream, position) in stored {
            let mine = self.topics.contains(&stream.topic) && self.owned_now.contains(&stream.partition);
            if mine && !self.cursors.contains_key(&stream) {
                self.gaps.remove(&stream);
                self.stopped.remove(&stream);
                opened.insert(stream.clone());
                self.cursors.insert(stream, Cursor(position));
            }
        }
        self.source.reopened(&opened);
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
        if self.stopped.contains(&record.stream) {
            return true;
        }
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
                self.gaps.entry(record.stream.clone()).or_insert_with(|| Gap { expected_seq, since: Instant::now() });
                true
            }
            Judgement::Diverged => {
                self.stop(record.stream.clone(), "LOG_DIVERGED", "the log continues another history than the one read before");
                true
            }
        }
    }

    fn stop_old_gaps(&mut self) {
        let old = |(_, gap): &(&Stream, &Gap)| gap.since.elapsed() > Duration::from_millis(GAP_WAIT_MS);
        let old: Vec<(Stream, i64)> =
            self.gaps.iter().filter(old).map(|(stream, gap)| (stream.clone(), gap.expected_seq)).collect();
        for (stream, expected_seq) in old {
            self.gaps.remove(&stream);
            self.stop(stream, "LOG_GAP", &format!("the record with sequence number {expected_seq} is missing"));
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

/// Tries again what is held back, in order, and turns early records that waited too long into dead letters.
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
            for (event_id, key, reason) in parking::store::give_up(&mut db, group.name, EARLY_WAIT_S).await? {
                tracing::error!(r#type = "DLQ_EVENT", group = group.name, %event_id, key, reason, "parked: it waited too long");
            }
            parking::store::to_try(&mut db, group.name, &partitions, SHELF_ROWS_MAX).await
        };
        match rows.await {
            Ok(rows) => {
                for row in rows {
                    if !runner.deliver(Item::heard(handler.as_ref(), group.name, Origin::Held(Box::new(row)))).await {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(group = group.name, %error, "cannot look after parked records"),
        }
    }
}
