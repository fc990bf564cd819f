//! SQL of payments and refunds.

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::payment::{Payment, Refund, RefundState, State};

#[cfg(test)]
mod tests;

macro_rules! plain_columns {
    () => {
        "id, order_id, command_id, undo_command_id, state, provider, currency, amount, captured, refunded, refund_pending, auth_code, \
         decline_reason, refund_reason, created_at, two_step, capture_command_id, uncapture_command_id, capture_reason, unknown_said, \
         undo_key, refunds_unknown"
    };
}

macro_rules! payment_columns {
    () => {
        concat!(plain_columns!(), ", earlier_undos")
    };
}

macro_rules! payment_rows {
    () => {
        concat!(
            "insert into payments (",
            payment_columns!(),
            ") select ",
            plain_columns!(),
            // An array of arrays would come out flat.
            ", string_to_array(earlier_undos, ' ')::uuid[] from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], \
             $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], \
             $15::timestamptz[], $16::boolean[], $17::uuid[], $18::uuid[], $19::text[], $20::boolean[], $21::uuid[], $22::int[], \
             $23::text[]) as p(",
            payment_columns!(),
            ")"
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
            two_step: row.try_get("two_step")?,
            capture_command_id: row.try_get("capture_command_id")?,
            uncapture_command_id: row.try_get("uncapture_command_id")?,
            capture_reason: row.try_get("capture_reason")?,
            unknown_said: row.try_get("unknown_said")?,
            undo_key: row.try_get("undo_key")?,
            refunds_unknown: row.try_get("refunds_unknown")?,
            earlier_undos: row.try_get::<Option<Vec<Uuid>>, _>("earlier_undos")?.unwrap_or_default(),
            sent: true,
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
         decline_reason = excluded.decline_reason, refund_reason = excluded.refund_reason, two_step = excluded.two_step, \
         capture_command_id = excluded.capture_command_id, uncapture_command_id = excluded.uncapture_command_id, \
         capture_reason = excluded.capture_reason, unknown_said = excluded.unknown_said, undo_key = excluded.undo_key, \
         refunds_unknown = excluded.refunds_unknown, earlier_undos = excluded.earlier_undos"
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
        .bind(column(payments, |p| p.two_step))
        .bind(column(payments, |p| p.capture_command_id))
        .bind(column(payments, |p| p.uncapture_command_id))
        .bind(column(payments, |p| p.capture_reason.as_str()))
        .bind(column(payments, |p| p.unknown_said))
        .bind(column(payments, |p| p.undo_key))
        .bind(column(payments, |p| p.refunds_unknown))
        .bind(column(payments, |p| listed(&p.earlier_undos)))
        .execute(db)
        .await?;
    Ok(())
}

/// Ids with spaces between them; `None` where there are none.
fn listed(ids: &[Uuid]) -> Option<String> {
    let texts: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// A refund, with when it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct RefundRow {
    pub(crate) refund: Refund,
    pub(crate) created_at: OffsetDateTime,
}

macro_rules! refund_columns {
    () => {
        "id, payment_id, command_id, amount, currency, state, reason, unknown_said"
    };
}

impl FromRow<'_, PgRow> for Refund {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let state: &str = row.try_get("state")?;
        let state = RefundState::parse(state).ok_or_else(|| sqlx::Error::Decode(format!("unknown refund state {state}").into()))?;
        Ok(Self {
            id: row.try_get("id")?,
            payment_id: row.try_get("payment_id")?,
            command_id: row.try_get("command_id")?,
            amount: row.try_get("amount")?,
            currency: row.try_get("currency")?,
            state,
            reason: row.try_get("reason")?,
            unknown_said: row.try_get("unknown_said")?,
        })
    }
}

impl FromRow<'_, PgRow> for RefundRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { refund: Refund::from_row(row)?, created_at: row.try_get("created_at")? })
    }
}

/// These refunds. They change with their payment locked.
pub(crate) async fn refunds(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<Refund>> {
    sqlx::query_as(concat!("select ", refund_columns!(), " from refunds where id = any($1)")).bind(ids).fetch_all(db).await
}

/// The oldest refunds of a payment, in their order.
pub(crate) async fn refunds_of(db: &PgPool, payment_id: Uuid, rows_max: i64) -> sqlx::Result<Vec<RefundRow>> {
    sqlx::query_as(concat!(
        "select ",
        refund_columns!(),
        ", created_at from refunds where payment_id = $1 order by created_at, id limit $2"
    ))
    .bind(payment_id)
    .bind(rows_max)
    .fetch_all(db)
    .await
}

/// A row is known by its id and its payment: one of another payment is a unique violation, and loaded again it is seen. A refund that is over
/// makes way for the one that follows it, which is written behind it.
pub(crate) async fn put_refunds(db: &mut PgConnection, refunds: &[(Refund, OffsetDateTime)]) -> sqlx::Result<()> {
    if refunds.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into refunds (id, payment_id, command_id, amount, currency, state, reason, unknown_said, created_at, changed_at)
         select id, payment_id, command_id, amount, currency, state, reason, unknown_said, at, at
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::boolean[],
                 $9::timestamptz[])
             as r(id, payment_id, command_id, amount, currency, state, reason, unknown_said, at)
         order by state = 'IN_FLIGHT', id
         on conflict (id, payment_id) do update set command_id = excluded.command_id, amount = excluded.amount, state = excluded.state,
             reason = excluded.reason, unknown_said = excluded.unknown_said, changed_at = excluded.changed_at",
    )
    .bind(column(refunds, |(r, _)| r.id))
    .bind(column(refunds, |(r, _)| r.payment_id))
    .bind(column(refunds, |(r, _)| r.command_id))
    .bind(column(refunds, |(r, _)| r.amount))
    .bind(column(refunds, |(r, _)| r.currency.as_str()))
    .bind(column(refunds, |(r, _)| r.state.name()))
    .bind(column(refunds, |(r, _)| r.reason.as_str()))
    .bind(column(refunds, |(r, _)| r.unknown_said))
    .bind(column(refunds, |(_, at)| *at))
    .execute(db)
    .await?;
    Ok(())
}

/// One column of many rows, for unnest.
pub(crate) fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
