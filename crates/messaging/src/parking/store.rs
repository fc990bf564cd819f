//! SQL of parking.

use bytes::Bytes;
use sqlx::{PgConnection, Postgres, Row, postgres::PgRow};

use super::{Filter, Held, Intervention, New, Parked, Redrive, Which, dlq};
use crate::{Place, Record, Stream, Trace, operate::By};

/// The columns that [`parked`] reads.
macro_rules! columns {
    () => {
        "id, state, reason, topic, partition, seq, prev, kafka_offset, event_id, key, event_type, payload, at, correlation, causation, \
         traceparent, tracestate, behind, redrives, failed_at"
    };
}

macro_rules! rows {
    ($which:literal) => {
        concat!("select ", columns!(), " from dead_letter_events d where consumer = $1 and ", $which)
    };
}

pub(super) async fn list(db: &mut PgConnection, group: &str, filter: &Filter, after: i64, limit: i64) -> sqlx::Result<Vec<Parked>> {
    // What is settled has another statement: all others are found by the index of what is not.
    let sql = match filter.state {
        Some(Held::Done) => rows!(
            "state = 'DONE' and id > $2 and ($3::text is null or key = $3) and ($4::text is null or topic = $4)
             and ($5::text is null or state = $5) order by id limit $6"
        ),
        _ => rows!(
            "state <> 'DONE' and id > $2 and ($3::text is null or key = $3) and ($4::text is null or topic = $4)
             and ($5::text is null or state = $5) order by id limit $6"
        ),
    };
    let rows = sqlx::query(sql)
        .bind(group)
        .bind(after)
        .bind(&filter.key)
        .bind(&filter.topic)
        .bind(filter.state.map(Held::name))
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.iter().map(parked).collect()
}

pub(super) async fn one(db: &mut PgConnection, group: &str, id: i64) -> sqlx::Result<Option<Parked>> {
    let row = sqlx::query(rows!("id = $2")).bind(group).bind(id).fetch_optional(db).await?;
    row.as_ref().map(parked).transpose()
}

pub(super) async fn missing(db: &mut PgConnection, group: &str, ids: &[i64]) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "select i from unnest($2::bigint[]) as i
         where not exists (select from dead_letter_events where consumer = $1 and id = i) order by i",
    )
    .bind(group)
    .bind(ids)
    .fetch_all(db)
    .await
}

pub(super) async fn interventions(db: &mut PgConnection, group: &str, id: i64, limit: i64) -> sqlx::Result<Vec<Intervention>> {
    let rows = sqlx::query(
        "select at, action, who, why from dead_letter_audit where consumer = $1 and dead_letter = $2 order by id limit $3",
    )
    .bind(group)
    .bind(id)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| Ok(Intervention { at: row.try_get(0)?, action: row.try_get(1)?, who: row.try_get(2)?, why: row.try_get(3)? }))
        .collect()
}

/// What is the owner's to settle in these partitions, oldest first: early records, and what a person marked READY or DISCARD.
pub(crate) async fn to_try(
    db: &mut PgConnection,
    group: &str,
    partitions: &[i32],
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Parked>> {
    let rows = sqlx::query(rows!(
        "state in ('EARLY', 'WAITING', 'READY', 'DISCARD') and partition = any($2)
         and not exists (
             select from dead_letter_events p
             where d.key <> '' and p.consumer = $1 and md5(p.key) = md5(d.key) and p.key = d.key and p.state = 'PARKED' and p.id < d.id
         )
         and id > $3 order by id limit $4"
    ))
    .bind(group)
    .bind(partitions)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(parked).collect()
}

/// Locks all that is held back of the keys that are meant, in the order in which a batch locks it. What one of them adds meanwhile is seen
/// by the next statement.
pub(super) async fn lock(db: &mut PgConnection, group: &str, which: Which<'_>) -> sqlx::Result<()> {
    let locking = match which {
        Which::Key(key) => sqlx::query::<Postgres>(
            "select from dead_letter_events where consumer = $1 and md5(key) = md5($2) and key = $2 and state <> 'DONE' order by id for update",
        )
        .bind(group)
        .bind(key),
        Which::Ids(ids) => sqlx::query::<Postgres>(
            "select from dead_letter_events d
             where consumer = $1 and state <> 'DONE' and (md5(key), key) in (
                 select md5(c.key), c.key from dead_letter_events c where c.consumer = $1 and c.id = any($2)
             ) order by id for update",
        )
        .bind(group)
        .bind(ids),
    };
    locking.execute(db).await?;
    Ok(())
}

macro_rules! redrive {
    ($which:literal) => {
        concat!(
            "with wanted as (
                 select id, key from dead_letter_events d
                 where consumer = $1 and state = 'PARKED' and id > $3 and ",
            $which,
            "    order by id limit $4 for update
             ), marked as (
                 update dead_letter_events d
                 set state = 'READY', redrives = d.redrives + case when d.behind then 0 else 1 end
                 from wanted w
                 where d.id = w.id and not exists (
                     -- Neither what was redriven too often nor what waits behind such a one; without a key nothing does.
                     select from dead_letter_events s
                     where s.consumer = $1 and md5(s.key) = md5(w.key) and s.key = w.key and s.state = 'PARKED' and s.id <= w.id
                         and s.redrives >= $5 and not $6 and (w.key <> '' or s.id = w.id)
                 )
                 returning d.id, d.event_id, d.key
             ), audited as (
                 insert into dead_letter_audit (consumer, dead_letter, event_id, key, action, who, why)
                 select $1, id, event_id, key, 'REDRIVE', $7, $8 from marked order by id
             )
             select w.id, m.id is not null from wanted w left join marked m on m.id = w.id order by w.id"
        )
    };
}

/// Marks what is parked to be tried again. Gives back each row that was looked at, and whether it was marked.
pub(super) async fn redrive(
    db: &mut PgConnection,
    group: &str,
    what: &Redrive<'_>,
    redrives_max: i32,
    by: By<'_>,
) -> sqlx::Result<Vec<(i64, bool)>> {
    let marked = match what.which {
        Which::Key(key) => sqlx::query_as::<Postgres, (i64, bool)>(redrive!("md5(key) = md5($2) and key = $2")).bind(group).bind(key),
        Which::Ids(ids) => sqlx::query_as::<Postgres, (i64, bool)>(redrive!(
            "(id = any($2) or behind and exists (
                 select from dead_letter_events c
                 where c.consumer = $1 and c.state = 'PARKED' and c.id = any($2) and md5(c.key) = md5(d.key) and c.key = d.key and c.id < d.id
             ))"
        ))
        .bind(group)
        .bind(ids),
    };
    marked
        .bind(what.after)
        .bind(what.rows_max.clamp(0, super::ROWS_MAX))
        .bind(redrives_max)
        .bind(what.force)
        .bind(by.who)
        .bind(by.why)
        .fetch_all(db)
        .await
}

/// Marks a row as given up, and what only waits behind it to be tried again. Gives back the state it was in, whether it was marked, and
/// whether it was given up before; `None` if there is no such row.
pub(super) async fn discard(db: &mut PgConnection, group: &str, id: i64, by: By<'_>) -> sqlx::Result<Option<(Held, bool, bool)>> {
    let row: Option<(String, bool, bool)> = sqlx::query_as(
        "with target as (
             select id, state from dead_letter_events where consumer = $1 and id = $2 for update
         ), marked as (
             update dead_letter_events d set state = 'DISCARD' from target t
             where d.id = t.id and t.state in ('EARLY', 'WAITING', 'PARKED', 'READY')
             returning d.id, d.event_id, d.key
         ), freed as (
             update dead_letter_events d set state = 'READY' from marked m
             where d.consumer = $1 and md5(d.key) = md5(m.key) and d.key = m.key and d.id > m.id and d.state = 'PARKED' and d.behind
         ), audited as (
             insert into dead_letter_audit (consumer, dead_letter, event_id, key, action, who, why)
             select $1, id, event_id, key, 'DISCARD', $3, $4 from marked
         )
         select t.state, exists (select from marked),
             exists (select from dead_letter_audit a where a.consumer = $1 and a.dead_letter = t.id and a.action = 'DISCARD')
         from target t",
    )
    .bind(group)
    .bind(id)
    .bind(by.who)
    .bind(by.why)
    .fetch_optional(db)
    .await?;
    row.map(|(state, marked, before)| Ok((held_of(&state)?, marked, before))).transpose()
}

pub(crate) async fn hold(db: &mut PgConnection, group: &str, held: Vec<New>) -> sqlx::Result<()> {
    // Rare and few: a statement a row is good enough here, and keeps their order.
    for New { held, behind, reason, record } in held {
        sqlx::query(
            "insert into dead_letter_events (consumer, topic, partition, seq, prev, kafka_offset, event_id, key, event_type, payload, at,
                 correlation, causation, traceparent, tracestate, reason, state, behind)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
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
        .bind(held.name())
        .bind(behind)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

pub(crate) async fn settle(db: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query("update dead_letter_events set state = 'DONE' where id = any($1)").bind(ids).execute(db).await?;
    Ok(())
}

/// Puts a row that failed by itself back to PARKED, with the new reason.
pub(crate) async fn park_again(db: &mut PgConnection, id: i64, reason: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update dead_letter_events set state = 'PARKED', behind = false, reason = $2, failed_at = clock_timestamp()
         where id = $1 and state <> 'DONE'",
    )
    .bind(id)
    .bind(reason)
    .execute(db)
    .await?;
    Ok(())
}

/// Whether an early record has waited too long.
pub(super) async fn any_too_early(db: &mut PgConnection, group: &str, early_wait_s: u64) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (
             select from dead_letter_events
             where consumer = $1 and state <> 'DONE' and state = 'EARLY' and failed_at < clock_timestamp() - $2 * interval '1 second'
         )",
    )
    .bind(group)
    .bind(i64::try_from(early_wait_s).unwrap_or(i64::MAX))
    .fetch_one(db)
    .await
}

/// Early records that have waited too long become dead letters, and so does what waits behind them: the oldest first, at most `limit`.
/// Gives back what they were, oldest first.
pub(super) async fn give_up(db: &mut PgConnection, group: &str, early_wait_s: u64, limit: usize) -> sqlx::Result<Vec<Parked>> {
    let rows = sqlx::query(concat!(
        "update dead_letter_events set state = 'PARKED'
         where state = 'EARLY' and id = any(array(
             select id from dead_letter_events
             where consumer = $1 and state <> 'DONE' and state = 'EARLY' and failed_at < clock_timestamp() - $2 * interval '1 second'
             order by id limit $3
         ))
         returning ",
        columns!()
    ))
    .bind(group)
    .bind(i64::try_from(early_wait_s).unwrap_or(i64::MAX))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    let mut rows = rows.iter().map(parked).collect::<sqlx::Result<Vec<Parked>>>()?;
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// Appends the copy of a dead letter to an outbox stream that is locked. What a record has no column for goes into `extra`, by the names of
/// the headers it becomes on Kafka.
pub(super) async fn copy(db: &mut PgConnection, place: Place, entry: &dlq::Entry) -> sqlx::Result<()> {
    let dlq::Entry { copy, group, reason, record } = entry;
    sqlx::query(
        "insert into outbox (topic, partition, seq, id, prev, key, type, payload, at, correlation, causation, traceparent, tracestate, extra)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, jsonb_strip_nulls(jsonb_build_object(
             'dlqgroup', $14::text, 'dlqreason', $15::text, 'dlqtime', clock_timestamp(), 'dlqid', $16::uuid, 'dlqtopic', $17::text,
             'dlqpartition', $18::int, 'dlqseq', $19::bigint, 'dlqoffset', $20::bigint)))",
    )
    .bind(&copy.stream.topic)
    .bind(copy.stream.partition)
    .bind(place.seq)
    .bind(copy.id)
    .bind(place.prev)
    .bind(&copy.key)
    .bind(&copy.type_name)
    .bind(&copy.payload[..])
    .bind(copy.at)
    .bind(&copy.correlation)
    .bind(copy.causation)
    .bind(&copy.trace.parent)
    .bind(&copy.trace.state)
    .bind(*group)
    .bind(reason)
    .bind(record.id)
    .bind(&record.stream.topic)
    .bind(record.stream.partition)
    .bind(record.place.map(|place| place.seq))
    .bind(record.kafka_offset)
    .execute(db)
    .await?;
    Ok(())
}

/// A rehearsal is in nobody's way for long.
pub(super) async fn be_brief(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("set local lock_timeout = '1s'; set local statement_timeout = '3s'").execute(db).await?;
    Ok(())
}

/// Checks what is otherwise checked at the commit.
pub(super) async fn check_now(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("set constraints all immediate").execute(db).await?;
    Ok(())
}

pub(super) fn held_of(state: &str) -> sqlx::Result<Held> {
    Held::named(state).ok_or_else(|| sqlx::Error::Decode(format!("unknown state of a dead letter {state}").into()))
}

fn parked(row: &PgRow) -> sqlx::Result<Parked> {
    let seq: Option<i64> = row.try_get(5)?;
    let prev = row.try_get(6)?;
    Ok(Parked {
        id: row.try_get(0)?,
        held: held_of(row.try_get(1)?)?,
        reason: row.try_get(2)?,
        behind: row.try_get(17)?,
        redrives: row.try_get(18)?,
        failed_at: row.try_get(19)?,
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
