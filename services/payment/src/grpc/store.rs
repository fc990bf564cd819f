//! SQL of what operators see of the open calls, and have done with them.

use sqlx::{FromRow, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    dispatcher::store::{FORGOTTEN, kind},
    payment::Kind,
};

/// An open call, as an operator sees it.
#[derive(Clone, Debug)]
pub(crate) struct OpenCall {
    pub(crate) key: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) attempts: i32,
    pub(crate) first_sent_at: Option<OffsetDateTime>,
    /// `None` while it waits for a person.
    pub(crate) due_at: Option<OffsetDateTime>,
    pub(crate) attention: String,
    /// Where it stands in the list: the first that were sent come first, what was not sent yet comes last.
    pub(crate) place: OffsetDateTime,
}

macro_rules! open_columns {
    () => {
        "key, order_id, kind, amount, currency, attempts, first_sent_at, nullif(due_at, 'infinity') as due_at, attention, \
         coalesce(first_sent_at, '9999-12-31') as place"
    };
}

impl FromRow<'_, PgRow> for OpenCall {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            key: row.try_get("key")?,
            order_id: row.try_get("order_id")?,
            kind: kind(row)?,
            amount: row.try_get("amount")?,
            currency: row.try_get("currency")?,
            attempts: row.try_get("attempts")?,
            first_sent_at: row.try_get("first_sent_at")?,
            due_at: row.try_get("due_at")?,
            attention: row.try_get("attention")?,
            place: row.try_get("place")?,
        })
    }
}

/// Open calls behind this place, the oldest first. There are never more than work is in flight or in doubt.
pub(crate) async fn open_calls(
    db: &PgPool,
    after: (OffsetDateTime, Uuid),
    needs_attention: bool,
    rows_max: i64,
) -> sqlx::Result<Vec<OpenCall>> {
    sqlx::query_as(concat!(
        "select ",
        open_columns!(),
        " from provider_calls
         where (coalesce(first_sent_at, '9999-12-31'), key) > ($1, $2) and (attention <> '' or not $3)
         order by place, key limit $4"
    ))
    .bind(after.0)
    .bind(after.1)
    .bind(needs_attention)
    .bind(rows_max)
    .fetch_all(db)
    .await
}

/// Why an open call waits for a person, empty if it does not; `None` if no call of this key is open.
pub(crate) async fn attention_of(db: &PgPool, key: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select attention from provider_calls where key = $1").bind(key).fetch_optional(db).await
}

/// What a person has done with a call that waits for him.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry<'a> {
    pub(crate) key: Uuid,
    pub(crate) who: &'a str,
    pub(crate) reason: &'a str,
    /// He has looked at the provider: this key never moved money there.
    pub(crate) never_made: bool,
}

/// Takes up a call that waits for a person, and keeps who asked and why. One statement: a caller that goes away leaves nothing half done.
/// `None` if no call of this key waits for a person, or none that the provider may have forgotten where it is said to be never made.
///
/// What was never made can have been made from now on alone, so it is as young as that. What is to be undone is not made for that: it is
/// withdrawn.
pub(crate) async fn retry(db: &PgPool, retry: Retry<'_>) -> sqlx::Result<Option<OpenCall>> {
    sqlx::query_as(concat!(
        "with waiting as (
             select key as waiting_key, attention as why, withdrawn or ($4 and kind in ('CHARGE', 'AUTHORIZE', 'CAPTURE') and exists (
                 select from payments p where p.id = payment_id
                     and (p.undo_command_id is not null or (kind = 'CAPTURE' and p.uncapture_command_id is not null))
             )) as withdraw
             from provider_calls where key = $1 and attention <> '' and (not $4 or attention = $5) for no key update
         ), taken as (
             update provider_calls set attention = '', due_at = clock_timestamp(), withdrawn = withdraw,
                 asked_at = case when $4 then clock_timestamp() else asked_at end,
                 first_sent_at = case when withdraw then null when $4 then clock_timestamp() else first_sent_at end
             from waiting where key = waiting_key
             returning provider_calls.*, why
         ), noted as (
             insert into call_operations (key, order_id, attention, who, reason, never_made)
             select key, order_id, why, $2, $3, $4 from taken
         )
         select ",
        open_columns!(),
        " from taken"
    ))
    .bind(retry.key)
    .bind(retry.who)
    .bind(retry.reason)
    .bind(retry.never_made)
    .bind(FORGOTTEN)
    .fetch_optional(db)
    .await
}

/// Those of these orders that have a call which waits for a person.
pub(crate) async fn needing_attention(db: &PgPool, order_ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select distinct order_id from provider_calls where attention <> '' and order_id = any($1)")
        .bind(order_ids)
        .fetch_all(db)
        .await
}
