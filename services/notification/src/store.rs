//! SQL of notifications, and the rows of a batch.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::text::Kind;

#[derive(Debug)]
pub(crate) struct Notification {
    pub(crate) id: Uuid,
    pub(crate) customer: String,
    pub(crate) channel: &'static str,
    pub(crate) text: String,
    pub(crate) sent_at: OffsetDateTime,
}

/// Who was told what before this batch, and who is told by it.
#[derive(Default)]
pub(crate) struct Book {
    told: HashSet<(Uuid, Kind)>,
    fresh: BTreeMap<(Uuid, Kind), Notification>,
}

impl Book {
    pub(crate) fn has(&self, order: Uuid, kind: Kind) -> bool {
        self.told.contains(&(order, kind)) || self.fresh.contains_key(&(order, kind))
    }

    pub(crate) fn put(&mut self, order: Uuid, kind: Kind, notification: Notification) {
        self.fresh.insert((order, kind), notification);
    }

    /// What this batch tells, in key order.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = (&(Uuid, Kind), &Notification)> {
        self.fresh.iter()
    }
}

/// What was told about these orders. Nothing is locked: rows never change, and the key stops a second one.
pub(crate) async fn load(db: &mut PgConnection, orders: BTreeSet<Uuid>) -> sqlx::Result<Book> {
    let orders: Vec<Uuid> = orders.into_iter().collect();
    let rows: Vec<(Uuid, String)> =
        sqlx::query_as("select order_id, kind from notifications where order_id = any($1)").bind(orders).fetch_all(db).await?;
    let told = rows.into_iter().filter_map(|(order, kind)| Some((order, Kind::named(&kind)?))).collect();
    Ok(Book { told, fresh: BTreeMap::new() })
}

pub(crate) async fn save(db: &mut PgConnection, book: &Book) -> sqlx::Result<()> {
    if book.fresh.is_empty() {
        return Ok(());
    }
    let (keys, rows): (Vec<&(Uuid, Kind)>, Vec<&Notification>) = book.fresh.iter().unzip();
    sqlx::query(
        "insert into notifications (order_id, kind, id, customer_id, channel, text, sent_at)
         select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])",
    )
    .bind(keys.iter().map(|(order, _)| *order).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, kind)| kind.name()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.customer.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.channel).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sent_at).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// A notification as callers see it, with its place in the order of arrival.
#[derive(sqlx::FromRow)]
pub(crate) struct Seen {
    pub(crate) no: i64,
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) customer_id: String,
    pub(crate) kind: String,
    pub(crate) channel: String,
    pub(crate) text: String,
    pub(crate) sent_at: OffsetDateTime,
}

/// At most `limit` notifications that came before this one, newest first.
pub(crate) async fn list(pool: &PgPool, before: i64, limit: i64) -> sqlx::Result<Vec<Seen>> {
    sqlx::query_as(
        "select no, id, order_id, customer_id, kind, channel, text, sent_at
         from notifications where no < $1 order by no desc limit $2",
    )
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// The same, of one order.
pub(crate) async fn list_of_order(pool: &PgPool, order: Uuid, before: i64, limit: i64) -> sqlx::Result<Vec<Seen>> {
    sqlx::query_as(
        "select no, id, order_id, customer_id, kind, channel, text, sent_at
         from notifications where order_id = $1 and no < $2 order by no desc limit $3",
    )
    .bind(order)
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}
