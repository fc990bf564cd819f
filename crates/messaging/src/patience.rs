//! How long work at a database may take. An answer that is lost on the way is waited for without end by the driver, and nothing else here
//! would find out: so work that takes too long is given up, and its connection with it. Whether it was done is in doubt then, as after any
//! lost connection, and found out in the same way.

use std::{io, time::Duration};

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::time::timeout;

/// Work on a connection that its owner keeps. Given up, the connection is closed when it is dropped: in the middle of something it is of no
/// use to anybody, and a rollback on it might be waited for without end too.
pub(crate) async fn on<T, E: From<sqlx::Error>>(
    limit_ms: u64,
    db: &mut PoolConnection<Postgres>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    match timeout(Duration::from_millis(limit_ms), work(&mut *db)).await {
        Ok(done) => done,
        Err(_) => {
            db.close_on_drop();
            Err(late(limit_ms).into())
        }
    }
}

/// Work on a connection of the pool's, which has a bound of its own for how long one is waited for.
///
/// # Errors
/// The work's own, and that it took longer than `limit_ms`: whether it was done is in doubt then.
pub async fn at<T, E: From<sqlx::Error>>(
    limit_ms: u64,
    pool: &PgPool,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    let limit = Duration::from_millis(limit_ms);
    let mut db = pool.acquire().await?;
    match timeout(limit, work(&mut db)).await {
        Ok(done) => {
            // The pool asks it whether it is whole, and has no bound for that answer.
            tokio::spawn(timeout(limit, db.return_to_pool()));
            done
        }
        Err(_) => {
            db.close_on_drop();
            Err(late(limit_ms).into())
        }
    }
}

/// What has a connection of its own: that goes with it.
pub(crate) async fn within<T>(limit_ms: u64, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(Duration::from_millis(limit_ms), work).await.unwrap_or_else(|_| Err(late(limit_ms)))
}

/// Whether work was given up; or the network gave a connection up, which comes to the same.
pub(crate) fn is_late(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

fn late(limit_ms: u64) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("the database was not done within {limit_ms} ms")))
}
