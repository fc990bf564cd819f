//! Admission: whether another call is taken. It is refused by how long what came before it has waited, not by how much that is alone.

mod store;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, global, metrics::Counter};
use sqlx::PgPool;

use crate::{Limits, Tasks, patience};

/// How often the backlog is looked at.
const LOOK_EVERY_MS: u64 = 1_000;
/// What a refused caller is told to wait: a batch or a few, and as long as it takes to look again.
const FULL_RETRY_MS: u64 = 100;
const SLOW_RETRY_MS: u64 = 500;
const BEHIND_RETRY_MS: u64 = 1_000;

/// What the calls of one service are refused by.
pub(crate) struct Admission {
    service: &'static str,
    limits: Limits,
    /// Age of the oldest record of this service that a reader has not passed.
    backlog_age_ms: AtomicU64,
    refused: Counter<u64>,
}

impl Admission {
    pub(crate) fn new(service: &'static str, limits: Limits) -> Self {
        Self {
            service,
            limits,
            backlog_age_ms: AtomicU64::new(0),
            refused: global::meter("messaging").u64_counter("settle_calls_refused").build(),
        }
    }

    /// There is no room. When to come again.
    pub(crate) fn full(&self) -> Duration {
        self.refuse("full", FULL_RETRY_MS)
    }

    /// Whether a call may queue behind what has waited for so long already; else when to come again.
    pub(crate) fn behind_queue(&self, age: Duration) -> Result<(), Duration> {
        match age > Duration::from_millis(self.limits.queue_age_ms_max) {
            true => Err(self.refuse("slow", SLOW_RETRY_MS)),
            false => Ok(()),
        }
    }

    /// Whether new work may be said to readers that are so far behind; else when to come again.
    pub(crate) fn behind_readers(&self) -> Result<(), Duration> {
        match self.is_behind(self.backlog_age_ms.load(Ordering::Relaxed)) {
            true => Err(self.refuse("backlog", BEHIND_RETRY_MS)),
            false => Ok(()),
        }
    }

    fn is_behind(&self, age_ms: u64) -> bool {
        age_ms > self.limits.backlog_age_ms_max
    }

    fn refuse(&self, why: &'static str, retry_ms: u64) -> Duration {
        self.refused.add(1, &[KeyValue::new("group", self.service), KeyValue::new("why", why)]);
        Duration::from_millis(retry_ms)
    }

    /// Looks at the backlog once a second, until the stop.
    pub(crate) fn watch(self: &Arc<Self>, pool: PgPool, tasks: &Tasks) {
        let (admission, stop) = (self.clone(), tasks.clone());
        tasks.spawn("backlog", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)) => {}
                    () = stop.stopping() => return,
                }
                let limit_ms = admission.limits.database_ms_max;
                match patience::at(limit_ms, &pool, async |db| store::backlog_age_ms(db).await).await {
                    Ok(age_ms) => admission.seen(u64::try_from(age_ms).unwrap_or_default()),
                    // What was seen last holds.
                    Err(error) => tracing::debug!(service = admission.service, %error, "cannot look at the backlog"),
                }
            }
        });
    }

    fn seen(&self, age_ms: u64) {
        let before_ms = self.backlog_age_ms.swap(age_ms, Ordering::Relaxed);
        match (self.is_behind(before_ms), self.is_behind(age_ms)) {
            (false, true) => {
                tracing::warn!(
                    r#type = "BACKLOG",
                    service = self.service,
                    ageMs = age_ms,
                    "readers are behind: new work is refused"
                );
            }
            (true, false) => {
                tracing::info!(r#type = "BACKLOG", service = self.service, "readers have caught up: new work is taken")
            }
            (true, true) | (false, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_by_age_and_taken_again() {
        let admission = Admission::new("s", Limits { queue_age_ms_max: 50, backlog_age_ms_max: 200, ..Limits::default() });
        assert!(admission.behind_queue(Duration::from_millis(50)).is_ok());
        assert!(admission.behind_queue(Duration::from_millis(51)).is_err());
        assert!(admission.behind_readers().is_ok());
        admission.seen(201);
        assert_eq!(admission.behind_readers(), Err(Duration::from_millis(BEHIND_RETRY_MS)));
        admission.seen(200);
        assert!(admission.behind_readers().is_ok());
    }
}
