//! Killed with 500 orders in flight, at random moments, again and again: afterwards every accepted order has ended as it must, all
//! books agree, and nothing of the killed processes runs on.

mod history;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use contracts::order::v1::order_service_client::OrderServiceClient;
use kit::settings::BusKind;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgConnection};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    agreement, harness,
    process::{Process, Starting, working_in},
};
use history::History;

const ORDERS_IN_FLIGHT: usize = 500;
/// HTTP/2 connections the callers share.
const CONNECTIONS: usize = 4;
/// A kill comes after so many answers of the platform, at most, and a little time on top.
const ANSWERS_MAX: u64 = 800;
const MOMENT_MS_MAX: u64 = 30;
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
const CALLERS_END_WITHIN: Duration = Duration::from_secs(60);
/// What a killed process started ends by itself within this time.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const REST_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn killed_twenty_times_on_the_embedded_bus() {
    harness::run(kills(BusKind::Postgres, 20)).expect("every order settles");
}

#[test]
fn killed_five_times_on_kafka() {
    harness::run(kills(BusKind::Kafka, 5)).expect("every order settles");
}

async fn kills(bus: BusKind, rounds: usize) -> Result<()> {
    let seed = std::env::var("SETTLE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("SETTLE_TEST_SEED={seed} has the same moments again, as far as a clock allows");
    let mut dice = StdRng::seed_from_u64(seed);
    let dir = harness::data_dir()?;
    let history = Arc::new(History::new(seed));
    let begun = Instant::now();
    let mut left = BTreeMap::new();
    for round in 1..=rounds {
        let platform = Process::start(dir.path(), bus, &[]).await?;
        ended(dir.path(), &left)?;
        left = kill(platform, &history, round, dir.path(), &mut dice).await.with_context(|| format!("round {round}"))?;
        // Half of the starts find the servers of the killed process still ending, and have to wait for them.
        if dice.random() {
            gone(dir.path(), &left).await?;
        }
        if dice.random_ratio(1, 5) {
            left.append(&mut kill_while_it_starts(dir.path(), bus, &mut dice).await?);
        }
    }

    let platform = Process::start(dir.path(), bus, &[]).await?;
    ended(dir.path(), &left)?;
    history.close();
    let mut callers = call(&platform, &history).await?;
    while let Some(ended) = timeout(REST_WITHIN, callers.join_next()).await.context("some orders do not settle")? {
        ended?.with_context(|| platform.said())?;
    }
    let databases = platform.ready.databases.clone();
    agreement::at_rest(&databases, REST_WITHIN).await;
    let violations = agreement::violations(&databases).await;
    ensure!(violations.is_empty(), "the books do not agree:\n{}", violations.join("\n"));
    one_order_per_key(&databases, &history).await?;
    nothing_set_aside(&databases).await?;
    let started = working_in(dir.path());
    platform.stop().await?;
    gone(dir.path(), &started).await?;
    println!("{bus}: {} orders, {rounds} kills, {} s\n{}", history.len(), begun.elapsed().as_secs(), history.summary());
    Ok(())
}

/// Starts the callers, who keep so many orders open.
async fn call(platform: &Process, history: &Arc<History>) -> Result<JoinSet<Result<()>>> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(settle::client::connect(&platform.ready.grpc).await?);
    }
    history.platform_is_up();
    let mut callers = JoinSet::new();
    for channel in channels.iter().cycle().take(ORDERS_IN_FLIGHT) {
        callers.spawn(history::caller(history.clone(), OrderServiceClient::new(channel.clone())));
    }
    Ok(callers)
}

/// Lets the callers place and watch orders, and kills the platform in the middle of it. What it started and leaves behind.
async fn kill(
    platform: Process,
    history: &Arc<History>,
    round: usize,
    dir: &Path,
    dice: &mut StdRng,
) -> Result<BTreeMap<u32, String>> {
    let begun = Instant::now();
    let mut callers = call(&platform, history).await?;
    // The first time all the orders have to be placed before.
    let answers = dice.random_range(1..=ANSWERS_MAX) + if round == 1 { ORDERS_IN_FLIGHT as u64 } else { 0 };
    let mut told = history.answers();
    tokio::select! {
        reached = timeout(ANSWERS_WITHIN, told.wait_for(|told| *told >= answers)) => {
            reached.with_context(|| format!("{answers} answers; {}", platform.said()))??;
        }
        Some(ended) = callers.join_next() => bail!("a caller gave up: {ended:?}\n{}", platform.said()),
    }
    // Not a wait for anything: an answer is not where the kill should always come.
    tokio::time::sleep(Duration::from_millis(dice.random_range(0..=MOMENT_MS_MAX))).await;
    history.platform_is_gone();
    platform.kill().await?;
    let left = working_in(dir);
    let in_flight = history.in_flight();
    while let Some(ended) = timeout(CALLERS_END_WITHIN, callers.join_next()).await.context("a caller hangs")? {
        ended??;
    }
    println!(
        "round {round}: after {answers} answers in {} ms, {in_flight} orders in flight, {} processes left",
        begun.elapsed().as_millis(),
        left.len()
    );
    ensure!(in_flight > 0, "the kill of round {round} hit no order in flight");
    Ok(left)
}

/// A start that does not get to its end, or hardly.
async fn kill_while_it_starts(dir: &Path, bus: BusKind, dice: &mut StdRng) -> Result<BTreeMap<u32, String>> {
    const START_MS_MAX: u64 = 3_000;
    let starting = Starting::spawn(dir, bus, &[])?;
    let moment = dice.random_range(0..=START_MS_MAX);
    tokio::time::sleep(Duration::from_millis(moment)).await;
    starting.kill().await?;
    println!("a start was killed after {moment} ms");
    Ok(working_in(dir))
}

/// A start waits for what its predecessor left running, so by now it has ended.
fn ended(dir: &Path, left: &BTreeMap<u32, String>) -> Result<()> {
    let still = still(dir, left);
    ensure!(still.is_empty(), "left running by the killed process, though the next one is ready: {still:#?}");
    Ok(())
}

async fn gone(dir: &Path, left: &BTreeMap<u32, String>) -> Result<()> {
    let gone = local::until("the servers to end", GONE_WITHIN, || async { still(dir, left).is_empty().then_some(()) }).await;
    gone.with_context(|| format!("left running: {:#?}", still(dir, left)))
}

fn still(dir: &Path, left: &BTreeMap<u32, String>) -> BTreeMap<u32, String> {
    working_in(dir).into_iter().filter(|(pid, _)| left.contains_key(pid)).collect()
}

/// The orders that are stored are those that were accepted, each once and each as it was told.
async fn one_order_per_key(databases: &BTreeMap<String, String>, history: &History) -> Result<()> {
    let mut orders = PgConnection::connect(&databases["order"]).await?;
    let stored: Vec<(String, String, String)> =
        sqlx::query_as("select id::text, coalesce(idempotency_key, ''), status from orders").fetch_all(&mut orders).await?;
    let stored: BTreeMap<String, (String, String)> = stored.into_iter().map(|(id, key, status)| (key, (id, status))).collect();
    let count: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&mut orders).await?;
    ensure!(usize::try_from(count)? == history.len(), "{count} orders are stored, {} were placed", history.len());
    for (key, id, status) in history.told() {
        let expected = Some((id, status));
        ensure!(stored.get(&key).cloned() == expected, "{key}: stored {:?}, told {expected:?}", stored.get(&key));
    }
    let stuck: i64 = sqlx::query_scalar("select count(*) from orders where needs_attention").fetch_one(&mut orders).await?;
    ensure!(stuck == 0, "{stuck} orders need attention");
    Ok(())
}

/// A crash is nobody's fault: no record is held back or parked for it.
async fn nothing_set_aside(databases: &BTreeMap<String, String>) -> Result<()> {
    for (service, url) in databases.iter().filter(|(service, _)| *service != "provider") {
        let mut database = PgConnection::connect(url).await?;
        let set_aside: Vec<(String, String, String)> = sqlx::query_as(
            "select state, event_type, reason from dead_letter_events where state <> 'DONE' or reason like '%panicked%' limit 10",
        )
        .fetch_all(&mut database)
        .await?;
        ensure!(set_aside.is_empty(), "{service} has set aside {set_aside:?}");
    }
    Ok(())
}
