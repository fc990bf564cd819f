//! SQL of the readers, in the publisher's database.

use sqlx::{PgConnection, Row};

use crate::{
    Position, Stream,
    outbox::{Unread, store::columns},
};

/// Before the oldest record of each stream that is not older than the number given for it. Streams without one are left out.
pub(super) async fn before_oldest(
    db: &mut PgConnection,
    streams: &[Stream],
    from: &[i64],
) -> sqlx::Result<Vec<(Stream, Position)>> {
    let (topics, partitions) = columns(streams);
    let rows = sqlx::query(
        "select s.topic, s.partition, o.seq, o.prev
         from unnest($1::text[], $2::int[], $3::bigint[]) as s(topic, partition, seq)
         cross join lateral (
             select seq, prev from outbox where topic = s.topic and partition = s.partition and seq >= s.seq order by seq limit 1
         ) o",
    )
    .bind(topics)
    .bind(partitions)
    .bind(from)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            let oldest: i64 = row.try_get(2)?;
            let stream = Stream { topic: row.try_get(0)?, partition: row.try_get(1)? };
            Ok((stream, Position { seq: oldest - 1, last_id: row.try_get(3)?, kafka_offset: None }))
        })
        .collect()
}

/// The oldest record of each stream that a group has not passed. Streams have no holes: one step into the primary key each.
pub(crate) async fn unread(db: &mut PgConnection) -> sqlx::Result<Vec<Unread>> {
    let rows = sqlx::query(
        "select r.grp, r.topic, r.partition, o.at
         from readers r
         cross join lateral (
             select at from outbox where topic = r.topic and partition = r.partition and seq = r.seq + 1 limit 1
         ) o",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            let stream = Stream { topic: row.try_get(1)?, partition: row.try_get(2)? };
            Ok(Unread { group: row.try_get(0)?, stream, since: row.try_get(3)? })
        })
        .collect()
}

/// How far a group has ever told that it had come in these streams, since a person sent it elsewhere. Streams of which it has told nothing
/// are left out.
pub(crate) async fn furthest(db: &mut PgConnection, group: &str, streams: &[Stream]) -> sqlx::Result<Vec<(Stream, i64)>> {
    let (topics, partitions) = columns(streams);
    let rows = sqlx::query(
        "select topic, partition, greatest(seq, furthest) from readers
         where grp = $1 and (topic, partition) in (select * from unnest($2::text[], $3::int[]))",
    )
    .bind(group)
    .bind(topics)
    .bind(partitions)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((Stream { topic: row.try_get(0)?, partition: row.try_get(1)? }, row.try_get(2)?))).collect()
}

/// Says how far a group has come. Who says less than before is an older copy, or was sent back by a person, or is late by a moment: what was
/// said is kept beside it.
pub(crate) async fn report(db: &mut PgConnection, group: &str, seqs: &[(Stream, i64)]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into readers (grp, topic, partition, seq, furthest, at)
         select $1, s.topic, s.partition, s.seq, s.seq, clock_timestamp()
         from unnest($2::text[], $3::int[], $4::bigint[]) as s(topic, partition, seq)
         order by s.topic, s.partition
         on conflict (grp, topic, partition) do update
         set seq = excluded.seq, furthest = greatest(readers.furthest, excluded.furthest), at = excluded.at",
    )
    .bind(group)
    .bind(seqs.iter().map(|(stream, _)| stream.topic.as_str()).collect::<Vec<_>>())
    .bind(seqs.iter().map(|(stream, _)| stream.partition).collect::<Vec<_>>())
    .bind(seqs.iter().map(|(_, seq)| *seq).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}
