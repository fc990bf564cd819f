//! Three processes of each service on Kafka with 24 partitions, killed and stopped at random under load: nothing is lost, doubled or
//! reordered, and every accepted order ends as it must. Less than a minute of it in `make test`, five in `make chaos`.

mod faults;
mod fleet;
mod load;
mod topics;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use contracts::inventory::v1::inventory_service_client::InventoryServiceClient;
use futures::future::try_join_all;
use kit::settings::BusKind;
use local::postgres;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::{
    agreement, harness,
    served::{Ground, SERVICES},
};
use faults::Fault;
use fleet::Tally;
use load::Doors;

const PROCESSES: usize = 3;
const PARTITIONS: &str = "24";
const PIECES: i64 = 1_000_000;
const CHAOS_S: u64 = 45;
/// Until the three share the work, and until each service has said something.
const BEGUN_WITHIN: Duration = Duration::from_secs(120);
const REST_WITHIN: Duration = Duration::from_secs(240);
const AGREE_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn three_of_each_killed_and_stopped_at_random() {
    harness::run(chaos()).expect("every order settles");
}

async fn chaos() -> Result<()> {
    let seed = number("SETTLE_TEST_SEED").unwrap_or_else(rand::random::<u64>);
    let lasts = Duration::from_secs(number("SETTLE_CHAOS_S").unwrap_or(CHAOS_S));
    let plan = faults::schedule(seed, lasts);
    println!("SETTLE_TEST_SEED={seed} SETTLE_CHAOS_S={} has the same faults again, as far as a clock allows", lasts.as_secs());
    plan.iter().for_each(|planned| println!("{planned}"));

    let options = postgres::Options::for_tests();
    let ground = Ground::prepare(BusKind::Kafka, options, &[("SETTLE_PARTITIONS", PARTITIONS)]).await?;
    let databases = &ground.databases;
    let doors = Doors::default();
    let mut fleet = fleet::start(&ground, &doors).await?;
    shared(databases).await?;
    let inventory = fleet.iter().find(|instance| instance.service == "inventory").context("it was started")?;
    let mut inventory = InventoryServiceClient::new(settle::client::connect(&inventory.process.grpc).await?);
    settle::seed::upsert(&mut inventory, load::SKU, "For a test", None, PIECES).await?;

    let suffered = async {
        spoken(databases).await?;
        let begun = Instant::now();
        try_join_all(fleet.iter_mut().map(|instance| instance.meet(&plan, begun))).await?;
        doors.close();
        anyhow::Ok(begun.elapsed())
    };
    let (took, acknowledged) = tokio::try_join!(suffered, load::place(&doors, seed))?;
    println!("{} faults in {} s, {} orders were taken", plan.len(), took.as_secs(), acknowledged.len());

    let violations = disagreements(databases).await;
    ensure!(violations.is_empty(), "the books do not agree:\n{}", violations.join("\n"));
    let ends = load::as_told(&databases["order"], &acknowledged).await?;
    ensure!(ends.len() == 3, "orders of each kind: {ends:?}");
    let heard = topics::audit(&ground).await?;
    println!("{ends:?}; {} records and {} repeats in the topics", heard.records, heard.repeats);
    println!("{} times nothing came of a customer's question", doors.turned_away());
    ensure!(heard.repeats > 0, "nothing was published twice");
    ensure!(doors.turned_away() > 0, "no customer noticed anything");

    let mut repeats = 0;
    for service in SERVICES {
        let mut tally = Tally::default();
        for instance in fleet.iter_mut().filter(|instance| instance.service == service) {
            instance.take_stock().await?;
            tally.add(&instance.tally);
        }
        println!("{service}: {tally:?}");
        for fault in Fault::ALL {
            ensure!(tally.faults.contains_key(&fault), "no {service} was {fault:?}");
        }
        ensure!(tally.take_overs > 0, "no {service} took anything over");
        repeats += tally.repeats;
    }
    ensure!(repeats > 0, "nobody has heard anything twice");
    drop(fleet);
    ground.stop().await
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Waits until each of the three has a part of its service's streams.
async fn shared(databases: &BTreeMap<String, String>) -> Result<()> {
    const OWNERS: &str = "select count(distinct owner) = 3 from progress where lease_until > clock_timestamp()";
    all_say(databases, "the three to share the work", OWNERS).await
}

/// Waits until each service has published something, so that there is something to be published again.
async fn spoken(databases: &BTreeMap<String, String>) -> Result<()> {
    all_say(databases, "every service to speak", "select exists (select from relay where seq > 0)").await
}

/// Waits until the database of each service says yes.
async fn all_say(databases: &BTreeMap<String, String>, what: &str, sql: &'static str) -> Result<()> {
    for service in SERVICES {
        let db = PgPool::connect(&databases[service]).await?;
        let yes = local::until(what, BEGUN_WITHIN, || async {
            let yes: bool = sqlx::query_scalar(sql).fetch_one(&db).await.expect("read");
            yes.then_some(())
        });
        yes.await.with_context(|| service)?;
        db.close().await;
    }
    Ok(())
}

/// What does not agree once nothing moves any more.
async fn disagreements(databases: &BTreeMap<String, String>) -> Vec<String> {
    agreement::at_rest(databases, REST_WITHIN).await;
    // What came early is tried again every half second, also when all streams are read.
    let agree = local::until("the books to agree", AGREE_WITHIN, || async {
        agreement::violations(databases).await.is_empty().then_some(())
    });
    match agree.await {
        Ok(()) => Vec::new(),
        Err(_) => agreement::violations(databases).await,
    }
}
