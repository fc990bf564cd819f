//! `settle audit` sees what is broken and accuses nobody else: not a platform at rest, and not one that moves.

mod damages;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use contracts::order::v1::{OrderStatus, RefundOrderRequest, order_service_client::OrderServiceClient};
use futures::{StreamExt, stream};
use kit::settings::BusKind;
use local::{Postgres, postgres};
use serde_json::{Value, json};
use settle::{
    audit::{Report, audit},
    deployment::Deployment,
};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    agreement,
    harness::{SETTLE_WITHIN, data_dir, run},
    placing::{at_own_price, is_final},
    process::Process,
    shoppers::{Plan, Shop, shop},
    startup::{end_of, settle},
};
use damages::{DAMAGES, Damage};

/// Databases that it reads.
const READ: [&str; 5] = ["order", "orchestrator", "payment", "inventory", "provider"];

async fn audited(databases: &BTreeMap<String, String>, at_rest: bool) -> Report {
    audit(&Deployment::of(databases.clone()), at_rest).await.expect("it is audited")
}

/// Places an order and waits until it is over or needs a person.
async fn ended(platform: &Process, sku: &str, token: &str) -> Uuid {
    let mut orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"));
    let order_id = orders.create_order(at_own_price(sku, token)).await.expect("accepted").into_inner().order_id;
    let request = contracts::order::v1::WatchOrderRequest { order_id: order_id.clone(), final_only: false };
    let over = async {
        let mut watch = orders.watch_order(request).await.expect("watched").into_inner();
        while let Some(told) = watch.message().await.expect("told") {
            let order = told.order.expect("an order");
            if is_final(&order) || order.needs_attention {
                return;
            }
        }
        panic!("{order_id} is not over");
    };
    tokio::time::timeout(SETTLE_WITHIN, over).await.expect("it ends");
    order_id.parse().expect("a UUID")
}

/// A confirmed order, another that was refunded in part, one that was given back, and one that waits for a person.
async fn orders(platform: &Process) -> BTreeMap<&'static str, Uuid> {
    let mut placed = BTreeMap::new();
    for (name, sku, token) in [
        ("confirmed", "prod-A", ""),
        ("refunded", "prod-B", ""),
        ("failed", "SKU-EMPTY", ""),
        ("declined", "prod-A", "tok_declined"),
        ("stuck", "SKU-EMPTY", "tok_refund_refused"),
    ] {
        placed.insert(name, ended(platform, sku, token).await);
    }
    let request = RefundOrderRequest {
        order_id: placed["refunded"].to_string(),
        amount: Some(500),
        reason: "a test".into(),
        ..Default::default()
    };
    let mut orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"));
    orders.refund_order(request).await.expect("accepted");
    agreement::at_rest(&platform.ready.databases, SETTLE_WITHIN).await;
    let goods_have_left = local::until("the goods to leave", SETTLE_WITHIN, || async {
        (audited(&platform.ready.databases, true).await.violations() == 0).then_some(())
    });
    goods_have_left.await.expect("nothing is open");
    placed
}

/// What the command says of a platform at rest, and with which exit code.
async fn command_is_right(dir: &Path, stuck: &Uuid) {
    let data = dir.join("data");
    for mode in [&["--at-rest"][..], &[]] {
        let mut command = settle(&[&["audit", "--output", "json", "--data"][..], &[data.to_str().expect("a name")], mode].concat());
        let told = end_of(command).await;
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let document: Value = serde_json::from_slice(&told.stdout).expect("one document");
        let ids: Vec<&Value> = document["invariants"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, [&json!("I1"), &json!("I2"), &json!("I3"), &json!("I6"), &json!("I7")]);
        for one in document["invariants"].as_array().expect("a list") {
            assert!(one["checked"].as_u64() > Some(0) && one["violations"] == json!([]), "{one}");
            assert!(one["statement"].as_str().is_some_and(|text| !text.is_empty()));
        }
        assert_eq!(
            (&document["ok"], &document["attention"][0]["order_id"]),
            (&json!(true), &json!(stuck.to_string())),
            "{document}"
        );
        command = settle(&["audit", "--ready"]);
        command.arg(data.join("ready.json")).args(mode);
        let told = end_of(command).await;
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let lines = String::from_utf8_lossy(&told.stdout).into_owned();
        assert_eq!(lines.lines().filter(|line| line.starts_with("ok ")).count(), 5, "a line an invariant:\n{lines}");
        assert!(lines.contains(&format!("order {stuck}: its saga checkout is NEEDS_ATTENTION")), "{lines}");
    }
}

#[test]
fn every_planted_violation_is_seen() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        let placed = orders(&platform).await;
        command_is_right(dir.path(), &placed["stuck"]).await;
        platform.stop().await.expect("it ends well");

        // Nobody is connected to the databases any more, so that they can be copied.
        let postgres = Postgres::start(&dir.path().join("data"), postgres::Options::default()).await.expect("it starts again");
        let mut sound = BTreeMap::new();
        for service in READ {
            let name = format!("sound_{service}");
            postgres.create_database_from(&name, &format!("settle_{service}")).await.expect("a copy");
            sound.insert(service.to_owned(), postgres.url(&name));
        }
        let mut cases = Vec::new();
        for (n, damage) in DAMAGES.iter().enumerate() {
            let name = format!("damaged_{n}");
            postgres.create_database_from(&name, &format!("settle_{}", damage.service)).await.expect("a copy");
            let mut databases = sound.clone();
            databases.insert(damage.service.to_owned(), postgres.url(&name));
            cases.push((damage, databases));
        }
        let seen = stream::iter(cases).map(|(damage, databases)| is_seen(damage, databases, &placed)).buffer_unordered(4);
        seen.collect::<Vec<()>>().await;
        for at_rest in [false, true] {
            let report = audited(&sound, at_rest).await;
            assert_eq!(report.lines(), Vec::<String>::new());
            assert_eq!(report.attention.count, 1, "{:?}", report.attention);
        }
        postgres.stop().await.expect("it ends");
    });
}

async fn is_seen(damage: &Damage, databases: BTreeMap<String, String>, placed: &BTreeMap<&'static str, Uuid>) {
    let Damage { service, of, sql, at_rest, seen } = damage;
    let id = placed[of];
    let mut db = PgConnection::connect(&databases[*service]).await.expect("the database answers");
    let done = sqlx::query(*sql).bind(id).execute(&mut db).await.unwrap_or_else(|error| panic!("{error} in {sql}"));
    assert!(done.rows_affected() > 0, "nothing was damaged: {sql}");
    let found = audited(&databases, *at_rest).await.lines();
    let (invariant, says) = seen;
    let is_it = |line: &&String| line.starts_with(invariant) && line.contains(says);
    assert!(found.iter().any(|line| is_it(&line)), "not seen: {sql}\nbut {found:#?}");
    if *at_rest {
        let moving = audited(&databases, false).await.lines();
        assert_eq!(moving.iter().filter(is_it).count(), 0, "while things move that may be so: {sql}");
    }
}

#[test]
fn a_moving_platform_is_not_accused() {
    run(while_it_moves(BusKind::Postgres));
}

#[test]
fn a_moving_platform_is_not_accused_on_kafka() {
    run(while_it_moves(BusKind::Kafka));
}

async fn while_it_moves(bus: BusKind) {
    const AUDITS_MIN: usize = 3;
    let dir = data_dir().expect("a directory");
    let env = [("SETTLE_SANDBOX_CHAOS", "seed=3,error_after=0.05,slow=0.05,slow_ms=1000,refund_error=0.2".to_owned())];
    let platform = Process::start(dir.path(), bus, &env).await.expect("it starts");
    let customers = Arc::new(Shop::default());
    let plan = Plan { name: "moving".into(), orders: usize::MAX, at_once: 48, patience: Duration::from_secs(120) };
    let shopping = tokio::spawn(shop(platform.ready.grpc.clone(), plan, customers.clone()));
    let (mut audits, mut open) = (0, 0);
    while audits < AUDITS_MIN || (open == 0 && audits < 10 * AUDITS_MIN) {
        let before = customers.placed();
        let report = audited(&platform.ready.databases, false).await;
        assert!(report.lines().is_empty() && report.violations() == 0, "a moving platform is accused: {:#?}", report.lines());
        open += report.invariants.values().map(|judged| judged.open).sum::<usize>();
        audits += usize::from(before > 0 && customers.placed() > before);
    }
    customers.close();
    shopping.await.expect("no customer panicked").expect("every order ends");
    assert!(open > 0, "nothing moved");
    println!("{audits} audits over {} orders, {open} things open: {:?}", customers.placed(), customers.ends());
    agreement::at_rest(&platform.ready.databases, SETTLE_WITHIN).await;
    let rest = local::until("nothing to be open", SETTLE_WITHIN, || async {
        (audited(&platform.ready.databases, true).await.violations() == 0).then_some(())
    });
    if let Err(error) = rest.await {
        panic!("{error}: {:#?}", audited(&platform.ready.databases, true).await.lines());
    }
    assert!(customers.ends().contains_key(OrderStatus::Confirmed.as_str_name().trim_start_matches("ORDER_STATUS_")));
    platform.stop().await.expect("it ends well");
}

#[test]
fn without_a_statement_it_says_so() {
    run(async {
        let dir = data_dir().expect("a directory");
        let ready = dir.path().join("ready.json");
        let url = local::postgres::shared_for_tests().await.fresh_database("audit").await.expect("a database");
        let four = json!({"order": url, "orchestrator": url, "payment": url, "inventory": url});
        std::fs::write(&ready, json!({"databases": four, "kafka": null}).to_string()).expect("written");
        let mut command = settle(&["audit", "--ready"]);
        command.arg(&ready);
        crate::startup::assert_one_line("no statement", &end_of(command).await, &["statement", "PaymentService/Reconcile"]);
    });
}
