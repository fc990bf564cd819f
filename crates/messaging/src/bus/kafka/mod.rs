//! Apache Kafka: a relay copies the streams of a service to topics, readers follow them from their stored offsets.
//!
//! Safety comes from the streams' own sequence numbers: a relay that repeats itself, even two at once, is seen through by every reader.

mod headers;
mod relay;
mod store;
mod topics;

pub(crate) use relay::relay;
pub(crate) use topics::Topics;

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::RDKafkaErrorCode,
};

use crate::Error;

const ADMIN_MS_MAX: u64 = 15_000;

/// A Kafka cluster and how its clients are set.
#[derive(Clone, Debug)]
pub struct Cluster {
    brokers: String,
}

impl Cluster {
    /// `brokers` is a comma-separated list of host:port.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into() }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "settle");
        config
    }

    /// The defaults of librdkafka give up after five minutes and may reorder; ours never give up and never reorder.
    fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "100000");
        config
    }

    /// The offset is ours to keep: nothing is committed or reset behind our back.
    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("queued.min.messages", "10000")
            .set("isolation.level", "read_committed");
        config
    }

    /// Whether a broker answers.
    pub async fn answers(&self) -> Result<(), Error> {
        let admin: AdminClient<DefaultClientContext> = self.client().create().map_err(broker)?;
        let brokers = self.brokers.clone();
        tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(None, Duration::from_millis(ADMIN_MS_MAX)))
            .await
            .map_err(|error| Error::Broker(error.to_string()))?
            .map(drop)
            .map_err(|error| Error::Broker(format!("{brokers}: {error}")))
    }

    /// Creates the topics that are missing and refuses those with another number of partitions: keys would go elsewhere.
    pub(crate) async fn ensure_topics(&self, topics: &[&str], partitions: i32) -> Result<(), Error> {
        let admin: AdminClient<DefaultClientContext> = self.client().create().map_err(broker)?;
        let wanted: Vec<NewTopic<'_>> =
            topics.iter().map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))).collect();
        let options = AdminOptions::new().request_timeout(Some(Duration::from_millis(ADMIN_MS_MAX)));
        for created in admin.create_topics(&wanted, &options).await.map_err(broker)? {
            match created {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(Error::Broker(format!("topic {topic} cannot be created: {code}"))),
            }
        }
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let counts = tokio::task::spawn_blocking(move || {
            let count = |topic: &String| {
                let metadata = admin.inner().fetch_metadata(Some(topic), Duration::from_millis(ADMIN_MS_MAX))?;
                Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
            };
            topics.iter().map(count).collect::<Result<Vec<_>, rdkafka::error::KafkaError>>()
        });
        for stored in counts.await.map_err(|error| Error::Broker(error.to_string()))?.map_err(broker)? {
            let stored = i32::try_from(stored).unwrap_or(i32::MAX);
            // A topic made a moment ago may not be known everywhere yet.
            if stored != 0 && stored != partitions {
                return Err(Error::PartitionsDiffer { stored, asked: partitions });
            }
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broker(error: rdkafka::error::KafkaError) -> Error {
    Error::Broker(error.to_string())
}
