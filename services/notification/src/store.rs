//! SQL of notifications, and the rows of a batch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::text::Kind;

/// Order, kind and subject.
pub(crate) type Key = (Uuid, Kind, Uuid);

#[derive(Clone, Debug)]
pub(crate) struct Notification {
    pub(crate) id: Uuid,
    pub(crate) customer: String,
    pub(crate) channel: &'static str,
    pub(crate) text: String,
    pub(crate) sent_at: OffsetDateTime,
}

/// One that was sent before, and is to be sent again.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Sent {
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) customer_id: String,
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// A notification that is sent again.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) of: Sent,
    /// The call's.
    pub(crate) id: Uuid,
    pub(crate) channel: &'static str,
    pub(crate) at: OffsetDateTime,
}

/// Who was told what before this batch, and who is told by it.
#[derive(Default)]
pub(crate) struct Book {
    told: HashSet<Key>,
    fresh: BTreeMap<Key, Notification>,
    /// By id: those that somebody wants sent again.
    sent: HashMap<Uuid, Sent>,
    /// Calls that were applied.
    called: HashSet<Uuid>,
    again: Vec<Attempt>,
}

impl Book {
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.told.contains(key) || self.fresh.contains_key(key)
    }

    pub(crate) fn put(&mut self, key: Key, notification: Notification) {
        self.fresh.insert(key, notification);
    }

    pub(crate) fn sent(&self, id: Uuid) -> Option<&Sent> {
        self.sent.get(&id)
    }

    /// Whether this call was applied: its commit was in doubt, and had gone through.
    pub(crate) fn was_called(&self, call: Uuid) -> bool {
        self.called.contains(&call)
    }

    pub(crate) fn send_again(&mut self, attempt: Attempt) {
        self.called.insert(attempt.id);
        self.again.push(attempt);
    }

    /// What this batch tells, in key order.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = (&Key, &Notification)> {
        self.fresh.iter()
    }

    /// What this batch tells again.
    pub(crate) fn again(&self) -> &[Attempt] {
        &self.again
    }
}

/// What was told about these orders, and the notifications with these ids that (notification, call) want sent again. Nothing is locked: rows
/// never change, and the keys stop a second one.
pub(crate) async fn load(db: &mut PgConnection, orders: BTreeSet<Uuid>, calls: Vec<(Uuid, Uuid)>) -> sqlx::Result<Book> {
    let mut book = Book::default();
    if !orders.is_empty() {
        let orders: Vec<Uuid> = orders.into_iter().collect();
        let rows: Vec<(Uuid, String, Uuid)> =
            sqlx::query_as("select order_id, kind, subject from notifications where order_id = any($1)")
                .bind(orders)
                .fetch_all(&mut *db)
                .await?;
        book.told = rows.into_iter().filter_map(|(order, kind, subject)| Some((order, Kind::named(&kind)?, subject))).collect();
    }
    if !calls.is_empty() {
        let (ids, calls): (Vec<Uuid>, Vec<Uuid>) = calls.into_iter().unzip();
        let rows: Vec<Sent> = sqlx::query_as("select id, order_id, customer_id, kind, text from notifications where id = any($1)")
            .bind(&ids)
            .fetch_all(&mut *db)
            .await?;
        book.sent = rows.into_iter().map(|sent| (sent.id, sent)).collect();
        let called: Vec<(Uuid,)> = sqlx::query_as(
            "select a.id from unnest($1::uuid[], $2::uuid[]) as c(notification_id, id)
             join notification_attempts a on a.notification_id = c.notification_id and a.id = c.id",
        )
        .bind(ids)
        .bind(calls)
        .fetch_all(db)
        .await?;
        book.called = called.into_iter().map(|(call,)| call).collect();
    }
    Ok(book)
}

pub(crate) async fn save(db: &mut PgConnection, book: &Book) -> sqlx::Result<()> {
    insert(db, &book.fresh).await?;
    insert_again(db, &book.again).await
}

async fn insert(db: &mut PgConnection, fresh: &BTreeMap<Key, Notification>) -> sqlx::Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    let (keys, rows): (Vec<&Key>, Vec<&Notification>) = fresh.iter().unzip();
    sqlx::query(
        "insert into notifications (order_id, kind, subject, id, customer_id, channel, text, sent_at)
         select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])",
    )
    .bind(keys.iter().map(|(order, _, _)| *order).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, kind, _)| kind.name()).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, _, subject)| *subject).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.customer.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.channel).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sent_at).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_again(db: &mut PgConnection, attempts: &[Attempt]) -> sqlx::Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into notification_attempts (notification_id, id, channel, at)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])",
    )
    .bind(attempts.iter().map(|attempt| attempt.of.id).collect::<Vec<_>>())
    .bind(attempts.iter().map(|attempt| attempt.id).collect::<Vec<_>>())
    .bind(attempts.iter().map(|attempt| attempt.channel).collect::<Vec<_>>())
    .bind(attempts.iter().map(|attempt| attempt.at).collect::<Vec<_>>())
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
    pub(crate) attempts: i64,
}

macro_rules! seen {
    ($condition:literal) => {
        concat!(
            "select n.no, n.id, n.order_id, n.customer_id, n.kind, n.channel, n.text, n.sent_at,
                 1 + (select count(*) from notification_attempts a where a.notification_id = n.id) as attempts
             from notifications n ",
            $condition
        )
    };
}

/// At most `limit` notifications that came before this one, newest first.
pub(crate) async fn list(pool: &PgPool, before: i64, limit: i64) -> sqlx::Result<Vec<Seen>> {
    sqlx::query_as(seen!("where n.no < $1 order by n.no desc limit $2")).bind(before).bind(limit).fetch_all(pool).await
}

/// The same, of one order.
pub(crate) async fn list_of_order(pool: &PgPool, order: Uuid, before: i64, limit: i64) -> sqlx::Result<Vec<Seen>> {
    sqlx::query_as(seen!("where n.order_id = $1 and n.no < $2 order by n.no desc limit $3"))
        .bind(order)
        .bind(before)
        .bind(limit)
        .fetch_all(pool)
        .await
}

pub(crate) async fn one(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Seen>> {
    sqlx::query_as(seen!("where n.id = $1")).bind(id).fetch_optional(pool).await
}
