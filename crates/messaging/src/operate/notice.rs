//! How a running reader learns that a person sent its group elsewhere (see `operate::rejoin`).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sqlx::PgPool;

use super::store;
use crate::{Stream, patience};

const LOOK_EVERY_MS: u64 = 1_000;

/// The newest rejoin of each stream of a group, as it was at the last look.
pub(crate) struct Notice {
    seen: HashMap<Stream, i64>,
    looked_at: Instant,
}

impl Notice {
    pub(crate) fn new() -> Self {
        Self { seen: HashMap::new(), looked_at: Instant::now() }
    }

    /// The streams that were sent elsewhere since the last look, and at the first look all that ever were: to start again from the stored
    /// position does no harm. Looks once a second at most.
    pub(crate) async fn look(&mut self, limit_ms: u64, pool: &PgPool, group: &str) -> sqlx::Result<Vec<Stream>> {
        if self.looked_at.elapsed() < Duration::from_millis(LOOK_EVERY_MS) {
            return Ok(Vec::new());
        }
        let now = patience::at(limit_ms, pool, async |db| store::rejoins(db, group).await).await?;
        self.looked_at = Instant::now();
        let sent =
            now.iter().filter(|(stream, id)| self.seen.get(*stream) != Some(*id)).map(|(stream, _)| stream.clone()).collect();
        self.seen = now;
        Ok(sent)
    }
}
