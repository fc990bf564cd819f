//! The floors: how fast this machine's Postgres takes the rows of an order when nothing else is to be done. One order at a time with a
//! transaction an event, as services without batches write them, and in batches. Measured in the same run as the orders, on a throw-away
//! server with the settings of the platform's own.

mod store;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contracts::topic;
use kit::database::{self, Plans};
use local::{Postgres, postgres};
use reqwest::Url;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use self::store::Prepared;
use crate::platform::{self, Service};

/// Enough for the commits of all to share their writes to disk.
const SINGLE_CLIENTS: u32 = 16;
/// A batch keeps a core busy: two more write while others wait for the disk.
const BATCH_CLIENTS: u32 = 4;
/// pgbench finishes what it is at when its time is over, and opens connections before.
const SPARE: Duration = Duration::from_secs(60);
const PROVIDER: &str = "provider";
/// As [`Plans::Pinned`] has them.
const PINNED: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off \
     -c enable_bitmapscan=off -c jit=off";

/// Orders a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floors {
    /// A transaction an event.
    pub(super) per_event: f64,
    /// A transaction for the same event of so many orders.
    pub(super) batched: f64,
    /// What wrote: pgbench, or tasks of this process where there is none.
    pub(super) by: &'static str,
}

/// `dir` is the bench's own. With `create_only` the rows are those of a creation alone.
pub(super) async fn measure(dir: &Path, create_only: bool, for_s: u32) -> Result<Floors> {
    let options = postgres::Options { throwaway: true, ..postgres::Options::default() };
    let server = Postgres::start(&dir.join("floor"), options).await?;
    let floors = on(&server, dir, create_only, for_s).await;
    let stopped = server.stop().await;
    let floors = floors?;
    stopped?;
    Ok(floors)
}

async fn on(server: &Postgres, dir: &Path, create_only: bool, for_s: u32) -> Result<Floors> {
    for database in ["floor_per_event", "floor_batched"] {
        server.create_database(database).await?;
        prepare(&server.socket_url(database)).await.with_context(|| format!("making the tables of {database}"))?;
    }
    let mut transactions = store::transactions();
    if create_only {
        transactions.truncate(1);
    }
    let rendered = |render: fn(&str) -> String| -> Vec<Vec<String>> {
        transactions.iter().map(|statements| statements.iter().map(|statement| render(statement)).collect()).collect()
    };
    let program = postgres::programs()?.join("pgbench");
    let bench = Bench { program: program.is_file().then_some(program), dir, for_s };
    let per_event =
        bench.runs_a_second(&server.socket_url("floor_per_event"), SINGLE_CLIENTS, &rendered(store::one_by_one)).await?;
    let batches = bench.runs_a_second(&server.socket_url("floor_batched"), BATCH_CLIENTS, &rendered(store::in_batches)).await?;
    let by = if bench.program.is_some() { "pgbench" } else { "tasks" };
    Ok(Floors { per_event, batched: batches * f64::from(store::BATCH_ORDERS), by })
}

/// The tables of all services, each in a schema of its own, as their migrations make them.
async fn prepare(url: &str) -> Result<()> {
    let mut db = PgConnection::connect(url).await?;
    for service in Service::ALL.into_iter().filter(|service| *service != Service::Gateway) {
        store::make_schema(&mut db, service.name()).await?;
        let own = in_schema(url, service.name())?;
        platform::migrate(service, &own).await?;
        let mut db = PgConnection::connect(&own).await?;
        for (topic, _) in topic::WRITERS.iter().filter(|(_, writer)| *writer == service.name()) {
            store::make_range(&mut db, topic).await?;
        }
        db.close().await?;
    }
    store::make_schema(&mut db, PROVIDER).await?;
    platform::migrate_provider(&in_schema(url, PROVIDER)?).await?;
    store::prepare(&mut db, SINGLE_CLIENTS.max(BATCH_CLIENTS)).await?;
    db.close().await?;
    Ok(())
}

/// The same database, where names without a schema mean this service's.
fn in_schema(url: &str, service: &str) -> Result<String> {
    let mut url = Url::parse(url)?;
    url.query_pairs_mut().append_pair("options[search_path]", &store::schema(service));
    Ok(url.into())
}

struct Bench<'a> {
    /// pgbench, if there is one.
    program: Option<PathBuf>,
    dir: &'a Path,
    for_s: u32,
}

impl Bench<'_> {
    /// How often a second all transactions were gone through, by so many clients at once.
    async fn runs_a_second(&self, url: &str, clients: u32, transactions: &[Vec<String>]) -> Result<f64> {
        match &self.program {
            Some(program) => self.by_pgbench(program, url, clients, &script(transactions)).await,
            None => by_tasks(url, clients, Duration::from_secs(self.for_s.into()), transactions).await,
        }
    }

    async fn by_pgbench(&self, program: &Path, url: &str, clients: u32, script: &str) -> Result<f64> {
        let file = self.dir.join("floor.sql");
        std::fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(program);
        // The caller's own PGSERVICE or PGSSLMODE mean another server.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(variable);
        }
        command.envs(place(url)?).env("PGOPTIONS", PINNED).env("LC_ALL", "C");
        command.args(["--no-vacuum", "--protocol=prepared", "--define=n=0"]);
        command.args([
            format!("--client={clients}"),
            format!("--jobs={}", clients.min(2)),
            format!("--time={}", self.for_s),
            format!("--file={}", file.display()),
        ]);
        let done = local::program::run(command, Duration::from_secs(self.for_s.into()) + SPARE).await?;
        let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        // A client that fails ends alone: the others go on, and pgbench says so at the end.
        ensure!(done.status.success(), "pgbench ended with {}: {}", done.status, complained.trim());
        tps(&said).with_context(|| format!("pgbench said {}", said.trim()))
    }
}

/// Where the server is, in the environment, so that the password is on no command line.
fn place(url: &str) -> Result<Vec<(&'static str, String)>> {
    let url = Url::parse(url)?;
    let socket = url.query_pairs().find(|(name, _)| name == "host").map(|(_, value)| value.into_owned());
    let host = socket.or_else(|| url.host_str().map(str::to_owned)).context("the URL has no host")?;
    Ok(vec![
        ("PGHOST", host),
        ("PGPORT", url.port().context("the URL has no port")?.to_string()),
        ("PGUSER", url.username().to_owned()),
        ("PGPASSWORD", url.password().context("the URL has no password")?.to_owned()),
        ("PGDATABASE", url.path().trim_start_matches('/').to_owned()),
    ])
}

/// Each client goes through all of it again and again, with its own `:client_id` and with `:n` counting up.
fn script(transactions: &[Vec<String>]) -> String {
    let mut script = "\\set n :n + 1\n".to_owned();
    for statements in transactions {
        script.push_str("begin;\n");
        for statement in statements {
            script.push_str(statement.trim());
            script.push_str(";\n");
        }
        script.push_str("commit;\n");
    }
    script
}

/// From `tps = 522.3 (without initial connection time)`, the last of such lines.
fn tps(said: &str) -> Option<f64> {
    let line = said.lines().rev().find_map(|line| line.trim().strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok().filter(|tps| *tps > 0.0)
}

/// The same without pgbench.
async fn by_tasks(url: &str, clients: u32, time: Duration, transactions: &[Vec<String>]) -> Result<f64> {
    let pool = database::pool(url, Plans::Pinned, clients)?;
    let prepared: Vec<Vec<Prepared>> =
        transactions.iter().map(|statements| statements.iter().map(|statement| Prepared::of(statement)).collect()).collect();
    let prepared = Arc::new(prepared);
    let begun = Instant::now();
    let mut tasks = JoinSet::<sqlx::Result<i64>>::new();
    for client in 0..i32::try_from(clients)? {
        let (pool, prepared) = (pool.clone(), prepared.clone());
        tasks.spawn(async move {
            let mut n = 0_i64;
            while begun.elapsed() < time {
                n += 1;
                store::write(&pool, &prepared, client, n).await?;
            }
            Ok(n)
        });
    }
    let mut runs = 0_i64;
    while let Some(ended) = tasks.join_next().await {
        runs += ended??;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    pool.close().await;
    ensure!(runs > 0, "nothing was written");
    Ok(runs as f64 / elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says_is_read() {
        let said = "transaction type: floor.sql\nnumber of transactions actually processed: 4180\n\
                    latency average = 30.6 ms\ninitial connection time = 21.5 ms\ntps = 522.340114 (without initial connection time)\n";
        assert_eq!(tps(said), Some(522.340_114));
        let older = "tps = 520.1 (including connections establishing)\ntps = 522.3 (excluding connections establishing)\n";
        assert_eq!(tps(older), Some(522.3));
        assert_eq!(tps("tps = 0.000000 (without initial connection time)\n"), None);
        assert_eq!(tps("pgbench: fatal: too bad\n"), None);
    }

    #[test]
    fn both_forms_are_complete() {
        for statement in store::transactions().concat() {
            assert!(statement.contains(":client_id::int"), "not of one client: {statement}");
            for rendered in [store::one_by_one(&statement), store::in_batches(&statement)] {
                assert!(!rendered.contains('@') && !rendered.contains(';'), "{rendered}");
                // A colon that is neither a cast nor one of the two variables would be a variable to pgbench.
                let bare = rendered.replace("::", "").replace(":client_id", "").replace(":n", "");
                assert!(!bare.contains(':'), "{rendered}");
            }
        }
        let script = script(&store::transactions());
        assert_eq!(script.matches("begin;\n").count(), script.matches("commit;\n").count());
    }

    #[test]
    fn the_place_of_a_server_is_read_from_its_url() {
        let of = |url| place(url).unwrap().into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let rest = "PGPORT=5 PGUSER=settle PGPASSWORD=secret PGDATABASE=floor";
        assert_eq!(of("postgres://settle:secret@127.0.0.1:5/floor"), format!("PGHOST=127.0.0.1 {rest}"));
        assert_eq!(of("postgres://settle:secret@127.0.0.1:5/floor?host=/tmp/a%20b"), format!("PGHOST=/tmp/a b {rest}"));
        assert!(place("postgres://127.0.0.1:5/floor").is_err());
    }

    #[test]
    fn a_schema_is_added_to_a_url() {
        let url = in_schema("postgres://settle:secret@127.0.0.1:5/floor?host=/tmp", "order").unwrap();
        assert_eq!(url, "postgres://settle:secret@127.0.0.1:5/floor?host=/tmp&options%5Bsearch_path%5D=floor_order");
    }
}
