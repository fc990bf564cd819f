//! A platform of the bench's own: `settle up` in a throw-away directory.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kit::settings::BusKind;
use local::Program;
use serde::Deserialize;
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(180);
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// What it writes when it is ready.
#[derive(Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) grpc: String,
    pub(super) admin: String,
    /// By service, `provider` included.
    pub(super) databases: BTreeMap<String, String>,
}

pub(super) struct OwnPlatform {
    pub(super) ready: Ready,
    program: Program,
    data: PathBuf,
    _dir: TempDir,
}

impl OwnPlatform {
    /// Takes its settings from the environment, these before all.
    pub(super) async fn start(bus: BusKind, settings: &[(&str, String)]) -> Result<Self> {
        let dir = directory()?;
        let data = dir.path().join("data");
        let ready_file = dir.path().join("ready.json");
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["up", "--no-seed", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--bus").arg(bus.to_string()).arg("--data").arg(&data).arg("--ready-file").arg(&ready_file);
        command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()));
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let mut program = Program::start(command)?;
        let text = tokio::select! {
            text = local::until("the platform", READY_WITHIN, || async { fs::read_to_string(&ready_file).ok() }) => text?,
            ended = program.end(READY_WITHIN) => bail!("the platform did not start ({}): {}", ended?, program.stderr().join("\n")),
        };
        Ok(Self { ready: serde_json::from_str(&text)?, program, data, _dir: dir })
    }

    /// The process of all services.
    pub(super) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The postmaster of its private Postgres.
    pub(super) fn postgres_pid(&self) -> Result<u32> {
        let file = self.data.join("postgres/data/postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        text.lines().next().and_then(|line| line.trim().parse().ok()).with_context(|| format!("{} has no pid", file.display()))
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        let status = self.program.terminate(STOP_WITHIN).await?;
        ensure!(status.success(), "the platform ended with {status}: {}", self.program.stderr().join("\n"));
        Ok(())
    }
}

/// A directory that goes with the bench. Postgres may run as another user below it.
pub(super) fn directory() -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("settle-bench").tempdir()?;
    open_to_all(dir.path())?;
    Ok(dir)
}

fn open_to_all(dir: &Path) -> Result<()> {
    Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?)
}
