//! The table `readers` in a publisher's database: how far each group has come. Groups write it; retention and admission obey it.

pub(crate) mod store;

use sqlx::{Connection, PgConnection};

use super::ranges::{
    self, Range,
    store::{Attached, Kept},
};
use crate::{Position, Stream};

/// Enters a new group as a reader of these streams, before it reads: it begins at the oldest record from which on nothing is missing, and
/// from here on that is kept for it. Gives back its positions, each before that record.
pub(crate) async fn register(db: &mut PgConnection, group: &str, streams: &[Stream]) -> sqlx::Result<Vec<(Stream, Position)>> {
    let mut tx = db.begin().await?;
    ranges::store::lock(&mut tx).await?;
    let kept = ranges::store::all(&mut tx).await?;
    let ends = ranges::store::ends(&mut tx, streams).await?;
    let unbroken_from: Vec<i64> = streams
        .iter()
        .map(|stream| {
            let there = |kept: &&Kept| kept.topic == stream.topic && !kept.dropping && kept.place == Attached::Yes;
            let ranges: Vec<Range> = kept.iter().filter(there).map(|kept| kept.range).collect();
            ranges::unbroken_from(&ranges, ends.get(stream).copied().unwrap_or_default())
        })
        .collect();
    let mut positions = store::before_oldest(&mut tx, streams, &unbroken_from).await?;
    positions
        .extend(streams.iter().filter(|stream| !ends.contains_key(*stream)).map(|stream| (stream.clone(), Position::default())));
    let seqs: Vec<(Stream, i64)> = positions.iter().map(|(stream, position)| (stream.clone(), position.seq)).collect();
    store::report(&mut tx, group, &seqs).await?;
    tx.commit().await?;
    Ok(positions)
}
