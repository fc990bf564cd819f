//! SQL of admission.

use sqlx::PgConnection;

/// Age of the oldest record of this outbox that one of its readers has not passed, in milliseconds; 0 where all have passed all. A group
/// that has never reported does not count. Streams have no holes, so what a reader reads next is one look into the primary key.
pub(super) async fn backlog_age_ms(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(max(extract(epoch from clock_timestamp() - o.at) * 1000), 0)::bigint
         from readers r
         cross join lateral (
             select at from outbox where topic = r.topic and partition = r.partition and seq = r.seq + 1 limit 1
         ) o",
    )
    .fetch_one(db)
    .await
}
