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
    item::{Item, Origin, Work},
    lease, log,
    meters::Meters,
    operate::Notice,
    parking,
    progress::{self, report, store},
};

/// Pause between two looks at a stream with a hole.
const GAP_POLL_MS: u64 = 50;
/// Pause after a source failed.
const SOURCE_RETRY_MS: u64 = 250;
/// How often Kafka is told what is applied: offsets for people's tools, sequence numbers for the publisher.
const TELL_EVERY_MS: u64 = 1_000;
/// How often redriven and early records are looked after.
const SHELF_ROUND_MS: u64 = 500;
const SHELF_ROWS_MAX: i64 = 256;

/// Streams a reader is asked to start again from their stored positions, some not before a while.
#[derive(Clone, Default)]
pub(crate) struct Restart(Arc<Mutex<HashMap<Stream, Option<Instant>>>>);

impl Restart {
    pub(crate) fn ask(&self, stream: Stream) {
        self.lock().entry(stream).or_default();
    }

    /// Nothing of the stream is read until then.
    pub(crate) fn ask_after(&self, stream: Stream, pause_ms: u64) {
        self.lock().insert(stream, Some(Instant::now() + Duration::from_millis(pause_ms)));
    }

    fn take(&self) -> HashMap<Stream, Option<Instant>> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Stream, Option<Instant>>> {
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
    report::start(bus, group, pool, tasks);
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
            paused: HashMap::new(),
            bus: bus.clone(),
            notice: Notice::new(),
            told_at: Instant::now(),
            idle: false,
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
    let shelf = shelf_rounds(runner.clone(), handler.clone(), group.clone(), pool.clone(), owned, meters.clone());
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
    /// Streams that are read again then.
    paused: HashMap<Stream, Instant>,
    bus: Bus,
    notice: Notice,
    /// When the source was told last what is applied.
    told_at: Instant,
    /// The last look brought nothing.
    idle: bool,
    meters: Arc<Meters>,
}

impl<H: Handler> Reader<H> {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.reopen().await {
                self.pause(&error).await;
                continue;
            }
            let now = Instant::now();
            self.paused.retain(|_, until| *until > now);
            let at: Vec<(Stream, Position)> = self
                .cursors
                .iter()
                .filter(|(stream, _)| !self.stopped.contains(*stream) && !self.paused.contains_key(*stream))
                .map(|(stream, cursor)| (stream.clone(), cursor.0))
                .collect();
            if at.is_empty() {
                // Nothing owned: wait for a lease, or look again a little later.
                let mut owned = self.owned.clone();
                let _ = tokio::time::timeout(Duration::from_millis(SOURCE_RETRY_MS), owned.changed()).await;
                continue;
            }
            if self.source.wants_applied() && self.told_at.elapsed() >= Duration::from_millis(TELL_EVERY_MS) {
                self.told_at = Instant::now();
                match self.applied().await {
                    Ok(applied) => self.source.applied(applied),
                    Err(error) => tracing::debug!(service = self.group.name, %error, "cannot tell what is applied"),
                }
            }
            match self.source.fetch(&at).await {
                Ok(fetched) => {
                    self.idle = fetched.is_empty();
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
        tracing::warn!(service = self.group.name, topics = ?self.topics, %error, "cannot read");
        tokio::time::sleep(Duration::from_millis(SOURCE_RETRY_MS)).await;
    }

    /// Where this instance's streams stand in the database; the cursors are ahead of it.
    async fn applied(&self) -> sqlx::Result<Vec<(Stream, Position)>> {
        let mut stored = store::all(&mut *self.pool.acquire().await?, self.group.name).await?;
        stored.retain(|(stream, _)| self.cursors.contains_key(stream));
        Ok(stored)
    }

    /// Takes over streams that are newly owned, and those that were asked to start again, at their stored positions; lets go of lost ones.
    async fn reopen(&mut self) -> sqlx::Result<()> {
        for (stream, until) in self.restart.take() {
            self.paused.extend(until.map(|until| (stream.clone(), until)));
            self.again.insert(stream);
        }
        // A stream in motion finds out by its compare-and-set that a person sent its group elsewhere.
        if self.idle || !self.stopped.is_empty() || !self.gaps.is_empty() {
            self.again.extend(self.notice.look(&self.pool, self.group.name).await?);
        }
        if self.owned.has_changed().unwrap_or(false) {
            self.owned_now = self.owned.borrow_and_update().clone();
            self.unread = true;
        }
        if self.again.is_empty() && !self.unread {
            return Ok(());
        }
        let mut db = self.pool.acquire().await?;
        self.bus.open(&mut db, self.group.name, &self.topics).await?;
        let stored = store::all(&mut db, self.group.name).await?;
        drop(db);
        self.unread = false;
        let again = std::mem::take(&mut self.again);
        self.cursors.retain(|stream, _| !again.contains(stream) && self.owned_now.contains(&stream.partition));
        self.gaps.retain(|stream, _| self.cursors.contains_key(stream));
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
        let waits = self.paused.contains_key(&record.stream) || self.again.contains(&record.stream);
        if waits || self.stopped.contains(&record.stream) {
            return true;
        }
        let Some(cursor) = self.cursors.get_mut(&record.stream) else { return true };
        let behind_cut = cursor.0 == Position::default() && record.place.is_some_and(|place| place.seq > 1);
        if behind_cut && !self.gaps.contains_key(&record.stream) {
            let (pool, group) = (&self.pool, self.group.name);
            let adopted = async { progress::adopt(&mut *pool.acquire().await?, group, &record).await };
            match adopted.await {
                Ok(Some(position)) => *cursor = Cursor(position),
                Ok(None) => {}
                Err(error) => {
                    self.again.insert(record.stream.clone());
                    self.pause(&error).await;
                    return true;
                }
            }
        }
        match cursor.judge(&record) {
            Judgement::Next { before, after } => {
                self.gaps.remove(&record.stream);
                log::received(self.group.name, &record);
                let origin = Origin::Stream { record, before, after, restart: self.restart.clone() };
                let item = Item::heard(self.handler.as_ref(), self.group.name, origin);
                if let (Work::UnknownType, Some(record)) = (&item.work, item.record()) {
                    self.meters.unknown_type();
                    self.group.unknown_types.heard(record);
                }
                self.runner.deliver(item).await
            }
            Judgement::Repeat => {
                self.meters.duplicates(1);
                log::duplicate(self.group.name, &record);
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
        let gap_wait = Duration::from_millis(self.group.limits.gap_wait_ms);
        let old = |(_, gap): &(&Stream, &Gap)| gap.since.elapsed() > gap_wait;
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
                service = self.group.name,
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
    meters: Arc<Meters>,
) {
    let early_wait_s = group.limits.early_wait_s;
    // The last row that was looked at while a look is full: what waits for rows further behind must not keep them from being seen.
    let mut after = 0;
    loop {
        if after == 0 {
            tokio::time::sleep(Duration::from_millis(SHELF_ROUND_MS)).await;
        }
        let partitions = owned.borrow().clone();
        let rows = async {
            let mut db = pool.acquire().await?;
            let room = group.park_room();
            let given_up = parking::give_up(&mut db, &group, early_wait_s, room).await?;
            group.given_up(given_up.len(), room);
            meters.dead_letters(given_up.len() as u64);
            for (event_id, key, reason) in given_up {
                log::given_up(group.name, event_id, &key, &reason);
            }
            parking::store::to_try(&mut db, group.name, &partitions, after, SHELF_ROWS_MAX).await
        };
        match rows.await {
            Ok(rows) => {
                let full = i64::try_from(rows.len()).is_ok_and(|len| len >= SHELF_ROWS_MAX);
                after = rows.last().filter(|_| full).map_or(0, |row| row.id);
                for row in rows {
                    if !runner.deliver(Item::heard(handler.as_ref(), group.name, Origin::Held(Box::new(row)))).await {
                        return;
                    }
                }
            }
            Err(error) => {
                after = 0;
                tracing::debug!(service = group.name, %error, "cannot look after parked records");
            }
        }
    }
}
