//! `settle up` as a process of its own, for what must not happen inside the test's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kit::settings::BusKind;
use local::Program;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::startup::{end_of, settle};

/// The first start of Kafka fetches its jars.
const READY_WITHIN: Duration = Duration::from_secs(300);
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// What it writes when it is ready.
#[derive(Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) admin: String,
    /// By service, `provider` included.
    pub(crate) databases: BTreeMap<String, String>,
}

/// Started, but not ready yet. Killed when dropped.
pub(crate) struct Starting {
    program: Program,
    data: PathBuf,
    ready_file: PathBuf,
}

/// A running platform. Killed when dropped.
pub(crate) struct Process {
    pub(crate) ready: Ready,
    program: Program,
    data: PathBuf,
}

impl Starting {
    /// On `dir`/data, on free ports. What the environment of the tests says of brokers and collectors is not for it, only `env` is.
    pub(crate) fn spawn(dir: &Path, bus: BusKind, env: &[(&str, String)]) -> Result<Self> {
        static STARTS: AtomicU32 = AtomicU32::new(0);
        // Another file each time: one that is there was not left by an earlier start.
        let ready_file = dir.join(format!("ready-{}.json", STARTS.fetch_add(1, Ordering::Relaxed)));
        let mut command = Command::new(binary());
        command
            .args(["up", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--bus"])
            .arg(bus.to_string());
        let data = dir.join("data");
        command.arg("--data").arg(&data).arg("--ready-file").arg(&ready_file);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["KAFKA_", "OTEL_", "SETTLE_"].iter().any(|of| name.starts_with(of)) && name != "SETTLE_CACHE" {
                command.env_remove(&*name);
            }
        }
        command.env("RUST_LOG", "warn").envs(env.iter().map(|(name, value)| (name, value)));
        Ok(Self { program: Program::start(command)?, data, ready_file })
    }

    pub(crate) async fn ready(self) -> Result<Process> {
        let Self { mut program, data, ready_file } = self;
        let text = tokio::select! {
            text = local::until("settle to be ready", READY_WITHIN, || async { fs::read_to_string(&ready_file).ok() }) => {
                text.with_context(|| program_said(&program))?
            }
            ended = program.end(READY_WITHIN) => bail!("settle ended ({}): {}", ended?, program_said(&program)),
        };
        Ok(Process { ready: serde_json::from_str(&text)?, program, data })
    }

    /// SIGKILL before it is ready, or just after.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.program.kill().await?;
        Ok(())
    }
}

impl Process {
    pub(crate) async fn start(dir: &Path, bus: BusKind, env: &[(&str, String)]) -> Result<Self> {
        Starting::spawn(dir, bus, env)?.ready().await
    }

    /// SIGKILL, and waits until it is gone: the process alone, not what it started.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.program.kill().await?;
        Ok(())
    }

    /// SIGTERM: it must end well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let status = self.program.terminate(STOP_WITHIN).await?;
        ensure!(status.success(), "settle ended with {status}: {}", program_said(&self.program));
        Ok(())
    }

    /// How a client command that is to print JSON ends against it.
    pub(crate) async fn ended(&self, args: &[&str]) -> Output {
        let mut command = settle(args);
        command.args(["--output", "json", "--data"]).arg(&self.data);
        end_of(command).await
    }

    /// What such a command says when it succeeds, as one JSON document.
    pub(crate) async fn told(&self, args: &[&str]) -> Value {
        let ended = self.ended(args).await;
        assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
        document(&ended)
    }

    /// All lines of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.program.stderr()
    }

    /// The end of its log so far, for the message of a failure.
    pub(crate) fn said(&self) -> String {
        program_said(&self.program)
    }
}

/// The one JSON document that a command printed.
pub(crate) fn document(ended: &Output) -> Value {
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&ended.stdout)))
}

/// The program under test; SETTLE_TEST_BIN names another build of it.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("SETTLE_TEST_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_settle")), PathBuf::from)
}

/// The last lines of its log.
pub(crate) fn program_said(program: &Program) -> String {
    const LINES_MAX: usize = 30;
    let lines = program.stderr();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

/// Living processes that work below this directory or were started with its name, with their command lines. None without /proc.
pub(crate) fn working_in(dir: &Path) -> BTreeMap<u32, String> {
    let name = dir.to_string_lossy();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let works_here = |pid: u32| {
        // Of a zombie neither can be read.
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let below = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        (below || command.contains(name.as_ref())).then_some((pid, command))
    };
    pids.filter(|pid| *pid != std::process::id()).filter_map(works_here).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn what_works_in_a_directory_is_found() {
    crate::harness::run(async {
        let dir = crate::harness::data_dir().expect("a directory");
        let mut command = Command::new("sleep");
        command.arg("100").current_dir(dir.path());
        let mut sleeper = Program::start(command).expect("sleep starts");
        assert_eq!(working_in(dir.path()).into_keys().collect::<Vec<_>>(), [sleeper.pid()]);
        sleeper.kill().await.expect("it ends");
        assert!(working_in(dir.path()).is_empty());
    });
}
