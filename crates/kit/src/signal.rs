//! Stop signals.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at SIGINT or SIGTERM, with its name.
pub async fn stop() -> std::io::Result<&'static str> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(tokio::select! {
        _ = int.recv() => "SIGINT",
        _ = term.recv() => "SIGTERM",
    })
}
