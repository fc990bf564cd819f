//! Wakes readers: at once in one process; across processes by one notification after the commit, coalesced.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::sync::Notify;

use crate::{Tasks, outbox, patience};

/// Pause between two notifications of a service: a NOTIFY takes a lock across all databases of the server.
const ANNOUNCE_EVERY_MS: u64 = 5;

/// Who waits for news of which topic.
#[derive(Clone, Default)]
pub(crate) struct Wake {
    waiting: Arc<Mutex<HashMap<String, Vec<Arc<Notify>>>>>,
}

impl Wake {
    /// A bell that rings when one of these topics has something new. It keeps one ring, so none is lost between two looks.
    pub(crate) fn listener<T: AsRef<str>>(&self, topics: &[T]) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in topics {
            waiting.entry(topic.as_ref().to_owned()).or_default().push(bell.clone());
        }
        bell
    }

    pub(crate) fn ring<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in topics.into_iter().filter_map(|topic| waiting.get(topic)).flatten() {
            bell.notify_one();
        }
    }

    /// Tells other processes too.
    pub(super) fn announce(&self, topics: Vec<&'static str>, limit_ms: u64, pool: PgPool, tasks: &Tasks) {
        let bell = self.listener(&topics);
        let stop = tasks.clone();
        tasks.spawn("announcer", async move {
            loop {
                tokio::select! {
                    () = bell.notified() => {}
                    () = stop.stopping() => return,
                }
                let told = patience::at(limit_ms, &pool, async |db| outbox::store::announce(db).await);
                if let Err(error) = told.await {
                    // Readers poll as well.
                    tracing::debug!(%error, "cannot notify");
                }
                tokio::time::sleep(Duration::from_millis(ANNOUNCE_EVERY_MS)).await;
            }
        });
    }
}
