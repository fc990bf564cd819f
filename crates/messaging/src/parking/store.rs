//! SQL of parking.

use bytes::Bytes;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Held, Parked};
use crate::{Place, Record, Stream, Trace};

/// What is held back for these keys, oldest first. Locked, so that whoever parks, appends or drains a key does so alone.
pub(crate) async fn held(db: &mut PgConnection, group: &str, keys: &[&str]) -> sqlx::Result<Vec<Parked>> {
    let rows = sqlx::query(
        "select id, state, reason, topic, partition, seq, prev, kafka_offset, event_id, key, event_type, payload, at, correlation,
             causation, traceparent, tracestate
         from dead_letter_events where consumer = $1 and md5(key) = any(select md5(k) from unnest($2::text[]) as k) and key = any($2) and state <> 'DONE'
         order by id for update",
    )
    .bind(group)
    .bind(keys)
    .fetch_all(db)
    .await?;
    rows.iter().map(parked).collect()
}

pub(super) async fn list(db: &mut PgConnection, group: &str, limit: i64) -> sqlx::Result<Vec<Parked>> {
    let rows = sqlx::query(
        "select id, state, reason, topic, partition, seq, prev, kafka_offset, event_id, key, event_type, payload, at, correlation,
             causation, traceparent, tracestate
         from dead_letter_events where consumer = $1 and state <> 'DONE' order by id limit $2",
    )
    .bind(group)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(parked).collect()
}

/// What may be tried again in these partitions, oldest first: early records, and what a person marked READY.
pub(crate) async fn to_try(db: &mut PgConnection, group: &str, partitions: &[i32], limit: i64) -> sqlx::Result<Vec<Parked>> {
    let rows = sqlx::query(
        "select id, state, reason, topic, partition, seq, prev, kafka_offset, event_id, key, event_type, payload, at, correlation,
             causation, traceparent, tracestate
         from dead_letter_events d
         where consumer = $1 and state in ('EARLY', 'WAITING', 'READY') and partition = any($2)
             and not exists (
                 select from dead_letter_events p
                 where p.consumer = $1 and md5(p.key) = md5(d.key) and p.key = d.key and p.state = 'PARKED' and p.id < d.id
             )
         order by id limit $3",
    )
    .bind(group)
    .bind(partitions)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(parked).collect()
}

pub(super) async fn redrive(db: &mut PgConnection, group: &str, key: &str) -> sqlx::Result<u64> {
    let done = sqlx::query("update dead_letter_events set state = 'READY' where consumer = $1 and md5(key) = md5($2) and key = $2 and state = 'PARKED'")
        .bind(group)
        .bind(key)
        .execute(db)
        .await?;
    Ok(done.rows_affected())
}

pub(crate) async fn hold(db: &mut PgConnection, group: &str, held: Vec<(Held, String, Record)>) -> sqlx::Result<()> {
    // Rare and few: a statement a row is good enough here, and keeps their order.
    for (held, reason, record) in held {
        sqlx::query(
            "insert into dead_letter_events (consumer, topic, partition, seq, prev, kafka_offset, event_id, key, event_type, payload, at,
                 correlation, causation, traceparent, tracestate, reason, state)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(group)
        .bind(record.stream.topic)
        .bind(record.stream.partition)
        .bind(record.place.map(|place| place.seq))
        .bind(record.place.and_then(|place| place.prev))
        .bind(record.kafka_offset)
        .bind(record.id)
        .bind(record.key)
        .bind(record.type_name)
        .bind(record.payload.to_vec())
        .bind(record.at)
        .bind(record.correlation)
        .bind(record.causation)
        .bind(record.trace.parent)
        .bind(record.trace.state)
        .bind(reason)
        .bind(match held {
            Held::Early => "EARLY",
            Held::Waiting => "WAITING",
            Held::Parked => "PARKED",
            Held::Ready => "READY",
        })
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

pub(crate) async fn settle(db: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query("update dead_letter_events set state = 'DONE' where id = any($1)").bind(ids).execute(db).await?;
    Ok(())
}

/// Puts a row that failed again back to PARKED, with the new reason.
pub(crate) async fn park_again(db: &mut PgConnection, id: i64, reason: &str) -> sqlx::Result<()> {
    sqlx::query("update dead_letter_events set state = 'PARKED', reason = $2, failed_at = clock_timestamp() where id = $1 and state <> 'DONE'")
        .bind(id)
        .bind(reason)
        .execute(db)
        .await?;
    Ok(())
}

/// Early records that have waited too long become dead letters, and so does what waits behind them. Gives back what they were.
pub(crate) async fn give_up(
    db: &mut PgConnection,
    group: &str,
    early_wait_s: i64,
) -> sqlx::Result<Vec<(uuid::Uuid, String, String)>> {
    sqlx::query_as(
        "update dead_letter_events set state = 'PARKED'
         where consumer = $1 and state = 'EARLY' and failed_at < clock_timestamp() - $2 * interval '1 second'
         returning event_id, key, reason",
    )
    .bind(group)
    .bind(early_wait_s)
    .fetch_all(db)
    .await
}

fn parked(row: &PgRow) -> sqlx::Result<Parked> {
    let held = match row.try_get::<&str, _>(1)? {
        "EARLY" => Held::Early,
        "WAITING" => Held::Waiting,
        "READY" => Held::Ready,
        _ => Held::Parked,
    };
    let seq: Option<i64> = row.try_get(5)?;
    let prev = row.try_get(6)?;
    Ok(Parked {
        id: row.try_get(0)?,
        held,
        reason: row.try_get(2)?,
        record: Record {
            stream: Stream { topic: row.try_get(3)?, partition: row.try_get(4)? },
            place: seq.map(|seq| Place { seq, prev }),
            kafka_offset: row.try_get(7)?,
            id: row.try_get(8)?,
            key: row.try_get(9)?,
            type_name: row.try_get(10)?,
            payload: Bytes::from(row.try_get::<Vec<u8>, _>(11)?),
            at: row.try_get(12)?,
            correlation: row.try_get(13)?,
            causation: row.try_get(14)?,
            trace: Trace { parent: row.try_get(15)?, state: row.try_get(16)? },
        },
    })
}
