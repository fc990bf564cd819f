//! Every SQL statement of the order service.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgConnection, PgPool, QueryBuilder, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    events::Book,
    order::{Entry, Line, Order, Status},
};

/// Locks the orders in id order and looks up which facts are known and what the unpriced products cost.
pub(crate) async fn load(
    db: &mut PgConnection,
    mut ids: Vec<Uuid>,
    facts: &[(Uuid, Uuid)],
    mut skus: Vec<&str>,
) -> sqlx::Result<Book> {
    let mut book = Book::default();
    ids.sort_unstable();
    ids.dedup();
    if !ids.is_empty() {
        let rows = sqlx::query(
            "select id, customer_id, status, currency, total, reason, refunded_amount, needs_attention, idempotency_key, request_hash,
                 version, created_at, updated_at
             from orders where id = any($1) order by id for no key update",
        )
        .bind(ids)
        .fetch_all(&mut *db)
        .await?;
        book.orders = rows.iter().map(|row| order(row).map(|order| (order.id, order))).collect::<sqlx::Result<_>>()?;
    }
    if !facts.is_empty() {
        let (orders, causes): (Vec<Uuid>, Vec<Uuid>) = facts.iter().copied().unzip();
        let rows = sqlx::query(
            "select t.order_id, t.cause from unnest($1::uuid[], $2::uuid[]) as f(order_id, cause)
             join timeline t on t.order_id = f.order_id and t.cause = f.cause",
        )
        .bind(orders)
        .bind(causes)
        .fetch_all(&mut *db)
        .await?;
        book.known = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<sqlx::Result<_>>()?;
    }
    skus.sort_unstable();
    skus.dedup();
    if !skus.is_empty() {
        let rows = sqlx::query("select sku, currency, unit_price from prices where sku = any($1)").bind(skus).fetch_all(db).await?;
        book.catalogue =
            rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect::<sqlx::Result<_>>()?;
    }
    Ok(book)
}

/// Writes what is new and what changed, in key order.
pub(crate) async fn save(db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
    let new: Vec<&Order> = book.orders.values().filter(|order| book.new_orders.contains(&order.id)).collect();
    let changed: Vec<&Order> =
        book.orders.values().filter(|order| book.changed.contains(&order.id) && !book.new_orders.contains(&order.id)).collect();
    update(db, &changed).await?;
    insert(db, &new).await?;
    insert_lines(db, book.new_lines).await?;
    insert_entries(db, book.entries).await?;
    for (sku, (said_at, product)) in book.priced {
        let (currencies, prices): (Vec<String>, Vec<i64>) = product.prices.into_iter().map(|p| (p.currency, p.unit_price)).unzip();
        replace_prices(db, &sku, said_at, &currencies, &prices).await?;
    }
    Ok(())
}

async fn insert(db: &mut PgConnection, orders: &[&Order]) -> sqlx::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into orders (id, customer_id, status, currency, total, reason, refunded_amount, needs_attention, idempotency_key,
             request_hash, version, created_at, updated_at)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::boolean[],
             $9::text[], $10::bytea[], $11::int[], $12::timestamptz[], $13::timestamptz[])",
    )
    .bind(column(orders, |o| o.id))
    .bind(column(orders, |o| o.customer_id.as_str()))
    .bind(column(orders, |o| o.status.name()))
    .bind(column(orders, |o| o.currency.as_str()))
    .bind(column(orders, |o| o.total))
    .bind(column(orders, |o| o.reason.as_str()))
    .bind(column(orders, |o| o.refunded_amount))
    .bind(column(orders, |o| o.needs_attention))
    .bind(column(orders, |o| o.idempotency_key.as_deref()))
    .bind(column(orders, |o| o.request_hash.as_slice()))
    .bind(column(orders, |o| o.version))
    .bind(column(orders, |o| o.created_at))
    .bind(column(orders, |o| o.updated_at))
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
             needs_attention = n.needs_attention, version = n.version, updated_at = n.updated_at
         from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::boolean[], $6::int[], $7::timestamptz[])
             as n(id, status, reason, refunded_amount, needs_attention, version, updated_at)
         where o.id = n.id",
    )
    .bind(column(orders, |o| o.id))
    .bind(column(orders, |o| o.status.name()))
    .bind(column(orders, |o| o.reason.as_str()))
    .bind(column(orders, |o| o.refunded_amount))
    .bind(column(orders, |o| o.needs_attention))
    .bind(column(orders, |o| o.version))
    .bind(column(orders, |o| o.updated_at))
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_lines(db: &mut PgConnection, lines: Vec<(Uuid, Vec<Line>)>) -> sqlx::Result<()> {
    let rows: Vec<(Uuid, i32, Line)> =
        lines.into_iter().flat_map(|(id, lines)| (0..).zip(lines).map(move |(i, line)| (id, i, line))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into order_items (order_id, line, sku, quantity, unit_price)
         select * from unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::bigint[])",
    )
    .bind(column(&rows, |r| r.0))
    .bind(column(&rows, |r| r.1))
    .bind(column(&rows, |r| r.2.sku.as_str()))
    .bind(column(&rows, |r| r.2.quantity))
    .bind(column(&rows, |r| r.2.unit_price))
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

/// The product's prices are these from now on, unless something newer was heard.
async fn replace_prices(
    db: &mut PgConnection,
    sku: &str,
    said_at: OffsetDateTime,
    currencies: &[String],
    prices: &[i64],
) -> sqlx::Result<()> {
    sqlx::query("delete from prices where sku = $1 and said_at <= $2 and currency <> all($3)")
        .bind(sku)
        .bind(said_at)
        .bind(currencies)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "insert into prices (sku, currency, unit_price, said_at)
         select $1, p.currency, p.unit_price, $2 from unnest($3::text[], $4::bigint[]) as p(currency, unit_price)
         on conflict (sku, currency) do update set unit_price = excluded.unit_price, said_at = excluded.said_at
         where prices.said_at <= excluded.said_at",
    )
    .bind(sku)
    .bind(said_at)
    .bind(currencies)
    .bind(prices)
    .execute(db)
    .await?;
    Ok(())
}

fn column<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
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
pub(crate) async fn show(pool: &PgPool, ids: &[Uuid]) -> sqlx::Result<HashMap<Uuid, Shown>> {
    let mut db = pool.acquire().await?;
    let orders = sqlx::query("select * from orders where id = any($1)").bind(ids).fetch_all(&mut *db).await?;
    let mut shown = HashMap::with_capacity(orders.len());
    for row in &orders {
        let order = order(row)?;
        shown.insert(order.id, Shown { order, lines: Vec::new(), timeline: Vec::new() });
    }
    for (id, line) in lines(&mut db, ids).await? {
        if let Some(shown) = shown.get_mut(&id) {
            shown.lines.push(line);
        }
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

async fn lines(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Line)>> {
    let rows =
        sqlx::query("select order_id, sku, quantity, unit_price from order_items where order_id = any($1) order by order_id, line")
            .bind(ids)
            .fetch_all(db)
            .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, Line { sku: row.try_get(1)?, quantity: row.try_get(2)?, unit_price: row.try_get(3)? })))
        .collect()
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
    let mut db = pool.acquire().await?;
    let orders: Vec<Order> = query.build().fetch_all(&mut *db).await?.iter().map(order).collect::<sqlx::Result<_>>()?;
    let ids: Vec<Uuid> = orders.iter().map(|order| order.id).collect();
    let mut lines_of: BTreeMap<Uuid, Vec<Line>> = BTreeMap::new();
    for (id, line) in lines(&mut db, &ids).await? {
        lines_of.entry(id).or_default().push(line);
    }
    Ok(orders
        .into_iter()
        .map(|order| Shown { lines: lines_of.remove(&order.id).unwrap_or_default(), order, timeline: Vec::new() })
        .collect())
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
        needs_attention: row.try_get("needs_attention")?,
        idempotency_key: row.try_get("idempotency_key")?,
        request_hash: row.try_get("request_hash")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
