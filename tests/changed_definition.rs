//! A definition that was changed without a new version (S15): sagas that began on it are not read by the other one. They wait, others go on,
//! and `settle saga check` says so before.

use std::path::Path;

use contracts::order::v1::{OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient};
use kit::settings::BusKind;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::{
    harness::{SETTLE_WITHIN, data_dir, run},
    placing::at_own_price,
    process::{Process, document},
};

/// What this binary has as version 1 of checkout; here another binary has begun sagas on it in which the steps are in another order.
const OTHERWISE: &str = "reserve: ReserveStock undo ReleaseStock; charge: ChargePayment undo RefundPayment; close: CloseOrder";

/// A platform where orders that come are settled by this definition.
async fn start(dir: &Path, checkout: &str) -> Process {
    Process::start(dir, BusKind::Postgres, &[("SETTLE_CHECKOUT", checkout.to_owned())]).await.expect("it starts")
}

async fn database(platform: &Process) -> PgConnection {
    PgConnection::connect(&platform.ready.databases["orchestrator"]).await.expect("the database answers")
}

/// The database remembers this shape of checkout instead. The one that it remembered.
async fn remember(platform: &Process, shape: &str) -> String {
    let sql = "update saga_definitions as now set shape = $1 from saga_definitions as before
         where now.definition = 'checkout' and before.definition = now.definition and before.version = now.version
         returning before.shape";
    sqlx::query_scalar(sql).bind(shape).fetch_one(&mut database(platform).await).await.expect("written")
}

async fn orders(platform: &Process) -> OrderServiceClient<tonic::transport::Channel> {
    OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"))
}

async fn place(platform: &Process, sku: &str, token: &str) -> String {
    orders(platform).await.create_order(at_own_price(sku, token)).await.expect("accepted").into_inner().order_id
}

/// What comes of the order.
async fn outcome(platform: &Process, order_id: &str) -> OrderStatus {
    let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
    let mut orders = orders(platform).await;
    let outcome = async { orders.watch_order(request).await.expect("watched").into_inner().message().await.expect("told") };
    let told = tokio::time::timeout(SETTLE_WITHIN, outcome).await.expect("in time").expect("an outcome");
    told.order.expect("an order").status()
}

/// An order whose stock is not there and whose refund the provider refuses.
async fn stuck(platform: &Process) -> String {
    let order_id = place(platform, "SKU-EMPTY", "tok_refund_refused").await;
    let stuck = local::until("its saga to be stuck", SETTLE_WITHIN, || async {
        let sql = "select count(*) from sagas where order_id = $1::uuid and state = 'NEEDS_ATTENTION'";
        let mut db = database(platform).await;
        let count: i64 = sqlx::query_scalar(sql).bind(&order_id).fetch_one(&mut db).await.expect("read");
        (count == 1).then_some(())
    });
    if let Err(error) = stuck.await {
        panic!("{error}: {}", platform.said());
    }
    order_id
}

#[test]
fn s15_a_definition_that_was_changed_without_a_new_version_is_told_and_its_sagas_wait() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = start(dir.path(), "checkout").await;
        let stuck = stuck(&platform).await;
        assert_eq!(platform.told(&["saga", "check"]).await["changed"], json!([]));
        let shape = remember(&platform, OTHERWISE).await;
        let ended = platform.ended(&["saga", "check"]).await;
        assert!(!ended.status.success(), "it would be stranded");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("checkout v1 has changed"), "{ended:?}");
        let found = document(&ended);
        let changed = json!([{ "definition": "checkout", "version": 1, "began_as": OTHERWISE, "here": shape }]);
        assert_eq!((&found["changed"], &found["stranded"]), (&changed, &json!(1)), "{found}");
        assert_eq!(found["live"][0]["orders"], json!([stuck]), "{found}");
        platform.stop().await.expect("it ends well");

        let platform = start(dir.path(), "checkout-reserve-first").await;
        assert!(platform.log().iter().any(|line| line.contains("changed without a new version")), "{}", platform.said());
        let skip = ["saga", "skip", &stuck, "--who", "ann", "--reason", "the test wants it"];
        let refused = platform.ended(&skip).await;
        assert!(!refused.status.success(), "it is read by places that are not its own");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("not known here"), "{refused:?}");
        let other = place(&platform, "prod-A", "").await;
        assert_eq!(outcome(&platform, &other).await, OrderStatus::Confirmed, "others go on");
        assert_eq!(remember(&platform, &shape).await, OTHERWISE, "what is remembered stays");
        platform.stop().await.expect("it ends well");

        // A binary comes that has it as it was.
        let platform = start(dir.path(), "checkout").await;
        assert_eq!(platform.told(&["saga", "check"]).await["stranded"], json!(0));
        platform.told(&skip).await;
        assert_eq!(outcome(&platform, &stuck).await, OrderStatus::Failed);
        platform.stop().await.expect("it ends well");
    });
}
