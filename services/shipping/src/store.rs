//! SQL of shipping, and the rows of a batch. Rows are locked and written in the order of their keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contracts::common::v1::Line;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::shipment::{Shipment, State};

/// Order and shipment.
type Key = (Uuid, Uuid);

/// Parts the SKUs of a row on their way in: `unnest` flattens arrays of arrays. No SKU has a control character.
const SEPARATOR: &str = "\u{1f}";

/// The rows of a batch: what the database holds, with the batch's changes laid over it.
#[derive(Default)]
pub(crate) struct Book {
    stored: HashMap<Key, Shipment>,
    changed: BTreeMap<Key, Shipment>,
}

impl Book {
    pub(crate) fn get(&self, order: Uuid, id: Uuid) -> Option<&Shipment> {
        self.changed.get(&(order, id)).or_else(|| self.stored.get(&(order, id)))
    }

    pub(crate) fn put(&mut self, order: Uuid, id: Uuid, shipment: Shipment) {
        self.changed.insert((order, id), shipment);
    }

    /// All of an order, in order of their ids.
    pub(crate) fn of_order(&self, order: Uuid) -> Vec<(Uuid, &Shipment)> {
        let all = self.stored.iter().chain(&self.changed).filter(|((of, _), _)| *of == order);
        BTreeMap::from_iter(all.map(|((_, id), row)| (*id, row))).into_iter().collect()
    }

    /// Rows that the database does not hold yet.
    pub(crate) fn fresh(&self) -> Vec<(&Key, &Shipment)> {
        self.changed.iter().filter(|(key, _)| !self.stored.contains_key(*key)).collect()
    }

    fn updated(&self) -> Vec<(&Key, &Shipment)> {
        self.changed.iter().filter(|(key, _)| self.stored.contains_key(*key)).collect()
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    order_id: Uuid,
    id: Uuid,
    customer_id: String,
    command_id: Uuid,
    state: String,
    skus: Vec<String>,
    quantities: Vec<i32>,
    reason: Option<String>,
    undone_by: Option<Uuid>,
    tracking_number: String,
}

impl Row {
    fn read(self) -> sqlx::Result<(Key, Shipment)> {
        let state = state_of(&self.state, self.reason)?;
        let lines = lines_of(self.skus, self.quantities);
        let Self { customer_id: customer, command_id: command, undone_by, tracking_number, .. } = self;
        Ok(((self.order_id, self.id), Shipment { customer, command, state, lines, undone_by, tracking_number }))
    }
}

fn state_of(name: &str, reason: Option<String>) -> sqlx::Result<State> {
    State::named(name, reason).ok_or_else(|| sqlx::Error::Decode(format!("state {name}").into()))
}

fn lines_of(skus: Vec<String>, quantities: Vec<i32>) -> Vec<Line> {
    skus.into_iter().zip(quantities).map(|(sku, quantity)| Line { sku, quantity }).collect()
}

/// Locks all shipments of these orders.
pub(crate) async fn load(db: &mut PgConnection, orders: BTreeSet<Uuid>) -> sqlx::Result<Book> {
    let orders: Vec<Uuid> = orders.into_iter().collect();
    let rows: Vec<Row> = sqlx::query_as(
        "select order_id, id, customer_id, command_id, state, skus, quantities, reason, undone_by, tracking_number
         from shipments where order_id = any($1) order by order_id, id for no key update",
    )
    .bind(orders)
    .fetch_all(db)
    .await?;
    let stored = rows.into_iter().map(Row::read).collect::<sqlx::Result<_>>()?;
    Ok(Book { stored, changed: BTreeMap::new() })
}

/// Writes what changed.
pub(crate) async fn save(db: &mut PgConnection, book: &Book) -> sqlx::Result<()> {
    insert(db, &book.fresh()).await?;
    update(db, &book.updated()).await
}

async fn insert(db: &mut PgConnection, rows: &[(&Key, &Shipment)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let skus = |row: &Shipment| row.lines.iter().map(|line| line.sku.as_str()).collect::<Vec<_>>().join(SEPARATOR);
    let quantities = |row: &Shipment| row.lines.iter().map(|line| line.quantity.to_string()).collect::<Vec<_>>().join(",");
    sqlx::query(
        "insert into shipments (order_id, id, customer_id, command_id, state, skus, quantities, reason, undone_by)
         select u.order_id, u.id, u.customer_id, u.command_id, u.state, string_to_array(u.skus, e'\\x1f'),
             string_to_array(u.quantities, ',')::int[], u.reason, u.undone_by
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[])
             as u(order_id, id, customer_id, command_id, state, skus, quantities, reason, undone_by)",
    )
    .bind(rows.iter().map(|((order, _), _)| *order).collect::<Vec<_>>())
    .bind(rows.iter().map(|((_, id), _)| *id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.customer.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.command).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.state.name()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| skus(row)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| quantities(row)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.state.reason()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.undone_by).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

async fn update(db: &mut PgConnection, rows: &[(&Key, &Shipment)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update shipments s set state = u.state, undone_by = u.undone_by, tracking_number = u.tracking_number
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[]) as u(order_id, id, state, undone_by, tracking_number)
         where s.order_id = u.order_id and s.id = u.id",
    )
    .bind(rows.iter().map(|((order, _), _)| *order).collect::<Vec<_>>())
    .bind(rows.iter().map(|((_, id), _)| *id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.state.name()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.undone_by).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.tracking_number.as_str()).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// A shipment as callers see it, with its place in the order of arrival.
pub(crate) struct Seen {
    pub(crate) no: i64,
    pub(crate) order: Uuid,
    pub(crate) id: Uuid,
    pub(crate) customer: String,
    pub(crate) state: State,
    pub(crate) lines: Vec<Line>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) tracking_number: String,
}

#[derive(sqlx::FromRow)]
struct SeenRow {
    no: i64,
    order_id: Uuid,
    id: Uuid,
    customer_id: String,
    state: String,
    skus: Vec<String>,
    quantities: Vec<i32>,
    reason: Option<String>,
    created_at: OffsetDateTime,
    tracking_number: String,
}

impl SeenRow {
    fn read(self) -> sqlx::Result<Seen> {
        Ok(Seen {
            no: self.no,
            order: self.order_id,
            id: self.id,
            customer: self.customer_id,
            state: state_of(&self.state, self.reason)?,
            lines: lines_of(self.skus, self.quantities),
            created_at: self.created_at,
            tracking_number: self.tracking_number,
        })
    }
}

macro_rules! seen {
    ($condition:literal) => {
        concat!(
            "select no, order_id, id, customer_id, state, skus, quantities, reason, created_at, tracking_number from shipments ",
            $condition
        )
    };
}

/// The newest shipment of an order.
pub(crate) async fn of_order(pool: &PgPool, order: Uuid) -> sqlx::Result<Option<Seen>> {
    let row: Option<SeenRow> =
        sqlx::query_as(seen!("where order_id = $1 order by no desc limit 1")).bind(order).fetch_optional(pool).await?;
    row.map(SeenRow::read).transpose()
}

/// This shipment of an order.
pub(crate) async fn one(pool: &PgPool, order: Uuid, id: Uuid) -> sqlx::Result<Option<Seen>> {
    let row: Option<SeenRow> =
        sqlx::query_as(seen!("where order_id = $1 and id = $2")).bind(order).bind(id).fetch_optional(pool).await?;
    row.map(SeenRow::read).transpose()
}

/// At most `limit` shipments that came before this one, newest first.
pub(crate) async fn list(pool: &PgPool, before: i64, limit: i64) -> sqlx::Result<Vec<Seen>> {
    let rows: Vec<SeenRow> =
        sqlx::query_as(seen!("where no < $1 order by no desc limit $2")).bind(before).bind(limit).fetch_all(pool).await?;
    rows.into_iter().map(SeenRow::read).collect()
}
