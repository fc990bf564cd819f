//! SQL of the relay: its cursors, and the rows it sends.

use std::collections::HashSet;

use futures::TryStreamExt;
use sqlx::{PgConnection, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    lanes::{Due, Saved, Step},
    tail::{Kept, Tail},
};
use crate::{Error, Record, Stream, outbox::store::columns};

/// Makes sure that every stream has its cursor. Coming from another bus, a cursor starts at the slowest reader: what all of them have read
/// there is not sent here. Gives back how many cursors that moved.
pub(super) async fn open(db: &mut PgConnection, streams: &[Stream]) -> sqlx::Result<u64> {
    let (topics, partitions) = columns(streams);
    sqlx::query("insert into relay (topic, partition) select * from unnest($1::text[], $2::int[]) on conflict do nothing")
        .bind(&topics)
        .bind(&partitions)
        .execute(&mut *db)
        .await?;
    let moved = sqlx::query(
        "update relay r set seq = s.seq
         from (select topic, partition, min(seq) as seq from readers where topic = any($1) group by topic, partition) s
         where r.topic = s.topic and r.partition = s.partition and r.seq < s.seq
             and not exists (select from stream_bus where bus = 'kafka')",
    )
    .bind(&topics)
    .execute(db)
    .await?;
    Ok(moved.rows_affected())
}

/// The saved cursors of these topics, and whether rows wait behind them.
pub(super) async fn cursors(db: &mut PgConnection, topics: &[&str]) -> sqlx::Result<Vec<Saved>> {
    let rows = sqlx::query(
        "select r.topic, r.partition, r.seq,
             exists (select from outbox o where o.topic = r.topic and o.partition = r.partition and o.seq > r.seq), r.anew
         from relay r where r.topic = any($1) order by r.topic, r.partition",
    )
    .bind(topics)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            let stream = Stream { topic: row.try_get(0)?, partition: row.try_get(1)? };
            Ok(Saved { stream, seq: row.try_get(2)?, behind: row.try_get(3)?, anew: row.try_get(4)? })
        })
        .collect()
}

/// What is known of each of these streams beside the end of its log, in their order.
pub(super) async fn kept(db: &mut PgConnection, ends: &[(Stream, Option<Tail>)]) -> sqlx::Result<Vec<Kept>> {
    let topics: Vec<&str> = ends.iter().map(|(stream, _)| stream.topic.as_str()).collect();
    let partitions: Vec<i32> = ends.iter().map(|(stream, _)| stream.partition).collect();
    let seqs: Vec<Option<i64>> = ends.iter().map(|(_, tail)| tail.map(|tail| tail.seq)).collect();
    let rows = sqlx::query(
        "select
             (select o.seq from outbox o where o.topic = s.topic and o.partition = s.partition order by o.seq limit 1),
             (select o.id from outbox o where o.topic = s.topic and o.partition = s.partition and o.seq = s.seq),
             (select min(r.seq) from readers r where r.topic = s.topic and r.partition = s.partition)
         from unnest($1::text[], $2::int[], $3::bigint[]) with ordinality as s(topic, partition, seq, n) order by s.n",
    )
    .bind(topics)
    .bind(partitions)
    .bind(seqs)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| Ok(Kept { oldest_seq: row.try_get(0)?, id_at_tail: row.try_get(1)?, slowest_seq: row.try_get(2)? }))
        .collect()
}

/// Moves cursors by compare-and-set and gives back those that moved: where another relay or a person was there before, nothing happens.
/// What a person wanted sent anew is under way then.
pub(super) async fn advance(db: &mut PgConnection, steps: &[Step]) -> sqlx::Result<HashSet<Stream>> {
    let rows = sqlx::query(
        "update relay r set seq = n.after_seq, anew = false
         from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) as n(topic, partition, before_seq, after_seq)
         where r.topic = n.topic and r.partition = n.partition and r.seq = n.before_seq
         returning r.topic, r.partition",
    )
    .bind(steps.iter().map(|step| step.stream.topic.as_str()).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| step.stream.partition).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| step.before).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| step.after).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok(Stream { topic: row.try_get(0)?, partition: row.try_get(1)? })).collect()
}

/// A row of the outbox, borrowed from the answer it came in or from the record that was said.
pub(super) struct Line<'r> {
    pub(super) topic: &'r str,
    pub(super) partition: i32,
    pub(super) seq: i64,
    pub(super) prev: Option<Uuid>,
    pub(super) id: Uuid,
    pub(super) key: &'r str,
    pub(super) type_name: &'r str,
    pub(super) payload: &'r [u8],
    pub(super) at: OffsetDateTime,
    pub(super) correlation: &'r str,
    pub(super) causation: Option<Uuid>,
    pub(super) traceparent: Option<&'r str>,
    pub(super) tracestate: Option<&'r str>,
    /// What only few rows have: names and values by turns.
    pub(super) extra: Option<Vec<String>>,
}

impl<'r> Line<'r> {
    /// What is in memory of a stream has its place in it.
    pub(super) fn of(record: &'r Record) -> Option<Self> {
        let place = record.place?;
        Some(Self {
            topic: &record.stream.topic,
            partition: record.stream.partition,
            seq: place.seq,
            prev: place.prev,
            id: record.id,
            key: &record.key,
            type_name: &record.type_name,
            payload: &record.payload,
            at: record.at,
            correlation: &record.correlation,
            causation: record.causation,
            traceparent: record.trace.parent.as_deref(),
            tracestate: record.trace.state.as_deref(),
            extra: None,
        })
    }
}

/// Hands over the rows behind these cursors one after the other, a stream at a time and each in its order, at most `limit` a stream, until
/// enough is enough (`false`). No row is kept.
pub(super) async fn each(
    db: &mut PgConnection,
    due: &[&Due],
    limit: i64,
    mut hand: impl FnMut(&Line<'_>) -> Result<bool, Error> + Send,
) -> Result<(), Error> {
    let topics: Vec<&str> = due.iter().map(|due| due.stream.topic.as_str()).collect();
    let partitions: Vec<i32> = due.iter().map(|due| due.stream.partition).collect();
    let cursors: Vec<i64> = due.iter().map(|due| due.at.seq).collect();
    let mut rows = sqlx::query(
        "select o.topic, o.partition, o.seq, o.prev, o.id, o.key, o.type, o.payload, o.at, o.correlation, o.causation,
             o.traceparent, o.tracestate,
             case when o.extra is not null then array(select unnest(array[e.key, e.value]) from jsonb_each_text(o.extra) e) end
         from unnest($1::text[], $2::int[], $3::bigint[]) as s(topic, partition, seq)
         cross join lateral (
             select * from outbox where topic = s.topic and partition = s.partition and seq > s.seq order by seq limit $4
         ) o",
    )
    .bind(topics)
    .bind(partitions)
    .bind(cursors)
    .bind(limit)
    .fetch(db);
    while let Some(row) = rows.try_next().await? {
        if !hand(&line(&row)?)? {
            break;
        }
    }
    Ok(())
}

fn line(row: &PgRow) -> sqlx::Result<Line<'_>> {
    Ok(Line {
        topic: row.try_get(0)?,
        partition: row.try_get(1)?,
        seq: row.try_get(2)?,
        prev: row.try_get(3)?,
        id: row.try_get(4)?,
        key: row.try_get(5)?,
        type_name: row.try_get(6)?,
        payload: row.try_get(7)?,
        at: row.try_get(8)?,
        correlation: row.try_get(9)?,
        causation: row.try_get(10)?,
        traceparent: row.try_get(11)?,
        tracestate: row.try_get(12)?,
        extra: row.try_get(13)?,
    })
}
