//! A queue in front of the worker: bounded by number, and it knows how long its oldest input has waited.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

pub(crate) fn channel<T>(rows_max: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(rows_max);
    let oldest = Arc::new(Oldest { began: Instant::now(), since_ms: AtomicU64::new(NONE) });
    (Sender { sender, oldest: oldest.clone() }, Receiver { receiver, oldest, taken: None })
}

const NONE: u64 = u64::MAX;

/// Since when the oldest input waits. Written by both ends without a lock: it may lag by an input, and the next one sets it right.
struct Oldest {
    began: Instant,
    since_ms: AtomicU64,
}

impl Oldest {
    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(NONE - 1)
    }
}

pub(crate) struct Sender<T> {
    sender: mpsc::Sender<(Instant, T)>,
    oldest: Arc<Oldest>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), oldest: self.oldest.clone() }
    }
}

/// Why an input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    Full,
    Closed,
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, input: T) -> Result<(), Unsent> {
        let now = self.comes();
        self.sender.try_send((now, input)).map_err(|unsent| match unsent {
            mpsc::error::TrySendError::Full(_) => Unsent::Full,
            mpsc::error::TrySendError::Closed(_) => Unsent::Closed,
        })
    }

    /// Waits for room; false when nothing is taken any more.
    pub(crate) async fn send(&self, input: T) -> bool {
        let now = self.comes();
        self.sender.send((now, input)).await.is_ok()
    }

    fn comes(&self) -> Instant {
        let now = Instant::now();
        let since_ms = self.oldest.ms(now);
        // Fails where something waits already.
        let _ = self.oldest.since_ms.compare_exchange(NONE, since_ms, Ordering::Relaxed, Ordering::Relaxed);
        now
    }

    /// How long the oldest input has waited; 0 if none waits.
    pub(crate) fn age(&self) -> Duration {
        let since_ms = self.oldest.since_ms.load(Ordering::Relaxed);
        if since_ms == NONE || self.sender.capacity() == self.sender.max_capacity() {
            return Duration::ZERO;
        }
        Duration::from_millis(self.oldest.ms(Instant::now()).saturating_sub(since_ms))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

pub(crate) struct Receiver<T> {
    receiver: mpsc::Receiver<(Instant, T)>,
    oldest: Arc<Oldest>,
    /// When the input that was taken last came: what still waits came after it.
    taken: Option<Instant>,
}

impl<T> Receiver<T> {
    /// The next input; `None` when nothing can come any more. Dropping the future loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        let (came, input) = self.receiver.recv().await?;
        self.taken = Some(came);
        Some(input)
    }

    /// Takes what waits until there are `limit` inputs, never waiting for more.
    pub(crate) fn drain(&mut self, inputs: &mut Vec<T>, limit: usize) {
        while inputs.len() < limit
            && let Ok((came, input)) = self.receiver.try_recv()
        {
            self.taken = Some(came);
            inputs.push(input);
        }
        if self.receiver.is_empty() {
            self.oldest.since_ms.store(NONE, Ordering::Relaxed);
        } else if let Some(taken) = self.taken {
            self.oldest.since_ms.store(self.oldest.ms(taken), Ordering::Relaxed);
        }
    }

    pub(crate) fn close(&mut self) {
        self.receiver.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.receiver.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Since when the oldest input waits.
    fn since_ms(sender: &Sender<u8>) -> u64 {
        sender.oldest.since_ms.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn the_age_is_that_of_the_oldest_input() {
        let (sender, mut receiver) = channel(4);
        assert_eq!(sender.age(), Duration::ZERO);
        sender.try_send(1).unwrap();
        let first_ms = since_ms(&sender);
        while sender.age() < Duration::from_millis(20) {
            tokio::task::yield_now().await;
        }
        sender.try_send(2).unwrap();
        sender.try_send(3).unwrap();
        assert_eq!(since_ms(&sender), first_ms, "the first still waits");

        assert_eq!(receiver.recv().await, Some(1));
        let mut inputs = Vec::new();
        receiver.drain(&mut inputs, 1);
        assert_eq!(inputs, [2]);
        assert!(since_ms(&sender) >= first_ms + 20, "the third came later");
        receiver.drain(&mut inputs, 4);
        assert_eq!((inputs, sender.age()), (vec![2, 3], Duration::ZERO));
    }

    #[tokio::test]
    async fn a_full_queue_and_a_closed_one_take_nothing() {
        let (sender, mut receiver) = channel(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(Unsent::Full));
        receiver.close();
        assert!(sender.is_closed() && receiver.is_closed());
        assert_eq!(sender.try_send(3), Err(Unsent::Closed));
        assert!(!sender.send(3).await);
        assert_eq!((receiver.recv().await, receiver.recv().await), (Some(1), None));
    }
}
