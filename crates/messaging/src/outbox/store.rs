//! SQL of the outbox.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::{PgConnection, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Outgoing;
use crate::{Place, Position, Record, Stream, Trace};

/// Takes the locks in the order given, until the end of the transaction.
pub(super) async fn lock(db: &mut PgConnection, keys: &[i64]) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(k) from unnest($1::bigint[]) as k").bind(keys).execute(db).await?;
    Ok(())
}

/// The last row of each stream. A statement of its own after [`lock`], so that its snapshot sees what the last writer committed.
pub(super) async fn last(db: &mut PgConnection, streams: &[Stream]) -> sqlx::Result<HashMap<Stream, (i64, Uuid)>> {
    let (topics, partitions) = columns(streams);
    let rows = sqlx::query(
        "select s.topic, s.partition, o.seq, o.id
         from unnest($1::text[], $2::int[]) as s(topic, partition)
         cross join lateral (
             select seq, id from outbox where topic = s.topic and partition = s.partition order by seq desc limit 1
         ) o",
    )
    .bind(topics)
    .bind(partitions)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| Ok((Stream { topic: row.try_get(0)?, partition: row.try_get(1)? }, (row.try_get(2)?, row.try_get(3)?))))
        .collect()
}

/// Rows to insert, a vector a column.
pub(super) struct Rows {
    pub(super) topics: Vec<&'static str>,
    partitions: Vec<i32>,
    seqs: Vec<i64>,
    ids: Vec<Uuid>,
    prevs: Vec<Option<Uuid>>,
    keys: Vec<String>,
    types: Vec<&'static str>,
    payloads: Vec<Vec<u8>>,
    ats: Vec<OffsetDateTime>,
    correlations: Vec<String>,
    causations: Vec<Uuid>,
    traceparents: Vec<Option<String>>,
    tracestates: Vec<Option<String>>,
}

impl Rows {
    pub(super) fn with_capacity(n: usize) -> Self {
        Self {
            topics: Vec::with_capacity(n),
            partitions: Vec::with_capacity(n),
            seqs: Vec::with_capacity(n),
            ids: Vec::with_capacity(n),
            prevs: Vec::with_capacity(n),
            keys: Vec::with_capacity(n),
            types: Vec::with_capacity(n),
            payloads: Vec::with_capacity(n),
            ats: Vec::with_capacity(n),
            correlations: Vec::with_capacity(n),
            causations: Vec::with_capacity(n),
            traceparents: Vec::with_capacity(n),
            tracestates: Vec::with_capacity(n),
        }
    }

    pub(super) fn push(&mut self, partition: i32, seq: i64, prev: Option<Uuid>, out: Outgoing) {
        self.topics.push(out.news.topic);
        self.partitions.push(partition);
        self.seqs.push(seq);
        self.ids.push(out.id);
        self.prevs.push(prev);
        self.keys.push(out.news.key);
        self.types.push(out.news.type_name);
        self.payloads.push(out.news.payload.into());
        self.ats.push(out.at);
        self.correlations.push(out.correlation);
        self.causations.push(out.causation);
        self.traceparents.push(out.trace.parent);
        self.tracestates.push(out.trace.state);
    }
}

pub(super) async fn insert(db: &mut PgConnection, rows: Rows) -> sqlx::Result<()> {
    sqlx::query(
        "insert into outbox (topic, partition, seq, id, prev, key, type, payload, at, correlation, causation, traceparent, tracestate)
         select * from unnest($1::text[], $2::int[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::bytea[],
             $9::timestamptz[], $10::text[], $11::uuid[], $12::text[], $13::text[])",
    )
    .bind(rows.topics)
    .bind(rows.partitions)
    .bind(rows.seqs)
    .bind(rows.ids)
    .bind(rows.prevs)
    .bind(rows.keys)
    .bind(rows.types)
    .bind(rows.payloads)
    .bind(rows.ats)
    .bind(rows.correlations)
    .bind(rows.causations)
    .bind(rows.traceparents)
    .bind(rows.tracestates)
    .execute(db)
    .await?;
    Ok(())
}

/// The rows of each stream from its position on, the row *at* the position included, at most `limit` a stream.
pub(crate) async fn read(db: &mut PgConnection, at: &[(Stream, Position)], limit: i64) -> sqlx::Result<Vec<Record>> {
    let topics: Vec<&str> = at.iter().map(|(stream, _)| stream.topic.as_str()).collect();
    let partitions: Vec<i32> = at.iter().map(|(stream, _)| stream.partition).collect();
    let seqs: Vec<i64> = at.iter().map(|(_, position)| position.seq).collect();
    let rows = sqlx::query(
        "select o.topic, o.partition, o.seq, o.prev, o.id, o.key, o.type, o.payload, o.at, o.correlation, o.causation,
             o.traceparent, o.tracestate
         from unnest($1::text[], $2::int[], $3::bigint[]) as s(topic, partition, seq)
         cross join lateral (
             select * from outbox where topic = s.topic and partition = s.partition and seq >= s.seq order by seq limit $4
         ) o",
    )
    .bind(topics)
    .bind(partitions)
    .bind(seqs)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(record).collect()
}

fn record(row: &PgRow) -> sqlx::Result<Record> {
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
