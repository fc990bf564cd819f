//! The outbox: news are appended to gapless streams in the transaction of the effect.

pub(crate) mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{News, Stream, Trace, partition_of};

/// News with all they need to become a row.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: Uuid,
    pub(crate) at: OffsetDateTime,
    pub(crate) correlation: String,
    pub(crate) causation: Uuid,
    pub(crate) trace: Trace,
    pub(crate) news: News,
}

impl Outgoing {
    /// The id of the nth news of an input: repeated work says the same. The topic, which has one writer, tells apart what two services make
    /// of the same record.
    pub(crate) fn id_of(cause: Uuid, topic: &str, ordinal: usize) -> Uuid {
        Uuid::new_v5(&cause, format!("news/{topic}/{ordinal}").as_bytes())
    }
}

/// Appends the news in their order and gives back the topics that have something new. The last statements of a transaction: from here to
/// the commit the streams are locked.
pub(crate) async fn append(db: &mut PgConnection, partitions: i32, news: Vec<Outgoing>) -> sqlx::Result<Vec<&'static str>> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    let placed: Vec<(i32, Outgoing)> = news.into_iter().map(|out| (partition_of(&out.news.key, partitions), out)).collect();
    let mut streams: Vec<Stream> =
        placed.iter().map(|(partition, out)| Stream { topic: out.news.topic.to_owned(), partition: *partition }).collect();
    streams.sort_unstable();
    streams.dedup();
    store::lock(db, &streams.iter().map(lock_key).collect::<Vec<_>>()).await?;
    let mut last = store::last(db, &streams).await?;

    let mut rows = store::Rows::with_capacity(placed.len());
    for (partition, out) in placed {
        let stream = Stream { topic: out.news.topic.to_owned(), partition };
        let (seq, prev) = last.get(&stream).map_or((0, None), |(seq, id)| (*seq, Some(*id)));
        last.insert(stream, (seq + 1, out.id));
        rows.push(partition, seq + 1, prev, out);
    }
    let mut topics = rows.topics.clone();
    topics.sort_unstable();
    topics.dedup();
    store::insert(db, rows).await?;
    Ok(topics)
}

/// The last sequence number of every stream that has a record, for people and tests.
pub async fn ends(db: &mut PgConnection) -> sqlx::Result<Vec<(Stream, i64)>> {
    store::ends(db).await
}

/// The advisory lock of a stream: the topic's hash above, the partition below.
fn lock_key(stream: &Stream) -> i64 {
    let topic = partition_of(&stream.topic, i32::MAX);
    (i64::from(topic) << 32) | i64::from(stream.partition)
}

/// Fixes the partition count at the first start and refuses another one ever after.
pub async fn fix_partitions(db: &mut PgConnection, partitions: i32) -> Result<(), crate::Error> {
    match store::partitions(db, partitions).await? {
        stored if stored == partitions => Ok(()),
        stored => Err(crate::Error::PartitionsDiffer { stored, asked: partitions }),
    }
}
