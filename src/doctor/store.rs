//! SQL of the doctor: what Postgres says of itself.

use std::collections::HashSet;

use sqlx::PgConnection;

/// Settings with which a commit may be forgotten after a crash.
pub(super) async fn relaxed_settings(db: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select name || ' is ' || setting from pg_settings
         where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off' order by name",
    )
    .fetch_all(db)
    .await
}

/// How many sessions of this database are idle inside a transaction for longer than this, or in the middle of a COPY of news, and for how
/// long the oldest is.
pub(super) async fn idle_transactions(db: &mut PgConnection, age_s_max: f64) -> sqlx::Result<(i64, f64)> {
    sqlx::query_as(
        "select count(*), coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 from pg_stat_activity
         where datname = current_database()
             and (state like 'idle in transaction%'
                 or state = 'active' and wait_event = 'ClientRead' and query like 'copy outbox (%')
             and xact_start < clock_timestamp() - $1 * interval '1 second'",
    )
    .bind(age_s_max)
    .fetch_one(db)
    .await
}

/// Versions of a service's own tables that its database has.
pub(super) async fn applied_migrations(db: &mut PgConnection) -> sqlx::Result<HashSet<i64>> {
    let there: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&mut *db).await?;
    if !there {
        return Ok(HashSet::new());
    }
    let applied: Vec<i64> = sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(db).await?;
    Ok(applied.into_iter().collect())
}
