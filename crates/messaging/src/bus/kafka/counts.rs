//! What the relays and readers of a process count on Kafka: through the OpenTelemetry API, and as totals for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::{global, metrics::Counter};

/// What happened on a [`Cluster`](super::Cluster) since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Records that relays brought to the broker and saved their cursors behind.
    pub relayed: u64,
    /// Records that relays had in memory and did not read from the outbox.
    pub remembered: u64,
    /// Times a relay began again with a new client, at its saved cursors.
    pub restarts: u64,
    /// Times a relay found a stream's cursor moved by somebody else.
    pub overtaken: u64,
    /// Times a topic partition was found to have another history than the outbox: LOG_DIVERGED.
    pub diverged: u64,
    /// Times a stream was read again from the beginning of its log, because the log does not reach to where it was left.
    pub rewound: u64,
}

#[derive(Debug)]
pub(super) struct Counts {
    pub(super) relayed: Count,
    pub(super) remembered: Count,
    pub(super) restarts: Count,
    pub(super) overtaken: Count,
    pub(super) diverged: Count,
    pub(super) rewound: Count,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            relayed: Count::named("settle_kafka_records_relayed"),
            remembered: Count::named("settle_kafka_records_remembered"),
            restarts: Count::named("settle_kafka_relay_restarts"),
            overtaken: Count::named("settle_kafka_relay_overtaken"),
            diverged: Count::named("settle_kafka_log_diverged"),
            rewound: Count::named("settle_kafka_log_rewound"),
        }
    }

    pub(super) fn now(&self) -> Counted {
        Counted {
            relayed: self.relayed.total(),
            remembered: self.remembered.total(),
            restarts: self.restarts.total(),
            overtaken: self.overtaken.total(),
            diverged: self.diverged.total(),
            rewound: self.rewound.total(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Count {
    total: AtomicU64,
    counter: Counter<u64>,
}

impl Count {
    fn named(name: &'static str) -> Self {
        Self { total: AtomicU64::new(0), counter: global::meter("messaging").u64_counter(name).build() }
    }

    pub(super) fn add(&self, n: u64) {
        self.total.fetch_add(n, Ordering::Relaxed);
        self.counter.add(n, &[]);
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
