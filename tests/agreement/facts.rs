//! The rows of all services, read once.

use std::collections::{BTreeMap, HashMap};

use sqlx::{FromRow, PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::Books;

#[derive(FromRow)]
pub(super) struct Order {
    pub(super) id: Uuid,
    pub(super) status: String,
    pub(super) currency: String,
    pub(super) total: i64,
    pub(super) refunded_amount: i64,
    pub(super) refund_pending: i64,
    pub(super) needs_attention: bool,
    pub(super) version: i32,
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Confirmed,
    /// Failed or cancelled.
    Undone,
    /// A person must act.
    Attention,
    NotYet,
}

impl Order {
    pub(super) fn end(&self) -> End {
        match (self.status.as_str(), self.needs_attention) {
            ("CONFIRMED", _) => End::Confirmed,
            ("FAILED" | "CANCELLED", _) => End::Undone,
            (_, true) => End::Attention,
            (_, false) => End::NotYet,
        }
    }
}

/// A refund of a confirmed order, as the order has it.
#[derive(FromRow)]
pub(super) struct Refund {
    pub(super) order_id: Uuid,
    pub(super) refund_id: Uuid,
    pub(super) amount: i64,
    pub(super) state: String,
}

#[derive(FromRow)]
pub(super) struct Payment {
    pub(super) id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) state: String,
    pub(super) captured: i64,
    pub(super) refunded: i64,
    pub(super) refund_pending: i64,
}

#[derive(FromRow)]
pub(super) struct Transfer {
    pub(super) payment_id: Uuid,
    pub(super) debit: String,
    pub(super) credit: String,
    pub(super) amount: i64,
    pub(super) currency: String,
}

/// A row of the provider's statement.
#[derive(FromRow)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) kind: String,
    pub(super) of: Option<String>,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) succeeded: bool,
    pub(super) captured: i64,
    pub(super) refunded: i64,
}

impl Entry {
    /// Whether it is what a payment begins with.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.kind.as_str(), "CHARGE" | "AUTHORIZE")
    }

    /// What was taken of an opening.
    pub(super) fn taken(&self) -> i64 {
        match (self.succeeded, self.kind.as_str()) {
            (true, "CHARGE") => self.amount,
            (true, "AUTHORIZE") => self.captured,
            _ => 0,
        }
    }
}

/// A reservation or a shipment.
#[derive(FromRow)]
pub(super) struct Booking {
    pub(super) order_id: Uuid,
    pub(super) state: String,
    skus: Vec<String>,
    quantities: Vec<i32>,
}

impl Booking {
    pub(super) fn lines(&self) -> Vec<(String, i32)> {
        let mut lines: Vec<_> = self.skus.iter().cloned().zip(self.quantities.iter().copied()).collect();
        lines.sort();
        lines
    }
}

#[derive(FromRow)]
pub(super) struct Stock {
    pub(super) sku: String,
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
    pub(super) unstocked: bool,
}

pub(super) struct Facts {
    pub(super) orders: BTreeMap<Uuid, Order>,
    /// Sorted.
    pub(super) lines: HashMap<Uuid, Vec<(String, i32)>>,
    /// (version, event) in order of version.
    pub(super) timelines: HashMap<Uuid, Vec<(i32, String)>>,
    /// How often OrderCreated was said, by key.
    pub(super) announced: HashMap<String, i64>,
    pub(super) refunds: Vec<Refund>,
    /// State by order, of the sagas that settle one.
    pub(super) sagas: HashMap<Uuid, String>,
    /// State by id, of the sagas of refunds.
    pub(super) refund_sagas: HashMap<Uuid, String>,
    pub(super) payments: Vec<Payment>,
    /// Amount and state by id, as payment has them: the order's and those of undos.
    pub(super) paid_back: HashMap<Uuid, (i64, String)>,
    pub(super) ledger: Vec<Transfer>,
    pub(super) statement: Vec<Entry>,
    pub(super) reservations: Vec<Booking>,
    pub(super) stock: Vec<Stock>,
    /// Pieces on hand and reserved by SKU, as the journal has them.
    pub(super) journal: HashMap<String, (i64, i64)>,
    pub(super) shipments: Vec<Booking>,
    /// Kinds by order.
    pub(super) notifications: HashMap<Uuid, Vec<String>>,
}

impl Facts {
    pub(super) async fn read(books: &mut Books) -> Self {
        let db = books.of("order");
        let sql = "select id, status, currency, total, refunded_amount, refund_pending, needs_attention, version from orders";
        let orders: Vec<Order> = all(db, sql).await;
        let sql = "select id, l.sku, l.quantity from orders, unnest(skus, quantities) as l(sku, quantity) order by l.sku";
        let lines: Vec<(Uuid, String, i32)> = all(db, sql).await;
        let timelines: Vec<(Uuid, i32, String)> =
            all(db, "select order_id, version, event from timeline order by version, at").await;
        let sql = "select key, count(*) from outbox where type = 'settle.order.v1.OrderCreated' group by key";
        let announced: Vec<(String, i64)> = all(db, sql).await;

        let refunds = all(db, "select order_id, refund_id, amount, state from order_refunds").await;

        let db = books.of("orchestrator");
        let sagas: Vec<(Uuid, String)> = all(db, "select order_id, state from sagas where definition <> 'refund'").await;
        let refund_sagas: Vec<(Uuid, String)> = all(db, "select saga_id, state from sagas where definition = 'refund'").await;

        let db = books.of("payment");
        let payments = all(db, "select id, order_id, state, captured, refunded, refund_pending from payments").await;
        let paid_back: Vec<(Uuid, i64, String)> = all(db, "select id, amount, state from refunds").await;
        let ledger = all(db, "select payment_id, debit, credit, amount, currency from ledger_transfers").await;
        let sql =
            r#"select key, kind, "of", amount, currency, outcome = 'SUCCEEDED' as succeeded, captured, refunded from statement"#;
        let statement = all(books.of("provider"), sql).await;

        let db = books.of("inventory");
        let reservations = all(db, "select order_id, state, skus, quantities from reservations").await;
        let stock = all(db, "select sku, on_hand, reserved, unstocked from stock").await;
        let sql = "select sku, sum(on_hand)::bigint, sum(reserved)::bigint from stock_journal group by sku";
        let journal: Vec<(String, i64, i64)> = all(db, sql).await;

        let shipments = all(books.of("shipping"), "select order_id, state, skus, quantities from shipments").await;
        let notifications: Vec<(Uuid, String)> = all(books.of("notification"), "select order_id, kind from notifications").await;

        Self {
            orders: orders.into_iter().map(|order| (order.id, order)).collect(),
            lines: grouped(lines.into_iter().map(|(order, sku, quantity)| (order, (sku, quantity)))),
            timelines: grouped(timelines.into_iter().map(|(order, version, event)| (order, (version, event)))),
            announced: announced.into_iter().collect(),
            refunds,
            sagas: sagas.into_iter().collect(),
            refund_sagas: refund_sagas.into_iter().collect(),
            payments,
            paid_back: paid_back.into_iter().map(|(id, amount, state)| (id, (amount, state))).collect(),
            ledger,
            statement,
            reservations,
            stock,
            journal: journal.into_iter().map(|(sku, on_hand, reserved)| (sku, (on_hand, reserved))).collect(),
            shipments,
            notifications: grouped(notifications.into_iter()),
        }
    }

    pub(super) fn end_of(&self, order: Uuid) -> Option<End> {
        self.orders.get(&order).map(Order::end)
    }
}

pub(super) async fn all<T>(db: &mut PgConnection, sql: &'static str) -> Vec<T>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
{
    sqlx::query_as(sql).fetch_all(db).await.unwrap_or_else(|error| panic!("{error} in {sql}"))
}

fn grouped<K: std::hash::Hash + Eq, V>(rows: impl Iterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for (key, row) in rows {
        groups.entry(key).or_default().push(row);
    }
    groups
}
