//! SQL of the shelf.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::Open;
use crate::{Stream, parking::store::held_of};

/// Locks the oldest row of each of these keys, so that whoever parks, appends or drains a key does so alone, and the rows `brought`, with
/// their keys; in the order of the rows, in which all others lock them too. Gives back those that are still held back.
pub(super) async fn lock(
    db: &mut PgConnection,
    group: &str,
    keys: &[&str],
    brought: &[(&str, i64)],
) -> sqlx::Result<Vec<(String, Open)>> {
    let (of, ids): (Vec<&str>, Vec<i64>) = brought.iter().copied().unzip();
    let rows = sqlx::query(
        "select d.id, d.state, d.topic, d.partition, d.key
         from (
             select k.key, (
                 select id from dead_letter_events
                 where consumer = $1 and md5(key) = md5(k.key) and key = k.key and state <> 'DONE' order by id limit 1
             ) as id, null::bigint as last
             from unnest($2::text[]) as k(key)
             union all
             select b.key, b.id, b.id from unnest($3::text[], $4::bigint[]) as b(key, id)
             order by 2 offset 0
         ) o
         cross join lateral (
             -- From there on: what was the oldest may be settled by the time it is locked.
             select id, state, topic, partition, key from dead_letter_events
             where consumer = $1 and md5(key) = md5(o.key) and key = o.key and state <> 'DONE'
                 and id >= o.id and id <= coalesce(o.last, 9223372036854775807)
             order by id limit 1 for update
         ) d",
    )
    .bind(group)
    .bind(keys)
    .bind(of)
    .bind(ids)
    .fetch_all(db)
    .await?;
    rows.iter().map(open).collect()
}

/// What records of these streams and keys may have before them, but for the rows `brought`: of each state the oldest row, and of those that
/// hold only their own stream the oldest in it. Others like it change nothing, however many there are.
pub(super) async fn before(
    db: &mut PgConnection,
    group: &str,
    of: &[(&str, &Stream)],
    brought: &[i64],
) -> sqlx::Result<Vec<(String, Open)>> {
    let rows = sqlx::query(
        "select d.id, d.state, d.topic, d.partition, k.key
         from unnest($2::text[], $3::text[], $4::int[]) as k(key, topic, partition)
         cross join unnest(array['EARLY', 'WAITING', 'PARKED', 'READY', 'DISCARD']) as s(state)
         cross join lateral (
             select id, state, topic, partition from dead_letter_events
             where consumer = $1 and md5(key) = md5(k.key) and key = k.key and state = s.state and state <> 'DONE'
                 and (s.state not in ('EARLY', 'WAITING') or topic = k.topic and partition = k.partition)
                 and id <> all($5)
             order by id limit 1
         ) d",
    )
    .bind(group)
    .bind(of.iter().map(|(key, _)| *key).collect::<Vec<_>>())
    .bind(of.iter().map(|(_, stream)| stream.topic.as_str()).collect::<Vec<_>>())
    .bind(of.iter().map(|(_, stream)| stream.partition).collect::<Vec<_>>())
    .bind(brought)
    .fetch_all(db)
    .await?;
    rows.iter().map(open).collect()
}

fn open(row: &PgRow) -> sqlx::Result<(String, Open)> {
    let stream = Stream { topic: row.try_get(2)?, partition: row.try_get(3)? };
    Ok((row.try_get(4)?, Open { id: row.try_get(0)?, held: held_of(row.try_get(1)?)?, stream }))
}
