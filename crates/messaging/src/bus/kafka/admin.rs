//! Topics: made explicitly, with their partition count, and refused with another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::{
    Cluster, broker,
    client::{Aside, Context, blocking},
};
use crate::Error;

const ADMIN_MS_MAX: u64 = 15_000;
/// Pause between two looks at a topic that was made a moment ago.
const LOOK_AGAIN_MS: u64 = 50;

type Admin = Arc<Aside<AdminClient<Context>>>;

/// What the cluster says of a topic.
enum Seen {
    Missing,
    Partitions(i32),
    /// It has no leader yet, or we may not see it.
    Unclear(String),
}

impl Cluster {
    /// Whether a broker answers.
    pub async fn answers(&self) -> Result<(), Error> {
        let admin = self.admin_client()?;
        let answered = blocking(move || admin.inner().fetch_metadata(None, wait()).map(drop)).await;
        answered.map_err(|error| match error {
            Error::Broker(why) => Error::Broker(format!("{}: {why}", self.brokers)),
            other => other,
        })
    }

    /// Creates the topics that are missing and refuses those with another number of partitions: keys would go elsewhere. Gives back those
    /// that were created. Where all are there nothing but their description is asked for, so no right to create is needed.
    pub(crate) async fn ensure_topics(&self, topics: &[&str], partitions: i32) -> Result<Vec<String>, Error> {
        let admin = self.admin_client()?;
        let deadline = Instant::now() + wait();
        let mut created = Vec::new();
        loop {
            let mut missing = Vec::new();
            let mut unclear = None;
            for (topic, seen) in topics.iter().zip(seen(&admin, topics).await?) {
                match seen {
                    Seen::Partitions(stored) if stored == partitions => {}
                    Seen::Partitions(stored) => {
                        tracing::error!(topic, stored, asked = partitions, "the topic has another number of partitions");
                        return Err(Error::PartitionsDiffer { stored, asked: partitions });
                    }
                    Seen::Missing => missing.push(*topic),
                    Seen::Unclear(why) => unclear = Some(format!("topic {topic}: {why}")),
                }
            }
            if missing.is_empty() && unclear.is_none() {
                return Ok(created);
            }
            if Instant::now() >= deadline {
                return Err(Error::Broker(unclear.unwrap_or_else(|| format!("the topics {missing:?} do not come to be"))));
            }
            if !missing.is_empty() {
                created.extend(create(&admin, &missing, partitions).await?);
            }
            // A topic made, or deleted, a moment ago is not known everywhere yet.
            tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
        }
    }

    fn admin_client(&self) -> Result<Admin, Error> {
        let admin = self.admin().create_with_context(Context).map_err(broker)?;
        Ok(Arc::new(Aside::new(admin)))
    }
}

async fn seen(admin: &Admin, topics: &[&str]) -> Result<Vec<Seen>, Error> {
    let admin = admin.clone();
    let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    blocking(move || topics.iter().map(|topic| look(&admin, topic)).collect()).await
}

fn look(admin: &Admin, topic: &str) -> KafkaResult<Seen> {
    let metadata = admin.inner().fetch_metadata(Some(topic), wait())?;
    let Some(topic) = metadata.topics().first() else { return Ok(Seen::Missing) };
    Ok(match topic.error() {
        // Where there is an error there is no list of partitions either.
        None => Seen::Partitions(i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Seen::Missing,
        Some(error) => Seen::Unclear(RDKafkaErrorCode::from(error).to_string()),
    })
}

async fn create(admin: &Admin, topics: &[&str], partitions: i32) -> Result<Vec<String>, Error> {
    // The broker's default replication: it knows how many of them there are.
    let wanted: Vec<NewTopic<'_>> =
        topics.iter().map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))).collect();
    let options = AdminOptions::new().request_timeout(Some(wait()));
    let mut created = Vec::new();
    for made in admin.create_topics(&wanted, &options).await.map_err(broker)? {
        match made {
            Ok(topic) => {
                tracing::info!(topic, partitions, "the topic is created");
                created.push(topic);
            }
            // Another instance was faster, or it is not quite gone yet.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::Broker(format!("topic {topic} cannot be created: {code}"))),
        }
    }
    Ok(created)
}

fn wait() -> Duration {
    Duration::from_millis(ADMIN_MS_MAX)
}
