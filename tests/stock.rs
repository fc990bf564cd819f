//! Stock under a rush, changed by hand, and the journal that says why there is as much as there is.

use std::collections::BTreeMap;

use contracts::{
    inventory::v1::{
        AdjustStockRequest, ListProductsRequest, ListStockRequest, SetStockRequest, Stock,
        inventory_service_client::InventoryServiceClient,
    },
    order::v1::OrderStatus,
};
use futures::{StreamExt, stream};
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{Bus, SETTLE_WITHIN, Stage, platform, run},
    placing::{at_own_price, ended, fields_of, fresh, place, product, reason_of},
};

const BUYERS: usize = 1_000;
const PIECES: usize = 100;
const AT_ONCE: usize = 256;

async fn inventory(stage: &Stage) -> InventoryServiceClient<Channel> {
    InventoryServiceClient::new(stage.channel().await)
}

async fn stock(stage: &Stage, sku: &str) -> Option<Stock> {
    // The list goes by SKU: it begins just before this one.
    let before = kit::grpc::page_token(&sku[..sku.len() - 1]);
    let request = ListStockRequest { page_size: 200, page_token: before };
    let listed = inventory(stage).await.list_stock(request).await.expect("listed").into_inner();
    listed.stock.into_iter().find(|stock| stock.sku == sku)
}

async fn comes_to(stage: &Stage, sku: &str, on_hand: i64, reserved: i64) {
    let rest = local::until("the stock at rest", SETTLE_WITHIN, || async {
        let stock = stock(stage, sku).await.expect("it is listed");
        ((stock.on_hand, stock.reserved) == (on_hand, reserved)).then_some(())
    });
    rest.await.unwrap_or_else(|error| panic!("{sku}: {error}"));
}

#[test]
fn s14_a_thousand_orders_for_a_hundred_pieces_have_a_hundred_winners() {
    run(rush(Bus::Postgres));
}

#[test]
fn s14_a_thousand_orders_for_a_hundred_pieces_have_a_hundred_winners_on_kafka() {
    run(rush(Bus::Kafka));
}

async fn rush(bus: Bus) {
    let stage = platform(bus).await;
    let sku = fresh("rush");
    product(stage, &sku, None, i64::try_from(PIECES).expect("small")).await;
    let deadlocks = deadlocks(stage).await;
    let orders = stream::iter(0..BUYERS).map(|_| async {
        let order = ended(stage, &place(stage, at_own_price(&sku, "")).await).await;
        (order.status(), order.reason, order.refunded_amount == order.total)
    });
    let orders: Vec<_> = orders.buffer_unordered(AT_ONCE).collect().await;
    let mut ends: BTreeMap<_, usize> = BTreeMap::new();
    for end in orders {
        *ends.entry(end).or_default() += 1;
    }
    let (winner, loser) = ((OrderStatus::Confirmed, String::new(), false), (OrderStatus::Failed, "OUT_OF_STOCK".to_owned(), true));
    assert_eq!(ends, BTreeMap::from([(winner, PIECES), (loser, BUYERS - PIECES)]));
    comes_to(stage, &sku, 0, 0).await;

    let mut db = stage.database("inventory").await;
    let sql = "select cause, count(*), sum(on_hand)::bigint, sum(reserved)::bigint from stock_journal where sku = $1
               group by cause order by cause";
    let journal: Vec<(String, i64, i64, i64)> = sqlx::query_as(sql).bind(&sku).fetch_all(&mut db).await.expect("read");
    let pieces = i64::try_from(PIECES).expect("small");
    let expected = [("COMMIT", pieces, -pieces, -pieces), ("RESERVE", pieces, 0, pieces), ("SET", 1, pieces, 0)];
    let expected = expected.map(|(cause, entries, on_hand, reserved)| (cause.to_owned(), entries, on_hand, reserved));
    assert_eq!(journal, expected);
    let sql = "select min(on_hand)::bigint, min(free)::bigint from (
                   select sum(sum(on_hand)) over (order by at) as on_hand, sum(sum(on_hand - reserved)) over (order by at) as free
                   from stock_journal where sku = $1 group by at) running";
    let lowest: (i64, i64) = sqlx::query_as(sql).bind(&sku).fetch_one(&mut db).await.expect("read");
    assert_eq!(lowest, (0, 0), "at no moment were there fewer pieces than none, or than were reserved");
    assert_eq!(self::deadlocks(stage).await, deadlocks, "nobody waited for each other");
}

async fn deadlocks(stage: &Stage) -> i64 {
    let sql = "select deadlocks from pg_stat_database where datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(&mut stage.database("inventory").await).await.expect("read")
}

fn adjust(sku: &str, delta: i64, key: &str) -> AdjustStockRequest {
    AdjustStockRequest { sku: sku.to_owned(), delta, reason: "found".to_owned(), idempotency_key: key.to_owned() }
}

#[test]
fn an_adjustment_with_a_key_is_made_once_and_written_down() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let mut inventory = inventory(stage).await;
        let (sku, key) = (fresh("adjusted"), fresh("key"));
        product(stage, &sku, None, 10).await;
        for _ in 0..2 {
            let told = inventory.adjust_stock(adjust(&sku, 5, &key)).await.expect("adjusted").into_inner().stock;
            assert_eq!(told, Some(Stock { sku: sku.clone(), on_hand: 15, reserved: 0 }));
        }
        for other in [adjust(&sku, 6, &key), AdjustStockRequest { reason: "lost".into(), ..adjust(&sku, 5, &key) }] {
            let refused = inventory.adjust_stock(other).await.expect_err("another request");
            assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"));
        }
        for on_hand in [14, 13] {
            let told = inventory.adjust_stock(adjust(&sku, -1, "")).await.expect("adjusted").into_inner().stock;
            assert_eq!(told.expect("told").on_hand, on_hand, "without a key every call counts");
        }
        inventory.set_stock(SetStockRequest { sku: sku.clone(), on_hand: 20 }).await.expect("counted");

        let refused = inventory.adjust_stock(adjust(&sku, -21, "")).await.expect_err("there are 20");
        assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::FailedPrecondition, "BELOW_RESERVED"));
        comes_to(stage, &sku, 20, 0).await;
        let sql = "select cause, on_hand, reason from stock_journal where sku = $1 order by at";
        let journal: Vec<(String, i64, String)> =
            sqlx::query_as(sql).bind(&sku).fetch_all(&mut stage.database("inventory").await).await.expect("read");
        let entry = |cause: &str, delta, reason: &str| (cause.to_owned(), delta, reason.to_owned());
        let adjusted = |delta| entry("ADJUST", delta, "found");
        assert_eq!(journal, [entry("SET", 10, ""), adjusted(5), adjusted(-1), adjusted(-1), entry("SET", 7, "")]);
    });
}

#[test]
fn bad_adjustments_are_named() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let mut inventory = inventory(stage).await;
        let sku = fresh("bad-adjusted");
        product(stage, &sku, None, 1).await;
        let mut refused = async |request: AdjustStockRequest| -> Status { inventory.adjust_stock(request).await.expect_err("bad") };
        for (request, field, reason) in [
            (adjust("", 1, ""), "sku", "BAD_LENGTH"),
            (adjust("a\0", 1, ""), "sku", "CONTROL_CHARACTER"),
            (adjust(&sku, 0, ""), "delta", "DELTA_OUT_OF_RANGE"),
            (adjust(&sku, i64::MIN, ""), "delta", "DELTA_OUT_OF_RANGE"),
            (adjust(&sku, 1, &"k".repeat(256)), "idempotency_key", "BAD_IDEMPOTENCY_KEY"),
            (AdjustStockRequest { reason: "r".repeat(257), ..adjust(&sku, 1, "") }, "reason", "BAD_LENGTH"),
        ] {
            let status = refused(request).await;
            let told = (status.code(), fields_of(&status), reason_of(&status));
            assert_eq!(told, (Code::InvalidArgument, vec![field.to_owned()], reason.to_owned()));
        }
        let status = refused(adjust(&sku, 1_000_000_000_000, "")).await;
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::FailedPrecondition, "ON_HAND_OUT_OF_RANGE"));
        let status = refused(adjust(&fresh("never-heard-of"), 1, "")).await;
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
    });
}

#[test]
fn what_nobody_counts_is_a_product_without_stock() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let mut inventory = inventory(stage).await;
        let before = kit::grpc::page_token("AMOUN");
        let listed = inventory.list_products(ListProductsRequest { page_size: 1, page_token: before }).await.expect("listed");
        assert_eq!(listed.into_inner().products[0].sku, "AMOUNT");
        assert_eq!(stock(stage, "AMOUNT").await, None);
        let counted = inventory.set_stock(SetStockRequest { sku: "AMOUNT".into(), on_hand: 1 }).await.expect_err("uncounted");
        let adjusted = inventory.adjust_stock(adjust("AMOUNT", 1, "")).await.expect_err("uncounted");
        for refused in [counted, adjusted] {
            assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::FailedPrecondition, "UNSTOCKED"));
        }
    });
}
