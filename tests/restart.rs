//! A stop that is asked for is a good end, and the same directory goes on where it stopped.

use std::{fs, path::Path};

use contracts::{
    inventory::v1::{ListStockRequest, SetStockRequest, inventory_service_client::InventoryServiceClient},
    order::v1::{
        CreateOrderRequest, GetOrderRequest, Order, OrderItem, OrderStatus, WatchOrderRequest,
        order_service_client::OrderServiceClient,
    },
};
use kit::settings::BusKind;
use tonic::transport::Channel;

use crate::{
    agreement::agree,
    harness::{SETTLE_WITHIN, data_dir, run},
    process::{Process, working_in},
};

async fn channel(platform: &Process) -> Channel {
    settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers")
}

async fn place(platform: &Process, sku: &str, token: &str) -> String {
    let request = CreateOrderRequest {
        customer_id: "stayer".into(),
        currency: "USD".into(),
        items: vec![OrderItem { sku: sku.into(), quantity: 1, unit_price: None }],
        payment_token: token.into(),
        ..Default::default()
    };
    OrderServiceClient::new(channel(platform).await).create_order(request).await.expect("accepted").into_inner().order_id
}

async fn outcome(platform: &Process, order_id: &str) -> Order {
    let mut orders = OrderServiceClient::new(channel(platform).await);
    let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
    let watch = async {
        let mut told = orders.watch_order(request).await.expect("watched").into_inner();
        told.message().await.expect("told").expect("an outcome");
    };
    tokio::time::timeout(SETTLE_WITHIN, watch).await.expect("settled in time");
    let request = GetOrderRequest { order_id: order_id.to_owned() };
    orders.get_order(request).await.expect("there").into_inner().order.expect("an order")
}

async fn on_hand(platform: &Process, sku: &str) -> i64 {
    let request = ListStockRequest { page_size: 200, ..Default::default() };
    let mut inventory = InventoryServiceClient::new(channel(platform).await);
    let listed = inventory.list_stock(request).await.expect("listed").into_inner().stock;
    listed.iter().find(|stock| stock.sku == sku).expect("it is there").on_hand
}

/// Names of the ready files that there are.
fn ready_files(dir: &Path) -> Vec<String> {
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).expect("a directory").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    [names(dir), names(&dir.join("data"))].concat().into_iter().filter(|name| name.starts_with("ready")).collect()
}

async fn stop(platform: Process, dir: &Path) {
    assert_eq!(ready_files(dir).len(), 2, "it is ready in two places");
    platform.stop().await.expect("it ends well");
    assert_eq!(ready_files(dir), Vec::<String>::new(), "nobody is ready any more");
    let gone = local::until("the end of all", SETTLE_WITHIN, || async { working_in(dir).is_empty().then_some(()) });
    assert!(gone.await.is_ok(), "left running: {:#?}", working_in(dir));
}

/// The catalogue's prices have to be there when it says that it is ready.
#[test]
fn the_first_order_is_taken_at_the_price_of_the_catalogue() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        for (sku, price) in [("prod-A", 1_500), ("prod-B", 2_500)] {
            let order_id = place(&platform, sku, "").await;
            assert_eq!(outcome(&platform, &order_id).await.total, price);
        }
        stop(platform, dir.path()).await;
    });
}

#[test]
fn it_goes_on_where_it_stopped() {
    run(async {
        let dir = data_dir().expect("a directory");
        let first = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        priced(&first).await;
        let before = {
            let order_id = place(&first, "prod-A", "").await;
            outcome(&first, &order_id).await
        };
        assert_eq!(before.status(), OrderStatus::Confirmed);
        let request = SetStockRequest { sku: "prod-B".into(), on_hand: 777 };
        InventoryServiceClient::new(channel(&first).await).set_stock(request).await.expect("counted");
        // Still at the provider when the stop comes.
        let slow = place(&first, "prod-A", "tok_slow").await;
        let silent = place(&first, "SKU-EMPTY", "tok_silent").await;
        stop(first, dir.path()).await;

        let second = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts again");
        assert_eq!(outcome(&second, &before.order_id).await, before, "the order is as it was");
        assert_eq!(on_hand(&second, "prod-B").await, 777, "it was seeded again");
        assert_eq!(outcome(&second, &slow).await.status(), OrderStatus::Confirmed);
        assert_eq!(outcome(&second, &silent).await.status(), OrderStatus::Failed);
        let after = place(&second, "prod-B", "").await;
        assert_eq!(outcome(&second, &after).await.status(), OrderStatus::Confirmed);
        let violations = agree(&second.ready.databases, SETTLE_WITHIN).await;
        assert!(violations.is_empty(), "{violations:#?}");
        stop(second, dir.path()).await;
    });
}

/// Waits until the order service knows what prod-A costs.
async fn priced(platform: &Process) {
    use sqlx::Connection;
    let heard = local::until("the catalogue's price", SETTLE_WITHIN, || async {
        let mut db = sqlx::PgConnection::connect(&platform.ready.databases["order"]).await.expect("the database answers");
        let sql = "select exists (select from prices where sku = 'prod-A')";
        let known: bool = sqlx::query_scalar(sql).fetch_one(&mut db).await.expect("read");
        known.then_some(())
    });
    heard.await.expect("it came");
}
