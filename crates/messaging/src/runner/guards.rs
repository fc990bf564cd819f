//! What keeps one bad record, and many, from doing harm: the crash-loop guard and the park limit, as the worker applies them.

use std::collections::{BTreeMap, HashMap};

use super::Worker;
use crate::{
    Handler, Limits, Position, Stream,
    crash::{self, Whence},
    item::{Item, Origin, Work},
    outbox, patience, retry,
};

impl<H: Handler> Worker<H> {
    /// Settles what was taken from the queues. Records that may be what kills go one by one, each named by a mark first.
    pub(super) async fn settle_guarded(&mut self, mut items: Vec<Box<Item<H>>>) {
        while !self.group.crashes.is_off() {
            let Some(first) = self.group.crashes.first_alone(items.iter().map(|item| whence(item))) else { break };
            let rest = items.split_off(first.max(1));
            match first {
                0 => self.settle_marked(items).await,
                _ => self.settle_all(items).await,
            }
            items = rest;
            if items.is_empty() {
                return;
            }
        }
        self.settle_all(items).await;
    }

    /// Settles one record, unless the process has died of it too often: then it is parked.
    async fn settle_marked(&mut self, mut items: Vec<Box<Item<H>>>) {
        let Some(record) = items.first().and_then(|item| item.record()).cloned() else { return };
        let held = matches!(items[0].origin, Origin::Held(_));
        let limit_ms = self.group.limits.database_ms_max;
        let mut attempt = 0;
        let crashes = loop {
            let marked = patience::at(limit_ms, &self.pool, async |db| {
                crash::store::mark(db, self.group.name, self.group.instance, &record).await
            });
            match marked.await {
                Ok(crashes) => break u32::try_from(crashes).unwrap_or_default(),
                Err(error) => self.wait(&mut attempt, &error).await,
            }
        };
        if crashes >= self.group.limits.crashes_max {
            items[0].work = Work::Poisoned(format!("CRASH_LOOP: the process died {crashes} times while this record was decided"));
        }
        items[0].marked = true;
        self.settle_all(items).await;
        // Its commit took the mark away. Another instance may have been faster, or it may not be parked yet: that is no crash either.
        let unmarked = patience::at(limit_ms, &self.pool, async |db| crash::store::unmark(db, self.group.name, &[record.id]).await);
        if let Err(error) = unmarked.await {
            tracing::debug!(service = self.group.name, %error, "a mark is left behind");
        }
        self.group.crashes.survived(if held { Whence::Held } else { Whence::Stream(&record.stream) });
    }

    /// These would be dead letters beyond the limit: an outage or a bad deploy, not some bad records. Their streams stop for a while and
    /// are tried again without end; the rest of the batch goes on.
    pub(super) fn stop_streams(&self, items: &mut Vec<Box<Item<H>>>, blamed: &[usize]) {
        let mut pauses: HashMap<Stream, u64> = HashMap::new();
        for item in blamed.iter().filter_map(|index| items.get(*index)) {
            if let Origin::Stream { record, restart, .. } = &item.origin
                && !pauses.contains_key(&record.stream)
            {
                let pause_ms = retry::pause_ms(self.group.stop_stream(&record.stream));
                restart.ask_after(record.stream.clone(), pause_ms);
                pauses.insert(record.stream.clone(), pause_ms);
            }
        }
        self.meters.park_limit();
        tracing::error!(
            r#type = "PARK_LIMIT",
            service = self.group.name,
            records = blamed.len(),
            parkMax = self.group.limits.park_max,
            windowS = self.group.limits.park_window_s,
            streams = ?pauses.keys().map(|stream| format!("{}/{}", stream.topic, stream.partition)).collect::<Vec<_>>(),
            "too many records would be parked: their streams are stopped, and tried again until the cause is gone or the limit is raised"
        );
        let mut index = 0;
        items.retain(|item| {
            let stays = !blamed.contains(&index)
                && !matches!(&item.origin, Origin::Stream { record, .. } if pauses.contains_key(&record.stream));
            index += 1;
            stays
        });
    }

    /// Makes the ranges that news lacked; whether there were any to make.
    pub(super) async fn make_ranges(&self, next: &BTreeMap<String, i64>) -> bool {
        let Limits { outbox_range_rows, database_ms_max, .. } = self.group.limits;
        let made =
            patience::at(database_ms_max, &self.pool, async |db| outbox::ranges::store::cover(db, next, outbox_range_rows).await);
        made.await.is_ok_and(|made| made > 0)
    }

    /// What was applied shows which stopped streams go on.
    pub(super) fn go_on(&self, items: &[Box<Item<H>>]) {
        let streams = items.iter().filter_map(|item| match &item.origin {
            Origin::Stream { record, .. } => Some(&record.stream),
            Origin::Call(_) | Origin::Again(_) | Origin::Held(_) => None,
        });
        for Stream { topic, partition } in self.group.go_on(streams) {
            tracing::info!(r#type = "PARK_LIMIT", service = self.group.name, topic, partition, "the stream goes on");
        }
    }
}

/// How far this process has brought each stream. The stored position can only be behind it if the database is an older copy; what the group
/// has told others stops it then (see `operate::older_copy`), but for what it has not told yet.
#[derive(Default)]
pub(super) struct Committed(HashMap<Stream, i64>);

impl Committed {
    pub(super) fn note<H: Handler>(&mut self, items: &[Box<Item<H>>]) {
        for item in items {
            let Origin::Stream { record, after, .. } = &item.origin else { continue };
            match self.0.get_mut(&record.stream) {
                Some(seq) => *seq = after.seq,
                None => drop(self.0.insert(record.stream.clone(), after.seq)),
            }
        }
    }

    pub(super) fn compare(&mut self, group: &str, stored: &HashMap<Stream, Position>) {
        for (stream, position) in stored {
            if self.0.get(stream).is_some_and(|seq| position.seq < *seq) {
                self.0.remove(stream);
                let Stream { topic, partition } = stream;
                tracing::error!(
                    r#type = "LOG_DIVERGED",
                    service = group,
                    topic,
                    partition,
                    "the stored position is behind what this process committed: an older copy, or a person sent the group back"
                );
            }
        }
    }
}

/// Where a record that is to be decided comes from. What decides nothing kills nobody, and a call comes again only if its caller wants.
fn whence<H: Handler>(item: &Item<H>) -> Option<Whence<'_>> {
    item.input()?;
    match &item.origin {
        Origin::Stream { record, .. } => Some(Whence::Stream(&record.stream)),
        Origin::Held(_) => Some(Whence::Held),
        Origin::Call(_) | Origin::Again(_) => None,
    }
}
