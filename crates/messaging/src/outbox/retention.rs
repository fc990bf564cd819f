//! Retention: makes ranges of the outbox ahead of their writers, drops those that every reader has passed and that are old enough, and ages
//! what is kept to tell repeats by. Never in the way of the hot path: nothing here takes a lock that a reader or a writer waits for.

mod store;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use super::ranges::{
    self, Extent, Range,
    store::{Attached, Kept},
};
use crate::{Limits, Tasks, patience};

/// How often ranges are looked after.
const ROUND_MS: u64 = 2_000;
/// How long a round may take: one that drops a range waits for every transaction that may see it.
const ROUND_MS_MAX: u64 = 600_000;
/// How often rows are aged; at once again while there are more than go in a round.
const AGE_EVERY_MS: u64 = 10_000;
/// Rows of a table deleted in one statement, at most.
const AGE_ROWS_MAX: i64 = 1_000;

/// Makes the first ranges of these topics, and looks after the outbox of the service until the stop. Any number of instances may.
pub(crate) async fn start(service: &str, topics: &[&str], pool: &PgPool, limits: &Limits, tasks: &Tasks) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    let kept = ranges::store::all(&mut db).await?;
    let new = topics.iter().filter(|topic| !kept.iter().any(|kept| kept.topic == **topic));
    ranges::store::cover(&mut db, &new.map(|topic| ((*topic).to_owned(), 1)).collect(), limits.outbox_range_rows).await?;
    drop(db);
    let keeper = Keeper {
        service: service.to_owned(),
        limits: *limits,
        options: pool.connect_options(),
        db: None,
        young: HashMap::new(),
        held_up: false,
        aged_at: None,
    };
    let stop = tasks.clone();
    tasks.spawn("retention", async move {
        tokio::select! {
            () = keeper.run() => {}
            // Its connection ends with it, and what it has left half-done is finished by the next.
            () = stop.stopping() => {}
        }
    });
    Ok(())
}

struct Keeper {
    service: String,
    limits: Limits,
    options: Arc<PgConnectOptions>,
    db: Option<PgConnection>,
    /// Ranges that are passed, by their table, and when they are old enough.
    young: HashMap<String, Instant>,
    /// A range could not be dropped at the last try, and the log says so.
    held_up: bool,
    aged_at: Option<Instant>,
}

/// The ranges and streams of one topic.
struct Topic {
    kept: Vec<Kept>,
    extents: Vec<Extent>,
}

impl Topic {
    fn ranges(&self) -> Vec<Range> {
        self.kept.iter().map(|kept| kept.range).collect()
    }

    fn last(&self) -> i64 {
        self.extents.iter().map(|extent| extent.last).max().unwrap_or_default()
    }

    /// What every reader has passed and nobody gave up yet.
    fn passed(&self) -> impl Iterator<Item = &Kept> {
        let passed = ranges::passed(&self.ranges(), &self.extents);
        self.kept.iter().filter(move |kept| !kept.dropping && kept.place == Attached::Yes && passed.contains(&kept.range))
    }
}

async fn look(db: &mut PgConnection) -> sqlx::Result<BTreeMap<String, Topic>> {
    let mut extents = ranges::store::extents(db).await?;
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    for kept in ranges::store::all(db).await? {
        let of_topic = || Topic { kept: Vec::new(), extents: extents.remove(&kept.topic).unwrap_or_default() };
        topics.entry(kept.topic.clone()).or_insert_with(of_topic).kept.push(kept);
    }
    Ok(topics)
}

impl Keeper {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
            let mut db = match self.db.take() {
                Some(db) => db,
                None => match patience::within(ROUND_MS_MAX, store::connect(&self.options)).await {
                    Ok(db) => db,
                    Err(error) => {
                        tracing::debug!(service = self.service, %error, "cannot look after the outbox");
                        continue;
                    }
                },
            };
            match patience::within(ROUND_MS_MAX, self.round(&mut db)).await {
                Ok(()) => self.db = Some(db),
                // Whatever it still held is free when the connection ends.
                Err(error) => tracing::warn!(service = self.service, %error, "cannot look after the outbox"),
            }
        }
    }

    async fn round(&mut self, db: &mut PgConnection) -> sqlx::Result<()> {
        let topics = look(db).await?;
        let ahead: BTreeMap<String, i64> = topics
            .iter()
            .map(|(name, topic)| (name.clone(), topic.last() + 1))
            .filter(|(name, next)| !ranges::missing(&topics[name].ranges(), *next, self.limits.outbox_range_rows).is_empty())
            .collect();
        if !ahead.is_empty() {
            ranges::store::cover(db, &ahead, self.limits.outbox_range_rows).await?;
        }
        let half_dropped =
            topics.values().flat_map(|topic| &topic.kept).any(|kept| kept.dropping || kept.place == Attached::Pending);
        let old = match half_dropped {
            true => Vec::new(),
            false => self.old(db, &topics).await?,
        };
        if (half_dropped || !old.is_empty()) && store::try_lock(db).await? {
            let done = self.drop_ranges(db, &old).await;
            store::unlock(db).await?;
            done?;
        }
        self.age(db).await
    }

    /// What can be given up now: the oldest range of each. If that is too young, so are the others.
    async fn old(&mut self, db: &mut PgConnection, topics: &BTreeMap<String, Topic>) -> sqlx::Result<Vec<Kept>> {
        let mut old = Vec::new();
        for topic in topics.values() {
            let oldest = topic.passed().next().cloned();
            if let Some(kept) = oldest
                && self.is_old(db, &kept).await?
            {
                old.push(kept);
            }
        }
        Ok(old)
    }

    /// Whether the newest record of a range is older than records are kept.
    async fn is_old(&mut self, db: &mut PgConnection, kept: &Kept) -> sqlx::Result<bool> {
        let retention_s = i64::try_from(self.limits.outbox_retention_s).unwrap_or(i64::MAX);
        if kept.made_ago_s < retention_s || self.young.get(&kept.relation).is_some_and(|until| *until > Instant::now()) {
            return Ok(false);
        }
        let left_s = match store::newest_ago_s(db, &kept.topic, kept.range).await? {
            Some(ago_s) => retention_s - ago_s,
            None => 0,
        };
        match u64::try_from(left_s) {
            Ok(left_s) if left_s > 0 => {
                self.young.insert(kept.relation.clone(), Instant::now() + Duration::from_secs(left_s));
                Ok(false)
            }
            _ => {
                self.young.remove(&kept.relation);
                Ok(true)
            }
        }
    }

    async fn drop_ranges(&mut self, db: &mut PgConnection, old: &[Kept]) -> sqlx::Result<()> {
        for kept in old {
            give_up(db, kept).await?;
        }
        match drop_all(db, &self.service).await {
            Err(error) if store::is_in_the_way(&error) => {
                if !std::mem::replace(&mut self.held_up, true) {
                    let service = &self.service;
                    tracing::info!(r#type = "RETENTION", service, %error, "a range waits for open transactions before it is dropped");
                }
                Ok(())
            }
            done => {
                self.held_up = false;
                done
            }
        }
    }

    async fn age(&mut self, db: &mut PgConnection) -> sqlx::Result<()> {
        if self.aged_at.is_some_and(|at| at.elapsed() < Duration::from_millis(AGE_EVERY_MS)) {
            return Ok(());
        }
        let retention_s = i64::try_from(self.limits.processed_events_retention_s).unwrap_or(i64::MAX);
        let forgotten = store::forget_processed(db, retention_s, AGE_ROWS_MAX).await?;
        let cut = store::cut_settled(db, retention_s, AGE_ROWS_MAX).await?;
        let full = u64::try_from(AGE_ROWS_MAX).unwrap_or_default();
        self.aged_at = (forgotten < full && cut < full).then(Instant::now);
        Ok(())
    }
}

/// Gives a range up if it is still passed: a group that joined meanwhile, or was sent back, has its place in `readers` by now, and who joins
/// from here on begins behind it.
async fn give_up(db: &mut PgConnection, range: &Kept) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    ranges::store::lock(&mut tx).await?;
    let topics = look(&mut tx).await?;
    if topics.get(&range.topic).is_some_and(|topic| topic.passed().any(|kept| kept.relation == range.relation)) {
        store::mark(&mut tx, &range.relation).await?;
    }
    tx.commit().await
}

/// Detaches and drops what was given up, also by an instance that died on the way.
async fn drop_all(db: &mut PgConnection, service: &str) -> sqlx::Result<()> {
    let kept = ranges::store::all(db).await?;
    // No other range can be detached before this one is, whoever began it.
    for pending in kept.iter().filter(|kept| kept.place == Attached::Pending) {
        store::finalize(db, &pending.relation).await?;
    }
    for Kept { relation, topic, range, place, .. } in kept.iter().filter(|kept| kept.dropping) {
        if *place == Attached::Yes {
            store::detach(db, relation).await?;
        }
        store::drop(db, relation).await?;
        tracing::info!(
            r#type = "RETENTION",
            service,
            topic,
            firstSeq = range.first,
            endSeq = range.end,
            "a range of the outbox is dropped: every reader has passed it, and it is old enough"
        );
    }
    Ok(())
}
