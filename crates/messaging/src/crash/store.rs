//! SQL of the crash-loop guard; which streams were taken over from the dead is told by the statement that takes them.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::Record;

/// Names the record that is decided next. Gives back how often the process died with its mark.
pub(crate) async fn mark(db: &mut PgConnection, group: &str, instance: Uuid, record: &Record) -> sqlx::Result<i32> {
    // The same instance marks again where it could not tell whether the mark was committed: nobody has died.
    sqlx::query_scalar(
        "insert into crash_marks as m (grp, event_id, topic, partition, seq, instance)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (grp, event_id) do update
             set crashes = m.crashes + case when m.instance = excluded.instance then 0 else 1 end,
                 instance = excluded.instance, marked_at = clock_timestamp()
         returning crashes",
    )
    .bind(group)
    .bind(record.id)
    .bind(&record.stream.topic)
    .bind(record.stream.partition)
    .bind(record.place.map(|place| place.seq))
    .bind(instance)
    .fetch_one(db)
    .await
}

/// Takes the marks of these records away.
pub(crate) async fn unmark(db: &mut PgConnection, group: &str, event_ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query("delete from crash_marks where grp = $1 and event_id = any($2)").bind(group).bind(event_ids).execute(db).await?;
    Ok(())
}
