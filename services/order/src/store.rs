//! Every SQL statement of the order service.

use std::collections::HashMap;

use contracts::inventory::v1::Price;
use sqlx::{PgConnection, PgPool, QueryBuilder, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    catalogue::Said,
    events::Book,
    order::{Entry, Line, Order, Status},
    refund::Refund,
    refunding,
};

/// Parts the SKUs of an order on their way in: `unnest` flattens arrays of arrays. No SKU has a control character.
const SEPARATOR: &str = "\u{1f}";

/// What a batch speaks of.
#[derive(Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) orders: Vec<Uuid>,
    /// (order, cause)
    pub(crate) causes: Vec<(Uuid, Uuid)>,
    /// (order, refund)
    pub(crate) refunds: Vec<(Uuid, Uuid)>,
    /// (SKU, currency)
    pub(crate) prices: Vec<(&'a str, &'a str)>,
    /// Products whose prices may change.
    pub(crate) products: Vec<&'a str>,
}

/// Locks the orders in id order and looks up what is known of them, and what their products cost. What is not spoken of costs nothing.
pub(crate) async fn load(db: &mut PgConnection, wanted: Wanted<'_>) -> sqlx::Result<Book> {
    let Wanted { orders, causes, refunds, prices, products } = wanted;
    let mut book = Book::default();
    if !orders.is_empty() {
        let rows = sqlx::query(
            "select id, customer_id, status, currency, total, reason, refunded_amount, refund_pending, needs_attention,
                 idempotency_key, request_hash, version, created_at, updated_at
             from orders where id = any($1) order by id for no key update",
        )
        .bind(distinct(orders))
        .fetch_all(&mut *db)
        .await?;
        book.orders = rows.iter().map(|row| order(row).map(|order| (order.id, order))).collect::<sqlx::Result<_>>()?;
    }
    if !causes.is_empty() {
        let (orders, causes): (Vec<Uuid>, Vec<Uuid>) = causes.into_iter().unzip();
        let rows = sqlx::query(
            "select t.order_id, t.cause from unnest($1::uuid[], $2::uuid[]) as c(order_id, cause)
             join timeline t on t.order_id = c.order_id and t.cause = c.cause",
        )
        .bind(orders)
        .bind(causes)
        .fetch_all(&mut *db)
        .await?;
        book.known = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<sqlx::Result<_>>()?;
    }
    if !refunds.is_empty() {
        book.refunds = refunding::store::load(db, distinct(refunds)).await?;
    }
    if !prices.is_empty() {
        let (skus, currencies): (Vec<&str>, Vec<&str>) = distinct(prices).into_iter().unzip();
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select p.sku, p.currency, p.unit_price from unnest($1::text[], $2::text[]) as l(sku, currency)
             join prices p on p.sku = l.sku and p.currency = l.currency",
        )
        .bind(skus)
        .bind(currencies)
        .fetch_all(&mut *db)
        .await?;
        for (sku, currency, unit_price) in rows {
            book.catalogue.put(sku, Price { currency, unit_price });
        }
    }
    if !products.is_empty() {
        let rows: Vec<(String, i64, OffsetDateTime)> =
            sqlx::query_as("select sku, seq, said_at from priced where sku = any($1) order by sku for no key update")
                .bind(distinct(products))
                .fetch_all(db)
                .await?;
        book.heard = rows.into_iter().map(|(sku, seq, at)| (sku, Said { seq, at })).collect();
    }
    Ok(book)
}

fn distinct<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort_unstable();
    all.dedup();
    all
}

/// Writes what is new and what changed, in key order.
pub(crate) async fn save(db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
    let mut new: Vec<(&Order, &[Line])> = Vec::with_capacity(book.new_orders.len());
    let mut changed: Vec<&Order> = Vec::with_capacity(book.changed.len());
    for order in book.orders.values().filter(|order| book.changed.contains(&order.id)) {
        match book.new_orders.get(&order.id) {
            Some(lines) => new.push((order, lines.as_slice())),
            None => changed.push(order),
        }
    }
    update(db, &changed).await?;
    insert(db, &new).await?;
    insert_entries(db, book.entries).await?;
    let refunds: Vec<&Refund> = book.changed_refunds.iter().filter_map(|key| book.refunds.get(key)).collect();
    refunding::store::put(db, &refunds).await?;
    for (sku, product) in &book.priced {
        if let Some(said) = book.heard.get(sku) {
            replace_prices(db, sku, *said, &product.prices).await?;
        }
    }
    Ok(())
}

async fn insert(db: &mut PgConnection, orders: &[(&Order, &[Line])]) -> sqlx::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    let skus = |lines: &[Line]| lines.iter().map(|line| line.sku.as_str()).collect::<Vec<_>>().join(SEPARATOR);
    let quantities = |lines: &[Line]| lines.iter().map(|line| line.quantity.to_string()).collect::<Vec<_>>().join(",");
    let unit_prices = |lines: &[Line]| lines.iter().map(|line| line.unit_price.to_string()).collect::<Vec<_>>().join(",");
    sqlx::query(
        "insert into orders (id, customer_id, status, currency, total, reason, refunded_amount, needs_attention, idempotency_key,
             request_hash, version, created_at, updated_at, skus, quantities, unit_prices)
         select n.id, n.customer_id, n.status, n.currency, n.total, n.reason, n.refunded_amount, n.needs_attention,
             n.idempotency_key, n.request_hash, n.version, n.created_at, n.updated_at, string_to_array(n.skus, e'\\x1f'),
             string_to_array(n.quantities, ',')::int[], string_to_array(n.unit_prices, ',')::bigint[]
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::boolean[],
             $9::text[], $10::bytea[], $11::int[], $12::timestamptz[], $13::timestamptz[], $14::text[], $15::text[], $16::text[])
             as n(id, customer_id, status, currency, total, reason, refunded_amount, needs_attention, idempotency_key,
                 request_hash, version, created_at, updated_at, skus, quantities, unit_prices)",
    )
    .bind(column(orders, |(o, _)| o.id))
    .bind(column(orders, |(o, _)| o.customer_id.as_str()))
    .bind(column(orders, |(o, _)| o.status.name()))
    .bind(column(orders, |(o, _)| o.currency.as_str()))
    .bind(column(orders, |(o, _)| o.total))
    .bind(column(orders, |(o, _)| o.reason.as_str()))
    .bind(column(orders, |(o, _)| o.refunded_amount))
    .bind(column(orders, |(o, _)| o.needs_attention))
    .bind(column(orders, |(o, _)| o.idempotency_key.as_deref()))
    .bind(column(orders, |(o, _)| o.request_hash.as_slice()))
    .bind(column(orders, |(o, _)| o.version))
    .bind(column(orders, |(o, _)| o.created_at))
    .bind(column(orders, |(o, _)| o.updated_at))
    .bind(column(orders, |(_, lines)| skus(lines)))
    .bind(column(orders, |(_, lines)| quantities(lines)))
    .bind(column(orders, |(_, lines)| unit_prices(lines)))
    .execute(db)
    .await?;
    Ok(())
}

async fn update(db: &mut PgConnection, orders: &[&Order]) -> sqlx::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update orders o set status = n.status, reason = n.reason, refunded_amount = n.refunded_amount,
             refund_pending = n.refund_pending, needs_attention = n.needs_attention, version = n.version, updated_at = n.updated_at
         from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[], $7::int[], $8::timestamptz[])
             as n(id, status, reason, refunded_amount, refund_pending, needs_attention, version, updated_at)
         where o.id = n.id",
    )
    .bind(column(orders, |o| o.id))
    .bind(column(orders, |o| o.status.name()))
    .bind(column(orders, |o| o.reason.as_str()))
    .bind(column(orders, |o| o.refunded_amount))
    .bind(column(orders, |o| o.refund_pending))
    .bind(column(orders, |o| o.needs_attention))
    .bind(column(orders, |o| o.version))
    .bind(column(orders, |o| o.updated_at))
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_entries(db: &mut PgConnection, entries: Vec<Entry>) -> sqlx::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into timeline (order_id, cause, version, at, event, detail)
         select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[], $5::text[], $6::text[])",
    )
    .bind(column(&entries, |e| e.order_id))
    .bind(column(&entries, |e| e.cause))
    .bind(column(&entries, |e| e.version))
    .bind(column(&entries, |e| e.at))
    .bind(column(&entries, |e| e.event.as_str()))
    .bind(column(&entries, |e| e.detail.as_str()))
    .execute(db)
    .await?;
    Ok(())
}

/// The product's prices are these from now on.
async fn replace_prices(db: &mut PgConnection, sku: &str, said: Said, prices: &[Price]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into priced (sku, seq, said_at) values ($1, $2, $3)
         on conflict (sku) do update set seq = excluded.seq, said_at = excluded.said_at",
    )
    .bind(sku)
    .bind(said.seq)
    .bind(said.at)
    .execute(&mut *db)
    .await?;
    sqlx::query("delete from prices where sku = $1").bind(sku).execute(&mut *db).await?;
    sqlx::query(
        "insert into prices (sku, currency, unit_price)
         select $1, p.currency, p.unit_price from unnest($2::text[], $3::bigint[]) as p(currency, unit_price)",
    )
    .bind(sku)
    .bind(column(prices, |price| price.currency.as_str()))
    .bind(column(prices, |price| price.unit_price))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) fn column<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// An order with all there is to show.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) order: Order,
    pub(crate) lines: Vec<Line>,
    pub(crate) timeline: Vec<Entry>,
}

/// The orders of these ids, with lines and timeline.
pub(crate) async fn show(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<HashMap<Uuid, Shown>> {
    let orders = sqlx::query("select * from orders where id = any($1)").bind(ids).fetch_all(&mut *db).await?;
    let mut shown = HashMap::with_capacity(orders.len());
    for row in &orders {
        let order = order(row)?;
        shown.insert(order.id, Shown { order, lines: lines(row)?, timeline: Vec::new() });
    }
    let entries = sqlx::query(
        "select order_id, cause, version, at, event, detail from timeline where order_id = any($1) order by order_id, version",
    )
    .bind(ids)
    .fetch_all(&mut *db)
    .await?;
    for row in &entries {
        let entry = Entry {
            order_id: row.try_get(0)?,
            cause: row.try_get(1)?,
            version: row.try_get(2)?,
            at: row.try_get(3)?,
            event: row.try_get(4)?,
            detail: row.try_get(5)?,
        };
        // The statements see different moments: what came after the order was read belongs to the next look.
        if let Some(shown) = shown.get_mut(&entry.order_id)
            && entry.version <= shown.order.version
        {
            shown.timeline.push(entry);
        }
    }
    Ok(shown)
}

/// What a list is filtered by.
pub(crate) struct Filter<'a> {
    pub(crate) customer_id: Option<&'a str>,
    pub(crate) status: Option<Status>,
    /// Orders older than this place.
    pub(crate) before: (OffsetDateTime, Uuid),
}

/// Orders, newest first, with their lines.
pub(crate) async fn list(pool: &PgPool, filter: &Filter<'_>, limit: i64) -> sqlx::Result<Vec<Shown>> {
    let mut query = QueryBuilder::new("select * from orders where (created_at, id) < (");
    query.push_bind(filter.before.0).push(", ").push_bind(filter.before.1).push(")");
    if let Some(customer_id) = filter.customer_id {
        query.push(" and customer_id = ").push_bind(customer_id);
    }
    if let Some(status) = filter.status {
        query.push(" and status = ").push_bind(status.name());
    }
    query.push(" order by created_at desc, id desc limit ").push_bind(limit);
    let rows = query.build().fetch_all(pool).await?;
    rows.iter().map(|row| Ok(Shown { order: order(row)?, lines: lines(row)?, timeline: Vec::new() })).collect()
}

fn order(row: &PgRow) -> sqlx::Result<Order> {
    let status: &str = row.try_get("status")?;
    Ok(Order {
        id: row.try_get("id")?,
        customer_id: row.try_get("customer_id")?,
        status: Status::named(status).ok_or_else(|| sqlx::Error::Decode(format!("unknown status {status}").into()))?,
        currency: row.try_get("currency")?,
        total: row.try_get("total")?,
        reason: row.try_get("reason")?,
        refunded_amount: row.try_get("refunded_amount")?,
        refund_pending: row.try_get("refund_pending")?,
        needs_attention: row.try_get("needs_attention")?,
        idempotency_key: row.try_get("idempotency_key")?,
        request_hash: row.try_get("request_hash")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn lines(row: &PgRow) -> sqlx::Result<Vec<Line>> {
    let skus: Vec<String> = row.try_get("skus")?;
    let (quantities, unit_prices): (Vec<i32>, Vec<i64>) = (row.try_get("quantities")?, row.try_get("unit_prices")?);
    let lines = skus.into_iter().zip(quantities).zip(unit_prices);
    Ok(lines.map(|((sku, quantity), unit_price)| Line { sku, quantity, unit_price }).collect())
}
