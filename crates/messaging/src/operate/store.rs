//! SQL of the operator's tools. Every statement but those of [`super::events`] finds its rows by an index, also in a large outbox.

use std::collections::{HashMap, HashSet};

use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{By, Extent, HeldBack, Mark, Marks, Operation, Report, Standing};
use crate::{Position, Stream};

/// Jumps from stream to stream instead of counting through the rows.
pub(super) async fn extents(db: &mut PgConnection) -> sqlx::Result<Vec<Extent>> {
    let rows = sqlx::query(
        "with recursive streams as (
             (select topic, partition from outbox order by topic, partition limit 1)
             union all
             select n.topic, n.partition
             from streams s
             cross join lateral (
                 select o.topic, o.partition from outbox o
                 where (o.topic, o.partition) > (s.topic, s.partition) order by o.topic, o.partition limit 1
             ) n
         )
         select s.topic, s.partition, f.seq, l.seq,
             extract(epoch from clock_timestamp() - f.at)::float8, extract(epoch from clock_timestamp() - l.at)::float8
         from streams s
         cross join lateral (
             select seq, at from outbox where topic = s.topic and partition = s.partition order by seq limit 1
         ) f
         cross join lateral (
             select seq, at from outbox where topic = s.topic and partition = s.partition order by seq desc limit 1
         ) l
         order by s.topic, s.partition",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Extent {
                stream: stream(row, 0)?,
                first_seq: row.try_get(2)?,
                last_seq: row.try_get(3)?,
                oldest_age_s: row.try_get(4)?,
                newest_age_s: row.try_get(5)?,
            })
        })
        .collect()
}

pub(super) async fn reports(db: &mut PgConnection) -> sqlx::Result<Vec<Report>> {
    let rows = sqlx::query(
        "select grp, topic, partition, seq, extract(epoch from clock_timestamp() - at)::float8, greatest(seq, furthest) from readers
         order by grp, topic, partition",
    )
    .fetch_all(db)
    .await?;
    rows.iter().map(report).collect()
}

/// Locked, so that what is forgotten is what was looked at.
pub(super) async fn reports_of(db: &mut PgConnection, group: &str) -> sqlx::Result<Vec<Report>> {
    let rows = sqlx::query(
        "select grp, topic, partition, seq, extract(epoch from clock_timestamp() - at)::float8, greatest(seq, furthest) from readers
         where grp = $1 order by grp, topic, partition for update",
    )
    .bind(group)
    .fetch_all(db)
    .await?;
    rows.iter().map(report).collect()
}

fn report(row: &PgRow) -> sqlx::Result<Report> {
    Ok(Report {
        group: row.try_get(0)?,
        stream: stream(row, 1)?,
        seq: row.try_get(3)?,
        furthest_seq: row.try_get(5)?,
        reported_ago_s: row.try_get(4)?,
    })
}

pub(super) async fn forget(db: &mut PgConnection, group: &str) -> sqlx::Result<()> {
    sqlx::query("delete from readers where grp = $1").bind(group).execute(db).await?;
    Ok(())
}

/// Until the end of the transaction no range of the outbox is dropped (see `make_outbox_range`).
pub(super) async fn stop_retention(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('outbox_ranges'), 0)").execute(db).await?;
    Ok(())
}

/// How far a group has ever told a publisher to be, since a person sent it elsewhere.
pub(super) async fn furthest(db: &mut PgConnection, group: &str, stream: &Stream) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("select greatest(seq, furthest) from readers where grp = $1 and topic = $2 and partition = $3")
        .bind(group)
        .bind(&stream.topic)
        .bind(stream.partition)
        .fetch_optional(db)
        .await
}

/// Says for a group that it has read only so far.
pub(super) async fn hold_back(db: &mut PgConnection, group: &str, stream: &Stream, seq: i64) -> sqlx::Result<()> {
    sqlx::query(
        "insert into readers (grp, topic, partition, seq, furthest, at) values ($1, $2, $3, $4, $4, clock_timestamp())
         on conflict (grp, topic, partition) do update set seq = excluded.seq, furthest = excluded.furthest",
    )
    .bind(group)
    .bind(&stream.topic)
    .bind(stream.partition)
    .bind(seq)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn standings(db: &mut PgConnection) -> sqlx::Result<Vec<Standing>> {
    let rows = sqlx::query(
        "select p.grp, p.topic, p.partition, p.seq, p.last_id, p.kafka_offset, case when p.lease_until > clock_timestamp() then p.owner end,
             greatest(p.seq, r.from_seq)
         from progress p
         left join (
             select grp, topic, partition, max(from_seq) as from_seq from stream_operations where operation = 'rejoin' group by 1, 2, 3
         ) r using (grp, topic, partition)
         order by p.grp, p.topic, p.partition",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Standing {
                group: row.try_get(0)?,
                stream: stream(row, 1)?,
                position: position_of(row, 3)?,
                known_seq: row.try_get(7)?,
                owner: row.try_get(6)?,
            })
        })
        .collect()
}

pub(super) async fn position(db: &mut PgConnection, group: &str, stream: &Stream) -> sqlx::Result<Option<Position>> {
    let row = sqlx::query("select seq, last_id, kafka_offset from progress where grp = $1 and topic = $2 and partition = $3")
        .bind(group)
        .bind(&stream.topic)
        .bind(stream.partition)
        .fetch_optional(db)
        .await?;
    row.map(|row| position_of(&row, 0)).transpose()
}

/// Sends a group elsewhere; where it stood until now. None if it does not read the stream.
pub(super) async fn place(db: &mut PgConnection, group: &str, stream: &Stream, to: &Position) -> sqlx::Result<Option<i64>> {
    let from: Option<i64> =
        sqlx::query_scalar("select seq from progress where grp = $1 and topic = $2 and partition = $3 for update")
            .bind(group)
            .bind(&stream.topic)
            .bind(stream.partition)
            .fetch_optional(&mut *db)
            .await?;
    sqlx::query(
        "update progress set seq = $4, last_id = $5, kafka_offset = $6, opened = true
         where grp = $1 and topic = $2 and partition = $3",
    )
    .bind(group)
    .bind(&stream.topic)
    .bind(stream.partition)
    .bind(to.seq)
    .bind(to.last_id)
    .bind(to.kafka_offset)
    .execute(db)
    .await?;
    Ok(from)
}

pub(super) async fn marks(db: &mut PgConnection, at: &[(Stream, Position)]) -> sqlx::Result<Vec<Marks>> {
    let topics: Vec<&str> = at.iter().map(|(stream, _)| stream.topic.as_str()).collect();
    let partitions: Vec<i32> = at.iter().map(|(stream, _)| stream.partition).collect();
    let seqs: Vec<i64> = at.iter().map(|(_, position)| position.seq).collect();
    let rows = sqlx::query(
        "select f.seq, f.prev, coalesce(l.seq, 0), h.id, n.seq, n.prev, extract(epoch from clock_timestamp() - n.at)::float8
         from unnest($1::text[], $2::int[], $3::bigint[]) with ordinality as s(topic, partition, seq, place)
         left join lateral (
             select seq, prev from outbox where topic = s.topic and partition = s.partition order by seq limit 1
         ) f on true
         left join lateral (
             select seq from outbox where topic = s.topic and partition = s.partition order by seq desc limit 1
         ) l on true
         left join lateral (
             select id from outbox o where o.topic = s.topic and o.partition = s.partition and o.seq = s.seq
         ) h on true
         left join lateral (
             select o.seq, o.prev, o.at from outbox o
             where o.topic = s.topic and o.partition = s.partition and o.seq > s.seq order by o.seq limit 1
         ) n on true
         order by s.place",
    )
    .bind(topics)
    .bind(partitions)
    .bind(seqs)
    .fetch_all(db)
    .await?;
    let mark = |row: &PgRow, from: usize| -> sqlx::Result<Option<Mark>> {
        let seq: Option<i64> = row.try_get(from)?;
        let prev = row.try_get(from + 1)?;
        Ok(seq.map(|seq| Mark { seq, prev }))
    };
    rows.iter()
        .map(|row| {
            Ok(Marks {
                first: mark(row, 0)?,
                last_seq: row.try_get(2)?,
                here: row.try_get(3)?,
                next: mark(row, 4)?,
                next_age_s: row.try_get(6)?,
            })
        })
        .collect()
}

pub(super) async fn is_on_kafka(db: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from stream_bus where bus = 'kafka')").fetch_one(db).await
}

/// Sets the relay's cursor back, if it has come farther, and tells it to publish whatever the topic holds. Where it stood, and stands.
pub(super) async fn set_back(db: &mut PgConnection, stream: &Stream, seq: i64) -> sqlx::Result<(i64, i64)> {
    let from: Option<i64> = sqlx::query_scalar("select seq from relay where topic = $1 and partition = $2 for update")
        .bind(&stream.topic)
        .bind(stream.partition)
        .fetch_optional(&mut *db)
        .await?;
    let to = sqlx::query_scalar(
        "insert into relay (topic, partition, anew) values ($1, $2, true)
         on conflict (topic, partition) do update set seq = least(relay.seq, $3), anew = true returning seq",
    )
    .bind(&stream.topic)
    .bind(stream.partition)
    .bind(seq)
    .fetch_one(db)
    .await?;
    Ok((from.unwrap_or_default(), to))
}

/// Writes down what was done, from where to where.
pub(super) async fn note(
    db: &mut PgConnection,
    operation: &str,
    group: Option<&str>,
    stream: &Stream,
    (from_seq, to_seq): (i64, i64),
    by: By<'_>,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into stream_operations (operation, grp, topic, partition, from_seq, to_seq, who, why)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(operation)
    .bind(group)
    .bind(&stream.topic)
    .bind(stream.partition)
    .bind(from_seq)
    .bind(to_seq)
    .bind(by.who)
    .bind(by.why)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn operations(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Operation>> {
    let rows = sqlx::query(
        "select topic, partition, at, operation, grp, from_seq, to_seq, who, why from stream_operations order by id desc limit $1",
    )
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Operation {
                stream: stream(row, 0)?,
                at: row.try_get(2)?,
                operation: row.try_get(3)?,
                group: row.try_get(4)?,
                from_seq: row.try_get(5)?,
                to_seq: row.try_get(6)?,
                who: row.try_get(7)?,
                why: row.try_get(8)?,
            })
        })
        .collect()
}

/// The newest rejoin of each stream of a group: a number that changes with the next one.
pub(super) async fn rejoins(db: &mut PgConnection, group: &str) -> sqlx::Result<HashMap<Stream, i64>> {
    let rows = sqlx::query(
        "select topic, partition, max(id) from stream_operations where grp = $1 and operation = 'rejoin' group by topic, partition",
    )
    .bind(group)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((stream(row, 0)?, row.try_get(2)?))).collect()
}

/// The farthest place in each stream that a person has sent a group away from.
pub(super) async fn left_at(db: &mut PgConnection, group: &str) -> sqlx::Result<HashMap<Stream, i64>> {
    let rows = sqlx::query(
        "select topic, partition, max(from_seq) from stream_operations
         where grp = $1 and operation = 'rejoin' group by topic, partition",
    )
    .bind(group)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((stream(row, 0)?, row.try_get(2)?))).collect()
}

pub(super) async fn held_back(db: &mut PgConnection) -> sqlx::Result<HeldBack> {
    let row = sqlx::query(
        "select count(*) filter (where state = 'PARKED'), count(*) filter (where state <> 'PARKED')
         from dead_letter_events where state <> 'DONE'",
    )
    .fetch_one(db)
    .await?;
    Ok(HeldBack { parked: row.try_get(0)?, waiting: row.try_get(1)? })
}

pub(super) async fn partitions(db: &mut PgConnection) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar("select partitions from stream_settings").fetch_optional(db).await
}

pub(super) async fn applied_migrations(db: &mut PgConnection) -> sqlx::Result<HashSet<i64>> {
    let there: bool = sqlx::query_scalar("select to_regclass('_messaging_migrations') is not null").fetch_one(&mut *db).await?;
    if !there {
        return Ok(HashSet::new());
    }
    let applied: Vec<i64> = sqlx::query_scalar("select version from _messaging_migrations where success").fetch_all(db).await?;
    Ok(applied.into_iter().collect())
}

fn stream(row: &PgRow, from: usize) -> sqlx::Result<Stream> {
    Ok(Stream { topic: row.try_get(from)?, partition: row.try_get(from + 1)? })
}

fn position_of(row: &PgRow, from: usize) -> sqlx::Result<Position> {
    let last_id: Option<Uuid> = row.try_get(from + 1)?;
    Ok(Position { seq: row.try_get(from)?, last_id, kafka_offset: row.try_get(from + 2)? })
}
