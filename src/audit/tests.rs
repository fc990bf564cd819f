//! A small shop of three orders, written down by hand in databases of its own: in order, and with something wrong in each of them.

mod looks;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::*;
use crate::platform::{self, Service};

const CONFIRMED: &str = "00000000-0000-4000-8000-00000000000a";
const FAILED: &str = "00000000-0000-4000-8000-00000000000b";
const STUCK: &str = "00000000-0000-4000-8000-00000000000c";
const CHARGES: [&str; 3] =
    ["00000000-0000-4000-8000-0000000000aa", "00000000-0000-4000-8000-0000000000bb", "00000000-0000-4000-8000-0000000000cc"];
const NOW: &str = "2025-01-01T00:00:00Z";

struct Shop(BTreeMap<String, String>);

impl Shop {
    async fn open() -> Self {
        let postgres = local::postgres::shared_for_tests().await;
        let mut databases = BTreeMap::new();
        for service in [Service::Order, Service::Orchestrator, Service::Payment, Service::Inventory] {
            let url = postgres.fresh_database("audit").await.expect("a database");
            platform::migrate(service, &url).await.expect("migrated");
            databases.insert(service.name().to_owned(), url);
        }
        let url = postgres.fresh_database("audit").await.expect("a database");
        platform::migrate_provider(&url).await.expect("migrated");
        databases.insert("provider".to_owned(), url);
        Self(databases)
    }

    /// Columns that a table does not have are left out.
    async fn put(&self, service: &str, table: &str, row: Value) {
        let mut db = PgConnection::connect(&self.0[service]).await.expect("the database answers");
        let names: Vec<String> = row.as_object().expect("a row").keys().cloned().collect();
        let there =
            "select string_agg(quote_ident(attname), ', ') from pg_attribute where attrelid = $1::regclass and attname = any($2)";
        let there: String = sqlx::query_scalar(there).bind(table).bind(names).fetch_one(&mut db).await.expect("columns");
        let sql = format!("insert into {table} ({there}) select {there} from jsonb_populate_record(null::{table}, $1::jsonb)");
        sqlx::query(AssertSqlSafe(sql)).bind(row.to_string()).execute(&mut db).await.expect("written");
    }

    async fn change(&self, service: &str, sql: &'static str) {
        let mut db = PgConnection::connect(&self.0[service]).await.expect("the database answers");
        let changed = sqlx::query(sql).execute(&mut db).await.unwrap_or_else(|error| panic!("{error} in {sql}"));
        assert!(changed.rows_affected() > 0, "nothing was changed: {sql}");
    }

    async fn order(&self, id: &str, status: &str, refunded_amount: i64, events: &[&str]) {
        let order = json!({
            "id": id, "customer_id": "c", "status": status, "currency": "USD", "total": 100, "refunded_amount": refunded_amount,
            "needs_attention": id == STUCK, "request_hash": "", "version": events.len(), "created_at": NOW, "updated_at": NOW,
            "skus": ["A"], "quantities": [1], "unit_prices": [100],
        });
        self.put("order", "orders", order).await;
        for (n, event) in events.iter().enumerate() {
            let cause = kit::fresh_id().to_string();
            let entry = json!({"order_id": id, "cause": cause, "version": n + 1, "at": NOW, "event": event, "detail": ""});
            self.put("order", "timeline", entry).await;
        }
    }

    async fn payment(&self, order_id: &str, key: &str, state: &str, refunded: i64) {
        let refund_reason = if state == "REFUND_REFUSED" { "no" } else { "" };
        let payment = json!({
            "id": key, "order_id": order_id, "command_id": key, "state": state, "provider": "sandbox", "currency": "USD",
            "amount": 100, "captured": 100, "refunded": refunded, "refund_pending": 0, "auth_code": "A", "decline_reason": "",
            "refund_reason": refund_reason, "created_at": NOW,
        });
        self.put("payment", "payments", payment).await;
        self.transfer(key, "receivable:sandbox", "sales", 100).await;
        let charge = json!({
            "key": key, "kind": "CHARGE", "token": "", "amount": 100, "currency": "USD", "outcome": "SUCCEEDED", "reason": "",
            "auth_code": "A", "refunded": refunded,
        });
        self.put("provider", "statement", charge).await;
        if refunded > 0 {
            self.transfer(key, "sales", "receivable:sandbox", refunded).await;
            let refund = json!({
                "key": kit::fresh_id().to_string(), "kind": "REFUND", "of": key, "token": "", "amount": refunded, "currency": "USD",
                "outcome": "SUCCEEDED", "reason": "", "auth_code": "A",
            });
            self.put("provider", "statement", refund).await;
        }
    }

    async fn transfer(&self, payment_id: &str, debit: &str, credit: &str, amount: i64) {
        let transfer = json!({
            "id": kit::fresh_id().to_string(), "payment_id": payment_id, "debit": debit, "credit": credit, "amount": amount,
            "currency": "USD", "at": NOW,
        });
        self.put("payment", "ledger_transfers", transfer).await;
    }

    async fn saga(&self, order_id: &str, state: &str, progress: &str) {
        let saga = json!({
            "order_id": order_id, "saga_id": kit::fresh_id().to_string(), "definition": "checkout", "definition_version": 1, "created": "",
            "progress": progress, "state": state, "started_at": NOW, "updated_at": NOW, "version": 1,
        });
        self.put("orchestrator", "sagas", saga).await;
    }

    fn deployment(&self) -> Deployment {
        Deployment::of(self.0.clone())
    }

    async fn audit(&self, at_rest: bool) -> Report {
        audit(&self.deployment(), at_rest).await.expect("it is audited")
    }
}

/// Of 10 pieces one has left for good, another was set aside for a while.
async fn shop() -> Shop {
    let shop = Shop::open().await;
    let paid = ["OrderCreated", "SagaStarted", "PaymentSucceeded"];
    let confirmed = [&paid[..], &["OrderCompleted", "OrderRefundRequested", "OrderRefunded"]].concat();
    shop.order(CONFIRMED, "CONFIRMED", 40, &confirmed).await;
    shop.order(FAILED, "FAILED", 100, &[&paid[..], &["SagaCompensating", "OrderFailed"]].concat()).await;
    shop.order(STUCK, "COMPENSATING", 0, &[&paid[..], &["SagaCompensating", "SagaNeedsAttention"]].concat()).await;
    shop.payment(CONFIRMED, CHARGES[0], "CAPTURED", 40).await;
    shop.payment(FAILED, CHARGES[1], "REFUNDED", 100).await;
    shop.payment(STUCK, CHARGES[2], "REFUND_REFUSED", 0).await;
    shop.saga(CONFIRMED, "DONE", "D1,D1,D1,D1 done").await;
    shop.saga(FAILED, "UNDONE", "B1,B1,R1,S0 undone refused=2").await;
    shop.saga(STUCK, "NEEDS_ATTENTION", "X1,B1,R1,S0 unwinding refused=2 stuck").await;

    shop.put("inventory", "products", json!({"sku": "A", "name": "A"})).await;
    shop.put("inventory", "stock", json!({"sku": "A", "on_hand": 9, "reserved": 0})).await;
    let counted = json!({"id": kit::fresh_id().to_string(), "sku": "A", "at": NOW, "cause": "SET", "delta": 10, "reason": ""});
    shop.put("inventory", "stock_changes", counted).await;
    for (order_id, state, undone_by) in
        [(CONFIRMED, "COMMITTED", None), (FAILED, "RELEASED", Some(FAILED)), (STUCK, "RELEASED", Some(STUCK))]
    {
        let reservation = json!({
            "order_id": order_id, "id": order_id, "command_id": order_id, "state": state, "skus": ["A"], "quantities": [1],
            "undone_by": undone_by,
        });
        shop.put("inventory", "reservations", reservation).await;
    }
    shop
}

#[tokio::test]
async fn a_shop_in_order_and_what_is_broken_in_it() {
    let shop = shop().await;
    for at_rest in [false, true] {
        let report = shop.audit(at_rest).await;
        assert_eq!(report.lines(), Vec::<String>::new());
        let checked: Vec<usize> = report.invariants.values().map(|judged| judged.checked).collect();
        assert_eq!(checked, [3, 3, 4, 3, 3]);
        assert_eq!(report.attention.count, 1, "{:?}", report.attention);
        assert_eq!(report.attention.kept[0].about, format!("order {STUCK}"));
        let usd = Balance { sales: 160, receivable: 160, captured: 300, refunded: 140, statement: 160 };
        assert_eq!(report.balances, BTreeMap::from([("USD".to_owned(), usd)]));
        assert_eq!(report.json()["ok"], true);
    }

    for (service, broken, mended, seen) in [
        (
            "provider",
            "insert into statement (key, kind, token, amount, currency, outcome, reason, auth_code)
             select 'again', kind, token, amount, currency, outcome, reason, auth_code from statement where key like '%aa'",
            "delete from statement where key = 'again'",
            "I1 charge again: the provider took 100 USD",
        ),
        (
            "order",
            "update orders set status = 'CANCELLED' where id::text like '%c'",
            "update orders set status = 'COMPENSATING' where id::text like '%c'",
            "I2 order 00000000-0000-4000-8000-00000000000c: it is CANCELLED, and 100 is held",
        ),
        (
            "inventory",
            "update stock set on_hand = 8 where sku = 'A'",
            "update stock set on_hand = 9 where sku = 'A'",
            "I3 product A: 8 are on hand: 10 came in, 1 have left",
        ),
        (
            "order",
            "update timeline set version = 9 where version = 2 and order_id::text like '%a'",
            "update timeline set version = 2 where version = 9",
            "I6 order 00000000-0000-4000-8000-00000000000a: its story has a hole",
        ),
        (
            "payment",
            "update ledger_transfers set amount = amount + 1 where payment_id::text like '%aa' and credit = 'sales'",
            "update ledger_transfers set amount = amount - 1 where payment_id::text like '%aa' and credit = 'sales'",
            "I7 currency USD: revenue is 161, 300 were taken less 140",
        ),
    ] {
        shop.change(service, broken).await;
        let report = shop.audit(false).await;
        shop.change(service, mended).await;
        assert!(report.lines().iter().any(|line| line.starts_with(seen)), "not seen: {broken}\nbut {:#?}", report.lines());
        assert_eq!(report.json()["ok"], false);
    }
    assert_eq!(shop.audit(true).await.violations(), 0, "all is mended");
}
