//! The embedded bus: the outbox is the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use sqlx::{PgPool, Postgres, pool::PoolConnection, postgres::PgListener};
use tokio::sync::Notify;

use super::{Fetched, Publisher};
use crate::{
    Error, Position, Record, Stream,
    outbox::store::{self, CHANNEL},
};

/// The slow poll behind the wake-ups.
const POLL_MS: u64 = 500;
/// Rows of one stream in one look, at most.
const STREAM_ROWS_MAX: i64 = 512;

/// The streams of one publisher, read in its database.
pub(crate) struct Outboxes {
    pool: PgPool,
    bell: Arc<Notify>,
    remote: bool,
    listener: Option<PgListener>,
    /// Kept from look to look: giving it back costs a round trip each time.
    db: Option<PoolConnection<Postgres>>,
    /// The last look saw all there was: wait before the next.
    drained: bool,
}

impl Outboxes {
    pub(super) fn new(publisher: &Publisher, bell: Arc<Notify>) -> Self {
        Self { pool: publisher.pool.clone(), bell, remote: publisher.remote, listener: None, db: None, drained: false }
    }

    pub(super) async fn fetch(&mut self, at: &[(Stream, Position)]) -> Result<Vec<Fetched>, Error> {
        if self.remote && self.listener.is_none() {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            listener.listen(CHANNEL).await?;
            self.listener = Some(listener);
        }
        if std::mem::take(&mut self.drained) {
            self.wait().await;
        }
        let mut db = match self.db.take() {
            Some(db) => db,
            None => self.pool.acquire().await?,
        };
        let records = store::read(&mut db, at, STREAM_ROWS_MAX).await?;
        self.db = Some(db);
        let (fetched, full) = follow(at, records);
        self.drained = !full;
        Ok(fetched)
    }

    /// Other positions are asked for next: what was seen tells nothing of them.
    pub(super) fn reopened(&mut self) {
        self.drained = false;
    }

    /// Until something may be new. The bell keeps a ring that came since the last look.
    async fn wait(&mut self) {
        let poll = tokio::time::sleep(Duration::from_millis(POLL_MS));
        let heard = async {
            match &mut self.listener {
                Some(listener) => listener.recv().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let lost = tokio::select! {
            () = poll => false,
            () = self.bell.notified() => false,
            ok = heard => !ok,
        };
        if lost {
            self.listener = None;
        }
    }
}

/// Checks that each stream still has the record it was left at, and gives what comes after it; and whether there may be more.
fn follow(at: &[(Stream, Position)], records: Vec<Record>) -> (Vec<Fetched>, bool) {
    let mut by_stream: HashMap<Stream, VecDeque<Record>> = HashMap::new();
    for record in records {
        by_stream.entry(record.stream.clone()).or_default().push_back(record);
    }
    let full = by_stream.values().any(|records| i64::try_from(records.len()).is_ok_and(|rows| rows >= STREAM_ROWS_MAX));
    let mut fetched = Vec::new();
    for (stream, position) in at {
        let mut records = by_stream.remove(stream).unwrap_or_default();
        if position.seq > 0 {
            let anchor = records.pop_front();
            let kept = anchor
                .is_some_and(|record| record.place.is_some_and(|p| p.seq == position.seq) && Some(record.id) == position.last_id);
            if !kept {
                fetched.push(Fetched::Diverged(stream.clone()));
                continue;
            }
        }
        fetched.extend(records.into_iter().map(|record| Fetched::Record(Box::new(record))));
    }
    (fetched, full)
}
