//! SQL of webhooks.

use contracts::ids;
use sqlx::{FromRow, PgPool};

use super::Event;
use crate::payment::Kind;

/// What an event that is remembered did.
#[derive(Debug, FromRow)]
pub(super) struct Heard {
    /// It did not come before.
    pub(super) is_new: bool,
    /// A call that rested is due.
    pub(super) woken: bool,
    /// A call that only asks was opened.
    pub(super) asked: bool,
}

/// Remembers an event and wakes the call with its key. `None` if it is not remembered, because what the provider says of its call just now
/// may be from before the event: the answer that a withdrawn call was never made would be the last that is heard of it.
///
/// Only a call that rests is woken: one that is under way has its lease, and a call that is locked has somebody at it. A call that
/// waits for a person wakes too: its answer may be there now, and if not it is set aside again.
///
/// What was done under the key of a payment that counts as not made is asked about by a call of its own, which is as old as the payment and
/// is never sent. A payment that has an authorization code has heard of it.
pub(super) async fn receive(db: &PgPool, event: &Event) -> sqlx::Result<Option<Heard>> {
    let opened = match event.kind.as_str() {
        "charge.succeeded" => Some(Kind::Charge.name()),
        "authorize.succeeded" => Some(Kind::Authorize.name()),
        _ => None,
    };
    sqlx::query_as(
        "with under_way as (
             select from provider_calls where key = $3 and withdrawn and attempts > 0 and not resting
         ), fresh as (
             insert into webhook_events as e (id, type, key) select $1, $2, $3 where not exists (select from under_way)
             on conflict (id) do update set repeats = e.repeats + 1
             returning repeats = 0 as unheard
         ), woken as (
             update provider_calls set due_at = now(), attention = ''
             where key = any(array(
                 select key from provider_calls where key = $3 and resting and due_at > now() and (select unheard from fresh)
                 for no key update skip locked
             ))
             returning key
         ), asked as (
             insert into provider_calls
                 (payment_id, id, order_id, kind, key, token, amount, currency, correlation, withdrawn, asked_at, due_at)
             select id, $5, order_id, case when two_step then 'AUTHORIZE' when amount > 0 then 'CHARGE' else $4 end, id, '', amount,
                 currency, order_id::text, true, created_at, now()
             from payments
             where id = $3 and $4 is not null and state in ('DECLINED', 'VOIDED') and auth_code = '' and (select unheard from fresh)
             on conflict (key) do nothing
             returning key
         )
         select unheard as is_new, exists (select from woken) as woken, exists (select from asked) as asked from fresh",
    )
    .bind(&event.id)
    .bind(&event.kind)
    .bind(event.key)
    .bind(opened)
    .bind(ids::derive(event.key, &format!("webhook {}", event.id)))
    .fetch_optional(db)
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
