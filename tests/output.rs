//! What scripts read: with `--output json` a command prints exactly one JSON document, and its exit code says the truth.

use std::path::Path;

use contracts::order::v1::{CreateOrderRequest, OrderItem, WatchOrderRequest, order_service_client::OrderServiceClient};
use kit::settings::BusKind;
use serde_json::Value;

use crate::{
    harness::{data_dir, run},
    process::Process,
    startup::{assert_one_line, end_of, settle},
};

/// Runs a client command against the platform of this directory.
async fn json(data: &Path, args: &[&str]) -> Value {
    let mut command = settle(args);
    command.args(["--output", "json", "--data"]).arg(data);
    parsed(args, &end_of(command).await)
}

/// The whole of standard output is one document.
fn parsed(args: &[&str], ended: &std::process::Output) -> Value {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{args:?}: {} {said}", ended.status);
    serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error} in {}", String::from_utf8_lossy(&ended.stdout)))
}

#[test]
fn one_json_document() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        let data = dir.path().join("data");
        let mut orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"));
        let request = CreateOrderRequest {
            customer_id: "reader".into(),
            currency: "USD".into(),
            items: vec![OrderItem { sku: "prod-A".into(), quantity: 1, unit_price: Some(1_500) }],
            ..Default::default()
        };
        let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
        let request = WatchOrderRequest { order_id: order_id.clone(), final_only: true };
        let mut outcome = orders.watch_order(request).await.expect("watched").into_inner();
        outcome.message().await.expect("told").expect("an outcome");

        let listed = json(&data, &["orders", "list"]).await;
        assert_eq!(listed["orders"][0]["orderId"], order_id.as_str());
        let none = json(&data, &["orders", "list", "--status", "FAILED", "--customer", "nobody"]).await;
        assert_eq!(none["orders"], Value::Array(vec![]));
        let shown = json(&data, &["orders", "show", &order_id]).await;
        assert_eq!((&shown["orderId"], &shown["status"]), (&Value::from(order_id.as_str()), &Value::from("CONFIRMED")));
        assert_eq!(shown["timeline"][0]["event"], "OrderCreated");
        let sagas = json(&data, &["saga", "list"]).await;
        assert_eq!(sagas["sagas"][0]["orderId"], order_id.as_str());
        let saga = json(&data, &["saga", "show", &order_id]).await;
        assert_eq!(saga["definition"], "checkout");
        let doctor = json(&data, &["doctor"]).await;
        let platform_is = doctor.as_array().expect("a list").iter().find(|check| check["check"] == "running platform");
        assert_eq!(platform_is.expect("it is looked at")["ok"], true);

        let mut config = settle(&["config", "--output", "json"]);
        config.env("SETTLE_ORDER_DATABASE_URL", "postgres://settle:secret@127.0.0.1/settle");
        let ended = end_of(config).await;
        let config = parsed(&["config"], &ended);
        assert!(config.as_array().is_some_and(|settings| settings.len() > 10));
        assert!(!String::from_utf8_lossy(&ended.stdout).contains("secret"), "a password is told");

        for (what, args) in [
            ("an unknown order", vec!["orders", "show", "0190d3a8-7c1e-7000-8000-000000000001"]),
            ("an unknown saga", vec!["saga", "show", "0190d3a8-7c1e-7000-8000-000000000001"]),
            ("no id", vec!["orders", "show", "nonsense"]),
            ("no status", vec!["orders", "list", "--status", "NOPE"]),
            ("no state", vec!["saga", "list", "--state", "NOPE"]),
        ] {
            let mut command = settle(&args);
            command.args(["--output", "json", "--data"]).arg(&data);
            assert_one_line(what, &end_of(command).await, &[]);
        }
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn nobody_to_ask() {
    run(async {
        let dir = data_dir().expect("a directory");
        for args in [["orders", "list"], ["saga", "list"]] {
            let mut command = settle(&args);
            command.arg("--data").arg(dir.path());
            assert_one_line(
                "no platform",
                &end_of(command).await,
                &["no platform is running", dir.path().to_str().expect("a name")],
            );
            let closed = format!("127.0.0.1:{}", local::ports::free().expect("a port"));
            let mut command = settle(&args);
            command.args(["--target", &closed]);
            assert_one_line("a closed port", &end_of(command).await, &["nobody answers on", &closed]);
        }
        for demo in [vec!["demo", "--target", "127.0.0.1:1"], vec!["orders", "list", "--target", "no address"]] {
            assert_one_line("a bad target", &end_of(settle(&demo)).await, &[]);
        }
    });
}
