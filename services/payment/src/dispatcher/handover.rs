//! From the handler to the dispatcher: the keys of new calls, said after the commit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use uuid::Uuid;

/// The handler's end. It is used by the one worker of the runner, a batch after the other.
pub(crate) struct Handover {
    sender: mpsc::Sender<Uuid>,
    /// What the batch in progress has saved: each save replaces what an undone one left.
    staged: Mutex<Vec<Uuid>>,
}

impl Handover {
    pub(crate) fn new(handed_max: usize) -> (Self, mpsc::Receiver<Uuid>) {
        let (sender, receiver) = mpsc::channel(handed_max);
        (Self { sender, staged: Mutex::default() }, receiver)
    }

    /// Keeps the new calls until the commit; how many of them, from the first, will be handed over. The dispatcher only makes room,
    /// so there is still room for those after the commit.
    pub(crate) fn stage(&self, keys: impl Iterator<Item = Uuid>) -> usize {
        let room = if self.sender.is_closed() { 0 } else { self.sender.capacity() };
        let mut staged = self.staged();
        staged.clear();
        staged.extend(keys.take(room));
        staged.len()
    }

    pub(crate) fn committed(&self) {
        for key in self.staged().drain(..) {
            // Closed only at the end; the next process finds the row when its lease is over.
            if self.sender.try_send(key).is_err() {
                tracing::debug!(%key, "a call is left to the sweep");
            }
        }
    }

    fn staged(&self) -> MutexGuard<'_, Vec<Uuid>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_committed_is_handed_over_and_only_as_much_as_fits() {
        let ids = [1, 2, 3].map(Uuid::from_u128);
        let (handover, mut handed) = Handover::new(2);
        assert_eq!(handover.stage(ids[..1].iter().copied()), 1, "a batch that is rolled back");
        assert_eq!(handover.stage(ids[1..].iter().copied()), 2);
        assert!(handed.try_recv().is_err());
        handover.committed();
        assert_eq!(handover.stage(ids.iter().copied()), 0, "no room");
        handover.committed();
        assert_eq!((handed.try_recv().ok(), handed.try_recv().ok()), (Some(ids[1]), Some(ids[2])));
        assert!(handed.try_recv().is_err());
    }
}
