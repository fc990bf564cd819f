//! SQL of the reconciliation: our books, a page at a time.

use sqlx::{FromRow, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    payment::{Payment, Refund},
    provider::{StatementEntry, StatementKind},
};

/// A refund, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct RefundOf {
    pub(super) order_id: Uuid,
    pub(super) refund: Refund,
}

impl FromRow<'_, PgRow> for RefundOf {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { order_id: row.try_get("order_id")?, refund: Refund::from_row(row)? })
    }
}

/// Some of our books.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(super) payments: Vec<Payment>,
    pub(super) refunds: Vec<RefundOf>,
}

/// What our books have of these entries.
pub(super) async fn books_of(db: &PgPool, entries: &[StatementEntry]) -> sqlx::Result<Books> {
    let ids = |wanted: fn(&StatementEntry) -> Option<&str>| -> Vec<Uuid> {
        entries.iter().filter_map(wanted).filter_map(|id| id.parse().ok()).collect()
    };
    let payments = ids(|entry| match entry.kind {
        StatementKind::Charge | StatementKind::Authorize => Some(&entry.key),
        StatementKind::Capture | StatementKind::Void => entry.of.as_deref(),
        StatementKind::Refund => None,
    });
    let refunds = ids(|entry| (entry.kind == StatementKind::Refund).then_some(&entry.key));
    Ok(Books {
        payments: sqlx::query_as("select * from payments where id = any($1)").bind(payments).fetch_all(db).await?,
        refunds: sqlx::query_as(
            "select r.*, p.order_id from refunds r join payments p on p.id = r.payment_id where r.id = any($1)",
        )
        .bind(refunds)
        .fetch_all(db)
        .await?,
    })
}

/// All payments from a moment on, then all refunds.
pub(super) struct Pages {
    since: OffsetDateTime,
    /// The last payment; `None` when all are through.
    payment: Option<(OffsetDateTime, Uuid)>,
    refund: Option<Uuid>,
}

impl Pages {
    pub(super) fn new(since: Option<OffsetDateTime>) -> Self {
        let since = since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self { since, payment: Some((since, Uuid::nil())), refund: Some(Uuid::nil()) }
    }

    /// `None` at the end.
    pub(super) async fn next(&mut self, db: &PgPool, rows_max: u32) -> sqlx::Result<Option<Books>> {
        if let Some((at, id)) = self.payment {
            let payments: Vec<Payment> =
                sqlx::query_as("select * from payments where (created_at, id) > ($1, $2) order by created_at, id limit $3")
                    .bind(at)
                    .bind(id)
                    .bind(i64::from(rows_max))
                    .fetch_all(db)
                    .await?;
            self.payment = payments.last().map(|last| (last.created_at, last.id));
            return Ok(Some(Books { payments, refunds: Vec::new() }));
        }
        let Some(after) = self.refund else { return Ok(None) };
        // By id, which is in no order of time: a refund that is made meanwhile may be passed over, and is compared the next time.
        let refunds: Vec<RefundOf> = sqlx::query_as(
            "select r.*, p.order_id from (
                 select * from refunds where id > $1 and created_at >= $2 order by id limit $3
             ) r join payments p on p.id = r.payment_id order by r.id",
        )
        .bind(after)
        .bind(self.since)
        .bind(i64::from(rows_max))
        .fetch_all(db)
        .await?;
        self.refund = refunds.last().map(|last| last.refund.id);
        Ok(Some(Books { payments: Vec::new(), refunds }))
    }
}
