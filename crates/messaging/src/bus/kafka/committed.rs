//! What groups have told Kafka of where they stand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};

use super::{
    Cluster, broker,
    client::{Aside, Context, blocking},
};
use crate::{Error, Stream};

const ASK_MS_MAX: u64 = 5_000;

/// Where a group stands in a stream, as it told Kafka after its own commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Who reads.
    pub group: String,
    /// What.
    pub stream: Stream,
    /// The last record that it has applied.
    pub seq: i64,
    /// Where it reads on.
    pub kafka_offset: i64,
}

type Observer = Arc<Aside<BaseConsumer<Context>>>;

/// A client a group, kept: each is bound to one group by its configuration.
#[derive(Default)]
pub(super) struct Observers(Mutex<HashMap<String, Observer>>);

impl Cluster {
    /// What these groups have committed of these streams. A stream of which a group has told nothing is left out, and so is a group that
    /// cannot be asked now.
    pub async fn committed(&self, groups: &[&str], streams: &[Stream]) -> Result<Vec<Committed>, Error> {
        let mut all = Vec::new();
        for group in groups {
            let observer = self.observer(group)?;
            let (name, asked) = ((*group).to_owned(), streams.to_vec());
            // On a thread of its own also because the client panics at metadata that is no text.
            match blocking(move || ask(&observer, &name, &asked)).await {
                Ok(committed) => all.extend(committed),
                Err(error) => tracing::debug!(group, %error, "nothing is known of where it stands"),
            }
        }
        Ok(all)
    }

    fn observer(&self, group: &str) -> Result<Observer, Error> {
        let mut observers = self.observers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(observer) = observers.get(group) {
            return Ok(observer.clone());
        }
        let client: BaseConsumer<Context> = self.consumer(group).create_with_context(Context).map_err(broker)?;
        let observer: Observer = Arc::new(Aside::new(client));
        observers.insert(group.to_owned(), observer.clone());
        Ok(observer)
    }
}

fn ask(observer: &Observer, group: &str, streams: &[Stream]) -> KafkaResult<Vec<Committed>> {
    // Its events would pile up.
    while observer.poll(Duration::ZERO).is_some() {}
    told(&***observer, group, streams)
}

/// What a client's group has committed of these streams.
pub(super) fn told(client: &impl Consumer<Context>, group: &str, streams: &[Stream]) -> KafkaResult<Vec<Committed>> {
    let mut list = TopicPartitionList::with_capacity(streams.len());
    for stream in streams {
        list.add_partition(&stream.topic, stream.partition);
    }
    let list = client.committed_offsets(list, Duration::from_millis(ASK_MS_MAX))?;
    let places = list.elements();
    let committed = places.iter().filter_map(|place| {
        let Offset::Offset(kafka_offset) = place.offset() else { return None };
        Some(Committed {
            group: group.to_owned(),
            stream: Stream { topic: place.topic().to_owned(), partition: place.partition() },
            seq: place.metadata().parse().ok()?,
            kafka_offset,
        })
    });
    Ok(committed.collect())
}
