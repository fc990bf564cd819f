//! SQL of retention.

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use crate::outbox::ranges::Range;

/// Longer than Postgres waits before it looks who is in the way: a vacuum ends by itself then. Who waits for a lock holds up nobody, but
/// whoever comes after it and wants the same.
const LOCK_MS: &str = "1500";
const STATEMENT_MS: &str = "10000";

/// A connection of retention's own, since `detach … concurrently` allows no transaction around it and its lock outlives statements.
pub(super) async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let mut db = PgConnection::connect_with(options).await?;
    sqlx::query("select set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false)")
        .bind(LOCK_MS)
        .bind(STATEMENT_MS)
        .execute(&mut db)
        .await?;
    Ok(db)
}

/// Whether it is this instance's turn: one at a time, and nobody waits for it. Held until it is given back or the connection ends.
pub(super) async fn try_lock(db: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtext('outbox_retention'), 0)").fetch_one(db).await
}

pub(super) async fn unlock(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_unlock(hashtext('outbox_retention'), 0)").execute(db).await?;
    Ok(())
}

/// Seconds since the newest record of a range, as far as its partitions' last ones tell; none if it has none.
pub(super) async fn newest_ago_s(db: &mut PgConnection, topic: &str, range: Range) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "select extract(epoch from now() - max(o.at))::bigint
         from generate_series(0, (select partitions from stream_settings) - 1) as p(partition)
         cross join lateral (
             select at from outbox
             where topic = $1 and partition = p.partition and seq >= $2 and seq < $3 order by seq desc limit 1
         ) o",
    )
    .bind(topic)
    .bind(range.first)
    .bind(range.end)
    .fetch_one(db)
    .await
}

/// Gives a range up: from here on nobody begins to read in it.
pub(super) async fn mark(db: &mut PgConnection, relation: &str) -> sqlx::Result<()> {
    sqlx::query("update outbox_ranges set dropping = true where relation = $1").bind(relation).execute(db).await?;
    Ok(())
}

/// Takes a table out of the outbox. Readers and writers pass meanwhile; it waits for those who were there before, as long as it may.
pub(super) async fn detach(db: &mut PgConnection, relation: &str) -> sqlx::Result<()> {
    alter(db, format!("alter table outbox detach partition {} concurrently", quoted(relation))).await
}

/// Finishes what [`detach`] has begun.
pub(super) async fn finalize(db: &mut PgConnection, relation: &str) -> sqlx::Result<()> {
    alter(db, format!("alter table outbox detach partition {} finalize", quoted(relation))).await
}

/// Drops a table that is no part of the outbox any more.
pub(super) async fn drop(db: &mut PgConnection, relation: &str) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    alter(&mut tx, format!("drop table if exists {}", quoted(relation))).await?;
    sqlx::query("delete from outbox_ranges where relation = $1 and dropping").bind(relation).execute(&mut *tx).await?;
    tx.commit().await
}

/// No parameter stands for a name. These are names of ours, see the check on `outbox_ranges`, and quoted all the same.
async fn alter(db: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(db).await?;
    Ok(())
}

fn quoted(relation: &str) -> String {
    format!("\"{}\"", relation.replace('"', "\"\""))
}

/// Whether a lock was not to be had in time: somebody is in the way, and retention comes again.
pub(super) fn is_in_the_way(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

/// Forgets foreign records that were applied so long ago, at most so many.
pub(super) async fn forget_processed(db: &mut PgConnection, retention_s: i64, limit: i64) -> sqlx::Result<u64> {
    let gone = sqlx::query(
        "delete from processed_events where ctid = any(array(
             select ctid from processed_events where processed_at < now() - $1 * interval '1 second' order by processed_at limit $2
             for update skip locked
         ))",
    )
    .bind(retention_s)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

/// Cuts dead letters that are settled and were held back so long ago, at most so many. By their place in the table, which cannot change
/// while they are locked.
pub(super) async fn cut_settled(db: &mut PgConnection, retention_s: i64, limit: i64) -> sqlx::Result<u64> {
    let gone = sqlx::query(
        "delete from dead_letter_events where ctid = any(array(
             select ctid from dead_letter_events
             where state = 'DONE' and failed_at < now() - $1 * interval '1 second' order by failed_at limit $2
             for update skip locked
         ))",
    )
    .bind(retention_s)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}
