//! Dry runs: what would become of a record if it were tried now.
//!
//! The worker itself rehearses, between two batches: load, decide, save, in a transaction that is always rolled back. To the handler that
//! is a batch whose commit failed, which it must stand anyway: what its `save` left behind is replaced by the next, and never told.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use sqlx::{Connection, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::sync::{mpsc, oneshot};

use super::store;
use crate::{
    Decision, Envelope, Handler, Heard, News, Record, Refused, Verdict,
    batch::{hash, text_of},
    clock,
    fault::blames_input,
    group::Group,
    item,
    outbox::publishable,
    patience, progress,
};

/// Rehearsals that wait for their turn, at most.
const WAITING_MAX: usize = 16;

/// What would become of a record if it were tried now, by itself, whatever else of its key is held back.
#[derive(Debug)]
pub enum Rehearsal {
    /// It would be applied.
    Applied {
        /// What would be said.
        news: Vec<News>,
    },
    /// It would have no effect: it is of no interest here, or was applied before.
    Skipped,
    /// The handler would not decide it.
    Refused {
        /// What would become of it.
        verdict: Verdict,
        /// Why.
        reason: String,
    },
    /// It could not be saved, or the handler would panic.
    Failed {
        /// What the database said, or the panic.
        error: String,
    },
}

/// The dead letters of a service that runs in this process. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    group: &'static str,
    pool: PgPool,
    stage: mpsc::Sender<Ask>,
}

/// A record to be rehearsed, and who wants to know.
pub(crate) struct Ask {
    record: Record,
    reply: oneshot::Sender<sqlx::Result<Rehearsal>>,
}

pub(crate) fn channel(group: &'static str, pool: PgPool) -> (DeadLetters, mpsc::Receiver<Ask>) {
    let (stage, asks) = mpsc::channel(WAITING_MAX);
    (DeadLetters { group, pool, stage }, asks)
}

impl DeadLetters {
    /// The name of the service and of its group.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.group
    }

    /// A connection to the service's database, for [`list`](super::list), [`redrive`](super::redrive) and the like.
    pub async fn db(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        self.pool.acquire().await
    }

    /// Tries a record and undoes all of it. Dropping the future gives up the wait, not the work.
    pub async fn rehearse(&self, record: Record) -> sqlx::Result<Rehearsal> {
        let (reply, told) = oneshot::channel();
        self.stage.send(Ask { record, reply }).await.map_err(|_| sqlx::Error::PoolClosed)?;
        told.await.unwrap_or(Err(sqlx::Error::PoolClosed))
    }
}

/// Carries out what was asked for.
pub(crate) async fn answer<H: Handler>(pool: &PgPool, handler: &H, group: &Group, ask: Ask) {
    let Ask { record, reply } = ask;
    let _ = reply.send(rehearse(pool, handler, group, &record).await);
}

async fn rehearse<H: Handler>(pool: &PgPool, handler: &H, group: &Group, record: &Record) -> sqlx::Result<Rehearsal> {
    let refused = |verdict, reason: &str| Ok(Rehearsal::Refused { verdict, reason: reason.to_owned() });
    let input = match item::meaning(handler, record, false) {
        Heard::Input(input) => input,
        Heard::Ignored | Heard::UnknownType => return Ok(Rehearsal::Skipped),
        Heard::NewerVersion => return refused(Verdict::Unknown, "of a version that is not known here"),
        Heard::Undecodable(reason) => return refused(Verdict::Poison, &reason),
    };
    let envelope = Envelope {
        id: record.id,
        key: record.key.clone(),
        at: clock::now(),
        correlation: record.correlation.clone(),
        trace: record.trace.clone(),
        input,
    };
    let undone = async |db: &mut PgConnection| {
        let mut tx = db.begin().await?;
        let played = AssertUnwindSafe(play(&mut tx, handler, group.name, record, &envelope)).catch_unwind().await;
        tx.rollback().await?;
        Ok::<_, sqlx::Error>(played)
    };
    match patience::at(group.limits.database_ms_max, pool, undone).await? {
        Ok(Ok(rehearsal)) => Ok(rehearsal),
        Ok(Err(error)) if blames_input(&error) => Ok(Rehearsal::Failed { error: error.to_string() }),
        Ok(Err(away)) => Err(away),
        Err(panic) => Ok(Rehearsal::Failed { error: format!("panicked: {}", text_of(panic.as_ref())) }),
    }
}

async fn play<H: Handler>(
    db: &mut PgConnection,
    handler: &H,
    group: &str,
    record: &Record,
    envelope: &Envelope<H::Input>,
) -> sqlx::Result<Rehearsal> {
    store::be_brief(&mut *db).await?;
    // A record of a foreign producer is told by its id from one that was applied.
    if record.place.is_none() {
        let known = progress::store::remembered(&mut *db, group, &[record.id]).await?;
        if known.iter().any(|(_, applied)| *applied == hash(record)) {
            return Ok(Rehearsal::Skipped);
        }
    }
    let mut state = handler.load(&mut *db, &[envelope]).await?;
    let news = match handler.decide(&mut state, envelope) {
        Ok(Decision { news, .. }) => news,
        Err(refusal) => {
            return Ok(match refusal.verdict() {
                Verdict::Skip => Rehearsal::Skipped,
                verdict => Rehearsal::Refused { verdict, reason: refusal.to_string() },
            });
        }
    };
    handler.save(&mut *db, state).await?;
    if let Some(why) = news.iter().find_map(|news| publishable::check(news, &envelope.correlation).err()) {
        return Ok(Rehearsal::Failed { error: why.to_string() });
    }
    // What would only be found out at the commit.
    store::check_now(db).await?;
    Ok(Rehearsal::Applied { news })
}
