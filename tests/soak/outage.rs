//! The orchestrator is away for minutes while twice as many orders are wanted as can be settled: they are taken until the oldest has waited
//! too long, then refused; and when it is back the platform settles as many as before.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::inventory::v1::inventory_service_client::InventoryServiceClient;
use kit::settings::BusKind;
use local::postgres;
use serde_json::json;
use sqlx::PgPool;
use tokio::time::Instant;

use super::load::{Orders, SKU};
use crate::{
    agreement,
    harness::run,
    served::{Ground, SERVICES, Served},
};

const PIECES: i64 = 1_000_000_000;
const WARM_UP: Duration = Duration::from_secs(10);
const CAPACITY_OVER: Duration = Duration::from_secs(30);
const OUTAGE_S: u64 = 300;
const CATCH_UP_OVER: Duration = Duration::from_secs(60);
/// Of what can be settled, so much is wanted.
const OFFERED: f64 = 2.0;
/// The load generator shares the machine: it must have offered at least so much, or nothing was shown.
const OFFERED_MIN: f64 = 1.5;
const GOODPUT_MIN: f64 = 0.8;
const FINAL_WITHIN: Duration = Duration::from_secs(1_800);
const REST_WITHIN: Duration = Duration::from_secs(600);

#[test]
#[ignore = "takes minutes: make soak"]
fn an_orchestrator_stopped_for_minutes_catches_up() {
    run(outage()).expect("it catches up");
}

async fn outage() -> Result<()> {
    let away_s = std::env::var("SETTLE_SOAK_OUTAGE_S").ok().and_then(|text| text.parse().ok()).unwrap_or(OUTAGE_S);
    let options = postgres::Options { connections_max: 400, throwaway: true, ..postgres::Options::default() };
    let ground = Ground::prepare(BusKind::Postgres, options, &[]).await?;
    let mut processes = BTreeMap::new();
    for service in SERVICES {
        processes.insert(service, Served::start(&ground, service).await?);
    }
    let mut inventory = InventoryServiceClient::new(settle::client::connect(&processes["inventory"].grpc).await?);
    settle::seed::upsert(&mut inventory, SKU, "For a test", None, PIECES).await?;
    let db = PgPool::connect(&ground.databases["order"]).await?;
    let orders = Orders::connect(&processes["order"].grpc).await?;
    orders.settle(WARM_UP).await?;
    let capacity = orders.settle(CAPACITY_OVER).await?;

    processes.remove("orchestrator").context("it was started")?.stop().await?;
    let mut offer = orders.offer(OFFERED * capacity);
    let meanwhile = offer.go_on(Duration::from_secs(away_s)).await?;
    let by_age = processes["order"].counted("settle_calls_refused_total", "why=\"backlog\"").await?;
    ensure!(by_age > 0, "nobody was refused for the age of the backlog: {meanwhile:?}");

    processes.insert("orchestrator", Served::start(&ground, "orchestrator").await?);
    let (begun, before) = (Instant::now(), settled(&db).await?);
    let afterwards = offer.go_on(CATCH_UP_OVER).await?;
    let (over_s, after) = (begun.elapsed().as_secs_f64(), settled(&db).await?);
    let accepted = offer.end().await?;

    let goodput = (after - before) as f64 / over_s;
    let offered = afterwards.calls as f64 / over_s;
    println!(
        "{}",
        json!({
            "soak": "an orchestrator stopped",
            "outage_s": away_s,
            "capacity_per_second": capacity.round(),
            "accepted_meanwhile": meanwhile.accepted,
            "refused_meanwhile": meanwhile.refused,
            "offered_per_second_afterwards": offered.round(),
            "accepted_afterwards": afterwards.accepted,
            "refused_afterwards": afterwards.refused,
            "goodput_per_second": goodput.round(),
            "goodput_by_capacity": (goodput / capacity * 100.0).round() / 100.0,
            "release_build": !cfg!(debug_assertions),
        })
    );
    everything_settles(&ground, &db, &accepted).await?;
    ensure!(offered >= OFFERED_MIN * capacity, "only {offered:.0} orders a second were offered");
    ensure!(goodput >= GOODPUT_MIN * capacity, "{goodput:.0} orders a second of {capacity:.0}");
    drop(processes);
    db.close().await;
    ground.stop().await
}

/// How many orders are final.
async fn settled(db: &PgPool) -> Result<i64> {
    let sql = "select count(*) from orders where status in ('CONFIRMED', 'FAILED', 'CANCELLED')";
    Ok(sqlx::query_scalar(sql).fetch_one(db).await?)
}

/// Every order that was accepted, and the books agree.
async fn everything_settles(ground: &Ground, db: &PgPool, accepted: &[String]) -> Result<()> {
    local::until("every order to be final", FINAL_WITHIN, || async {
        let sql = "select exists (select from orders where status not in ('CONFIRMED', 'FAILED', 'CANCELLED'))";
        let open: bool = sqlx::query_scalar(sql).fetch_one(db).await.expect("read");
        (!open).then_some(())
    })
    .await?;
    agreement::at_rest(&ground.databases, REST_WITHIN).await;
    let violations = agreement::violations(&ground.databases).await;
    ensure!(violations.is_empty(), "the books do not agree:\n{}", violations.join("\n"));
    // All that are stored are final.
    let stored: Vec<String> = sqlx::query_scalar("select id::text from orders").fetch_all(db).await?;
    let stored: HashSet<String> = stored.into_iter().collect();
    let lost: Vec<&String> = accepted.iter().filter(|id| !stored.contains(*id)).collect();
    ensure!(lost.is_empty(), "{} of {} accepted orders are lost: {:?} …", lost.len(), accepted.len(), lost[0]);
    Ok(())
}
