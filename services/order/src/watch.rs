//! Who watches which order. Watchers in this process are told what was committed without reading it again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    events::Book,
    order::{Entry, Order},
};

/// Changes a slow watcher may be behind before it has to look for itself.
const BACKLOG_MAX: usize = 16;

/// A change of an order: how it is now, and what is new in its timeline.
pub(crate) type Change = (Order, Vec<Entry>);

#[derive(Default)]
pub(crate) struct Watchers(Mutex<HashMap<Uuid, Vec<mpsc::Sender<Change>>>>);

impl Watchers {
    /// From now on the changes of this order come through the receiver, as long as it is kept. A slow one misses some.
    pub(crate) fn watch(&self, id: Uuid) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
        let mut watchers = self.lock();
        let of_order = watchers.entry(id).or_default();
        of_order.retain(|sender| !sender.is_closed());
        of_order.push(sender);
        receiver
    }

    /// Forgets those that have gone.
    pub(crate) fn leave(&self, id: Uuid) {
        let mut watchers = self.lock();
        if let Some(of_order) = watchers.get_mut(&id) {
            of_order.retain(|sender| !sender.is_closed());
            if of_order.is_empty() {
                watchers.remove(&id);
            }
        }
    }

    /// What a batch changed of the orders that somebody watches.
    pub(crate) fn pick(&self, book: &Book) -> Vec<Change> {
        let watchers = self.lock();
        if watchers.is_empty() {
            return Vec::new();
        }
        let mut changes: HashMap<Uuid, Change> = HashMap::new();
        for entry in book.entries.iter().filter(|entry| watchers.contains_key(&entry.order_id)) {
            if let Some(order) = book.orders.get(&entry.order_id) {
                changes.entry(order.id).or_insert_with(|| (order.clone(), Vec::new())).1.push(entry.clone());
            }
        }
        changes.into_values().collect()
    }

    pub(crate) fn tell(&self, order: &Order, entries: Vec<Entry>) {
        for sender in self.lock().get(&order.id).into_iter().flatten() {
            // Full: the watcher sees by the version that it missed something.
            let _ = sender.try_send((order.clone(), entries.clone()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Vec<mpsc::Sender<Change>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
