//! The embedded bus: the outbox is the log.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::PgListener};
use tokio::sync::Notify;

use super::{
    Fetched, Publisher,
    tail::{Behind, Tail},
};
use crate::{
    Error, Position, Record, Stream,
    outbox::{
        readers,
        store::{self, CHANNEL},
    },
    patience,
};

/// The slow poll behind the wake-ups.
const POLL_MS: u64 = 500;
/// Rows of one stream in one look, at most.
const STREAM_ROWS_MAX: i64 = 512;
/// Payload of one stream in one look at the database: no record comes behind that much, so a backlog of large ones does not come at once.
const STREAM_BYTES_MAX: usize = 1024 * 1024;

/// The streams of one publisher: what it committed last in this process from memory, everything else from its database.
pub(crate) struct Outboxes {
    pool: PgPool,
    tail: Arc<Tail>,
    bell: Arc<Notify>,
    remote: bool,
    listener: Option<PgListener>,
    /// Kept from look to look: giving it back costs a round trip each time.
    db: Option<PoolConnection<Postgres>>,
    /// Streams whose end was seen in the database: what comes later is in the tail.
    seen: HashSet<Stream>,
    looked_at: Instant,
    next: Next,
    database_ms_max: u64,
}

/// How the next fetch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// With the tail, and the database where that knows nothing.
    Read,
    /// With the database: another process may have written, or the log may not be what it was.
    Look,
    /// By waiting: there was nothing more.
    Wait,
}

impl Outboxes {
    pub(super) fn new(publisher: &Publisher, tail: Arc<Tail>, bell: Arc<Notify>, database_ms_max: u64) -> Self {
        Self {
            pool: publisher.pool.clone(),
            tail,
            bell,
            remote: publisher.remote,
            listener: None,
            db: None,
            seen: HashSet::new(),
            looked_at: Instant::now(),
            next: Next::Look,
            database_ms_max,
        }
    }

    pub(super) async fn fetch(&mut self, at: &[(Stream, Position)]) -> Result<Vec<Fetched>, Error> {
        if self.remote && self.listener.is_none() {
            let listening = async {
                let mut listener = PgListener::connect_with(&self.pool).await?;
                listener.listen(CHANNEL).await?;
                Ok(listener)
            };
            self.listener = Some(patience::within(self.database_ms_max, listening).await?);
        }
        // Also while there is always something in memory: what it lacks would wait for ever.
        let overdue = self.looked_at.elapsed() >= Duration::from_millis(POLL_MS);
        let look = match self.next {
            Next::Look => true,
            Next::Read | Next::Wait if overdue => true,
            Next::Read => false,
            Next::Wait => self.wait().await,
        };
        if look {
            self.looked_at = Instant::now();
        }
        // Until this look has come to its end, the next one begins again.
        self.next = Next::Look;
        let (mut fetched, unknown, mut full) = match look || self.remote {
            true => (Vec::new(), at.to_vec(), false),
            false => self.remember(at),
        };
        if !unknown.is_empty() {
            let records = self.read(&unknown).await?;
            let (read, more) = follow(&unknown, records);
            fetched.extend(read);
            full |= more;
            if !more {
                self.seen.extend(unknown.into_iter().map(|(stream, _)| stream));
            }
        }
        self.next = if full { Next::Read } else { Next::Wait };
        Ok(fetched)
    }

    /// What memory has of these streams, those it knows nothing of, and whether there may be more.
    fn remember(&self, at: &[(Stream, Position)]) -> (Vec<Fetched>, Vec<(Stream, Position)>, bool) {
        let limit = usize::try_from(STREAM_ROWS_MAX).unwrap_or(usize::MAX);
        let (mut records, mut unknown, mut full) = (Vec::new(), Vec::new(), false);
        for (stream, position) in at {
            match self.tail.after(stream, position, limit, &mut records) {
                Behind::Given(rows) => full |= rows == limit,
                Behind::Nothing => {}
                Behind::Unheard if self.seen.contains(stream) => {}
                Behind::Unheard | Behind::Unknown => unknown.push((stream.clone(), *position)),
            }
        }
        (records.into_iter().map(Fetched::Record).collect(), unknown, full)
    }

    async fn read(&mut self, at: &[(Stream, Position)]) -> Result<Vec<Record>, Error> {
        let bytes = i64::try_from(STREAM_BYTES_MAX).unwrap_or(i64::MAX);
        self.ask(async |db| store::read(db, at, STREAM_ROWS_MAX, bytes).await).await
    }

    /// How far a group has told the publisher to be in these streams.
    pub(super) async fn told(&mut self, group: &str, streams: &[Stream]) -> Result<Vec<(Stream, i64)>, Error> {
        self.ask(async |db| readers::store::furthest(db, group, streams).await).await
    }

    /// Looks into the publisher's database, on the connection that is kept.
    async fn ask<T>(&mut self, look: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>) -> Result<T, Error> {
        let mut db = match self.db.take() {
            Some(db) => db,
            None => self.pool.acquire().await?,
        };
        let seen = patience::on(self.database_ms_max, &mut db, look).await;
        match seen {
            Ok(_) => self.db = Some(db),
            // What took this connection may have made the other deaf.
            Err(_) => self.listener = None,
        }
        Ok(seen?)
    }

    /// Other positions are asked for next: what was seen tells nothing of them.
    pub(super) fn reopened(&mut self) {
        self.seen.clear();
        self.next = Next::Look;
    }

    /// Until something may be new; whether to look into the database. The bell keeps a ring that came since the last look.
    async fn wait(&mut self) -> bool {
        let poll = tokio::time::sleep(Duration::from_millis(POLL_MS));
        let heard = async {
            match &mut self.listener {
                Some(listener) => listener.recv().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let (look, lost) = tokio::select! {
            () = poll => (true, false),
            () = self.bell.notified() => (false, false),
            ok = heard => (true, !ok),
        };
        if lost {
            self.listener = None;
        }
        look
    }
}

/// Checks that each stream still has the record it was left at, and gives what comes after it; and whether there may be more.
fn follow(at: &[(Stream, Position)], records: Vec<Record>) -> (Vec<Fetched>, bool) {
    let mut by_stream: HashMap<Stream, VecDeque<Record>> = HashMap::new();
    for record in records {
        by_stream.entry(record.stream.clone()).or_default().push_back(record);
    }
    let full = by_stream.values().any(|records| {
        let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
        bytes >= STREAM_BYTES_MAX || i64::try_from(records.len()).is_ok_and(|rows| rows >= STREAM_ROWS_MAX)
    });
    let mut fetched = Vec::new();
    for (stream, position) in at {
        let mut records = by_stream.remove(stream).unwrap_or_default();
        if position.seq > 0 {
            match records.front().and_then(|record| Some((record.place?, record.id))) {
                Some((place, id)) if place.seq == position.seq && Some(id) == position.last_id => drop(records.pop_front()),
                // The row itself is cut away, and its successor names it: so after a rejoin.
                Some((place, _)) if place.seq == position.seq + 1 && place.prev == position.last_id => {}
                _ => {
                    fetched.push(Fetched::Diverged(stream.clone()));
                    continue;
                }
            }
        }
        fetched.extend(records.into_iter().map(|record| Fetched::Record(Arc::new(record))));
    }
    (fetched, full)
}
