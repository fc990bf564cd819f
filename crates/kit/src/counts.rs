//! What the platform counts of its business, and the METRICS line of the log: every 10 s what each service has done since the start.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use messaging::{Tasks, Totals};
use opentelemetry::{
    global,
    metrics::{Counter, Gauge},
};
use tokio::time::{MissedTickBehavior, interval};

const METRICS_EVERY_S: u64 = 10;

/// Orders that were taken. On /metrics `orders_submitted_total`.
pub static ORDERS_SUBMITTED: Count = Count::new("orders_submitted");
/// Charges that the provider made. On /metrics `payments_succeeded_total`.
pub static PAYMENTS_SUCCEEDED: Count = Count::new("payments_succeeded");
/// Charges that the provider declined. On /metrics `payments_failed_total`.
pub static PAYMENTS_FAILED: Count = Count::new("payments_failed");
/// Calls to the provider whose outcome was not known when they ended. On /metrics `provider_calls_unknown_total`.
pub static PROVIDER_CALLS_UNKNOWN: Count = Count::new("provider_calls_unknown");
/// Calls to the provider that were made before. On /metrics `provider_calls_retried_total`.
pub static PROVIDER_CALLS_RETRIED: Count = Count::new("provider_calls_retried");
/// The breaker before the provider: 0 closed, 1 half open, 2 open. On /metrics `provider_breaker`.
pub static PROVIDER_BREAKER: Level = Level::new("provider_breaker");

/// A counter that both /metrics and the log show. Counted after the commit.
pub struct Count {
    name: &'static str,
    total: AtomicU64,
    meter: OnceLock<Counter<u64>>,
}

impl Count {
    const fn new(name: &'static str) -> Self {
        Self { name, total: AtomicU64::new(0), meter: OnceLock::new() }
    }

    pub fn add(&self, n: u64) {
        self.total.fetch_add(n, Ordering::Relaxed);
        self.meter.get_or_init(|| global::meter("settle").u64_counter(self.name).build()).add(n, &[]);
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// A value that /metrics shows as it stands.
pub struct Level {
    name: &'static str,
    meter: OnceLock<Gauge<u64>>,
}

impl Level {
    const fn new(name: &'static str) -> Self {
        Self { name, meter: OnceLock::new() }
    }

    pub fn set(&self, value: u64) {
        self.meter.get_or_init(|| global::meter("settle").u64_gauge(self.name).build()).record(value, &[]);
    }
}

/// Writes the METRICS lines of this process, until the stop.
pub async fn report(tasks: Tasks) {
    // So that /metrics shows them before there is anything to count.
    for count in [&ORDERS_SUBMITTED, &PAYMENTS_SUCCEEDED, &PAYMENTS_FAILED, &PROVIDER_CALLS_UNKNOWN, &PROVIDER_CALLS_RETRIED] {
        count.add(0);
    }
    let mut every = interval(Duration::from_secs(METRICS_EVERY_S));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once.
    every.tick().await;
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = tasks.stopping() => return,
        }
        for (service, totals) in messaging::totals() {
            say(service, &totals);
        }
    }
}

fn say(service: &str, totals: &Totals) {
    let (succeeded, failed) = match service {
        "payment" => (PAYMENTS_SUCCEEDED.total(), PAYMENTS_FAILED.total()),
        _ => (0, 0),
    };
    tracing::info!(
        r#type = "METRICS",
        service,
        eventsProcessed = totals.applied,
        duplicatesSkipped = totals.duplicates,
        paymentsSuccess = succeeded,
        paymentsFailed = failed,
        retriedEvents = totals.retries,
        dlqEvents = totals.dead_letters,
        "since the start"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::telemetry::tests::lines;

    #[test]
    fn a_metrics_line_has_the_fields_of_the_documents() {
        PAYMENTS_SUCCEEDED.add(2);
        PAYMENTS_FAILED.add(1);
        let totals = Totals { applied: 9, duplicates: 8, retries: 7, dead_letters: 6, ..Totals::default() };
        let said = lines(&[], || {
            say("payment", &totals);
            say("order", &Totals::default());
        });
        let line = |service: &str, n: [u64; 6]| {
            json!({"level": "INFO", "target": "kit::counts", "message": "since the start", "type": "METRICS", "service": service,
                "eventsProcessed": n[0], "duplicatesSkipped": n[1], "paymentsSuccess": n[2], "paymentsFailed": n[3],
                "retriedEvents": n[4], "dlqEvents": n[5]})
        };
        assert_eq!(said, [line("payment", [9, 8, 2, 1, 7, 6]), line("order", [0; 6])]);
    }
}
