//! SQL of the calls to the provider that are open.

use messaging::Trace;
use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    payment::{Aside, Kind},
    store::column,
};

/// Why a call waits for a person, in the words that he reads.
pub(crate) const FORGOTTEN: &str =
    "the provider does not know the key, and has forgotten keys of its age: sent now, it might be done twice";
const NO_SUM: &str = "the provider holds money of a payment that was undone before it was asked for: nobody here knows the sum";

/// A call to be stored with the intent.
#[derive(Debug)]
pub(crate) struct NewCall {
    pub(crate) payment_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) key: Uuid,
    pub(crate) token: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    /// When its cause was said.
    pub(crate) asked_at: OffsetDateTime,
    /// An undo came right behind it: it is only asked about.
    pub(crate) withdrawn: bool,
    pub(crate) correlation: String,
    pub(crate) trace: Trace,
}

/// Stores the calls; the first `leased` of them are the dispatcher's of this process, the others anybody's.
pub(crate) async fn insert_calls(db: &mut PgConnection, calls: &[NewCall], leased: usize, lease_ms: i64) -> sqlx::Result<()> {
    if calls.is_empty() {
        return Ok(());
    }
    let lease = |index: usize| if index < leased { lease_ms } else { 0 };
    sqlx::query(
        "insert into provider_calls
             (payment_id, id, order_id, kind, key, token, amount, currency, correlation, traceparent, tracestate, withdrawn, asked_at,
             due_at)
         select payment_id, id, order_id, kind, key, token, amount, currency, correlation, traceparent, tracestate, withdrawn, asked_at,
             clock_timestamp() + lease_ms * interval '1 millisecond'
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::bigint[], $8::text[], $9::text[],
                 $10::text[], $11::text[], $12::boolean[], $13::timestamptz[], $14::bigint[])
             as c(payment_id, id, order_id, kind, key, token, amount, currency, correlation, traceparent, tracestate, withdrawn, asked_at,
                 lease_ms)",
    )
    .bind(column(calls, |c| c.payment_id))
    .bind(column(calls, |c| c.id))
    .bind(column(calls, |c| c.order_id))
    .bind(column(calls, |c| c.kind.name()))
    .bind(column(calls, |c| c.key))
    .bind(column(calls, |c| c.token.as_str()))
    .bind(column(calls, |c| c.amount))
    .bind(column(calls, |c| c.currency.as_str()))
    .bind(column(calls, |c| c.correlation.as_str()))
    .bind(column(calls, |c| c.trace.parent.as_deref()))
    .bind(column(calls, |c| c.trace.state.as_deref()))
    .bind(column(calls, |c| c.withdrawn))
    .bind(column(calls, |c| c.asked_at))
    .bind((0..calls.len()).map(lease).collect::<Vec<i64>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the calls with these keys, so that none of them is sent before the end of the transaction; whether each was sent before.
pub(crate) async fn lock_calls(db: &mut PgConnection, keys: &[Uuid]) -> sqlx::Result<Vec<(Uuid, bool)>> {
    sqlx::query_as("select key, first_sent_at is not null from provider_calls where key = any($1) order by key for update")
        .bind(keys)
        .fetch_all(db)
        .await
}

/// Calls that were never sent never will be, and are asked about at once. Their rows are locked ([`lock_calls`]): either a dispatcher has
/// marked one as sent before, and the undo waits for it, or it reads here that there is nothing to send.
pub(crate) async fn withdraw_calls(db: &mut PgConnection, keys: &[Uuid]) -> sqlx::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update provider_calls set withdrawn = true, due_at = clock_timestamp()
         where key = any($1) and first_sent_at is null and not withdrawn",
    )
    .bind(keys)
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn delete_calls(db: &mut PgConnection, keys: &[Uuid]) -> sqlx::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query("delete from provider_calls where key = any($1)").bind(keys).execute(db).await?;
    Ok(())
}

/// A call that is to be made now; from here on it counts as sent, unless it is withdrawn.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) payment_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) key: Uuid,
    pub(crate) token: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    /// 1 where this history has not made it before.
    pub(crate) attempts: i32,
    pub(crate) asked_at: OffsetDateTime,
    /// How long ago it may have been made first, in whatever history: it was not made before its cause was said.
    pub(crate) asked_s_ago: i64,
    /// PaymentUnknown was said of it although it is still asked about.
    pub(crate) unknown_said: bool,
    /// It was never sent and must not be.
    pub(crate) withdrawn: bool,
    pub(crate) correlation: String,
    pub(crate) trace: Trace,
}

macro_rules! call_columns {
    () => {
        "payment_id, id, order_id, kind, key, token, amount, currency, attempts, correlation, traceparent, tracestate, \
         withdrawn, asked_at, unknown_said, \
         floor(extract(epoch from clock_timestamp() - least(asked_at, first_sent_at)))::bigint as asked_s_ago"
    };
}

impl FromRow<'_, PgRow> for Call {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            payment_id: row.try_get("payment_id")?,
            id: row.try_get("id")?,
            order_id: row.try_get("order_id")?,
            kind: kind(row)?,
            key: row.try_get("key")?,
            token: row.try_get("token")?,
            amount: row.try_get("amount")?,
            currency: row.try_get("currency")?,
            attempts: row.try_get("attempts")?,
            asked_at: row.try_get("asked_at")?,
            asked_s_ago: row.try_get("asked_s_ago")?,
            unknown_said: row.try_get("unknown_said")?,
            withdrawn: row.try_get("withdrawn")?,
            correlation: row.try_get("correlation")?,
            trace: Trace { parent: row.try_get("traceparent")?, state: row.try_get("tracestate")? },
        })
    }
}

pub(crate) fn kind(row: &PgRow) -> sqlx::Result<Kind> {
    let kind: &str = row.try_get("kind")?;
    Kind::parse(kind).ok_or_else(|| sqlx::Error::Decode(format!("unknown kind of call {kind}").into()))
}

/// Marks the calls with these keys as sent, but for those that are withdrawn by now, and leaves alone those that a sweep was quicker to take.
/// The lease the intent gave them stays (the index on it is not touched) unless less than
/// `keep_ms` of it is left. A call that an undo holds locked is left to the undo, and one that waits for a person to that person.
pub(crate) async fn mark_sent(db: &PgPool, keys: &[Uuid], lease_ms: i64, keep_ms: i64) -> sqlx::Result<Vec<Call>> {
    sqlx::query_as(concat!(
        "update provider_calls
         set attempts = attempts + 1,
             first_sent_at = case when not withdrawn then coalesce(first_sent_at, clock_timestamp()) end,
             resting = false,
             due_at = case when due_at >= now() + $3::bigint * interval '1 millisecond' then due_at
                 else now() + $2::bigint * interval '1 millisecond' end
         where key = any(array(
             select key from provider_calls where key = any($1) and attempts = 0 and attention = '' for no key update skip locked
         ))
         returning ",
        call_columns!()
    ))
    .bind(keys)
    .bind(lease_ms)
    .bind(keep_ms)
    .fetch_all(db)
    .await
}

/// Takes `rows_max` calls that are due: `retries_max` at most of those that were made before, and what a dispatcher left behind that is
/// gone or was too busy; those alone that became due in the last `back_ms`. They count as sent, but for those that are withdrawn.
pub(crate) async fn claim_due(
    db: &PgPool,
    rows_max: i64,
    retries_max: i64,
    lease_ms: i64,
    back_ms: i64,
) -> sqlx::Result<Vec<Call>> {
    sqlx::query_as(concat!(
        "update provider_calls
         set attempts = attempts + 1,
             first_sent_at = case when not withdrawn then coalesce(first_sent_at, clock_timestamp()) end,
             resting = false,
             due_at = now() + $3::bigint * interval '1 millisecond'
         where key = any((array(
             select key from provider_calls where due_at <= now() and due_at >= now() - $4::bigint * interval '1 millisecond'
                 and attempts > 0 order by due_at limit $2::bigint
             for no key update skip locked
         ) || array(
             select key from provider_calls where due_at <= now() and due_at >= now() - $4::bigint * interval '1 millisecond'
                 and attempts = 0 order by due_at limit $1::bigint
             for no key update skip locked
         ))[1:$1::bigint::int])
         returning ",
        call_columns!()
    ))
    .bind(rows_max)
    .bind(retries_max)
    .bind(lease_ms)
    .bind(back_ms)
    .fetch_all(db)
    .await
}

/// A call whose outcome is not known, and when to look at it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Postponed {
    pub(crate) key: Uuid,
    pub(crate) call_id: Uuid,
    pub(crate) attempts: i32,
    pub(crate) delay_ms: i64,
    /// PaymentUnknown was said of it.
    pub(crate) unknown_said: bool,
}

/// Who was slower than its lease finds another attempt in the row, and leaves it to whoever made it.
pub(crate) async fn postpone(db: &PgPool, calls: &[Postponed]) -> sqlx::Result<()> {
    sqlx::query(
        "update provider_calls
         set resting = true, due_at = now() + ($3::bigint[])[array_position($2::uuid[], id)] * interval '1 millisecond',
             unknown_said = unknown_said or ($5::boolean[])[array_position($2::uuid[], id)]
         where key = any(array(
             select c.key from unnest($1::uuid[], $2::uuid[], $4::int[]) as mine (key, id, attempts)
             join provider_calls c on c.key = mine.key
             where c.id = mine.id and c.attempts = mine.attempts and c.attention = ''
             for no key update of c skip locked
         ))",
    )
    .bind(column(calls, |c| c.key))
    .bind(column(calls, |c| c.call_id))
    .bind(column(calls, |c| c.delay_ms))
    .bind(column(calls, |c| c.attempts))
    .bind(column(calls, |c| c.unknown_said))
    .execute(db)
    .await?;
    Ok(())
}

/// A call that waits for a person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetAside {
    pub(crate) key: Uuid,
    pub(crate) call_id: Uuid,
    pub(crate) attempts: i32,
}

/// Nobody takes these calls until an operator has looked.
pub(crate) async fn set_aside(db: &PgPool, calls: &[SetAside], why: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update provider_calls c set resting = true, due_at = 'infinity', attention = $4
         from unnest($1::uuid[], $2::uuid[], $3::int[]) as mine (key, id, attempts)
         where c.key = mine.key and c.id = mine.id and c.attempts = mine.attempts",
    )
    .bind(column(calls, |c| c.key))
    .bind(column(calls, |c| c.call_id))
    .bind(column(calls, |c| c.attempts))
    .bind(why)
    .execute(db)
    .await?;
    Ok(())
}

/// The same for calls of which a decision says so, in its transaction.
pub(crate) async fn set_aside_by_decision(db: &mut PgConnection, calls: &[(Uuid, Aside)]) -> sqlx::Result<()> {
    if calls.is_empty() {
        return Ok(());
    }
    let why = |aside| match aside {
        Aside::Forgotten => FORGOTTEN,
        Aside::NoSum => NO_SUM,
    };
    sqlx::query(
        "update provider_calls set resting = true, due_at = 'infinity', attention = why, unknown_said = true
         from unnest($1::uuid[], $2::text[]) as mine (waiting_key, why) where key = waiting_key",
    )
    .bind(column(calls, |(key, _)| *key))
    .bind(column(calls, |(_, aside)| why(*aside)))
    .execute(db)
    .await?;
    Ok(())
}
