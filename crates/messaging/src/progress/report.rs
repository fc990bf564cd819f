//! Tells publishers how far a group has come, beside the hot path: retention and admission wait for the slowest.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use sqlx::{PgConnection, PgPool};

use super::store;
use crate::{Bus, Stream, Tasks, bus::Publisher, group::Group, outbox::readers, patience};

/// How often what has changed is told.
const REPORT_EVERY_MS: u64 = 1_000;
/// How often everything is told again: who says nothing is taken for dead.
const REPEAT_EVERY_MS: u64 = 10_000;

/// Reports until the stop: of each stream the instance that reads it.
pub(crate) fn start(bus: &Bus, group: &Arc<Group>, pool: &PgPool, tasks: &Tasks) {
    if bus.told_by_readers().is_empty() {
        return;
    }
    let report = Report { bus: bus.clone(), group: group.clone(), pool: pool.clone(), told: HashMap::new() };
    let stop = tasks.clone();
    tasks.spawn("report", async move {
        tokio::select! {
            () = report.run() => {}
            () = stop.stopping() => {}
        }
    });
}

struct Report {
    bus: Bus,
    group: Arc<Group>,
    pool: PgPool,
    /// What each stream's publisher was told last.
    told: HashMap<Stream, i64>,
}

impl Report {
    async fn run(mut self) {
        let mut repeated_at = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(REPORT_EVERY_MS)).await;
            if repeated_at.elapsed() >= Duration::from_millis(REPEAT_EVERY_MS) {
                repeated_at = Instant::now();
                self.told.clear();
            }
            if let Err(error) = self.round().await {
                tracing::debug!(group = self.group.name, %error, "cannot look how far this instance has come");
            }
        }
    }

    async fn round(&mut self) -> sqlx::Result<()> {
        let Group { name, instance, limits, .. } = *self.group;
        let limit_ms = limits.database_ms_max;
        let look = async |db: &mut PgConnection| {
            let mut new = store::read_by(&mut *db, name, instance).await?;
            new.retain(|(stream, seq)| self.told.get(stream) != Some(seq));
            if !new.is_empty() {
                store::flush(db).await?;
            }
            Ok::<_, sqlx::Error>(new)
        };
        let new = patience::at(limit_ms, &self.pool, look).await?;
        // All at once: one publisher that is away holds up no other's news.
        let told = join_all(self.bus.told_by_readers().iter().map(|publisher| tell(limit_ms, publisher, name, &new))).await;
        self.told.extend(told.into_iter().flatten());
        Ok(())
    }
}

/// Tells one publisher; gives back what it knows now.
async fn tell(limit_ms: u64, publisher: &Publisher, group: &str, new: &[(Stream, i64)]) -> Vec<(Stream, i64)> {
    let of_publisher = |(stream, _): &&(Stream, i64)| publisher.topics.iter().any(|topic| *topic == stream.topic);
    let seqs: Vec<(Stream, i64)> = new.iter().filter(of_publisher).cloned().collect();
    if seqs.is_empty() {
        return seqs;
    }
    let told = patience::at(limit_ms, &publisher.pool, async |db| readers::store::report(db, group, &seqs).await);
    match told.await {
        Ok(()) => seqs,
        Err(error) => {
            tracing::debug!(group, publisher = publisher.service, %error, "a publisher does not hear how far its reader is");
            Vec::new()
        }
    }
}
