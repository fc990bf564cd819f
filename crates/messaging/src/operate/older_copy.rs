//! How a reader learns that its database was put back to an older copy: it had told others that it had come further.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::store;
use crate::{Position, Stream};

/// The streams that stand behind what the group has told, with the number it told: its database is an older copy. What was told has to be
/// asked before `stored` is read: positions only grow, unless a person sends the group back, and that leaves a note of where it was.
pub(crate) async fn older_copy(
    db: &mut PgConnection,
    group: &str,
    told: &[(Stream, i64)],
    stored: &[(Stream, Position)],
) -> sqlx::Result<HashMap<Stream, i64>> {
    let stored: HashMap<&Stream, i64> = stored.iter().map(|(stream, position)| (stream, position.seq)).collect();
    let is_behind = |(stream, seq): &&(Stream, i64)| stored.get(stream).is_some_and(|at| at < seq);
    let mut behind: HashMap<Stream, i64> = told.iter().filter(is_behind).cloned().collect();
    if !behind.is_empty() {
        let left = store::left_at(db, group).await?;
        behind.retain(|stream, seq| left.get(stream).is_none_or(|left| left < seq));
    }
    Ok(behind)
}
