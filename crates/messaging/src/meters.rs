//! What the crate counts: for people and alarms through the OpenTelemetry API (a no-op unless the process installs a meter provider), and
//! as totals that the process may ask for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};

/// What a group has done since the process started, all its instances in this process together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inputs that were decided and committed: records, calls, timers and outcomes.
    pub applied: u64,
    /// Records that came again and had no effect.
    pub duplicates: u64,
    /// Times a batch was tried again after an outage.
    pub retries: u64,
    /// Batches that found their streams elsewhere than they had left them: another instance was faster, or a commit whose answer was lost
    /// had gone through.
    pub fenced: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Records of a type that nobody here knows, which were passed over.
    pub unknown_types: u64,
}

/// The totals of every group that was started in this process, by name.
#[must_use]
pub fn totals() -> BTreeMap<&'static str, Totals> {
    groups().iter().map(|(group, counts)| (*group, counts.now())).collect()
}

#[derive(Default)]
struct Counts {
    applied: AtomicU64,
    duplicates: AtomicU64,
    retries: AtomicU64,
    fenced: AtomicU64,
    dead_letters: AtomicU64,
    unknown_types: AtomicU64,
}

impl Counts {
    fn now(&self) -> Totals {
        Totals {
            applied: self.applied.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            fenced: self.fenced.load(Ordering::Relaxed),
            dead_letters: self.dead_letters.load(Ordering::Relaxed),
            unknown_types: self.unknown_types.load(Ordering::Relaxed),
        }
    }
}

fn groups() -> std::sync::MutexGuard<'static, BTreeMap<&'static str, Arc<Counts>>> {
    static GROUPS: Mutex<BTreeMap<&'static str, Arc<Counts>>> = Mutex::new(BTreeMap::new());
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counters of one group.
pub(crate) struct Meters {
    group: [KeyValue; 1],
    counts: Arc<Counts>,
    applied: Counter<u64>,
    duplicates: Counter<u64>,
    skipped: Counter<u64>,
    parked: Counter<u64>,
    dead_letters: Counter<u64>,
    unknown_types: Counter<u64>,
    retries: Counter<u64>,
    fenced: Counter<u64>,
    park_limits: Counter<u64>,
    batch_rows: Histogram<u64>,
}

impl Meters {
    pub(crate) fn of(group: &'static str) -> Self {
        let meter = global::meter("messaging");
        Self {
            group: [KeyValue::new("group", group)],
            counts: groups().entry(group).or_default().clone(),
            applied: meter.u64_counter("settle_inputs_applied").build(),
            duplicates: meter.u64_counter("settle_duplicates_skipped").build(),
            skipped: meter.u64_counter("settle_inputs_skipped").build(),
            parked: meter.u64_counter("settle_records_parked").build(),
            dead_letters: meter.u64_counter("settle_dead_letters").build(),
            unknown_types: meter.u64_counter("settle_unknown_types").build(),
            retries: meter.u64_counter("settle_batch_retries").build(),
            fenced: meter.u64_counter("settle_batches_fenced").build(),
            park_limits: meter.u64_counter("settle_park_limit_stops").build(),
            batch_rows: meter
                .u64_histogram("settle_batch_rows")
                .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0])
                .build(),
        }
    }

    /// A batch was committed. `parked` counts what was held back for whatever reason.
    pub(crate) fn batch(&self, rows: usize, applied: u64, skipped: u64, parked: u64) {
        self.counts.applied.fetch_add(applied, Ordering::Relaxed);
        self.batch_rows.record(rows as u64, &self.group);
        for (counter, n) in [(&self.applied, applied), (&self.skipped, skipped), (&self.parked, parked)] {
            if n > 0 {
                counter.add(n, &self.group);
            }
        }
    }

    pub(crate) fn duplicates(&self, n: u64) {
        if n > 0 {
            self.counts.duplicates.fetch_add(n, Ordering::Relaxed);
            self.duplicates.add(n, &self.group);
        }
    }

    /// Records that now wait for a person, and that alone: what is early or of a newer version is not among them.
    pub(crate) fn dead_letters(&self, n: u64) {
        if n > 0 {
            self.counts.dead_letters.fetch_add(n, Ordering::Relaxed);
            self.dead_letters.add(n, &self.group);
        }
    }

    pub(crate) fn unknown_type(&self) {
        self.counts.unknown_types.fetch_add(1, Ordering::Relaxed);
        self.unknown_types.add(1, &self.group);
    }

    /// Streams were stopped, since more records would have been parked than may be.
    pub(crate) fn park_limit(&self) {
        self.park_limits.add(1, &self.group);
    }

    pub(crate) fn retry(&self) {
        self.counts.retries.fetch_add(1, Ordering::Relaxed);
        self.retries.add(1, &self.group);
    }

    /// The compare-and-set of a batch found its streams elsewhere.
    pub(crate) fn fenced(&self) {
        self.counts.fenced.fetch_add(1, Ordering::Relaxed);
        self.fenced.add(1, &self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_a_group_have_one_total() {
        let (one, other, stranger) = (Meters::of("counted"), Meters::of("counted"), Meters::of("not counted"));
        one.batch(7, 4, 2, 1);
        other.batch(1, 1, 0, 0);
        one.duplicates(1);
        other.retry();
        one.fenced();
        one.dead_letters(1);
        one.dead_letters(0);
        one.unknown_type();
        stranger.batch(1, 1, 0, 0);
        assert_eq!(
            totals()["counted"],
            Totals { applied: 5, duplicates: 1, retries: 1, fenced: 1, dead_letters: 1, unknown_types: 1 }
        );
        assert_eq!(totals()["not counted"], Totals { applied: 1, ..Totals::default() });
    }
}
