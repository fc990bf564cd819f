//! SQL of progress, leases and dedupe.

use std::collections::HashSet;

use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{Position, Stream, crash::TakenOver, outbox::store::columns};

/// One stream's move in a batch.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) stream: Stream,
    pub(crate) before: Position,
    pub(crate) after: Position,
}

/// Moves the streams by compare-and-set and renews their leases. Gives back those that moved, and whether the group holds any record
/// back (see parking). The first statement of the effect's transaction; `moves` are sorted by stream. The newest version of each row is
/// looked up and then found by its place: joined by the key, a plan for few rows would begin with all the versions there are.
pub(crate) async fn advance(
    db: &mut PgConnection,
    group: &str,
    instance: Uuid,
    lease_ms: i64,
    moves: &[Move],
) -> sqlx::Result<(HashSet<Stream>, bool)> {
    let rows = sqlx::query(
        "with moved as (
             update progress p
             set seq = m.to_seq, last_id = m.to_id, kafka_offset = coalesce(m.kafka_offset, p.kafka_offset),
                 moves = p.moves + 1, generation = (p.moves + 1) / 32,
                 lease_until = case when p.owner = $2 then clock_timestamp() + $3 * interval '1 millisecond' else p.lease_until end
             from (
                 select *, (
                     select ctid from progress
                     where grp = $1 and topic = t.topic and partition = t.partition
                     order by generation desc limit 1
                 ) as newest
                 from unnest($4::text[], $5::int[], $6::bigint[], $7::uuid[], $8::bigint[], $9::uuid[], $10::bigint[], $11::bigint[])
                     as t(topic, partition, from_seq, from_id, to_seq, to_id, kafka_offset, from_offset)
                 offset 0
             ) m
             where p.ctid = m.newest and p.seq = m.from_seq and p.last_id is not distinct from m.from_id
                 and p.kafka_offset is not distinct from m.from_offset
             returning p.topic, p.partition
         )
         select topic, partition, exists (select from dead_letter_events where consumer = $1 and state <> 'DONE') from moved",
    )
    .bind(group)
    .bind(instance)
    .bind(lease_ms)
    .bind(moves.iter().map(|m| m.stream.topic.as_str()).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.stream.partition).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.before.seq).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.before.last_id).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.after.seq).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.after.last_id).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.after.kafka_offset).collect::<Vec<_>>())
    .bind(moves.iter().map(|m| m.before.kafka_offset).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    let mut holding = false;
    let mut moved = HashSet::with_capacity(rows.len());
    for row in &rows {
        holding |= row.try_get::<bool, _>(2)?;
        moved.insert(stream(row)?);
    }
    Ok((moved, holding))
}

/// The hashes under which foreign records were applied before, by id.
pub(crate) async fn remembered(db: &mut PgConnection, group: &str, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Vec<u8>)>> {
    let known = sqlx::query("select event_id, payload_hash from processed_events where consumer = $1 and event_id = any($2)")
        .bind(group)
        .bind(ids)
        .fetch_all(db)
        .await?;
    known.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Writes down that foreign records were applied. Of two batches that do so at once, both past their look, the second is refused (23505):
/// all it did is undone, and its next look tells.
pub(crate) async fn remember(db: &mut PgConnection, group: &str, ids: &[Uuid], hashes: &[Vec<u8>]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into processed_events (consumer, event_id, payload_hash)
         select $1, f.id, f.hash from unnest($2::uuid[], $3::bytea[]) as f(id, hash)",
    )
    .bind(group)
    .bind(ids)
    .bind(hashes)
    .execute(db)
    .await?;
    Ok(())
}

/// Makes sure that every stream of the group has its row. A trigger sees to it that one that has it keeps it. Where a new group begins is
/// settled later: see [`open_at`].
pub(crate) async fn open(db: &mut PgConnection, group: &str, streams: &[Stream]) -> sqlx::Result<()> {
    let (topics, partitions) = columns(streams);
    sqlx::query(
        "insert into progress (grp, topic, partition)
         select $1, s.topic, s.partition from unnest($2::text[], $3::int[]) as s(topic, partition)",
    )
    .bind(group)
    .bind(topics)
    .bind(partitions)
    .execute(db)
    .await?;
    Ok(())
}

/// The streams of these topics that the group has never read, and of which it is not settled where it begins.
pub(crate) async fn unopened(db: &mut PgConnection, group: &str, topics: &[String]) -> sqlx::Result<Vec<Stream>> {
    let rows = sqlx::query(
        "select topic, partition from progress
         where grp = $1 and topic = any($2) and not opened and seq = 0 order by topic, partition",
    )
    .bind(group)
    .bind(topics)
    .fetch_all(db)
    .await?;
    rows.iter().map(stream).collect()
}

/// Settles where a new group begins, once: a stream that it has begun to read stays where it is. Gives back those that it is settled for.
pub(crate) async fn open_at(db: &mut PgConnection, group: &str, at: &[(Stream, Position)]) -> sqlx::Result<Vec<Stream>> {
    let rows = sqlx::query(
        "update progress p set seq = s.seq, last_id = s.last_id, opened = true
         from unnest($2::text[], $3::int[], $4::bigint[], $5::uuid[]) as s(topic, partition, seq, last_id)
         where p.grp = $1 and p.topic = s.topic and p.partition = s.partition
             and not p.opened and p.seq = 0
         returning p.topic, p.partition",
    )
    .bind(group)
    .bind(at.iter().map(|(stream, _)| stream.topic.as_str()).collect::<Vec<_>>())
    .bind(at.iter().map(|(stream, _)| stream.partition).collect::<Vec<_>>())
    .bind(at.iter().map(|(_, position)| position.seq).collect::<Vec<_>>())
    .bind(at.iter().map(|(_, position)| position.last_id).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    rows.iter().map(stream).collect()
}

/// The same for one stream, whose offset must be what it is here.
pub(crate) async fn adopt(db: &mut PgConnection, group: &str, stream: &Stream, at: &Position) -> sqlx::Result<bool> {
    let adopted = sqlx::query(
        "update progress set seq = $4, last_id = $5, opened = true
         where grp = $1 and topic = $2 and partition = $3 and not opened and seq = 0 and kafka_offset is not distinct from $6",
    )
    .bind(group)
    .bind(&stream.topic)
    .bind(stream.partition)
    .bind(at.seq)
    .bind(at.last_id)
    .bind(at.kafka_offset)
    .execute(db)
    .await?;
    Ok(adopted.rows_affected() > 0)
}

/// How far the group is in the streams that this instance reads.
pub(crate) async fn read_by(db: &mut PgConnection, group: &str, instance: Uuid) -> sqlx::Result<Vec<(Stream, i64)>> {
    let rows = sqlx::query(
        "select topic, partition, seq from progress
         where grp = $1 and owner = $2 and (opened or seq > 0 or kafka_offset is not null) order by topic, partition",
    )
    .bind(group)
    .bind(instance)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((stream(row)?, row.try_get(2)?))).collect()
}

/// Where a database answers before a commit is on disk: waits for all that this connection has seen to be there. What others are told must
/// not be lost with a crash, or it would look like an older copy. Elsewhere it writes nothing.
pub(crate) async fn flush(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(
        "select set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'settle', '')
         where current_setting('synchronous_commit') = 'off'",
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn all(db: &mut PgConnection, group: &str) -> sqlx::Result<Vec<(Stream, Position)>> {
    let rows =
        sqlx::query("select topic, partition, seq, last_id, kafka_offset from progress where grp = $1 order by topic, partition")
            .bind(group)
            .fetch_all(db)
            .await?;
    rows.iter()
        .map(|row| Ok((stream(row)?, Position { seq: row.try_get(2)?, last_id: row.try_get(3)?, kafka_offset: row.try_get(4)? })))
        .collect()
}

fn stream(row: &PgRow) -> sqlx::Result<Stream> {
    Ok(Stream { topic: row.try_get(0)?, partition: row.try_get(1)? })
}

/// Says that this instance lives, forgets those that do not, and counts the living.
pub(crate) async fn join(db: &mut PgConnection, group: &str, instance: Uuid, lease_ms: i64) -> sqlx::Result<i64> {
    sqlx::query("delete from members where grp = $1 and lease_until < clock_timestamp() - interval '1 minute'")
        .bind(group)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "insert into members (grp, instance, lease_until) values ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
         on conflict (grp, instance) do update set lease_until = excluded.lease_until",
    )
    .bind(group)
    .bind(instance)
    .bind(lease_ms)
    .execute(&mut *db)
    .await?;
    sqlx::query_scalar("select count(*) from members where grp = $1 and lease_until > clock_timestamp()")
        .bind(group)
        .fetch_one(db)
        .await
}

/// Renews the leases this instance still has and gives back their partition numbers. A row that a batch holds is renewed by the batch.
pub(crate) async fn renew(db: &mut PgConnection, group: &str, instance: Uuid, lease_ms: i64) -> sqlx::Result<Vec<i32>> {
    sqlx::query(
        "with mine as (
             select topic, partition from progress where grp = $1 and owner = $2 order by topic, partition for update skip locked
         )
         update progress p set lease_until = clock_timestamp() + $3 * interval '1 millisecond'
         from mine m where p.grp = $1 and p.topic = m.topic and p.partition = m.partition",
    )
    .bind(group)
    .bind(instance)
    .bind(lease_ms)
    .execute(&mut *db)
    .await?;
    sqlx::query_scalar(
        "select partition from progress where grp = $1 group by partition having bool_and(owner = $2) order by partition",
    )
    .bind(group)
    .bind(instance)
    .fetch_all(db)
    .await
}

/// Takes up to `limit` partition numbers that nobody holds, with all topics of the group. Gives back which streams another instance left
/// behind without giving them back: it died.
pub(crate) async fn claim(
    db: &mut PgConnection,
    group: &str,
    instance: Uuid,
    lease_ms: i64,
    limit: i64,
) -> sqlx::Result<Vec<TakenOver>> {
    let rows = sqlx::query(
        "with free as (
             select partition from progress where grp = $1
             group by partition having bool_and(lease_until < clock_timestamp()) order by partition limit $4
         ), locked as (
             select p.topic, p.partition, p.owner is not null and p.owner <> $2 as died,
                 p.seq is not distinct from p.taken_seq and p.kafka_offset is not distinct from p.taken_offset as unmoved
             from progress p join free using (partition)
             where p.grp = $1 and p.lease_until < clock_timestamp()
             order by p.topic, p.partition for update of p skip locked
         ), whole as (
             -- All topics of a partition or none: half a partition would belong to nobody.
             select partition from locked group by partition
             having count(*) = (select count(distinct topic) from progress where grp = $1)
         )
         update progress p set owner = $2, lease_until = clock_timestamp() + $3 * interval '1 millisecond',
             taken_seq = p.seq, taken_offset = p.kafka_offset
         from whole w join locked l using (partition)
         where p.grp = $1 and p.topic = l.topic and p.partition = l.partition
         returning p.topic, p.partition, l.died, l.unmoved, exists (
             select from crash_marks m where m.grp = $1 and m.topic = p.topic and m.partition = p.partition
         )",
    )
    .bind(group)
    .bind(instance)
    .bind(lease_ms)
    .bind(limit)
    .fetch_all(db)
    .await?;
    let mut left_behind = Vec::new();
    for row in &rows {
        if row.try_get(2)? {
            left_behind.push(TakenOver { stream: stream(row)?, unmoved: row.try_get(3)?, marked: row.try_get(4)? });
        }
    }
    Ok(left_behind)
}

/// Gives leases back: these partitions, and with `leave` the membership too.
pub(crate) async fn give_back(
    db: &mut PgConnection,
    group: &str,
    instance: Uuid,
    partitions: &[i32],
    leave: bool,
) -> sqlx::Result<()> {
    sqlx::query(
        "update progress set owner = null, lease_until = '-infinity' where grp = $1 and owner = $2 and partition = any($3)",
    )
    .bind(group)
    .bind(instance)
    .bind(partitions)
    .execute(&mut *db)
    .await?;
    if leave {
        sqlx::query("delete from members where grp = $1 and instance = $2").bind(group).bind(instance).execute(db).await?;
    }
    Ok(())
}
