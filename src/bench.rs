//! `settle bench`: orders per second from create to CONFIRMED, with everything on this machine, beside the floors of its Postgres.

mod audit;
mod caller;
mod floor;
mod hearing;
mod latency;
mod load;
mod measure;
mod own;
mod rate;
mod report;
mod sample;
mod store;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use contracts::inventory::v1::inventory_service_client::InventoryServiceClient;
use kit::settings::BusKind;
use serde_json::{Value, json};

use self::{
    audit::Books,
    caller::{Plan, Progress, Work},
    measure::Snapshot,
    own::OwnPlatform,
    report::{Figures, Measured, figure, rounded},
    sample::Sampler,
};
use crate::{
    client::{Output, connect},
    seed,
};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Orders to place
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub orders: u32,
    /// Orders open at any time, from create to CONFIRMED
    #[arg(long, default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub concurrency: u32,
    /// Begin so many orders a second, whether the platform keeps up or not, instead of keeping so many open
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// Time the creation alone: what becomes of the orders is looked up afterwards
    #[arg(long, conflicts_with = "cancel_percent")]
    pub create_only: bool,
    /// Cancel so many of a hundred orders right after their creation
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub cancel_percent: u32,
    /// How callers learn what became of their orders
    #[arg(long, value_enum, default_value_t)]
    pub outcome: Outcome,
    /// postgres or kafka, for the platform of its own
    #[arg(long, default_value_t = BusKind::Postgres)]
    pub bus: BusKind,
    /// Streams a topic, for the platform of its own
    #[arg(long, conflicts_with = "target", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub partitions: Option<u32>,
    /// What the sandbox provider takes to answer, for the platform of its own
    #[arg(long, value_name = "MS", conflicts_with = "target", value_parser = clap::value_parser!(u32).range(0..=1_500))]
    pub provider_ms: Option<u32>,
    /// gRPC address of a platform to measure, instead of one of its own
    #[arg(long, value_name = "ADDR")]
    pub target: Option<String>,
    /// Measure so many times, each on a fresh platform, and print the medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub runs: u32,
    /// Measure also with batches of at most 1, 4, 16, 64, 256 and 1,000 inputs
    #[arg(long, conflicts_with = "target")]
    pub curve: bool,
    /// Print how things stand each time that so many more orders are done
    #[arg(long, value_name = "ORDERS", conflicts_with = "target", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub sample_every: Option<u32>,
    /// Leave out the floors of this machine's Postgres
    #[arg(long)]
    pub no_floors: bool,
    /// How long each of the two floors is measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub floor_s: u32,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// A WatchOrder call an order, as a customer's program would
    #[default]
    Watch,
    /// One reader of the order service's events for all orders, which costs less; on the platform of its own only
    Events,
}

const PRODUCTS: usize = 100;
const PIECES: i64 = 1_000_000_000;
/// Orders placed one after another, for the latency of an idle platform.
const IDLE_ORDERS: u32 = 100;
const WARM_UP_ORDERS_MAX: u32 = 2_000;
const CURVE_BATCH_ROWS: [u32; 6] = [1, 4, 16, 64, 256, 1_000];
/// Of the figures, those that make a point of the curve.
const CURVE_FIGURES: [&str; 8] =
    ["orders", "orders_per_second", "p50_ms", "p99_ms", "idle_p50_ms", "cpu_us_per_order", "wal_bytes_per_order", "mean_batch"];

/// A stop signal ends the platform that was started for it, too. Ends well only if every order settled and the databases agree.
pub async fn main(args: Args) -> Result<()> {
    ensure!(
        args.outcome == Outcome::Watch || args.target.is_none(),
        "--outcome events needs a platform of its own, without --target"
    );
    let stop = kit::signal::stop()?;
    let mut own = None;
    let measured = tokio::select! {
        measured = measured(&args, &mut own) => measured,
        signal = stop => Err(anyhow::anyhow!("{signal}: nothing was measured")),
    };
    let stopped = match own {
        Some(own) => own.stop().await,
        None => Ok(()),
    };
    let Measured { mut figures, void_because } = measured?;
    stopped?;
    figures.insert("void_because".into(), json!(void_because));
    report::print(&figures, args.output);
    ensure!(void_because.is_empty(), "the run is void: {}", void_because.join("; "));
    Ok(())
}

/// `own` holds the platform that is up, for whoever ends this early.
async fn measured(args: &Args, own: &mut Option<OwnPlatform>) -> Result<Measured> {
    if cfg!(debug_assertions) {
        eprintln!("settle: this is a debug build; figures of `make bench` are of a release build");
    }
    let mut all = medians(args, args.orders, None, own).await?;
    if args.curve {
        let mut curve = Vec::new();
        for batch_rows in CURVE_BATCH_ROWS {
            let orders = curve_orders(args.orders, args.concurrency, batch_rows);
            let point = medians(args, orders, Some(batch_rows), own).await?;
            all.void_because.extend(point.void_because.iter().map(|why| format!("batches of {batch_rows}: {why}")));
            let mut figures = Figures::from_iter([("batch_rows_max".to_owned(), json!(batch_rows))]);
            figures.extend(CURVE_FIGURES.into_iter().filter_map(|name| Some((name.to_owned(), point.figures.get(name)?.clone()))));
            curve.push(Value::Object(figures));
        }
        all.figures.insert("curve".into(), curve.into());
    }
    if !args.no_floors && args.target.is_none() {
        add_floors(args, &mut all.figures).await?;
    }
    Ok(all)
}

async fn add_floors(args: &Args, figures: &mut Figures) -> Result<()> {
    let dir = own::directory()?;
    let floors = floor::measure(dir.path(), args.create_only, args.floor_s).await.context("measuring the floors")?;
    figures.insert("floor_by".into(), json!(floors.by));
    for (floor, ratio, value) in [
        ("floor_per_event_orders_per_second", "ratio_to_per_event_floor", floors.per_event),
        ("floor_batched_orders_per_second", "ratio_to_batched_floor", floors.batched),
    ] {
        let reached = figure(figures, "orders_per_second").unwrap_or(0.0);
        figures.insert(floor.into(), json!(rounded(value, 0)));
        figures.insert(ratio.into(), json!(rounded(reached / value, 2)));
    }
    Ok(())
}

/// Small batches are slow: they get fewer orders, but enough that so many can be open for a while.
fn curve_orders(orders: u32, concurrency: u32, batch_rows: u32) -> u32 {
    let share = u64::from(orders) * u64::from(batch_rows) / 64;
    let least = concurrency.saturating_mul(4);
    u32::try_from(share).unwrap_or(u32::MAX).max(least).min(orders)
}

async fn medians(args: &Args, orders: u32, batch_rows: Option<u32>, own: &mut Option<OwnPlatform>) -> Result<Measured> {
    let mut runs = Vec::new();
    for nth in 1..=args.runs {
        let with = batch_rows.map_or(String::new(), |rows| format!(", batches of at most {rows}"));
        eprintln!("settle: run {nth} of {}: {orders} orders{with}", args.runs);
        runs.push(one_run(args, orders, batch_rows, own).await?);
        if let Some(platform) = own.take() {
            platform.stop().await?;
        }
    }
    Ok(report::median(&runs))
}

/// One measured run, on a fresh platform of its own or on the target.
async fn one_run(args: &Args, orders: u32, batch_rows: Option<u32>, own: &mut Option<OwnPlatform>) -> Result<Measured> {
    let own = match args.target {
        Some(_) => None,
        None => Some(&*own.insert(OwnPlatform::start(args.bus, &settings(args, batch_rows)).await?)),
    };
    let mut books = match own {
        Some(own) => Some(Books::open(&own.ready.databases).await?),
        None => None,
    };
    let grpc = own.map(|own| own.ready.grpc.clone()).or_else(|| args.target.clone()).context("nothing to measure")?;
    let order_database = own.filter(|_| args.outcome == Outcome::Events).and_then(|own| own.ready.databases.get("order").cloned());
    let progress = Progress::new(args.sample_every);
    let watching = Plan {
        skus: products(&grpc).await?.into(),
        grpc,
        work: Work::Settle,
        cancel_percent: 0,
        order_database: None,
        progress: Progress::new(None),
    };
    let plan = Plan {
        work: if args.create_only { Work::Create } else { Work::Settle },
        cancel_percent: args.cancel_percent,
        order_database: order_database.filter(|_| !args.create_only),
        progress: progress.clone(),
        ..watching.clone()
    };

    let warm_up_orders = (orders / 10).clamp(1, WARM_UP_ORDERS_MAX);
    load::closed(watching.clone(), warm_up_orders, args.concurrency).await.context("warming up")?;
    let idle_orders = IDLE_ORDERS.min(orders);
    let mut idle = load::closed(watching.clone(), idle_orders, 1).await?;

    let before = Snapshot::take(own.zip(books.as_mut())).await?;
    let placing = async {
        match args.rate {
            Some(per_second) => rate::open(plan, orders, per_second).await,
            None => load::closed(plan, orders, args.concurrency).await,
        }
    };
    let mut samples = Vec::new();
    let mut run = match (own, books.as_mut(), args.sample_every) {
        (Some(own), Some(books), Some(_)) => {
            let mut sampler = Sampler::begin(own, progress)?;
            let run = tokio::select! {
                run = placing => run?,
                error = sampler.follow(books) => return Err(error),
            };
            samples = sampler.finish(books).await?;
            run
        }
        _ => placing.await?,
    };
    let used = Snapshot::take(own.zip(books.as_mut())).await?.since(&before);

    if args.create_only {
        let created: Arc<[String]> = std::mem::take(&mut run.open).into();
        let learn = Plan { work: Work::Learn(created), ..watching };
        run.take_outcomes_of(&load::closed(learn, orders, args.concurrency).await.context("waiting for the orders")?);
    }
    let mut figures = report::figures(args, orders, &mut run, &mut idle, &used);
    let mut void_because = run.void(orders);
    if let Some(books) = &mut books {
        let placed = u64::from(warm_up_orders) + u64::from(idle_orders) + u64::from(orders);
        void_because.extend(audit::disagreements(books, placed).await?);
    }
    if let Some(own) = own {
        let (now, most) = measure::memory_mib(own.pid())?;
        figures.extend([("services_rss_mib".to_owned(), json!(now)), ("services_rss_max_mib".to_owned(), json!(most))]);
    }
    if !samples.is_empty() {
        figures.insert("cpu_us_per_order_growth".into(), json!(sample::growth(&samples, "cpu_us_per_order")));
        figures.insert("services_rss_growth".into(), json!(sample::growth(&samples, "services_rss_mib")));
        figures.insert("samples".into(), samples.into());
    }
    Ok(Measured { figures, void_because })
}

/// What the platform of its own is told. All else it takes from the environment, as the bench itself was given it.
fn settings(args: &Args, batch_rows: Option<u32>) -> Vec<(&'static str, String)> {
    let given = [
        ("SETTLE_PARTITIONS", args.partitions),
        ("SETTLE_SANDBOX_DELAY_MS", args.provider_ms),
        ("SETTLE_BATCH_ROWS_MAX", batch_rows),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}

/// Products of the bench's own, with stock for ever.
async fn products(grpc: &str) -> Result<Vec<String>> {
    let mut inventory = InventoryServiceClient::new(connect(grpc).await?);
    let mut skus = Vec::with_capacity(PRODUCTS);
    for i in 0..PRODUCTS {
        let sku = format!("BENCH-{i:03}");
        seed::upsert(&mut inventory, &sku, "For the bench", Some(1_000), PIECES).await?;
        skus.push(sku);
    }
    Ok(skus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_get_fewer_orders() {
        assert_eq!(CURVE_BATCH_ROWS.map(|rows| curve_orders(20_000, 512, rows)), [2_048, 2_048, 5_000, 20_000, 20_000, 20_000]);
        assert_eq!(curve_orders(100, 2_048, 1), 100);
        assert_eq!(curve_orders(10_000_000, 16, 1_000), 10_000_000);
    }
}
