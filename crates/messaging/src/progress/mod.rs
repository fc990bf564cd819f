//! Progress: where a group stands in its streams, kept in the consumer's database.

pub(crate) mod report;
pub(crate) mod store;

use sqlx::{PgConnection, PgPool};

use crate::{Place, Position, Record, Stream, outbox::readers};

/// Where a group stands, for people and tests: every stream it has ever read.
pub async fn of_group(db: &mut PgConnection, group: &str) -> sqlx::Result<Vec<(Stream, Position)>> {
    store::all(db, group).await
}

/// Settles where a group begins in the streams of these topics that it has never read: before the oldest record that the publisher keeps,
/// and from now on keeps for it.
pub(crate) async fn open(db: &mut PgConnection, publisher: &PgPool, group: &str, topics: &[String]) -> sqlx::Result<()> {
    let new = store::unopened(db, group, topics).await?;
    if new.is_empty() {
        return Ok(());
    }
    let positions = readers::register(&mut *publisher.acquire().await?, group, &new).await?;
    let opened = store::open_at(db, group, &positions).await?;
    for (Stream { topic, partition }, Position { seq, .. }) in positions.iter().filter(|(stream, _)| opened.contains(stream)) {
        tracing::info!(group, topic, partition, afterSeq = seq, "a new group begins at the oldest record that is kept");
    }
    Ok(())
}

/// The same where the log tells by itself what it keeps: the first record that a group reads of a stream. None if the group has begun to
/// read it before.
pub(crate) async fn adopt(db: &mut PgConnection, group: &str, first: &Record) -> sqlx::Result<Option<Position>> {
    let Some(Place { seq, prev }) = first.place else { return Ok(None) };
    // What names no predecessor is nothing to begin at.
    if seq > 1 && prev.is_none() {
        return Ok(None);
    }
    let position = Position { seq: seq - 1, last_id: prev, kafka_offset: None };
    let opened = store::open_at(db, group, &[(first.stream.clone(), position)]).await?;
    if opened.is_empty() {
        return Ok(None);
    }
    let Stream { topic, partition } = &first.stream;
    tracing::info!(group, topic, partition, afterSeq = position.seq, "a new group begins at the oldest record that is kept");
    Ok(Some(position))
}
