//! SQL of webhooks.

use sqlx::PgPool;

use super::Event;

/// Remembers an event and wakes the call with its key. Whether the event is new, and whether a call was woken.
///
/// Only a call that rests is woken: one that is under way has its lease, and a call that is locked has somebody at it. A call that
/// waits for a person wakes too: its answer may be there now, and if not it is set aside again.
pub(super) async fn receive(db: &PgPool, event: &Event) -> sqlx::Result<(bool, bool)> {
    sqlx::query_as(
        "with fresh as (
             insert into webhook_events as e (id, type, key) values ($1, $2, $3)
             on conflict (id) do update set repeats = e.repeats + 1
             returning repeats = 0 as unheard
         ), woken as (
             update provider_calls set due_at = now(), attention = ''
             where key = any(array(
                 select key from provider_calls where key = $3 and resting and due_at > now() and (select unheard from fresh)
                 for no key update skip locked
             ))
             returning key
         )
         select unheard, exists (select from woken) from fresh",
    )
    .bind(&event.id)
    .bind(&event.kind)
    .bind(event.key)
    .fetch_one(db)
    .await
}

/// Forgets events that are older, so many at most; how many they were.
pub(super) async fn forget(db: &PgPool, kept_s: i64, rows_max: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from webhook_events where id = any(array(
             select id from webhook_events where at < now() - $1::bigint * interval '1 second' order by at limit $2
             for update skip locked
         ))",
    )
    .bind(kept_s)
    .bind(rows_max)
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
