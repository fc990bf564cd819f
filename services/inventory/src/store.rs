//! SQL of inventory. Keys come sorted and rows are written in key order, so that locks have one order: products, then reservations,
//! then stock.

use std::collections::BTreeSet;

use contracts::{
    common::v1::Line,
    inventory::v1::{Price, Product},
};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    reservation::{No, Reservation, State},
    rows::Rows,
    stock::{Change, Stock},
};

/// Parts the SKUs of a row on their way in: `unnest` flattens arrays of arrays. No SKU has a control character.
const SEPARATOR: &str = "\u{1f}";

/// The rows of a batch.
pub(crate) struct Book {
    pub(crate) products: Rows<String, Product>,
    /// By order and reservation.
    pub(crate) reservations: Rows<(Uuid, Uuid), Reservation>,
    pub(crate) stock: Rows<String, Stock>,
    /// Calls that were applied.
    pub(crate) calls: Rows<Uuid, Called>,
    /// What people did to the shelf.
    pub(crate) changes: Vec<Changed>,
}

/// A call that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) answer: Option<Stock>,
    /// Of a call with an idempotency key.
    pub(crate) request: Option<String>,
}

#[derive(sqlx::FromRow)]
struct CallRow {
    id: Uuid,
    on_hand: Option<i64>,
    reserved: Option<i64>,
    request: Option<String>,
}

/// An entry of the journal.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) id: Uuid,
    pub(crate) sku: String,
    pub(crate) at: OffsetDateTime,
    pub(crate) change: Change,
    /// Pieces on hand.
    pub(crate) delta: i64,
}

#[derive(sqlx::FromRow)]
struct ProductRow {
    sku: String,
    name: String,
    currencies: Vec<String>,
    unit_prices: Vec<i64>,
}

impl From<ProductRow> for Product {
    fn from(row: ProductRow) -> Self {
        let prices = row.currencies.into_iter().zip(row.unit_prices);
        Self { sku: row.sku, name: row.name, prices: prices.map(|(currency, unit_price)| Price { currency, unit_price }).collect() }
    }
}

#[derive(sqlx::FromRow)]
struct ReservationRow {
    order_id: Uuid,
    id: Uuid,
    command_id: Uuid,
    state: String,
    skus: Vec<String>,
    quantities: Vec<i32>,
    reason: Option<String>,
    sku: Option<String>,
    undone_by: Option<Uuid>,
}

impl ReservationRow {
    fn read(self) -> sqlx::Result<((Uuid, Uuid), Reservation)> {
        let no = self.reason.zip(self.sku).map(|(reason, sku)| No { reason, sku });
        let state = State::named(&self.state, no).ok_or_else(|| sqlx::Error::Decode(format!("state {}", self.state).into()))?;
        let lines = self.skus.into_iter().zip(self.quantities).map(|(sku, quantity)| Line { sku, quantity }).collect();
        Ok(((self.order_id, self.id), Reservation { command: self.command_id, state, lines, undone_by: self.undone_by }))
    }
}

/// Locks these products.
pub(crate) async fn products(db: &mut PgConnection, skus: &BTreeSet<&str>) -> sqlx::Result<Rows<String, Product>> {
    if skus.is_empty() {
        return Ok(Rows::stored([]));
    }
    let skus: Vec<&str> = skus.iter().copied().collect();
    let rows: Vec<ProductRow> = sqlx::query_as(
        "select p.sku, p.name,
             array(select r.currency from prices r where r.sku = p.sku order by r.currency) as currencies,
             array(select r.unit_price from prices r where r.sku = p.sku order by r.currency) as unit_prices
         from products p where p.sku = any($1) order by p.sku for no key update of p",
    )
    .bind(skus)
    .fetch_all(db)
    .await?;
    Ok(Rows::stored(rows.into_iter().map(|row| (row.sku.clone(), row.into()))))
}

/// Locks all reservations of these orders.
pub(crate) async fn reservations(db: &mut PgConnection, orders: &BTreeSet<Uuid>) -> sqlx::Result<Rows<(Uuid, Uuid), Reservation>> {
    if orders.is_empty() {
        return Ok(Rows::stored([]));
    }
    let orders: Vec<Uuid> = orders.iter().copied().collect();
    let rows: Vec<ReservationRow> = sqlx::query_as(
        "select order_id, id, command_id, state, skus, quantities, reason, sku, undone_by
         from reservations where order_id = any($1) order by order_id, id for no key update",
    )
    .bind(orders)
    .fetch_all(db)
    .await?;
    let rows: Vec<_> = rows.into_iter().map(ReservationRow::read).collect::<sqlx::Result<_>>()?;
    Ok(Rows::stored(rows))
}

/// Which of these calls were applied before.
pub(crate) async fn calls(db: &mut PgConnection, ids: Vec<Uuid>) -> sqlx::Result<Rows<Uuid, Called>> {
    if ids.is_empty() {
        return Ok(Rows::stored([]));
    }
    let rows: Vec<CallRow> =
        sqlx::query_as("select id, on_hand, reserved, request from calls where id = any($1)").bind(ids).fetch_all(db).await?;
    Ok(Rows::stored(rows.into_iter().map(|CallRow { id, on_hand, reserved, request }| {
        let left = on_hand.zip(reserved);
        let answer = left.map(|(on_hand, reserved)| Stock { on_hand, reserved, unstocked: false });
        (id, Called { answer, request })
    })))
}

async fn insert_calls(db: &mut PgConnection, calls: &[(&Uuid, &Called)]) -> sqlx::Result<()> {
    if calls.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into calls (id, on_hand, reserved, request)
         select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[])",
    )
    .bind(calls.iter().map(|(id, _)| **id).collect::<Vec<_>>())
    .bind(calls.iter().map(|(_, call)| call.answer.map(|stock| stock.on_hand)).collect::<Vec<_>>())
    .bind(calls.iter().map(|(_, call)| call.answer.map(|stock| stock.reserved)).collect::<Vec<_>>())
    .bind(calls.iter().map(|(_, call)| call.request.as_deref()).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_changes(db: &mut PgConnection, changes: &[Changed]) -> sqlx::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into stock_changes (id, sku, at, cause, delta, reason)
         select * from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::text[])",
    )
    .bind(changes.iter().map(|changed| changed.id).collect::<Vec<_>>())
    .bind(changes.iter().map(|changed| changed.sku.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|changed| changed.at).collect::<Vec<_>>())
    .bind(changes.iter().map(|changed| changed.change.cause()).collect::<Vec<_>>())
    .bind(changes.iter().map(|changed| changed.delta).collect::<Vec<_>>())
    .bind(changes.iter().map(|changed| changed.change.reason()).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the stock of these SKUs.
pub(crate) async fn stock(db: &mut PgConnection, skus: &BTreeSet<&str>) -> sqlx::Result<Rows<String, Stock>> {
    if skus.is_empty() {
        return Ok(Rows::stored([]));
    }
    let skus: Vec<&str> = skus.iter().copied().collect();
    // From the end of the index: the versions that an old snapshot keeps come behind the newest one.
    let rows: Vec<(String, i64, i64, bool)> = sqlx::query_as(
        "select s.sku, s.on_hand, s.reserved, s.unstocked from unnest($1::text[]) as wanted(sku)
         cross join lateral (
             select * from stock where sku = wanted.sku order by generation desc limit 1 for update
         ) s",
    )
    .bind(skus)
    .fetch_all(db)
    .await?;
    let stock = |(sku, on_hand, reserved, unstocked)| (sku, Stock { on_hand, reserved, unstocked });
    Ok(Rows::stored(rows.into_iter().map(stock)))
}

/// Writes what changed. What did not costs nothing.
pub(crate) async fn save(db: &mut PgConnection, book: &Book) -> sqlx::Result<()> {
    insert_calls(db, &book.calls.fresh()).await?;
    let products: Vec<&Product> =
        book.products.fresh().into_iter().chain(book.products.updated()).map(|(_, product)| product).collect();
    if !products.is_empty() {
        put_products(db, &products).await?;
        put_prices(db, &products).await?;
        insert_stock(db, &book.stock.fresh()).await?;
    }
    insert_changes(db, &book.changes).await?;
    update_stock(db, &book.stock.updated()).await?;
    insert_reservations(db, &book.reservations.fresh()).await?;
    update_reservations(db, &book.reservations.updated()).await
}

async fn put_products(db: &mut PgConnection, products: &[&Product]) -> sqlx::Result<()> {
    let (skus, names): (Vec<&str>, Vec<&str>) = products.iter().map(|p| (p.sku.as_str(), p.name.as_str())).unzip();
    sqlx::query(
        "insert into products (sku, name) select * from unnest($1::text[], $2::text[])
         on conflict (sku) do update set name = excluded.name, updated_at = now()",
    )
    .bind(skus)
    .bind(names)
    .execute(db)
    .await?;
    Ok(())
}

async fn put_prices(db: &mut PgConnection, products: &[&Product]) -> sqlx::Result<()> {
    let all: Vec<&str> = products.iter().map(|product| product.sku.as_str()).collect();
    sqlx::query("delete from prices where sku = any($1)").bind(all).execute(&mut *db).await?;
    let prices = || products.iter().flat_map(|product| product.prices.iter().map(move |price| (product.sku.as_str(), price)));
    sqlx::query("insert into prices (sku, currency, unit_price) select * from unnest($1::text[], $2::text[], $3::bigint[])")
        .bind(prices().map(|(sku, _)| sku).collect::<Vec<_>>())
        .bind(prices().map(|(_, price)| price.currency.as_str()).collect::<Vec<_>>())
        .bind(prices().map(|(_, price)| price.unit_price).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

/// Two instances that make the same product meet here: the second is told by the key, and looks again.
async fn insert_stock(db: &mut PgConnection, rows: &[(&String, &Stock)]) -> sqlx::Result<()> {
    sqlx::query("insert into stock (sku, on_hand, reserved) select * from unnest($1::text[], $2::bigint[], $3::bigint[])")
        .bind(rows.iter().map(|(sku, _)| sku.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, stock)| stock.on_hand).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, stock)| stock.reserved).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

async fn update_stock(db: &mut PgConnection, rows: &[(&String, &Stock)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    // Each is locked since it was read: where its newest version lies, it stays. By the key the scan might begin with all there are.
    sqlx::query(
        "update stock s set on_hand = n.on_hand, reserved = n.reserved, changes = s.changes + 1, generation = (s.changes + 1) / 32
         from (
             select on_hand, reserved, (select ctid from stock where sku = u.sku order by generation desc limit 1) as newest
             from unnest($1::text[], $2::bigint[], $3::bigint[]) as u(sku, on_hand, reserved)
             offset 0
         ) n
         where s.ctid = n.newest",
    )
    .bind(rows.iter().map(|(sku, _)| sku.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, stock)| stock.on_hand).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, stock)| stock.reserved).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_reservations(db: &mut PgConnection, rows: &[(&(Uuid, Uuid), &Reservation)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let nos = || rows.iter().map(|(_, row)| row.state.no());
    sqlx::query(
        "insert into reservations (order_id, id, command_id, state, skus, quantities, reason, sku, undone_by)
         select u.order_id, u.id, u.command_id, u.state, string_to_array(u.skus, e'\\x1f'),
             string_to_array(u.quantities, ',')::int[], u.reason, u.sku, u.undone_by
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[])
             as u(order_id, id, command_id, state, skus, quantities, reason, sku, undone_by)",
    )
    .bind(rows.iter().map(|((order, _), _)| *order).collect::<Vec<_>>())
    .bind(rows.iter().map(|((_, id), _)| *id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.command).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.state.name()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| joined(row.lines.iter().map(|line| line.sku.clone()), SEPARATOR)).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| joined(row.lines.iter().map(|line| line.quantity.to_string()), ",")).collect::<Vec<_>>())
    .bind(nos().map(|no| no.map(|no| no.reason.as_str())).collect::<Vec<_>>())
    .bind(nos().map(|no| no.map(|no| no.sku.as_str())).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.undone_by).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

fn joined(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

async fn update_reservations(db: &mut PgConnection, rows: &[(&(Uuid, Uuid), &Reservation)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update reservations r set state = u.state, undone_by = u.undone_by, settled_at = now()
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) as u(order_id, id, state, undone_by)
         where r.order_id = u.order_id and r.id = u.id",
    )
    .bind(rows.iter().map(|((order, _), _)| *order).collect::<Vec<_>>())
    .bind(rows.iter().map(|((_, id), _)| *id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.state.name()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, row)| row.undone_by).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// At most `limit` products after this SKU.
pub(crate) async fn list_products(pool: &PgPool, after: &str, limit: i64) -> sqlx::Result<Vec<Product>> {
    let rows: Vec<ProductRow> = sqlx::query_as(
        "select p.sku, p.name,
             array(select r.currency from prices r where r.sku = p.sku order by r.currency) as currencies,
             array(select r.unit_price from prices r where r.sku = p.sku order by r.currency) as unit_prices
         from products p where p.sku > $1 order by p.sku limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Product::from).collect())
}

/// At most `limit` rows of stock after this SKU: SKU, on hand, reserved.
pub(crate) async fn list_stock(pool: &PgPool, after: &str, limit: i64) -> sqlx::Result<Vec<(String, i64, i64)>> {
    sqlx::query_as("select sku, on_hand, reserved from stock where sku > $1 and not unstocked order by sku limit $2")
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await
}
