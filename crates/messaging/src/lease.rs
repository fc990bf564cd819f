//! Which partitions this instance reads: a lease a partition number, a fair share an instance. Leases only spread work; the fence is the
//! compare-and-set of progress.

use std::{sync::Arc, time::Duration};

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

use crate::{Tasks, batch::Group, outbox, patience, progress::store};

/// How long a lease holds without being renewed.
pub(crate) const LEASE_MS: i64 = 3_000;
const RENEW_MS: u64 = 1_000;

/// Keeps membership and leases; what is owned now is told through the channel. Gives everything back at the stop.
pub(crate) fn keep(group: Arc<Group>, pool: PgPool, tasks: &Tasks) -> watch::Receiver<Vec<i32>> {
    let (owned, receiver) = watch::channel(Vec::new());
    let stop = tasks.clone();
    tasks.spawn("leases", async move {
        loop {
            match patience::at(group.limits.database_ms_max, &pool, async |db| round(&group, db).await).await {
                Ok(partitions) => {
                    owned.send_if_modified(|now| {
                        let changed = *now != partitions;
                        if changed {
                            tracing::debug!(service = group.name, ?partitions, "owns");
                            *now = partitions;
                        }
                        changed
                    });
                }
                Err(error) => tracing::warn!(service = group.name, %error, "leases are not renewed"),
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(RENEW_MS)) => {}
                () = stop.stopping() => break,
            }
        }
        let partitions = owned.borrow().clone();
        let given_back = patience::at(group.limits.database_ms_max, &pool, async |db| {
            store::give_back(db, group.name, group.instance, &partitions, true).await
        });
        if let Err(error) = given_back.await {
            tracing::debug!(service = group.name, %error, "leases run out by themselves");
        }
    });
    receiver
}

async fn round(group: &Group, db: &mut PgConnection) -> sqlx::Result<Vec<i32>> {
    // Whoever it was holds rows that are claimed below, and streams that are written here.
    let ended = outbox::store::end_stalled_copies(&mut *db).await?;
    if ended > 0 {
        tracing::warn!(service = group.name, sessions = ended, "stood still in a COPY of news, and were ended");
    }
    let members = store::join(&mut *db, group.name, group.instance, group.lease_ms).await?.max(1);
    let share = usize::try_from((i64::from(group.partitions) + members - 1) / members).unwrap_or(usize::MAX);
    let mut mine = store::renew(&mut *db, group.name, group.instance, group.lease_ms).await?;
    if mine.len() > share {
        let surplus = mine.split_off(share);
        store::give_back(&mut *db, group.name, group.instance, &surplus, false).await?;
    } else if mine.len() < share {
        let limit = i64::try_from(share - mine.len()).unwrap_or(i64::MAX);
        let left_behind = store::claim(&mut *db, group.name, group.instance, group.lease_ms, limit).await?;
        if !left_behind.is_empty() {
            let suspects = left_behind.iter().filter(|taken| taken.unmoved || taken.marked).count();
            tracing::info!(service = group.name, streams = left_behind.len(), suspects, "taken over from an instance that died");
            group.crashes.take_over(&left_behind);
        }
        mine = store::renew(&mut *db, group.name, group.instance, group.lease_ms).await?;
    }
    Ok(mine)
}
