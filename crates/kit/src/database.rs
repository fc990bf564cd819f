//! Connections to a service's own database.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

const ACQUIRE_MS_MAX: u64 = 5_000;

/// How connections plan their statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plans {
    /// For the hot path: index scans, whatever a small or never analysed table suggests. Unpinned, the same work was 3.5 times slower.
    Pinned,
    /// For pages, operators and audits.
    Free,
}

/// Opens a pool. Waits no longer than five seconds for a connection.
pub fn pool(url: &str, plans: Plans, connections_max: u32) -> sqlx::Result<PgPool> {
    let mut options = connect_options(url)?;
    if plans == Plans::Pinned {
        options = options.options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_bitmapscan", "off"),
        ]);
    }
    Ok(PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(ACQUIRE_MS_MAX))
        // A dead connection is found out by its first statement, which is tried again: no need for a ping before every batch.
        .test_before_acquire(false)
        // sqlx 0.9.0 gives back a connection inside an open transaction when `begin` is dropped half-way; such a one is thrown away.
        .after_release(|db, _| Box::pin(async move { Ok(!db.is_in_transaction()) }))
        .connect_lazy_with(options))
}

fn connect_options(url: &str) -> sqlx::Result<PgConnectOptions> {
    Ok(PgConnectOptions::from_str(url)?
        .application_name("settle")
        .options([
            ("jit", "off"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "2s"),
            ("timezone", "UTC"),
            // A client that is gone without a word holds its locks for a minute at most. Nothing on a Unix socket.
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "30s"),
        ])
        .disable_statement_logging())
}

/// Brings a database to the newest schema: messaging's tables, then the service's own. On a connection of its own, since a failed run would
/// leave its lock behind.
pub async fn migrate(url: &str, own: &Migrator) -> Result<(), MigrateError> {
    let mut db = PgConnection::connect_with(&connect_options(url)?).await?;
    messaging::migrate(&mut db).await?;
    own.run_direct(None, &mut db, false).await?;
    db.close().await?;
    Ok(())
}

/// The same for a database that has no streams: the sandbox provider's.
pub async fn migrate_alone(url: &str, own: &Migrator) -> Result<(), MigrateError> {
    let mut db = PgConnection::connect_with(&connect_options(url)?).await?;
    own.run_direct(None, &mut db, false).await?;
    db.close().await?;
    Ok(())
}

/// Whether the database can be connected to.
pub async fn answers(url: &str) -> sqlx::Result<()> {
    PgConnection::connect_with(&connect_options(url)?).await?.close().await
}
