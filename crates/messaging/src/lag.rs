//! How far behind its readers are, for dashboards and alarms: looked up in the publisher's database, where readers of both buses report.

mod store;

use std::time::Duration;

use opentelemetry::{KeyValue, global, metrics::Gauge};
use sqlx::PgPool;

use crate::{Tasks, patience};

/// How often. Nothing depends on it but what people see.
const LOOK_EVERY_MS: u64 = 5_000;

/// Keeps the gauges of everybody who reads this service, until the stop.
pub(crate) fn watch(service: &'static str, limit_ms: u64, pool: PgPool, tasks: &Tasks) {
    let meter = global::meter("messaging");
    let records: Gauge<u64> = meter.u64_gauge("settle_consumer_lag").build();
    let age_ms: Gauge<u64> = meter.u64_gauge("settle_oldest_unread_ms").build();
    let stop = tasks.clone();
    tasks.spawn("lag of readers", async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)) => {}
                () = stop.stopping() => return,
            }
            match patience::at(limit_ms, &pool, async |db| store::behind(db).await).await {
                Ok(readers) => {
                    for reader in readers {
                        let labels = [
                            KeyValue::new("group", reader.group),
                            KeyValue::new("topic", reader.topic),
                            KeyValue::new("partition", i64::from(reader.partition)),
                        ];
                        records.record(u64::try_from(reader.records).unwrap_or_default(), &labels);
                        age_ms.record(u64::try_from(reader.age_ms).unwrap_or_default(), &labels);
                    }
                }
                // What was seen last holds.
                Err(error) => tracing::debug!(service, %error, "cannot look how far behind readers are"),
            }
        }
    });
}
