//! SQL of the outbox.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::copy;
use crate::{Place, Position, Record, Stream, Trace};

/// Locks the streams for a writer until the end of the transaction, in the order given, and looks up the last row of each.
pub(super) async fn lock(
    db: &mut PgConnection,
    locks: &[i64],
    streams: &BTreeSet<&Stream>,
) -> sqlx::Result<HashMap<Stream, (i64, Uuid)>> {
    let (topics, partitions): (Vec<&str>, Vec<i32>) =
        streams.iter().map(|stream| (stream.topic.as_str(), stream.partition)).unzip();
    let rows = sqlx::query("select topic, partition, seq, id from lock_streams($1, $2, $3)")
        .bind(locks)
        .bind(topics)
        .bind(partitions)
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| Ok((Stream { topic: row.try_get(0)?, partition: row.try_get(1)? }, (row.try_get(2)?, row.try_get(3)?))))
        .collect()
}

/// What a row has besides its texts and its payload, roughly.
const ROW_BYTES: usize = 160;

pub(super) async fn insert(db: &mut PgConnection, records: &[Arc<Record>]) -> sqlx::Result<()> {
    let bytes = records.iter().map(|record| ROW_BYTES + record.key.len() + record.type_name.len() + record.payload.len()).sum();
    let mut rows = copy::Rows::with_capacity(bytes);
    for record in records {
        let (seq, prev) = record.place.map_or((0, None), |place| (place.seq, place.prev));
        rows.row(13)
            .text(&record.stream.topic)
            .int(record.stream.partition)
            .bigint(seq)
            .uuid(record.id)
            .optional(prev, copy::Rows::uuid)
            .text(&record.key)
            .text(&record.type_name)
            .bytes(&record.payload)
            .time(record.at)
            .text(&record.correlation)
            .optional(record.causation, copy::Rows::uuid)
            .optional(record.trace.parent.as_deref(), copy::Rows::text)
            .optional(record.trace.state.as_deref(), copy::Rows::text);
    }
    let mut copy = db
        .copy_in_raw(
            "copy outbox (topic, partition, seq, id, prev, key, type, payload, at, correlation, causation, traceparent, tracestate)
             from stdin (format binary)",
        )
        .await?;
    copy.send(rows.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// A COPY of news takes milliseconds.
const COPY_MS_MAX: i64 = 2_000;

/// Ends sessions that stand still in the middle of their COPY, as a stopped process does; how many there were. To the server that is no
/// idle transaction, whatever its bound, and the streams would stay locked for as long as the process stands still.
pub(crate) async fn end_stalled_copies(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from (
             select pg_terminate_backend(pid) as ended from pg_stat_activity
             where datname = current_database() and usename = current_user and state = 'active' and wait_event = 'ClientRead'
                 and query like 'copy outbox (%' and query_start < clock_timestamp() - $1 * interval '1 millisecond'
         ) stalled where ended",
    )
    .bind(COPY_MS_MAX)
    .fetch_one(db)
    .await
}

/// The rows of each stream from its position on, the row *at* the position included: of a stream at most `rows`, and none that comes behind
/// `bytes` of payload.
pub(crate) async fn read(db: &mut PgConnection, at: &[(Stream, Position)], rows: i64, bytes: i64) -> sqlx::Result<Vec<Record>> {
    let topics: Vec<&str> = at.iter().map(|(stream, _)| stream.topic.as_str()).collect();
    let partitions: Vec<i32> = at.iter().map(|(stream, _)| stream.partition).collect();
    let seqs: Vec<i64> = at.iter().map(|(_, position)| position.seq).collect();
    let rows = sqlx::query(
        "select o.topic, o.partition, o.seq, o.prev, o.id, o.key, o.type, o.payload, o.at, o.correlation, o.causation,
             o.traceparent, o.tracestate
         from unnest($1::text[], $2::int[], $3::bigint[]) as s(topic, partition, seq)
         cross join lateral (
             select next.*, sum(octet_length(payload)) over (order by seq rows unbounded preceding) as bytes
             from (
                 select * from outbox where topic = s.topic and partition = s.partition and seq >= s.seq order by seq limit $4
             ) next
         ) o
         where o.bytes - octet_length(o.payload) < $5",
    )
    .bind(topics)
    .bind(partitions)
    .bind(seqs)
    .bind(rows)
    .bind(bytes)
    .fetch_all(db)
    .await?;
    rows.iter().map(record).collect()
}

/// In the order topic, partition, seq, prev, id, key, type, payload, at, correlation, causation, traceparent, tracestate.
pub(crate) fn record(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record {
        stream: Stream { topic: row.try_get(0)?, partition: row.try_get(1)? },
        place: Some(Place { seq: row.try_get(2)?, prev: row.try_get(3)? }),
        kafka_offset: None,
        id: row.try_get(4)?,
        key: row.try_get(5)?,
        type_name: row.try_get(6)?,
        payload: Bytes::from(row.try_get::<Vec<u8>, _>(7)?),
        at: row.try_get(8)?,
        correlation: row.try_get(9)?,
        causation: row.try_get(10)?,
        trace: Trace { parent: row.try_get(11)?, state: row.try_get(12)? },
    })
}

pub(super) async fn ends(db: &mut PgConnection) -> sqlx::Result<Vec<(Stream, i64)>> {
    let rows = sqlx::query("select topic, partition, max(seq) from outbox group by topic, partition").fetch_all(db).await?;
    rows.iter().map(|row| Ok((Stream { topic: row.try_get(0)?, partition: row.try_get(1)? }, row.try_get(2)?))).collect()
}

/// The stored partition count; writes `wanted` where none is stored yet.
pub(super) async fn partitions(db: &mut PgConnection, wanted: i32) -> sqlx::Result<i32> {
    sqlx::query("insert into stream_settings (partitions) values ($1) on conflict (one) do nothing")
        .bind(wanted)
        .execute(&mut *db)
        .await?;
    sqlx::query_scalar("select partitions from stream_settings").fetch_one(db).await
}

/// Writes down which bus carries the outbox, for the view `outbox_published`.
pub(crate) async fn carried_by(db: &mut PgConnection, bus: &str) -> sqlx::Result<()> {
    sqlx::query("insert into stream_bus (bus) values ($1) on conflict (one) do update set bus = excluded.bus")
        .bind(bus)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) fn columns(streams: &[Stream]) -> (Vec<&str>, Vec<i32>) {
    streams.iter().map(|stream| (stream.topic.as_str(), stream.partition)).unzip()
}

/// The channel on which a service tells other processes that its outbox has grown.
pub(crate) const CHANNEL: &str = "settle_outbox";

pub(crate) async fn announce(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(db).await?;
    Ok(())
}
