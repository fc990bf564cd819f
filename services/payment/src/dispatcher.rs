//! Calls the provider, outside of every transaction, and brings what it says back to the runner.
//!
//! The rows of `provider_calls` are the queue. They are written with the intent, already leased to this dispatcher and handed to it
//! after the commit, so a new charge waits for no poll. A crash, an unknown outcome and a full hand-over all end the same way: the
//! row is due again, and a sweep takes it. A row is marked as sent before its call leaves, so what was never sent can still be
//! voided; a call that may have left before begins by asking what became of its key, and only then sends the same key again.
//! An outcome that cannot be saved is nobody's but its own: its call is set aside for a person, and not taken again.

mod call;
mod handover;

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use contracts::ids;
use futures::FutureExt;
use messaging::{Runner, Tasks};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::{JoinError, JoinSet},
    time::Instant,
};
use uuid::Uuid;

pub(crate) use handover::Handover;

use crate::{
    events::{Input, Payments},
    payment,
    provider::{Outcome, Provider},
    store::{self, Call, Kind, Postponed, SetAside},
};

/// The bounds of the dispatcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Calls under way at the provider.
    pub(crate) concurrent_calls_max: usize,
    /// Calls under way and outcomes that wait for their commit.
    pub(crate) in_work_max: usize,
    /// New calls handed over in memory; beyond that the sweep finds them.
    pub(crate) handed_max: usize,
    /// How long a charge, a refund or a query may take before it counts as unknown.
    pub(crate) provider_timeout_ms: u64,
    /// How long a call is left to the dispatcher that took it: longer than a query and a charge together.
    pub(crate) lease_ms: i64,
    /// Pause between two sweeps for calls that are due.
    pub(crate) sweep_ms: u64,
    /// Pause before an unknown outcome is looked at again: doubles from the first to the last, full jitter.
    pub(crate) retry_first_ms: u64,
    pub(crate) retry_last_ms: u64,
    /// How long the provider keeps our keys. After that a key is only asked about, never sent again.
    pub(crate) provider_key_window_s: i64,
    /// How long calls under way are waited for at the end; what is left is unknown and comes back with its lease.
    pub(crate) drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_calls_max: 256,
            in_work_max: 4_096,
            handed_max: 16_384,
            provider_timeout_ms: 2_000,
            lease_ms: 6_000,
            sweep_ms: 250,
            retry_first_ms: 500,
            retry_last_ms: 30_000,
            provider_key_window_s: 86_400,
            drain_ms: 2_500,
        }
    }
}

impl Limits {
    /// What a call may take in all; a lease with less than that is renewed before the call.
    fn call_ms_max(&self) -> i64 {
        2 * i64::try_from(self.provider_timeout_ms).unwrap_or(i64::MAX / 4) + 500
    }

    /// Full jitter, capped.
    fn backoff_ms(&self, attempts: i32) -> u64 {
        let doublings = u32::try_from(attempts - 1).unwrap_or_default().min(16);
        let ceiling = (self.retry_first_ms << doublings).min(self.retry_last_ms);
        rand::random_range(1..=ceiling.max(1))
    }
}

/// Why a call is set aside.
const UNSAVED: &str = "what the provider said could not be saved; the log says why";

pub(crate) struct Dispatcher<P> {
    pool: PgPool,
    provider: Arc<P>,
    runner: Runner<Payments>,
    limits: Limits,
    handed: mpsc::Receiver<Uuid>,
    /// Payments whose new call is to be marked and made.
    waiting: Vec<Uuid>,
    postponed: Vec<Postponed>,
    set_aside: Vec<SetAside>,
    sweep_at: Instant,
    permits: Arc<Semaphore>,
    freed: Arc<Notify>,
    work: JoinSet<Ended>,
    /// Calls that have a task here, by id.
    in_work: HashSet<Uuid>,
}

struct Ended {
    payment_id: Uuid,
    call_id: Uuid,
    next: Next,
}

/// What becomes of a call.
enum Next {
    /// Nothing: it is answered, or the end of its lease brings it again.
    Over,
    /// It is looked at again after a pause.
    AgainMs(u64),
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
        Self {
            pool,
            provider,
            runner,
            limits,
            handed,
            waiting: Vec::new(),
            postponed: Vec::new(),
            set_aside: Vec::new(),
            sweep_at: Instant::now(),
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
        let now = Instant::now();
        if now >= self.sweep_at {
            // At most half, rounded up: neither what is left over nor what is new starves the other.
            let rows_max = self.room().div_ceil(2);
            if rows_max > 0 {
                let due = store::claim_due(&self.pool, i64::try_from(rows_max).unwrap_or(1), self.limits.lease_ms).await?;
                // A full hand: there may be more.
                self.sweep_at = if due.len() == rows_max { now } else { now + Duration::from_millis(self.limits.sweep_ms) };
                self.begin_all(due);
            }
        }
        let room = self.room();
        while self.waiting.len() < room
            && let Ok(payment_id) = self.handed.try_recv()
        {
            self.waiting.push(payment_id);
        }
        if room > 0 && !self.waiting.is_empty() {
            // What does not come back is gone, or held by an undo; if it stays, the end of its lease brings it again.
            let ids: Vec<Uuid> = self.waiting.drain(..self.waiting.len().min(room)).collect();
            let calls = store::mark_sent(&self.pool, &ids, self.limits.lease_ms, self.limits.call_ms_max()).await?;
            self.begin_all(calls);
        }
        Ok(())
    }

    /// How many calls may be started.
    fn room(&self) -> usize {
        self.permits.available_permits().min(self.limits.in_work_max.saturating_sub(self.in_work.len()))
    }

    async fn rest(&mut self, tasks: &Tasks) {
        let room = self.room() > 0;
        if room && !self.waiting.is_empty() {
            return;
        }
        tokio::select! {
            () = tasks.stopping() => {}
            Some(payment_id) = self.handed.recv(), if room => self.waiting.push(payment_id),
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
            self.in_work.insert(call.id);
            let (provider, runner, freed, limits) =
                (Arc::clone(&self.provider), self.runner.clone(), Arc::clone(&self.freed), self.limits);
            self.work.spawn(async move {
                // A panic of the provider's client says nothing about the money.
                let outcome = AssertUnwindSafe(call::make(&*provider, &call, &limits))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Outcome::Unknown("the provider's client panicked".to_owned()));
                drop(permit);
                freed.notify_one();
                // A task that ended without a word would keep its id in `in_work`, and nobody would look at the call again.
                let next = AssertUnwindSafe(report(&runner, &call, outcome, &limits)).catch_unwind().await;
                let next = next.unwrap_or_else(|_| Next::AgainMs(limits.backoff_ms(call.attempts)));
                Ended { payment_id: call.payment_id, call_id: call.id, next }
            });
        }
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(Ended { payment_id, call_id, next }) => {
                self.in_work.remove(&call_id);
                match next {
                    Next::Over => {}
                    Next::AgainMs(again_ms) => {
                        let delay_ms = i64::try_from(again_ms).unwrap_or(i64::MAX);
                        self.postponed.push(Postponed { payment_id, call_id, delay_ms });
                    }
                    Next::SetAside => self.set_aside.push(SetAside { payment_id, call_id }),
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

/// Brings a known outcome to the runner, and says what becomes of the call.
async fn report(runner: &Runner<Payments>, call: &Call, outcome: Outcome, limits: &Limits) -> Next {
    let known = match outcome {
        Outcome::Known(known) => known,
        Outcome::Unknown(reason) => {
            let again_ms = limits.backoff_ms(call.attempts);
            tracing::warn!(payment_id = %call.payment_id, attempts = call.attempts, reason, again_ms, "provider outcome unknown");
            return Next::AgainMs(again_ms);
        }
    };
    let input = match call.kind {
        Kind::Charge => payment::Input::ChargeAnswered { amount: call.amount, currency: call.currency.clone(), known },
        Kind::Refund => payment::Input::RefundAnswered { known },
    };
    let input = Input::Change { order_id: call.order_id, input };
    let (id, key) = (ids::derive(call.id, "outcome"), call.order_id.to_string());
    match runner.tell(id, key, call.correlation.clone(), call.trace.clone(), input).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlasts_a_query_and_a_charge() {
        let limits = Limits::default();
        assert!(limits.lease_ms > limits.call_ms_max());
    }

    #[test]
    fn the_backoff_is_capped() {
        let limits = Limits::default();
        for attempts in [i32::MIN + 1, 0, 1, 2, 30, i32::MAX] {
            assert!((1..=limits.retry_last_ms).contains(&limits.backoff_ms(attempts)));
        }
    }
}
