//! How far the groups that read a service on Kafka have come, copied into its table `readers`: retention and admission look there on both
//! buses. The groups tell it with their offsets, so nobody needs to reach another service's database.

use std::{sync::Arc, time::Duration};

use sqlx::{PgConnection, PgPool};

use super::Cluster;
use crate::{Error, Stream, Tasks, outbox::readers::store, patience};

/// How often they are asked.
const ASK_EVERY_MS: u64 = 1_000;

/// Copies until the stop.
pub(crate) fn copy(
    cluster: Arc<Cluster>,
    groups: Vec<&'static str>,
    streams: Vec<Stream>,
    limit_ms: u64,
    pool: PgPool,
    tasks: &Tasks,
) {
    let stop = tasks.clone();
    tasks.spawn("readers", async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(ASK_EVERY_MS)) => {}
                () = stop.stopping() => return,
            }
            if let Err(error) = round(&cluster, &groups, &streams, limit_ms, &pool).await {
                tracing::debug!(%error, "cannot look how far readers have come");
            }
        }
    });
}

async fn round(cluster: &Cluster, groups: &[&str], streams: &[Stream], limit_ms: u64, pool: &PgPool) -> Result<(), Error> {
    let committed = cluster.committed(groups, streams).await?;
    if committed.is_empty() {
        return Ok(());
    }
    let report = async |db: &mut PgConnection| {
        for group in groups {
            let of_group = committed.iter().filter(|committed| committed.group == *group);
            let seqs: Vec<(Stream, i64)> = of_group.map(|committed| (committed.stream.clone(), committed.seq)).collect();
            if !seqs.is_empty() {
                store::report(db, group, &seqs).await?;
            }
        }
        Ok(())
    };
    patience::at(limit_ms, pool, report).await
}
