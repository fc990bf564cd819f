//! Progress: where a group stands in its streams, kept in the consumer's database.

pub(crate) mod report;
pub(crate) mod store;

use sqlx::{PgConnection, PgPool};

use crate::{Error, Place, Position, Record, Stream, bus::Source, outbox::readers, patience};

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

/// The same where the log tells by itself what it keeps: where it has never had a record a group begins with the first, so that it misses
/// it if it is lost. False if it is too early to tell of some.
pub(crate) async fn open_unwritten(
    limit_ms: u64,
    pool: &PgPool,
    source: &mut Source,
    group: &str,
    topics: &[String],
) -> Result<bool, Error> {
    let new = patience::at(limit_ms, pool, async |db| store::unopened(db, group, topics).await).await?;
    if new.is_empty() {
        return Ok(true);
    }
    let (unwritten, all_known) = source.unwritten(new).await?;
    let at: Vec<(Stream, Position)> = unwritten.into_iter().map(|stream| (stream, Position::default())).collect();
    patience::at(limit_ms, pool, async |db| store::open_at(db, group, &at).await).await?;
    Ok(all_known)
}

/// Whether a group begins at the first record that it reads of a stream.
pub(crate) enum Adopted {
    /// It begins there: from before it.
    At(Position),
    /// It has begun before.
    No,
    /// What it has read of other producers before is not applied yet.
    NotYet,
}

/// Where the log has lost its beginning before a group came: it begins at the first record of ours. `before` is where its reader stands.
pub(crate) async fn adopt(db: &mut PgConnection, group: &str, before: Position, first: &Record) -> sqlx::Result<Adopted> {
    let Some(Place { seq, prev: Some(prev) }) = first.place else {
        // What names no predecessor is nothing to begin at.
        return Ok(Adopted::No);
    };
    let position = Position { seq: seq - 1, last_id: Some(prev), ..before };
    if store::adopt(db, group, &first.stream, &position).await? {
        let Stream { topic, partition } = &first.stream;
        tracing::info!(group, topic, partition, afterSeq = position.seq, "a new group begins at the oldest record that is kept");
        return Ok(Adopted::At(position));
    }
    let new = store::unopened(db, group, std::slice::from_ref(&first.stream.topic)).await?;
    Ok(if new.contains(&first.stream) { Adopted::NotYet } else { Adopted::No })
}
