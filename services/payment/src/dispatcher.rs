//! Calls the provider, outside of every transaction, and brings what it says back to the runner.
//!
//! The rows of `provider_calls` are the queue. They are written with the intent, already leased to this dispatcher and handed to it
//! after the commit, so a new charge waits for no poll. A crash, an unknown outcome and a full hand-over all end the same way: the
//! row is due again, and a sweep takes it. A row is marked as sent before its call leaves, so what was never sent can still be
//! withdrawn; a call that may have left before, here or in a history that a restore has lost, begins by asking what became of its key, and
//! only then sends the same key again. A call that is withdrawn is only asked about.
//! An outcome that cannot be saved is nobody's but its own: its call is set aside for a person, and not taken again. So is a call that
//! the provider does not know and has had time to forget. While the provider fails, a breaker holds all calls back but a few that try,
//! and what is tried again is bounded by a budget.

mod budget;
mod call;
mod gate;
mod handover;
mod limits;
pub(crate) mod store;

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use contracts::ids;
use futures::FutureExt;
use kit::counts::{PROVIDER_CALLS_RETRIED, PROVIDER_CALLS_UNKNOWN};
use messaging::{Runner, Tasks};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::{JoinError, JoinSet},
    time::Instant,
};
use uuid::Uuid;

pub(crate) use handover::Handover;
pub(crate) use limits::Limits;

use self::{
    budget::Budget,
    call::Outcome,
    gate::Gate,
    store::{Call, Postponed, SetAside},
};
use crate::{
    events::{Input, Payments},
    payment::{self, Made},
    provider::Provider,
};

/// Why a call is set aside.
const UNSAVED: &str = "what the provider said could not be saved; the log says why";

/// How far a sweep looks back, and a whole one: longer than anything waits.
const SWEEP_BACK_MS: i64 = 1_000;
const WHOLE_SWEEP_MS: i64 = 100 * 365 * 86_400 * 1_000;
/// Pause between two whole sweeps that find nothing.
const WHOLE_SWEEP_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Dispatcher<P> {
    pool: PgPool,
    provider: Arc<P>,
    runner: Runner<Payments>,
    limits: Limits,
    /// Holds calls back while the provider fails.
    gate: Arc<Gate>,
    retries: Budget,
    handed: mpsc::Receiver<Uuid>,
    /// Keys of new calls that are to be marked and made.
    waiting: Vec<Uuid>,
    postponed: Vec<Postponed>,
    set_aside: Vec<SetAside>,
    sweep_at: Instant,
    whole_sweep_at: Instant,
    permits: Arc<Semaphore>,
    freed: Arc<Notify>,
    work: JoinSet<Ended>,
    /// Calls that have a task here, by id.
    in_work: HashSet<Uuid>,
}

struct Ended {
    key: Uuid,
    call_id: Uuid,
    attempts: i32,
    next: Next,
}

/// What becomes of a call.
enum Next {
    /// Nothing: it is answered, or the end of its lease brings it again.
    Over,
    /// It is looked at again after a pause; whether a person was told by then.
    Again { delay_ms: u64, unknown_said: bool },
    /// A person must look.
    SetAside,
}

impl<P: Provider> Dispatcher<P> {
    pub(crate) fn new(
        pool: PgPool,
        provider: Arc<P>,
        runner: Runner<Payments>,
        handed: mpsc::Receiver<Uuid>,
        limits: Limits,
    ) -> Self {
        let gate = Arc::new(Gate::new(limits.breaker));
        Self {
            pool,
            provider,
            runner,
            limits,
            retries: Budget::new(limits.retries, gate.now_ms()),
            gate,
            handed,
            waiting: Vec::new(),
            postponed: Vec::new(),
            set_aside: Vec::new(),
            sweep_at: Instant::now(),
            whole_sweep_at: Instant::now(),
            permits: Arc::new(Semaphore::new(limits.concurrent_calls_max)),
            freed: Arc::new(Notify::new()),
            work: JoinSet::new(),
            in_work: HashSet::new(),
        }
    }

    pub(crate) async fn run(mut self, tasks: Tasks) {
        while !tasks.is_stopping() {
            if let Err(error) = self.turn().await {
                tracing::warn!(r#type = "PROCESSING_ERROR", %error, "calls to the provider wait for the database");
                self.pause(&tasks).await;
            } else {
                self.rest(&tasks).await;
            }
        }
        self.drain().await;
    }

    /// Puts off what is unknown, then takes as many calls as there is room for and starts them.
    async fn turn(&mut self) -> sqlx::Result<()> {
        self.put_off().await?;
        // Calls that were never made try the provider first: a key that is never answered would speak for all the others.
        if self.gate.trying().is_some() {
            self.take_handed().await?;
            self.sweep().await
        } else {
            self.sweep().await?;
            self.take_handed().await
        }
    }

    async fn sweep(&mut self) -> sqlx::Result<()> {
        let now = Instant::now();
        // At most half, rounded up: neither what is left over nor what is new starves the other.
        let rows_max = self.room().div_ceil(2);
        if now < self.sweep_at || rows_max == 0 {
            return Ok(());
        }
        let (lease_ms, trying) = (self.limits.lease_ms, self.gate.trying());
        let retries_max = self.retries.room(self.gate.now_ms()).min(rows_max);
        let (rows, retries) = (i64::try_from(rows_max).unwrap_or(1), i64::try_from(retries_max).unwrap_or(0));
        // While somebody holds an old snapshot, the index is full of calls that are long over: most sweeps look a second back.
        let whole = now >= self.whole_sweep_at;
        let back_ms = if whole { WHOLE_SWEEP_MS } else { SWEEP_BACK_MS };
        let mut due = Vec::new();
        if trying.is_some() {
            due = store::claim_due(&self.pool, rows, 0, lease_ms, back_ms).await?;
        }
        let retried = due.is_empty() && trying.is_none_or(|under_way| under_way == 0);
        if retried {
            due = store::claim_due(&self.pool, rows, retries, lease_ms, back_ms).await?;
        }
        if !due.is_empty() {
            self.whole_sweep_at = now;
        } else if whole && retried && retries > 0 {
            self.whole_sweep_at = now + WHOLE_SWEEP_EVERY;
        }
        // A full hand: there may be more.
        self.sweep_at = if due.len() == rows_max { now } else { now + Duration::from_millis(self.limits.sweep_ms) };
        self.begin_all(due);
        Ok(())
    }

    async fn take_handed(&mut self) -> sqlx::Result<()> {
        let room = self.room();
        while self.waiting.len() < room
            && let Ok(key) = self.handed.try_recv()
        {
            self.waiting.push(key);
        }
        if room > 0 && !self.waiting.is_empty() {
            // What does not come back is gone, or held by an undo; if it stays, the end of its lease brings it again.
            let keys: Vec<Uuid> = self.waiting.drain(..self.waiting.len().min(room)).collect();
            let calls = store::mark_sent(&self.pool, &keys, self.limits.lease_ms, self.limits.call_ms_max()).await?;
            self.begin_all(calls);
        }
        Ok(())
    }

    /// How many calls may be started.
    fn room(&self) -> usize {
        let room = self.permits.available_permits().min(self.limits.in_work_max.saturating_sub(self.in_work.len()));
        room.min(self.gate.room())
    }

    async fn rest(&mut self, tasks: &Tasks) {
        let room = self.room() > 0;
        if room && !self.waiting.is_empty() {
            return;
        }
        let tries_at = self.gate.tries_at();
        tokio::select! {
            () = tasks.stopping() => {}
            () = tokio::time::sleep_until(tries_at.unwrap_or(self.sweep_at)), if tries_at.is_some() => {}
            Some(key) = self.handed.recv(), if room => self.waiting.push(key),
            Some(ended) = self.work.join_next(), if !self.work.is_empty() => self.ended(ended),
            () = self.freed.notified(), if !room => {}
            () = tokio::time::sleep_until(self.sweep_at), if room => {}
        }
        while let Some(ended) = self.work.try_join_next() {
            self.ended(ended);
        }
    }

    async fn pause(&mut self, tasks: &Tasks) {
        tokio::select! {
            () = tasks.stopping() => {}
            () = tokio::time::sleep(Duration::from_millis(self.limits.sweep_ms)) => {}
        }
        while let Some(ended) = self.work.try_join_next() {
            self.ended(ended);
        }
    }

    fn begin_all(&mut self, calls: Vec<Call>) {
        for call in calls {
            // Its task is still at it, only slower than its lease.
            if self.in_work.contains(&call.id) {
                continue;
            }
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { continue };
            let again = call.attempts > 1;
            if again {
                self.retries.sent_again(1);
                PROVIDER_CALLS_RETRIED.add(1);
            } else {
                self.retries.sent_first(1);
            }
            self.in_work.insert(call.id);
            let (provider, runner, freed, limits) =
                (Arc::clone(&self.provider), self.runner.clone(), Arc::clone(&self.freed), self.limits);
            let (gate, ticket) = (Arc::clone(&self.gate), self.gate.begin(again));
            self.work.spawn(async move {
                // A panic of the provider's client says nothing about the money.
                let outcome = AssertUnwindSafe(call::make(&*provider, &call, &limits))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Outcome::Unknown { reason: "the provider's client panicked".to_owned(), answered: false });
                gate.end(ticket, outcome.is_answered());
                drop(permit);
                freed.notify_one();
                // A task that ended without a word would keep its id in `in_work`, and nobody would look at the call again.
                let next = AssertUnwindSafe(report(&runner, &call, outcome, &limits)).catch_unwind().await;
                let delay_ms = limits.backoff_ms(call.attempts);
                let next = next.unwrap_or(Next::Again { delay_ms, unknown_said: call.unknown_said });
                Ended { key: call.key, call_id: call.id, attempts: call.attempts, next }
            });
        }
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(Ended { key, call_id, attempts, next }) => {
                self.in_work.remove(&call_id);
                match next {
                    Next::Over => {}
                    Next::Again { delay_ms, unknown_said } => {
                        let delay_ms = i64::try_from(delay_ms).unwrap_or(i64::MAX);
                        self.postponed.push(Postponed { key, call_id, attempts, delay_ms, unknown_said });
                    }
                    Next::SetAside => self.set_aside.push(SetAside { key, call_id, attempts }),
                }
            }
            // Nothing in it can panic, and nobody aborts it.
            Err(error) => tracing::error!(%error, "a call to the provider ended without a word"),
        }
    }

    async fn put_off(&mut self) -> sqlx::Result<()> {
        const ROWS_MAX: usize = 256;
        while !self.postponed.is_empty() {
            let rows = self.postponed.len().min(ROWS_MAX);
            store::postpone(&self.pool, &self.postponed[..rows]).await?;
            self.postponed.drain(..rows);
        }
        while !self.set_aside.is_empty() {
            let rows = self.set_aside.len().min(ROWS_MAX);
            store::set_aside(&self.pool, &self.set_aside[..rows], UNSAVED).await?;
            self.set_aside.drain(..rows);
        }
        Ok(())
    }

    async fn drain(mut self) {
        let limit = Duration::from_millis(self.limits.drain_ms);
        let finish = async {
            while let Some(ended) = self.work.join_next().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(limit, finish).await.is_err() {
            tracing::info!(calls = self.work.len(), "stopped with provider calls under way; they are taken up at the next start");
        }
        if let Err(error) = self.put_off().await {
            tracing::debug!(%error, "unknown outcomes come back with their leases");
        }
    }
}

/// Brings an outcome to the runner, and says what becomes of the call.
async fn report(runner: &Runner<Payments>, call: &Call, outcome: Outcome, limits: &Limits) -> Next {
    let made = Made { kind: call.kind, key: call.key, amount: call.amount, currency: call.currency.clone() };
    let told = match outcome {
        Outcome::Known(known) => tell(runner, call, "outcome", payment::Input::Answered { call: made, known }).await,
        Outcome::Forgotten => tell(runner, call, "unknown", payment::Input::Unknown { call: made }).await,
        Outcome::Overdue { reason } => {
            // Once; if it is not saved, with the next try.
            let said = call.unknown_said || tell(runner, call, "overdue", payment::Input::Overdue { call: made }).await.is_some();
            return again(call, limits, &reason, said);
        }
        Outcome::Unknown { reason, .. } => return again(call, limits, &reason, call.unknown_said),
    };
    match told {
        Some(()) => Next::Over,
        // Stopping: the end of its lease brings the call again.
        None if runner.is_closed() => Next::Over,
        None => {
            tracing::error!(
                r#type = "PROCESSING_ERROR",
                payment_id = %call.payment_id,
                order_id = %call.order_id,
                "an outcome could not be saved: its call needs attention"
            );
            Next::SetAside
        }
    }
}

/// `None` if it is not saved.
async fn tell(runner: &Runner<Payments>, call: &Call, name: &str, input: payment::Input) -> Option<()> {
    if matches!(input, payment::Input::Unknown { .. } | payment::Input::Overdue { .. }) {
        let (order_id, key, kind) = (call.order_id, call.key, call.kind.name());
        tracing::warn!(r#type = "PAYMENT_UNKNOWN", orderId = %order_id, %key, kind, "nobody knows what became of a call");
    }
    // What it leads to may have been done as long ago as the call.
    let input = Input::Change { order_id: call.order_id, input, asked_at: call.asked_at };
    let (id, key) = (ids::derive(call.id, name), call.order_id.to_string());
    runner.tell(id, key, call.correlation.clone(), call.trace.clone(), input).await
}

fn again(call: &Call, limits: &Limits, reason: &str, unknown_said: bool) -> Next {
    PROVIDER_CALLS_UNKNOWN.add(1);
    let delay_ms = limits.backoff_ms(call.attempts);
    let (payment_id, kind, attempts) = (call.payment_id, call.kind.name(), call.attempts);
    tracing::warn!(%payment_id, kind, attempts, reason, again_ms = delay_ms, "provider outcome unknown");
    Next::Again { delay_ms, unknown_said }
}
