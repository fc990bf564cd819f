//! The rows of all services, read once.

use std::collections::{BTreeMap, HashMap};

use contracts::Message;
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
    pub(super) refunded: i64,
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
}

pub(super) struct Facts {
    pub(super) orders: BTreeMap<Uuid, Order>,
    /// Sorted.
    pub(super) lines: HashMap<Uuid, Vec<(String, i32)>>,
    /// (version, event) in order of version.
    pub(super) timelines: HashMap<Uuid, Vec<(i32, String)>>,
    /// How often OrderCreated was said, by key.
    pub(super) announced: HashMap<String, i64>,
    /// State by order.
    pub(super) sagas: HashMap<Uuid, String>,
    pub(super) payments: Vec<Payment>,
    /// State by id.
    pub(super) refunds: HashMap<Uuid, String>,
    pub(super) ledger: Vec<Transfer>,
    pub(super) statement: Vec<Entry>,
    pub(super) reservations: Vec<Booking>,
    pub(super) stock: Vec<Stock>,
    /// What was counted by hand, by SKU, in order.
    pub(super) counted: HashMap<String, Vec<i64>>,
    pub(super) shipments: Vec<Booking>,
    /// Kinds by order.
    pub(super) notifications: HashMap<Uuid, Vec<String>>,
}

impl Facts {
    pub(super) async fn read(books: &mut Books) -> Self {
        let db = books.of("order");
        let sql = "select id, status, currency, total, refunded_amount, needs_attention, version from orders";
        let orders: Vec<Order> = all(db, sql).await;
        let sql = "select id, l.sku, l.quantity from orders, unnest(skus, quantities) as l(sku, quantity) order by l.sku";
        let lines: Vec<(Uuid, String, i32)> = all(db, sql).await;
        let timelines: Vec<(Uuid, i32, String)> =
            all(db, "select order_id, version, event from timeline order by version, at").await;
        let sql = "select key, count(*) from outbox where type = 'settle.order.v1.OrderCreated' group by key";
        let announced: Vec<(String, i64)> = all(db, sql).await;

        let sagas: Vec<(Uuid, String)> = all(books.of("orchestrator"), "select order_id, state from sagas").await;

        let db = books.of("payment");
        let payments = all(db, "select id, order_id, state, captured, refunded, refund_pending from payments").await;
        let refunds: Vec<(Uuid, String)> = all(db, "select id, state from refunds").await;
        let ledger = all(db, "select payment_id, debit, credit, amount, currency from ledger_transfers").await;
        let sql = r#"select key, kind, "of", amount, currency, outcome = 'SUCCEEDED' as succeeded, refunded from statement"#;
        let statement = all(books.of("provider"), sql).await;

        let db = books.of("inventory");
        let reservations = all(db, "select order_id, state, skus, quantities from reservations").await;
        let stock = all(db, "select sku, on_hand, reserved from stock").await;
        let counted = counted(db).await;

        let shipments = all(books.of("shipping"), "select order_id, state, skus, quantities from shipments").await;
        let notifications: Vec<(Uuid, String)> = all(books.of("notification"), "select order_id, kind from notifications").await;

        Self {
            orders: orders.into_iter().map(|order| (order.id, order)).collect(),
            lines: grouped(lines.into_iter().map(|(order, sku, quantity)| (order, (sku, quantity)))),
            timelines: grouped(timelines.into_iter().map(|(order, version, event)| (order, (version, event)))),
            announced: announced.into_iter().collect(),
            sagas: sagas.into_iter().collect(),
            payments,
            refunds: refunds.into_iter().collect(),
            ledger,
            statement,
            reservations,
            stock,
            counted,
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

async fn counted(db: &mut PgConnection) -> HashMap<String, Vec<i64>> {
    const ADJUSTED: &str = "settle.inventory.v1.StockAdjusted";
    let sql = "select type, payload from outbox where topic = 'product.events' order by partition, seq";
    let said: Vec<(String, Vec<u8>)> = all(db, sql).await;
    let counted = said.iter().filter(|(name, _)| name == ADJUSTED).map(|(name, payload)| match Message::decode(name, payload) {
        Some(Ok(Message::StockAdjusted(told))) => (told.sku, told.on_hand),
        other => panic!("a StockAdjusted reads as {other:?}"),
    });
    grouped(counted)
}
