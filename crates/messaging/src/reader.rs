//! Readers: from the sources of a bus, through the cursor's judgement, into the runner.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

use crate::{
    Bus, Error, Handler, Position, Runner, Stream, Subscription, Tasks,
    batch::Group,
    bus::{Fetched, Source},
    cursor::{Cursor, Judgement},
    item::{Item, Origin, Work},
    lease, log,
    meters::Meters,
    operate::{Notice, older_copy},
    patience,
    progress::{self, Adopted, report, store},
    shelf,
};

/// Pause between two looks at a stream with a hole.
const GAP_POLL_MS: u64 = 50;
/// Pause after a source failed.
const SOURCE_RETRY_MS: u64 = 250;
/// Pause between two looks for topics that are not there yet.
const LOOK_AGAIN_MS: u64 = 5_000;
/// How often Kafka is told what is applied: offsets for people's tools, sequence numbers for the publisher.
const TELL_EVERY_MS: u64 = 1_000;

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
            look_again_at: None,
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
    let shelf = shelf::rounds(runner.clone(), handler.clone(), group.clone(), pool.clone(), owned, meters.clone());
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
    /// When to see whether the log of some stream has had a record by then: see `progress::open_unwritten`.
    look_again_at: Option<Instant>,
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
        let look = async |db: &mut PgConnection| {
            let stored = store::all(&mut *db, self.group.name).await?;
            store::flush(db).await?;
            Ok::<_, sqlx::Error>(stored)
        };
        let mut stored = patience::at(self.group.limits.database_ms_max, &self.pool, look).await?;
        // Of one that is stopped nothing: it may stand behind what was told before.
        stored.retain(|(stream, _)| self.cursors.contains_key(stream) && !self.stopped.contains(stream));
        Ok(stored)
    }

    /// Takes over streams that are newly owned, and those that were asked to start again, at their stored positions; lets go of lost ones.
    /// Those that stand behind what the group has told stay stopped.
    async fn reopen(&mut self) -> Result<(), Error> {
        let limit_ms = self.group.limits.database_ms_max;
        for (stream, until) in self.restart.take() {
            self.paused.extend(until.map(|until| (stream.clone(), until)));
            self.again.insert(stream);
        }
        // A stream in motion finds out by its compare-and-set that a person sent its group elsewhere.
        if self.idle || !self.stopped.is_empty() || !self.gaps.is_empty() {
            self.again.extend(self.notice.look(limit_ms, &self.pool, self.group.name).await?);
        }
        if self.owned.has_changed().unwrap_or(false) {
            self.owned_now = self.owned.borrow_and_update().clone();
            self.unread = true;
        }
        self.unread |= self.look_again_at.is_some_and(|at| at <= Instant::now());
        if self.again.is_empty() && !self.unread {
            return Ok(());
        }
        let open = async |db: &mut PgConnection| self.bus.open(db, self.group.name, &self.topics).await;
        patience::at(limit_ms, &self.pool, open).await?;
        let all_known = progress::open_unwritten(limit_ms, &self.pool, &mut self.source, self.group.name, &self.topics).await?;
        self.look_again_at = (!all_known).then(|| Instant::now() + Duration::from_millis(LOOK_AGAIN_MS));
        let opening = self.to_open();
        let told = self.source.told(self.group.name, &opening).await?;
        let look = async |db: &mut PgConnection| {
            let stored = store::all(&mut *db, self.group.name).await?;
            let lost = older_copy(db, self.group.name, &told, &stored).await?;
            Ok::<_, sqlx::Error>((stored, lost))
        };
        let (stored, lost) = patience::at(limit_ms, &self.pool, look).await?;
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
        self.stopped.retain(|stream| self.owned_now.contains(&stream.partition));
        self.group.troubles().stopped_still(&self.topics, &self.stopped);
        self.group.keep_stopped(&self.topics, &self.owned_now);
        self.source.reopened(&opened);
        for (stream, told) in lost {
            self.stop(stream, "LOG_DIVERGED", &format!("the group had come to {told}: its database is an older copy"));
        }
        Ok(())
    }

    /// Owned streams without a cursor, and those that are to start again.
    fn to_open(&self) -> Vec<Stream> {
        let owned = |topic: &String| {
            let stream = |partition: &i32| Stream { topic: topic.clone(), partition: *partition };
            self.owned_now.iter().map(stream).collect::<Vec<_>>()
        };
        let is_open = |stream: &Stream| self.cursors.contains_key(stream) && !self.again.contains(stream);
        self.topics.iter().flat_map(owned).filter(|stream| !is_open(stream)).collect()
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
        let behind_cut = cursor.0.seq == 0 && record.place.is_some_and(|place| place.seq > 1);
        if behind_cut && !self.gaps.contains_key(&record.stream) {
            let (pool, group, before) = (&self.pool, &self.group, cursor.0);
            let adopt = async |db: &mut PgConnection| progress::adopt(db, group.name, before, &record).await;
            match patience::at(group.limits.database_ms_max, pool, adopt).await {
                Ok(Adopted::At(position)) => *cursor = Cursor(position),
                Ok(Adopted::No) => {}
                Ok(Adopted::NotYet) => {
                    self.restart.ask_after(record.stream.clone(), SOURCE_RETRY_MS);
                    self.again.insert(record.stream.clone());
                    return true;
                }
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

    fn stop(&mut self, stream: Stream, what: &'static str, detail: &str) {
        if self.stopped.insert(stream.clone()) {
            self.group.troubles().stop(stream.clone(), what);
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
