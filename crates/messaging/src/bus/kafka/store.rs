//! SQL of the relay's cursors.

use sqlx::{PgConnection, Row};

use crate::{Position, Stream, outbox::store::columns};

/// Makes sure that every stream has its cursor, and gives them all. The id of the row at a cursor is not kept: the relay skips the row.
pub(super) async fn open(db: &mut PgConnection, streams: &[Stream]) -> sqlx::Result<Vec<(Stream, Position)>> {
    let (topics, partitions) = columns(streams);
    sqlx::query("insert into relay (topic, partition) select * from unnest($1::text[], $2::int[]) on conflict do nothing")
        .bind(&topics)
        .bind(&partitions)
        .execute(&mut *db)
        .await?;
    let rows = sqlx::query("select topic, partition, seq from relay where topic = any($1) order by topic, partition")
        .bind(&topics)
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| {
            let stream = Stream { topic: row.try_get(0)?, partition: row.try_get(1)? };
            Ok((stream, Position { seq: row.try_get(2)?, last_id: None, kafka_offset: None }))
        })
        .collect()
}

/// Moves cursors forward; another relay may have been faster, and a cursor never goes back.
pub(super) async fn advance(db: &mut PgConnection, to: &[(Stream, Position)]) -> sqlx::Result<()> {
    let topics: Vec<&str> = to.iter().map(|(stream, _)| stream.topic.as_str()).collect();
    let partitions: Vec<i32> = to.iter().map(|(stream, _)| stream.partition).collect();
    let seqs: Vec<i64> = to.iter().map(|(_, position)| position.seq).collect();
    sqlx::query(
        "update relay r set seq = n.seq from unnest($1::text[], $2::int[], $3::bigint[]) as n(topic, partition, seq)
         where r.topic = n.topic and r.partition = n.partition and r.seq < n.seq",
    )
    .bind(topics)
    .bind(partitions)
    .bind(seqs)
    .execute(db)
    .await?;
    Ok(())
}
