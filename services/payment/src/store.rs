//! SQL of the payment service.

use messaging::Trace;
use sqlx::{FromRow, PgConnection, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::payment::{Payment, Refund, RefundState, State, Transfer};

macro_rules! payment_columns {
    () => {
        "id, order_id, command_id, undo_command_id, state, provider, currency, amount, captured, refunded, refund_pending, auth_code, \
         decline_reason, refund_reason, created_at"
    };
}

macro_rules! payment_rows {
    () => {
        concat!(
            "insert into payments (",
            payment_columns!(),
            ") select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[], \
             $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::timestamptz[])"
        )
    };
}

impl FromRow<'_, PgRow> for Payment {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let state: &str = row.try_get("state")?;
        let state = State::parse(state).ok_or_else(|| sqlx::Error::Decode(format!("unknown payment state {state}").into()))?;
        Ok(Self {
            id: row.try_get("id")?,
            order_id: row.try_get("order_id")?,
            command_id: row.try_get("command_id")?,
            undo_command_id: row.try_get("undo_command_id")?,
            state,
            provider: row.try_get("provider")?,
            currency: row.try_get("currency")?,
            amount: row.try_get("amount")?,
            captured: row.try_get("captured")?,
            refunded: row.try_get("refunded")?,
            refund_pending: row.try_get("refund_pending")?,
            auth_code: row.try_get("auth_code")?,
            decline_reason: row.try_get("decline_reason")?,
            refund_reason: row.try_get("refund_reason")?,
            created_at: row.try_get("created_at")?,
            charge_sent: true,
        })
    }
}

/// The payments of these orders, locked in their order.
pub(crate) async fn lock_payments(db: &mut PgConnection, order_ids: &[Uuid]) -> sqlx::Result<Vec<Payment>> {
    sqlx::query_as(concat!(
        "select ",
        payment_columns!(),
        " from payments where order_id = any($1) order by order_id for no key update"
    ))
    .bind(order_ids)
    .fetch_all(db)
    .await
}

pub(crate) async fn payment_of(db: &PgPool, order_id: Uuid) -> sqlx::Result<Option<Payment>> {
    sqlx::query_as(concat!("select ", payment_columns!(), " from payments where order_id = $1"))
        .bind(order_id)
        .fetch_optional(db)
        .await
}

/// Payments older than this one, newest first.
pub(crate) async fn payments_before(db: &PgPool, at: OffsetDateTime, id: Uuid, rows_max: i64) -> sqlx::Result<Vec<Payment>> {
    sqlx::query_as(concat!(
        "select ",
        payment_columns!(),
        " from payments where (created_at, id) < ($1, $2) order by created_at desc, id desc limit $3"
    ))
    .bind(at)
    .bind(id)
    .bind(rows_max)
    .fetch_all(db)
    .await
}

pub(crate) async fn insert_payments(db: &mut PgConnection, payments: &[Payment]) -> sqlx::Result<()> {
    write_payments(db, payment_rows!(), payments).await
}

/// An upsert where every row exists: unlike a join with unnest, its plan cannot become a scan of the table.
pub(crate) async fn update_payments(db: &mut PgConnection, payments: &[Payment]) -> sqlx::Result<()> {
    const SQL: &str = concat!(
        payment_rows!(),
        " on conflict (id) do update set command_id = excluded.command_id, undo_command_id = excluded.undo_command_id, \
         state = excluded.state, currency = excluded.currency, amount = excluded.amount, captured = excluded.captured, \
         refunded = excluded.refunded, refund_pending = excluded.refund_pending, auth_code = excluded.auth_code, \
         decline_reason = excluded.decline_reason, refund_reason = excluded.refund_reason"
    );
    write_payments(db, SQL, payments).await
}

async fn write_payments(db: &mut PgConnection, sql: &'static str, payments: &[Payment]) -> sqlx::Result<()> {
    if payments.is_empty() {
        return Ok(());
    }
    sqlx::query(sql)
        .bind(column(payments, |p| p.id))
        .bind(column(payments, |p| p.order_id))
        .bind(column(payments, |p| p.command_id))
        .bind(column(payments, |p| p.undo_command_id))
        .bind(column(payments, |p| p.state.name()))
        .bind(column(payments, |p| p.provider.as_str()))
        .bind(column(payments, |p| p.currency.as_str()))
        .bind(column(payments, |p| p.amount))
        .bind(column(payments, |p| p.captured))
        .bind(column(payments, |p| p.refunded))
        .bind(column(payments, |p| p.refund_pending))
        .bind(column(payments, |p| p.auth_code.as_str()))
        .bind(column(payments, |p| p.decline_reason.as_str()))
        .bind(column(payments, |p| p.refund_reason.as_str()))
        .bind(column(payments, |p| p.created_at))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn put_refunds(db: &mut PgConnection, refunds: &[(Refund, OffsetDateTime)]) -> sqlx::Result<()> {
    if refunds.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into refunds (id, payment_id, amount, currency, state, reason, created_at, changed_at)
         select id, payment_id, amount, currency, state, reason, at, at
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
             as r(id, payment_id, amount, currency, state, reason, at)
         on conflict (id) do update set state = excluded.state, reason = excluded.reason, changed_at = excluded.changed_at",
    )
    .bind(column(refunds, |(r, _)| r.id))
    .bind(column(refunds, |(r, _)| r.payment_id))
    .bind(column(refunds, |(r, _)| r.amount))
    .bind(column(refunds, |(r, _)| r.currency.as_str()))
    .bind(column(refunds, |(r, _)| match r.state {
        RefundState::InFlight => "IN_FLIGHT",
        RefundState::Succeeded => "SUCCEEDED",
        RefundState::Refused => "REFUSED",
    }))
    .bind(column(refunds, |(r, _)| r.reason.as_str()))
    .bind(column(refunds, |(_, at)| *at))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn insert_transfers(db: &mut PgConnection, transfers: &[(Transfer, OffsetDateTime)]) -> sqlx::Result<()> {
    if transfers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into ledger_transfers (id, payment_id, debit, credit, amount, currency, at)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[])",
    )
    .bind(column(transfers, |(t, _)| t.id))
    .bind(column(transfers, |(t, _)| t.payment_id))
    .bind(column(transfers, |(t, _)| t.debit.as_str()))
    .bind(column(transfers, |(t, _)| t.credit.as_str()))
    .bind(column(transfers, |(t, _)| t.amount))
    .bind(column(transfers, |(t, _)| t.currency.as_str()))
    .bind(column(transfers, |(_, at)| *at))
    .execute(db)
    .await?;
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Charge,
    Refund,
}

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
             (payment_id, id, order_id, kind, key, token, amount, currency, correlation, traceparent, tracestate, due_at)
         select payment_id, id, order_id, kind, key, token, amount, currency, correlation, traceparent, tracestate,
             clock_timestamp() + lease_ms * interval '1 millisecond'
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::bigint[], $8::text[], $9::text[],
                 $10::text[], $11::text[], $12::bigint[])
             as c(payment_id, id, order_id, kind, key, token, amount, currency, correlation, traceparent, tracestate, lease_ms)",
    )
    .bind(column(calls, |c| c.payment_id))
    .bind(column(calls, |c| c.id))
    .bind(column(calls, |c| c.order_id))
    .bind(column(calls, |c| match c.kind {
        Kind::Charge => "CHARGE",
        Kind::Refund => "REFUND",
    }))
    .bind(column(calls, |c| c.key))
    .bind(column(calls, |c| c.token.as_str()))
    .bind(column(calls, |c| c.amount))
    .bind(column(calls, |c| c.currency.as_str()))
    .bind(column(calls, |c| c.correlation.as_str()))
    .bind(column(calls, |c| c.trace.parent.as_deref()))
    .bind(column(calls, |c| c.trace.state.as_deref()))
    .bind((0..calls.len()).map(lease).collect::<Vec<i64>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the calls of these payments, so that none of them is sent before the end of the transaction; whether each was sent before.
pub(crate) async fn lock_calls(db: &mut PgConnection, payment_ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, bool)>> {
    sqlx::query_as(
        "select payment_id, first_sent_at is not null from provider_calls
         where payment_id = any($1) order by payment_id for update",
    )
    .bind(payment_ids)
    .fetch_all(db)
    .await
}

pub(crate) async fn delete_calls(db: &mut PgConnection, payment_ids: &[Uuid]) -> sqlx::Result<()> {
    if payment_ids.is_empty() {
        return Ok(());
    }
    sqlx::query("delete from provider_calls where payment_id = any($1)").bind(payment_ids).execute(db).await?;
    Ok(())
}

/// A call that is to be made now; from here on it counts as sent.
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
    /// 1 where it cannot have been made before.
    pub(crate) attempts: i32,
    pub(crate) first_sent_s_ago: i64,
    pub(crate) correlation: String,
    pub(crate) trace: Trace,
}

macro_rules! call_columns {
    () => {
        "payment_id, id, order_id, kind, key, token, amount, currency, attempts, correlation, traceparent, tracestate, \
         extract(epoch from clock_timestamp() - first_sent_at)::bigint as first_sent_s_ago"
    };
}

impl FromRow<'_, PgRow> for Call {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            payment_id: row.try_get("payment_id")?,
            id: row.try_get("id")?,
            order_id: row.try_get("order_id")?,
            kind: match row.try_get::<&str, _>("kind")? {
                "CHARGE" => Kind::Charge,
                _ => Kind::Refund,
            },
            key: row.try_get("key")?,
            token: row.try_get("token")?,
            amount: row.try_get("amount")?,
            currency: row.try_get("currency")?,
            attempts: row.try_get("attempts")?,
            first_sent_s_ago: row.try_get("first_sent_s_ago")?,
            correlation: row.try_get("correlation")?,
            trace: Trace { parent: row.try_get("traceparent")?, state: row.try_get("tracestate")? },
        })
    }
}

/// Marks the calls of these payments as sent. The lease the intent gave them stays (the index on it is not touched) unless less
/// than `keep_ms` of it is left. A call that an undo holds locked is left to the undo.
pub(crate) async fn mark_sent(db: &PgPool, payment_ids: &[Uuid], lease_ms: i64, keep_ms: i64) -> sqlx::Result<Vec<Call>> {
    sqlx::query_as(concat!(
        "update provider_calls
         set attempts = attempts + 1,
             first_sent_at = coalesce(first_sent_at, clock_timestamp()),
             due_at = case when due_at >= now() + $3::bigint * interval '1 millisecond' then due_at
                 else now() + $2::bigint * interval '1 millisecond' end
         where payment_id = any(array(
             select payment_id from provider_calls where payment_id = any($1) for no key update skip locked
         ))
         returning ",
        call_columns!()
    ))
    .bind(payment_ids)
    .bind(lease_ms)
    .bind(keep_ms)
    .fetch_all(db)
    .await
}

/// Takes calls that are due: put off and ripe, or left behind by a dispatcher that is gone. They count as sent.
pub(crate) async fn claim_due(db: &PgPool, rows_max: i64, lease_ms: i64) -> sqlx::Result<Vec<Call>> {
    sqlx::query_as(concat!(
        "update provider_calls
         set attempts = attempts + 1,
             first_sent_at = coalesce(first_sent_at, clock_timestamp()),
             due_at = now() + $2::bigint * interval '1 millisecond'
         where payment_id = any(array(
             select payment_id from provider_calls where due_at <= now() order by due_at limit $1 for no key update skip locked
         ))
         returning ",
        call_columns!()
    ))
    .bind(rows_max)
    .bind(lease_ms)
    .fetch_all(db)
    .await
}

/// A call whose outcome is not known, and when to look at it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Postponed {
    pub(crate) payment_id: Uuid,
    pub(crate) call_id: Uuid,
    pub(crate) delay_ms: i64,
}

pub(crate) async fn postpone(db: &PgPool, calls: &[Postponed]) -> sqlx::Result<()> {
    sqlx::query(
        "update provider_calls
         set due_at = now() + ($3::bigint[])[array_position($2::uuid[], id)] * interval '1 millisecond'
         where payment_id = any(array(
             select payment_id from provider_calls where payment_id = any($1) and id = any($2::uuid[]) and attention = ''
             for no key update skip locked
         ))",
    )
    .bind(column(calls, |c| c.payment_id))
    .bind(column(calls, |c| c.call_id))
    .bind(column(calls, |c| c.delay_ms))
    .execute(db)
    .await?;
    Ok(())
}

/// A call that waits for a person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetAside {
    pub(crate) payment_id: Uuid,
    pub(crate) call_id: Uuid,
}

/// Nobody takes these calls until an operator has looked.
pub(crate) async fn set_aside(db: &PgPool, calls: &[SetAside], why: &str) -> sqlx::Result<()> {
    sqlx::query("update provider_calls set due_at = 'infinity', attention = $3 where payment_id = any($1) and id = any($2)")
        .bind(column(calls, |c| c.payment_id))
        .bind(column(calls, |c| c.call_id))
        .bind(why)
        .execute(db)
        .await?;
    Ok(())
}

/// One column of many rows, for unnest.
fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
