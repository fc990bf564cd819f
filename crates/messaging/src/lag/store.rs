//! SQL of the readers' lag.

use sqlx::{PgConnection, Row};

/// How far a group is behind in one stream.
pub(super) struct Behind {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Records that it has not passed.
    pub(super) records: i64,
    /// Age of the oldest of them; 0 where there is none.
    pub(super) age_ms: i64,
}

/// Every stream of every group that has reported. Streams have no holes, so both looks are one step into the primary key.
pub(super) async fn behind(db: &mut PgConnection) -> sqlx::Result<Vec<Behind>> {
    let rows = sqlx::query(
        "select r.grp, r.topic, r.partition, greatest(coalesce(last.seq, 0) - r.seq, 0),
             coalesce(extract(epoch from clock_timestamp() - next.at) * 1000, 0)::bigint
         from readers r
         left join lateral (
             select seq from outbox where topic = r.topic and partition = r.partition order by seq desc limit 1
         ) last on true
         left join lateral (
             select at from outbox where topic = r.topic and partition = r.partition and seq = r.seq + 1 limit 1
         ) next on true",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Behind {
                group: row.try_get(0)?,
                topic: row.try_get(1)?,
                partition: row.try_get(2)?,
                records: row.try_get(3)?,
                age_ms: row.try_get(4)?,
            })
        })
        .collect()
}
