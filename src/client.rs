//! Finding a running platform and talking to it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tonic::transport::{Channel, Endpoint};

const CONNECT_MS_MAX: u64 = 5_000;
const ANSWER_MS_MAX: u64 = 30_000;

/// Where client commands go.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Target {
    /// gRPC address of the platform [default: what ready.json in the data directory says]
    #[arg(long, value_name = "ADDR")]
    pub target: Option<String>,
    /// Data directory of a `settle up` on this machine
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Table,
    Json,
}

/// Whom to ask, and how to tell.
#[derive(clap::Args, Clone, Debug)]
pub struct At {
    #[command(flatten)]
    pub target: Target,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// What `settle up` writes when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    pub grpc: String,
    pub http: String,
    pub admin: String,
    pub pid: Option<u32>,
}

impl Target {
    /// The gRPC address.
    pub fn grpc(&self) -> Result<String> {
        match &self.target {
            Some(target) => Ok(target.clone()),
            None => Ok(self.ready()?.grpc),
        }
    }

    /// The data directory that is meant.
    pub fn data_dir(&self) -> Result<PathBuf> {
        Ok(self.data.clone().map_or_else(local::data_dir::default_dir, Ok)?)
    }

    /// What the running platform wrote down.
    pub fn ready(&self) -> Result<Ready> {
        let dir = self.data_dir()?;
        let file = dir.join("ready.json");
        let Ok(text) = std::fs::read_to_string(&file) else {
            bail!(
                "no platform is running on {} (start one with `settle up` or `make up`, or name it with --target)",
                dir.display()
            );
        };
        serde_json::from_str(&text).with_context(|| format!("{} is not readable", file.display()))
    }
}

/// Talks HTTP, and waits no longer than for gRPC.
#[must_use]
pub fn http() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_millis(ANSWER_MS_MAX)).build().unwrap_or_default()
}

/// Connects, or says in one line that nobody answers.
pub async fn connect(addr: &str) -> Result<Channel> {
    let url = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    Endpoint::from_shared(url)
        .with_context(|| format!("{addr} is not an address"))?
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        // Until an answer begins: a watch may go on for longer.
        .timeout(Duration::from_millis(ANSWER_MS_MAX))
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| {
            let error = anyhow::Error::from(error);
            anyhow::anyhow!("nobody answers on {addr}: {}", error.root_cause())
        })
}

/// Prints a line for people or programs. Whoever reads may stop reading: that is no failure of ours.
pub fn print(line: &str) {
    use std::io::{ErrorKind, Write};
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => eprintln!("settle: cannot print: {error}"),
        Ok(()) => {}
    }
}
