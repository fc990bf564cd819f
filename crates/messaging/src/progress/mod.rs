//! Progress: where a group stands in its streams, kept in the consumer's database.

pub(crate) mod store;

use sqlx::PgConnection;

use crate::{Position, Stream};

/// Where a group stands, for people and tests: every stream it has ever read.
pub async fn of_group(db: &mut PgConnection, group: &str) -> sqlx::Result<Vec<(Stream, Position)>> {
    store::all(db, group).await
}
