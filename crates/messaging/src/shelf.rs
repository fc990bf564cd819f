//! Looks after records that are held back, beside the readers.

use std::{sync::Arc, time::Duration};

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

use crate::{
    Handler, Runner,
    batch::Group,
    item::{Item, Origin},
    log,
    meters::Meters,
    parking, patience,
};

/// How often redriven and early records are looked after.
const ROUND_MS: u64 = 500;
const ROWS_MAX: i64 = 256;

/// Tries again what is held back, in order, and turns early records that waited too long into dead letters.
pub(crate) async fn rounds<H: Handler>(
    runner: Runner<H>,
    handler: Arc<H>,
    group: Arc<Group>,
    pool: PgPool,
    owned: watch::Receiver<Vec<i32>>,
    meters: Arc<Meters>,
) {
    let early_wait_s = group.limits.early_wait_s;
    // The last row that was looked at while a look is full: what waits for rows further behind must not keep them from being seen.
    let mut after = 0;
    loop {
        if after == 0 {
            tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
        }
        let partitions = owned.borrow().clone();
        let round = async |db: &mut PgConnection| {
            let room = group.park_room();
            let given_up = parking::give_up(&mut *db, &group, early_wait_s, room).await?;
            group.given_up(given_up.len(), room);
            meters.dead_letters(given_up.len() as u64);
            for (event_id, key, reason) in given_up {
                log::given_up(group.name, event_id, &key, &reason);
            }
            parking::store::to_try(db, group.name, &partitions, after, ROWS_MAX).await
        };
        match patience::at(group.limits.database_ms_max, &pool, round).await {
            Ok(rows) => {
                let full = i64::try_from(rows.len()).is_ok_and(|len| len >= ROWS_MAX);
                after = rows.last().filter(|_| full).map_or(0, |row| row.id);
                for row in rows {
                    if !runner.deliver(Item::heard(handler.as_ref(), group.name, Origin::Held(Box::new(row)))).await {
                        return;
                    }
                }
            }
            Err(error) => {
                after = 0;
                tracing::debug!(service = group.name, %error, "cannot look after parked records");
            }
        }
    }
}
