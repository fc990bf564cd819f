//! SQL of the ledger.

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use super::Moved;
use crate::{payment::Transfer, store::column};

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

/// What moved between each two accounts. Reads the whole ledger.
pub(crate) async fn moved(db: &PgPool) -> sqlx::Result<Vec<Moved>> {
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
        "select debit, credit, currency, sum(amount)::bigint from ledger_transfers group by debit, credit, currency",
    )
    .fetch_all(db)
    .await?;
    let moved = |(debit, credit, currency, amount)| Moved { debit, credit, currency, amount };
    Ok(rows.into_iter().map(moved).collect())
}
