//! `settle sandbox-provider`: the sandbox as a process of its own, over HTTP (docs/provider.md).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use kit::{Settings, settings::database_url, telemetry::Telemetry};
use messaging::Tasks;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{platform, provider::Wiring};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// HTTP listens here; port 0 picks a free one [default: $SETTLE_SANDBOX_ADDR, else 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR")]
    pub addr: Option<String>,
    /// The database of the statement [default: $SETTLE_PROVIDER_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Written when it is ready: {"http", "pid"}
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Runs until a stop signal.
pub async fn main(args: Args) -> Result<()> {
    let stop = kit::signal::stop()?;
    let telemetry = Telemetry::install(&["provider"])?;
    let settings = Settings::from_env()?;
    let wiring = Wiring::read(&settings)?;
    if let Some(file) = &args.ready_file {
        remove(file)?;
    }
    let addr = args.addr.as_deref().unwrap_or(&settings.sandbox_addr);
    let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr} for the sandbox provider"))?;
    let http = listener.local_addr()?;
    let database = args.database_url.map_or_else(|| database_url("provider"), Ok)?;
    platform::migrate_provider(&database).await?;
    let sandbox = wiring.sandbox(&database, settings.database_connections_max)?;

    let (tasks, drain) = (Tasks::new(), Duration::from_millis(settings.drain_ms));
    let mut server = tokio::spawn(kit::serve::http(listener, payment::sandbox::http::router(sandbox), tasks.clone(), drain));
    say!("Sandbox provider is ready on http://{http}");
    if let Some(file) = &args.ready_file {
        let temporary = file.with_extension("tmp");
        fs::write(&temporary, format!("{}\n", json!({ "http": http.to_string(), "pid": std::process::id() })))
            .and_then(|()| fs::rename(&temporary, file))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let ended = tokio::select! {
        signal = stop => {
            tracing::info!(signal, "stopping");
            tasks.stop();
            server.await
        }
        ended = &mut server => ended,
    };
    telemetry.flush().await;
    args.ready_file.as_deref().map_or(Ok(()), remove)?;
    ended?
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
