//! SQL of refunds.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{
    refund::{Refund, State},
    store::column,
};

/// These refunds. Their orders are locked, so nobody changes them.
pub(crate) async fn load(db: &mut PgConnection, keys: Vec<(Uuid, Uuid)>) -> sqlx::Result<BTreeMap<(Uuid, Uuid), Refund>> {
    let (orders, refunds): (Vec<Uuid>, Vec<Uuid>) = keys.into_iter().unzip();
    let rows = sqlx::query(
        "select r.order_id, r.refund_id, r.amount, r.state, r.reason, r.request_hash, r.refusal, r.refunded_in_all, r.created_at,
             r.updated_at
         from unnest($1::uuid[], $2::uuid[]) as k(order_id, refund_id)
         join order_refunds r on r.order_id = k.order_id and r.refund_id = k.refund_id",
    )
    .bind(orders)
    .bind(refunds)
    .fetch_all(db)
    .await?;
    let read = |row: &PgRow| {
        let state: &str = row.try_get("state")?;
        let refund = Refund {
            order_id: row.try_get("order_id")?,
            id: row.try_get("refund_id")?,
            amount: row.try_get("amount")?,
            state: State::stored(state, row.try_get("refunded_in_all")?, row.try_get("refusal")?)
                .ok_or_else(|| sqlx::Error::Decode(format!("unknown state {state}").into()))?,
            reason: row.try_get("reason")?,
            request_hash: row.try_get("request_hash")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        };
        Ok(((refund.order_id, refund.id), refund))
    };
    rows.iter().map(read).collect()
}

/// Writes refunds, new and changed ones alike.
pub(crate) async fn put(db: &mut PgConnection, refunds: &[&Refund]) -> sqlx::Result<()> {
    if refunds.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into order_refunds (order_id, refund_id, amount, state, reason, request_hash, refusal, refunded_in_all, created_at,
             updated_at)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::bigint[],
             $9::timestamptz[], $10::timestamptz[])
         on conflict (order_id, refund_id) do update set state = excluded.state, refusal = excluded.refusal,
             refunded_in_all = excluded.refunded_in_all, updated_at = excluded.updated_at",
    )
    .bind(column(refunds, |r| r.order_id))
    .bind(column(refunds, |r| r.id))
    .bind(column(refunds, |r| r.amount))
    .bind(column(refunds, |r| r.state.name()))
    .bind(column(refunds, |r| r.reason.as_str()))
    .bind(column(refunds, |r| r.request_hash.as_slice()))
    .bind(column(refunds, |r| r.state.refusal()))
    .bind(column(refunds, |r| r.state.in_all()))
    .bind(column(refunds, |r| r.created_at))
    .bind(column(refunds, |r| r.updated_at))
    .execute(db)
    .await?;
    Ok(())
}
