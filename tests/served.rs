//! `settle serve`: services as processes of their own, on the databases and the bus that they share.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use kit::settings::BusKind;
use local::{
    Kafka, Postgres, Program, postgres,
    process::{Signal, is_alive},
};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    harness::data_dir,
    process::program_said,
    startup::{end_of, settle},
};

/// Those that have a database.
pub(crate) const SERVICES: [&str; 6] = ["order", "orchestrator", "payment", "inventory", "shipping", "notification"];

const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// Warnings, where a process listens, and what it took over from another.
const LOG: &str = "warn,librdkafka=error,settle::serve=info,messaging::lease=info";

/// What the processes share. It ends with the test.
pub(crate) struct Ground {
    /// By service, `provider` included.
    pub(crate) databases: BTreeMap<String, String>,
    pub(crate) kafka: Option<Kafka>,
    postgres: Postgres,
    env: Vec<(String, String)>,
    _dir: TempDir,
}

impl Ground {
    /// Servers of its own, and databases of the newest schema. `env` is for every process.
    pub(crate) async fn prepare(bus: BusKind, options: postgres::Options, env: &[(&str, &str)]) -> Result<Self> {
        let dir = data_dir()?;
        let postgres = Postgres::start(dir.path(), options).await?;
        let mut databases = BTreeMap::new();
        for name in SERVICES.into_iter().chain(["provider"]) {
            let database = format!("settle_{name}");
            postgres.create_database(&database).await?;
            databases.insert(name.to_owned(), postgres.url(&database));
        }
        let kafka = match bus {
            BusKind::Postgres => None,
            BusKind::Kafka => Some(Kafka::start_throwaway(dir.path()).await?),
        };
        let mut all: Vec<(String, String)> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.extend(databases.iter().map(|(name, url)| (format!("SETTLE_{}_DATABASE_URL", name.to_uppercase()), url.clone())));
        all.extend(kafka.iter().map(|kafka| ("KAFKA_BROKERS".to_owned(), kafka.brokers())));
        let ground = Self { databases, kafka, postgres, env: all, _dir: dir };
        let migrated = end_of(ground.command(&["migrate"])).await;
        ensure!(migrated.status.success(), "settle migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        Ok(ground)
    }

    /// For every process that starts from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = settle(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) async fn stop(self) -> Result<()> {
        if let Some(kafka) = self.kafka {
            kafka.stop().await?;
        }
        self.postgres.stop().await?;
        Ok(())
    }
}

/// A running service. Killed when dropped.
pub(crate) struct Served {
    pub(crate) grpc: String,
    pub(crate) http: String,
    admin: String,
    program: Program,
}

/// Of the line that says that it is ready.
#[derive(Deserialize)]
struct Addresses {
    grpc: String,
    http: String,
    admin: String,
}

impl Served {
    /// On free ports; its log tells which.
    pub(crate) async fn start(ground: &Ground, service: &str) -> Result<Self> {
        let mut command = ground.command(&["serve", service]);
        for address in ["SETTLE_GRPC_ADDR", "SETTLE_HTTP_ADDR", "SETTLE_ADMIN_ADDR"] {
            command.env(address, "127.0.0.1:0");
        }
        command.env("RUST_LOG", LOG);
        let program = Program::start(command)?;
        let told = local::until("settle serve to be ready", READY_WITHIN, || async {
            let found = addresses(&program.stderr());
            (found.is_some() || !is_alive(program.pid())).then_some(found)
        });
        let found = told.await.ok().flatten();
        let Addresses { grpc, http, admin } =
            found.with_context(|| format!("settle serve {service} does not start: {}", program_said(&program)))?;
        Ok(Self { grpc, http, admin, program })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.alive()?;
        Ok(self.program.signal(signal)?)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.alive()?;
        self.program.kill().await?;
        Ok(())
    }

    /// SIGTERM: it must end well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let status = self.program.terminate(STOP_WITHIN).await?;
        ensure!(status.success(), "settle serve ended with {status}: {}", program_said(&self.program));
        Ok(())
    }

    /// It must not end by itself.
    pub(crate) fn alive(&self) -> Result<()> {
        ensure!(is_alive(self.program.pid()), "settle serve ended by itself: {}", program_said(&self.program));
        Ok(())
    }

    /// How many lines of its log so far have these words.
    pub(crate) fn lines_with(&self, words: &str) -> usize {
        self.program.stderr().iter().filter(|line| line.contains(words)).count()
    }

    /// What a counter has come to, over all its labels that have these words.
    pub(crate) async fn counted(&self, counter: &str, labels: &str) -> Result<u64> {
        let shown = settle::client::http().get(format!("http://{}/metrics", self.admin)).send().await?.text().await?;
        let named =
            |line: &&str| line.strip_prefix(counter).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels));
        Ok(shown.lines().filter(named).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }
}

/// A test that fails tells what its services complained of.
impl Drop for Served {
    fn drop(&mut self) {
        const LINES_MAX: usize = 20;
        if std::thread::panicking() {
            let log = self.program.stderr();
            let complaints = log.iter().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""));
            let complaints: Vec<&str> = complaints.map(String::as_str).collect();
            let last = &complaints[complaints.len().saturating_sub(LINES_MAX)..];
            println!("{} of {} lines of the service at {}:\n{}", last.len(), log.len(), self.grpc, last.join("\n"));
        }
    }
}

fn addresses(log: &[String]) -> Option<Addresses> {
    log.iter().find_map(|line| serde_json::from_str(line).ok())
}
