//! `settle bench`: orders per second from create to CONFIRMED, with everything on this machine.

mod load;
mod measure;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contracts::inventory::v1::inventory_service_client::InventoryServiceClient;
use kit::settings::BusKind;
use local::Program;
use serde_json::json;

use crate::{
    client::{Output, Ready, connect},
    seed,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Orders to place
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub orders: u32,
    /// Orders open at any time, from create to CONFIRMED
    #[arg(long, default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub concurrency: u32,
    /// postgres or kafka, for the platform of its own
    #[arg(long, default_value_t = BusKind::Postgres)]
    pub bus: BusKind,
    /// gRPC address of a platform to measure, instead of one of its own
    #[arg(long, value_name = "ADDR")]
    pub target: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

const PRODUCTS: usize = 100;
const PIECES: i64 = 1_000_000_000;
/// Orders placed one after another, for the latency of an idle platform.
const IDLE_ORDERS: u32 = 100;
const READY_WITHIN: Duration = Duration::from_secs(180);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A stop signal ends the platform that was started for it, too.
pub async fn main(args: Args) -> Result<()> {
    let stop = kit::signal::stop()?;
    let mut own = None;
    let report = tokio::select! {
        report = measured(&args, &mut own) => report,
        signal = stop => Err(anyhow::anyhow!("{signal}: nothing was measured")),
    };
    if let Some(own) = own {
        own.stop().await?;
    }
    let (report, confirmed) = report?;
    match args.output {
        Output::Json => say!("{report}"),
        Output::Table => {
            for (name, value) in report.as_object().into_iter().flatten() {
                say!("{name:<34} {value}");
            }
        }
    }
    ensure!(confirmed == args.orders, "{} of {} orders were not confirmed", args.orders - confirmed, args.orders);
    Ok(())
}

async fn measured(args: &Args, own: &mut Option<OwnPlatform>) -> Result<(serde_json::Value, u32)> {
    if cfg!(debug_assertions) {
        eprintln!("settle: this is a debug build; figures of `make bench` are of a release build");
    }
    let grpc = match &args.target {
        Some(target) => target.clone(),
        None => own.insert(OwnPlatform::start(args.bus).await?).ready.grpc.clone(),
    };
    let skus = products(&grpc).await?;
    load::run(&grpc, &skus, (args.orders / 10).clamp(1, 2_000), args.concurrency).await.context("warming up")?;
    let idle = load::run(&grpc, &skus, IDLE_ORDERS.min(args.orders), 1).await?;
    let before = measure::Snapshot::take(own.as_ref()).await?;
    let run = load::run(&grpc, &skus, args.orders, args.concurrency).await?;
    let used = measure::Snapshot::take(own.as_ref()).await?.since(&before);

    let orders = f64::from(args.orders);
    let per_second = orders / run.elapsed.as_secs_f64();
    let report = json!({
        "bus": if args.target.is_some() { "target's".to_owned() } else { args.bus.to_string() },
        "orders": args.orders,
        "concurrency": args.concurrency,
        "confirmed": run.confirmed,
        "orders_per_second": per_second.round(),
        "p50_ms": run.percentile_ms(0.5),
        "p99_ms": run.percentile_ms(0.99),
        "idle_p50_ms": idle.percentile_ms(0.5),
        "cpu_us_per_order": used.platform_cpu_us.map(|us| (us / orders).round()),
        "services_cpu_us_per_order": used.services_cpu_us.map(|us| (us / orders).round()),
        "load_generator_cpu_us_per_order": (used.own_cpu_us / orders).round(),
        "mean_batch": used.mean_batch.map(|rows| (rows * 10.0).round() / 10.0),
        "release_build": !cfg!(debug_assertions),
    });
    Ok((report, run.confirmed))
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

/// A `settle up` of the bench's own, in a throw-away directory.
struct OwnPlatform {
    program: Program,
    ready: Ready,
    _dir: tempfile::TempDir,
}

impl OwnPlatform {
    async fn start(bus: BusKind) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("settle-bench").tempdir()?;
        let data = dir.path().join("data");
        let ready_file = dir.path().join("ready.json");
        open_to_all(dir.path())?;
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["up", "--no-seed", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--bus").arg(bus.to_string()).arg("--data").arg(&data).arg("--ready-file").arg(&ready_file);
        command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()));
        let mut program = Program::start(command)?;
        let text = tokio::select! {
            text = local::until("the platform", READY_WITHIN, || async { std::fs::read_to_string(&ready_file).ok() }) => text?,
            ended = program.end(READY_WITHIN) => anyhow::bail!("the platform did not start ({}): {}", ended?, program.stderr().join("\n")),
        };
        Ok(Self { program, ready: serde_json::from_str(&text)?, _dir: dir })
    }

    async fn stop(mut self) -> Result<()> {
        let status = self.program.terminate(STOP_WITHIN).await?;
        ensure!(status.success(), "the platform ended with {status}: {}", self.program.stderr().join("\n"));
        Ok(())
    }
}

/// Postgres runs as another user below this directory.
fn open_to_all(dir: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?)
}
