//! SQL of the audit, which only reads. Each list is read once in the order of its key, through a cursor of a transaction, and again where
//! something looks wrong, of those keys alone.

use std::collections::VecDeque;

use sqlx::{FromRow, PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::{
    charge::{Entry, Payment},
    saga::Saga,
    shelf::Shelf,
    story::{Order, Reservation},
};

macro_rules! orders {
    () => {
        "select o.id, o.status, o.currency, o.total, o.refunded_amount, o.refund_pending, o.needs_attention, o.version,
             coalesce(t.versions, '{}'::int[]) as versions, coalesce(t.events, '{}'::text[]) as events
         from orders o
         cross join lateral (
             select array_agg(version order by version) as versions, array_agg(event order by version) as events
             from timeline where order_id = o.id
         ) t "
    };
}

// What a call may move is what it asks for: a void moves nothing that was taken. `$of` picks the payments that are summed up, before they
// are: a second look at a few of a million reads through the ledger, and sorts and keeps nothing but theirs.
macro_rules! payments {
    ($of:literal) => {
        concat!(
            "select p.order_id, p.id::text as key, p.state, p.currency, p.captured, p.refunded, p.refund_pending,
             coalesce(l.taken, 0)::bigint as ledger_taken, coalesce(l.back, 0)::bigint as ledger_back,
             coalesce(l.strange, 0) + coalesce((l.first <> p.currency or l.last <> p.currency)::int, 0) as ledger_strange,
             coalesce(c.calls, 0) as calls_open, coalesce(c.taking, 0)::bigint as taking, coalesce(c.giving, 0)::bigint as giving,
             coalesce(c.attention, '') as attention
         from payments p
         left join (
             select payment_id, sum(amount) filter (where debit like 'receivable:%' and credit = 'sales') as taken,
                 sum(amount) filter (where debit = 'sales' and credit like 'receivable:%') as back,
                 count(*) filter (where not (debit like 'receivable:%' and credit = 'sales'
                     or debit = 'sales' and credit like 'receivable:%')) as strange,
                 min(currency) as first, max(currency) as last
             from ledger_transfers ",
            $of,
            " group by payment_id
         ) l on l.payment_id = p.id
         left join (
             select payment_id, count(*) as calls, sum(amount) filter (where kind in ('CHARGE', 'CAPTURE')) as taking,
                 sum(amount) filter (where kind = 'REFUND') as giving, max(attention) as attention
             from provider_calls ",
            $of,
            " group by payment_id
         ) c on c.payment_id = p.id "
        )
    };
}

// What lands later is not there yet.
macro_rules! statement {
    ($of:literal) => {
        concat!(
            r#"select coalesce("of", key) collate "C" as key,
                 count(*) filter (where kind in ('CHARGE', 'CAPTURE')) as takes,
                 coalesce(sum(amount) filter (where kind in ('CHARGE', 'CAPTURE')), 0)::bigint as taken,
                 coalesce(sum(amount) filter (where kind = 'REFUND'), 0)::bigint as back,
                 coalesce(array_agg(distinct currency) filter (where kind in ('CHARGE', 'CAPTURE', 'REFUND')), '{}'::text[]) as currencies,
                 bool_or(kind = 'AUTHORIZE') and not bool_or(kind in ('CAPTURE', 'VOID')) as is_held
             from statement where outcome = 'SUCCEEDED' and at <= now() "#,
            $of,
            " group by 1 order by 1"
        )
    };
}

macro_rules! reservations {
    () => {
        "select order_id, state from reservations "
    };
}

macro_rules! sagas {
    () => {
        "select order_id, definition, definition_version, state, progress from sagas "
    };
}

// Orders of what is not counted hold nothing. `$changes`, `$orders` and `$lines` pick the products that are summed up, before they are.
macro_rules! shelves {
    ($changes:literal, $orders:literal, $lines:literal) => {
        concat!(
            "select s.sku, s.on_hand, s.reserved, coalesce(came.pieces, 0)::bigint as came,
             coalesce(moved.gone, 0)::bigint as left, coalesce(moved.held, 0)::bigint as held
         from stock s
         left join (
             select sku, sum(delta) as pieces from stock_changes ",
            $changes,
            " group by sku
         ) came on came.sku = s.sku
         left join (
             select l.sku, sum(l.quantity) filter (where r.state = 'COMMITTED') as gone,
                 sum(l.quantity) filter (where r.state = 'HELD') as held
             from reservations r cross join unnest(r.skus, r.quantities) as l(sku, quantity)
             where r.state in ('HELD', 'COMMITTED') ",
            $orders,
            $lines,
            " group by l.sku
         ) moved on moved.sku = s.sku
         where not s.unstocked "
        )
    };
}

/// A list in the order of its key.
pub(super) struct List {
    declare: &'static str,
    fetch: &'static str,
}

macro_rules! list {
    ($name:ident, $cursor:literal, $($sql:tt)+) => {
        pub(super) const $name: List = List {
            declare: concat!("declare ", $cursor, " no scroll cursor for ", $($sql)+),
            fetch: concat!("fetch forward 2000 from ", $cursor),
        };
    };
}

list!(ORDERS, "audited_orders", concat!(orders!(), "order by o.id"));
list!(PAYMENTS_BY_ORDER, "audited_payments", concat!(payments!(""), "order by p.order_id"));
list!(PAYMENTS_BY_KEY, "audited_charges", concat!(payments!(""), "order by p.id"));
list!(STATEMENT, "audited_statement", statement!(""));
list!(RESERVATIONS, "audited_reservations", concat!(reservations!(), "order by order_id, id"));
list!(SAGAS, "audited_sagas", concat!(sagas!(), "order by order_id, saga_id"));
list!(SHELVES, "audited_shelves", concat!(shelves!("", "", ""), "order by s.sku"));

/// Payments of these orders, payments with these ids, and products, in a second look.
pub(super) const PAYMENTS_OF: &str =
    concat!(payments!("where payment_id in (select id from payments where order_id = any($1))"), "where p.order_id = any($1)");
pub(super) const PAYMENTS_WITH: &str = concat!(payments!("where payment_id = any($1)"), "where p.id = any($1)");
pub(super) const SHELVES_OF: &str =
    concat!(shelves!("where sku = any($1)", "and r.skus && $1 ", "and l.sku = any($1)"), "and s.sku = any($1)");

/// From here on the connection sees the database as it is now, and may only read. Neither a statement nor a pause lasts for ever.
pub(super) async fn begin(db: &mut PgConnection) -> sqlx::Result<()> {
    let sql = "begin isolation level repeatable read read only;
               set local statement_timeout = '10min';
               set local idle_in_transaction_session_timeout = '10min';
               set local cursor_tuple_fraction = 1;
               select 1";
    sqlx::raw_sql(sql).execute(db).await?;
    Ok(())
}

pub(super) async fn end(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("commit; set statement_timeout = '10min'").execute(db).await?;
    Ok(())
}

/// The rows of a list, some of them in memory at a time.
pub(super) struct Rows<'a, T, K> {
    db: &'a mut PgConnection,
    fetch: &'static str,
    key: fn(&T) -> K,
    read: VecDeque<T>,
    is_over: bool,
}

impl<'a, T, K> Rows<'a, T, K>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    K: PartialEq,
{
    pub(super) async fn open(db: &'a mut PgConnection, list: List, key: fn(&T) -> K) -> sqlx::Result<Self> {
        sqlx::raw_sql(list.declare).execute(&mut *db).await?;
        Ok(Self { db, fetch: list.fetch, key, read: VecDeque::new(), is_over: false })
    }

    /// Of the next row; `None` at the end.
    pub(super) async fn key(&mut self) -> sqlx::Result<Option<K>> {
        if self.read.is_empty() && !self.is_over {
            let rows: Vec<T> = sqlx::query_as(self.fetch).fetch_all(&mut *self.db).await?;
            self.is_over = rows.is_empty();
            self.read = rows.into();
        }
        Ok(self.read.front().map(self.key))
    }

    /// All rows of this key, if it is the next.
    pub(super) async fn take(&mut self, key: &K) -> sqlx::Result<Vec<T>> {
        let mut rows = Vec::new();
        while self.key().await?.as_ref() == Some(key) {
            rows.extend(self.read.pop_front());
        }
        Ok(rows)
    }
}

pub(super) async fn orders_of(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Order>> {
    sqlx::query_as(concat!(orders!(), "where o.id = any($1)")).bind(ids).fetch_all(db).await
}

pub(super) async fn payments_of(db: &mut PgConnection, orders: &[Uuid]) -> sqlx::Result<Vec<Payment>> {
    sqlx::query_as(PAYMENTS_OF).bind(orders).fetch_all(db).await
}

pub(super) async fn payments_with(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Payment>> {
    sqlx::query_as(PAYMENTS_WITH).bind(ids).fetch_all(db).await
}

pub(super) async fn statement_of(db: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(statement!(r#"and coalesce("of", key) = any($1)"#)).bind(keys).fetch_all(db).await
}

pub(super) async fn reservations_of(db: &mut PgConnection, orders: &[Uuid]) -> sqlx::Result<Vec<Reservation>> {
    sqlx::query_as(concat!(reservations!(), "where order_id = any($1) order by order_id, id")).bind(orders).fetch_all(db).await
}

pub(super) async fn sagas_of(db: &mut PgConnection, orders: &[Uuid]) -> sqlx::Result<Vec<Saga>> {
    sqlx::query_as(concat!(sagas!(), "where order_id = any($1) order by order_id, saga_id")).bind(orders).fetch_all(db).await
}

pub(super) async fn shelves_of(db: &mut PgConnection, skus: &[String]) -> sqlx::Result<Vec<Shelf>> {
    sqlx::query_as(SHELVES_OF).bind(skus).fetch_all(db).await
}

/// What the ledger's accounts have come to in one currency, in minor units.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct Accounts {
    pub(super) currency: String,
    /// What was sold, less what was given back.
    pub(super) sales: i64,
    /// What providers owe.
    pub(super) receivable: i64,
}

pub(super) async fn accounts(db: &mut PgConnection) -> sqlx::Result<Vec<Accounts>> {
    sqlx::query_as(
        "select currency, coalesce(sum(case when account = 'sales' then -amount end), 0)::bigint as sales,
             coalesce(sum(case when account like 'receivable:%' then amount end), 0)::bigint as receivable
         from (
             select currency, debit as account, amount from ledger_transfers
             union all
             select currency, credit, -amount from ledger_transfers
         ) moved
         group by currency order by currency",
    )
    .fetch_all(db)
    .await
}

/// Payments that transfers name and that there are not, some of them.
pub(super) async fn orphaned_transfers(db: &mut PgConnection, rows_max: i64) -> sqlx::Result<Vec<(Uuid, i64)>> {
    sqlx::query_as(
        "select t.payment_id, count(*) from ledger_transfers t
         where not exists (select from payments p where p.id = t.payment_id)
         group by t.payment_id order by t.payment_id limit $1",
    )
    .bind(rows_max)
    .fetch_all(db)
    .await
}
