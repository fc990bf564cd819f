//! Apache Kafka: a relay copies the streams of a service to topics, readers follow them from their stored offsets.
//!
//! Safety comes from the streams' own sequence numbers: a relay that repeats itself, even two at once, is seen through by every reader.

mod admin;
mod client;
mod committed;
mod counts;
mod headers;
mod lanes;
mod onlooker;
mod producer;
mod readers;
mod relay;
mod run;
mod settings;
mod store;
mod tail;
mod topics;

pub use committed::Committed;
pub use counts::Counted;
pub use onlooker::{Onlooker, Since};
pub(crate) use readers::copy as copy_readers;
pub(crate) use relay::relay;
pub(crate) use topics::Topics;

use std::{fmt, sync::Arc};

use rdkafka::{ClientConfig, error::KafkaError};

use crate::Error;

/// A Kafka cluster and how its clients are set. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Cluster {
    brokers: String,
    counts: Arc<counts::Counts>,
    observers: Arc<committed::Observers>,
}

impl Cluster {
    /// `brokers` is a comma-separated list of host:port.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), counts: Arc::new(counts::Counts::new()), observers: Arc::default() }
    }

    /// What relays and readers of this process did here.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.counts.now()
    }

    fn admin(&self) -> ClientConfig {
        self.config(&[settings::EVERY_CLIENT])
    }

    fn producer(&self) -> ClientConfig {
        self.config(&[settings::EVERY_CLIENT, settings::PRODUCER])
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.config(&[settings::EVERY_CLIENT, settings::CONSUMER]);
        config.set("group.id", group);
        config
    }

    fn tail_reader(&self) -> ClientConfig {
        self.config(&[settings::EVERY_CLIENT, settings::TAIL])
    }

    fn config(&self, tables: &[&[settings::Setting]]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers.as_str());
        for (name, value, _) in tables.iter().copied().flatten() {
            config.set(*name, *value);
        }
        config
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

/// Whether several services write this topic. Its records then have no place in a stream, and are told apart by their ids.
fn is_shared(topic: &str) -> bool {
    topic.ends_with(".dlq")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broker(error: KafkaError) -> Error {
    Error::Broker(error.to_string())
}
