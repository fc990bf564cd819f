//! The breaker as the dispatcher and its calls share it: with a clock, and for people to see.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kit::counts::PROVIDER_BREAKER;
use tokio::time::Instant;

use crate::breaker::{Breaker, Limits, Stand, Ticket};

pub(super) struct Gate {
    breaker: Mutex<Breaker>,
    began_at: Instant,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        PROVIDER_BREAKER.set(level(Stand::Closed));
        Self { breaker: Mutex::new(Breaker::new(limits)), began_at: Instant::now() }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn room(&self) -> usize {
        let now_ms = self.now_ms();
        self.watched(|breaker| breaker.room(now_ms))
    }

    /// When it tries again, if it is open.
    pub(super) fn tries_at(&self) -> Option<Instant> {
        self.lock().tries_at_ms().map(|at_ms| self.began_at + Duration::from_millis(at_ms))
    }

    /// Calls that try the provider now; `None` unless some may.
    pub(super) fn trying(&self) -> Option<u32> {
        let now_ms = self.now_ms();
        self.watched(|breaker| {
            breaker.room(now_ms);
            breaker.trying()
        })
    }

    pub(super) fn begin(&self, again: bool) -> Ticket {
        self.lock().begin(again)
    }

    pub(super) fn end(&self, ticket: Ticket, answered: bool) {
        let now_ms = self.now_ms();
        self.watched(|breaker| breaker.end(ticket, answered, now_ms));
    }

    /// Says so if the breaker changes.
    fn watched<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.lock();
        let before = breaker.stand();
        let done = act(&mut breaker);
        let (after, tries_at_ms) = (breaker.stand(), breaker.tries_at_ms());
        drop(breaker);
        if before != after {
            PROVIDER_BREAKER.set(level(after));
            match after {
                Stand::Open => {
                    let tries_in_ms = tries_at_ms.unwrap_or_default().saturating_sub(self.now_ms());
                    tracing::warn!(r#type = "PROVIDER_BREAKER", state = "OPEN", tries_in_ms, "the provider fails: calls wait");
                }
                Stand::HalfOpen => tracing::info!(r#type = "PROVIDER_BREAKER", state = "HALF_OPEN", "a few calls try the provider"),
                Stand::Closed => tracing::info!(r#type = "PROVIDER_BREAKER", state = "CLOSED", "the provider answers: calls go on"),
            }
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As on /metrics.
fn level(stand: Stand) -> u64 {
    match stand {
        Stand::Closed => 0,
        Stand::HalfOpen => 1,
        Stand::Open => 2,
    }
}
