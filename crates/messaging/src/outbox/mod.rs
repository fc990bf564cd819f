//! The outbox: news are appended to gapless streams in the transaction of the effect.

mod copy;
pub(crate) mod publishable;
pub(crate) mod ranges;
pub(crate) mod readers;
pub(crate) mod retention;
pub(crate) mod store;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{News, Place, Record, Stream, Trace, fault::Fault, partition_of};

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

/// Appends the news in their order and gives back the records they became, for after the commit. The last statements of a transaction:
/// from here to the commit the streams are locked.
pub(crate) async fn append(db: &mut PgConnection, partitions: i32, news: Vec<Outgoing>) -> Result<Vec<Arc<Record>>, Fault> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    let placed: Vec<(Stream, Outgoing)> = news
        .into_iter()
        .map(|out| (Stream { topic: out.news.topic.to_owned(), partition: partition_of(&out.news.key, partitions) }, out))
        .collect();
    let streams: BTreeSet<&Stream> = placed.iter().map(|(stream, _)| stream).collect();
    let mut last = lock(db, &streams).await?;
    let records: Vec<Arc<Record>> = placed
        .into_iter()
        .map(|(stream, out)| {
            let (seq, prev) = last.get(&stream).map_or((0, None), |(seq, id)| (*seq, Some(*id)));
            match last.get_mut(&stream) {
                Some(end) => *end = (seq + 1, out.id),
                None => drop(last.insert(stream.clone(), (1, out.id))),
            }
            Arc::new(Record {
                stream,
                place: Some(Place { seq: seq + 1, prev }),
                kafka_offset: None,
                id: out.id,
                key: out.news.key,
                type_name: out.news.type_name.to_owned(),
                payload: out.news.payload,
                at: out.at,
                correlation: out.correlation,
                causation: Some(out.causation),
                trace: out.trace,
            })
        })
        .collect();
    match store::insert(db, &records).await {
        Ok(()) => Ok(records),
        Err(error) => Err(match ranges::store::without_range(&error, &records) {
            Some(next) => Fault::NoRange { next, error },
            None => error.into(),
        }),
    }
}

/// Locks these streams for a writer until the end of the transaction, and gives the last row of each.
pub(crate) async fn lock(db: &mut PgConnection, streams: &BTreeSet<&Stream>) -> sqlx::Result<HashMap<Stream, (i64, Uuid)>> {
    let locks: Vec<i64> = streams.iter().map(|stream| lock_key(stream)).collect();
    store::lock(db, &locks, streams).await
}

/// The last sequence number of every stream that has a record, for people and tests.
pub async fn ends(db: &mut PgConnection) -> sqlx::Result<Vec<(Stream, i64)>> {
    store::ends(db).await
}

/// A stream that a group has not read to its end.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Who reads.
    pub group: String,
    /// What it reads.
    pub stream: Stream,
    /// When the oldest record that it has not passed was decided.
    pub since: OffsetDateTime,
}

/// What those who read an outbox have still before them. A group that has never reported is left out; others report once a second, so some
/// of it may be read by now.
pub async fn unread(db: &mut PgConnection) -> sqlx::Result<Vec<Unread>> {
    readers::store::unread(db).await
}

/// The advisory lock of a stream: the topic's hash above, the partition below.
fn lock_key(stream: &Stream) -> i64 {
    let topic = partition_of(&stream.topic, i32::MAX);
    (i64::from(topic) << 32) | i64::from(stream.partition)
}

/// Fixes the partition count at the first start and refuses another one ever after.
///
/// # Errors
/// [`Error::PartitionsDiffer`](crate::Error::PartitionsDiffer), or the database's.
pub async fn fix_partitions(db: &mut PgConnection, partitions: i32) -> Result<(), crate::Error> {
    match store::partitions(db, partitions).await? {
        stored if stored == partitions => Ok(()),
        stored => Err(crate::Error::PartitionsDiffer { stored, asked: partitions }),
    }
}
