//! What a batch has to tell once it is committed: to watchers, to the counters and to the log.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kit::counts::ORDERS_SUBMITTED;
use messaging::{Envelope, Trace};
use uuid::Uuid;

use crate::{
    order::Status,
    watch::{Change, Watchers},
};

/// A status that changed, for the log.
#[derive(Debug)]
pub(crate) struct Move {
    order_id: Uuid,
    to: Status,
    cause: Uuid,
    trace: Trace,
}

impl Move {
    /// Only if there is a change, and somebody who reads of it.
    pub(crate) fn of<I>(asked: &Envelope<I>, order_id: Uuid, from: Option<Status>, to: Status) -> Option<Self> {
        let told = from != Some(to) && tracing::enabled!(tracing::Level::DEBUG);
        told.then(|| Self { order_id, to, cause: asked.id, trace: asked.trace.clone() })
    }

    fn tell(&self) {
        tracing::debug!(
            r#type = "STATE_CHANGE",
            service = "order",
            orderId = %self.order_id,
            newState = self.to.name(),
            eventId = %self.cause,
            correlationId = %self.order_id,
            traceId = self.trace.id(),
            "changed"
        );
    }
}

/// Kept by the handler from the save to the commit.
#[derive(Default)]
pub(crate) struct Pending(Mutex<Told>);

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) watched: Vec<Change>,
    pub(crate) submitted: usize,
    pub(crate) moves: Vec<Move>,
}

impl Pending {
    /// Replaces what a batch left behind that was not committed.
    pub(crate) fn stage(&self, told: Told) {
        *self.lock() = told;
    }

    pub(crate) fn committed(&self, watchers: &Watchers) {
        let Told { watched, submitted, moves } = std::mem::take(&mut *self.lock());
        for (order, entries) in watched {
            watchers.tell(&order, entries);
        }
        if submitted > 0 {
            ORDERS_SUBMITTED.add(submitted as u64);
        }
        moves.iter().for_each(Move::tell);
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
