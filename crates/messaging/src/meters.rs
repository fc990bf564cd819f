//! What the crate counts, through the OpenTelemetry API: a no-op unless the process installs a meter provider.

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};

/// The counters of one group.
pub(crate) struct Meters {
    group: [KeyValue; 1],
    applied: Counter<u64>,
    duplicates: Counter<u64>,
    skipped: Counter<u64>,
    parked: Counter<u64>,
    retries: Counter<u64>,
    batch_rows: Histogram<u64>,
}

impl Meters {
    pub(crate) fn of(group: &'static str) -> Self {
        let meter = global::meter("messaging");
        Self {
            group: [KeyValue::new("group", group)],
            applied: meter.u64_counter("settle_inputs_applied").build(),
            duplicates: meter.u64_counter("settle_duplicates_skipped").build(),
            skipped: meter.u64_counter("settle_inputs_skipped").build(),
            parked: meter.u64_counter("settle_records_parked").build(),
            retries: meter.u64_counter("settle_batch_retries").build(),
            batch_rows: meter
                .u64_histogram("settle_batch_rows")
                .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0])
                .build(),
        }
    }

    pub(crate) fn batch(&self, rows: usize, applied: u64, skipped: u64, parked: u64) {
        self.batch_rows.record(rows as u64, &self.group);
        for (counter, n) in [(&self.applied, applied), (&self.skipped, skipped), (&self.parked, parked)] {
            if n > 0 {
                counter.add(n, &self.group);
            }
        }
    }

    pub(crate) fn duplicate(&self) {
        self.duplicates.add(1, &self.group);
    }

    pub(crate) fn retry(&self) {
        self.retries.add(1, &self.group);
    }
}
