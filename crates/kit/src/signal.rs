//! Stop signals.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// Catches SIGINT and SIGTERM from now on; resolves at the first, with its name.
pub fn stop() -> io::Result<impl Future<Output = &'static str>> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = int.recv() => "SIGINT",
            _ = term.recv() => "SIGTERM",
        }
    })
}
