//! Background tasks and how they end: first what brings work in, then the runners that finish it.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A handle on all tasks of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    stop: CancellationToken,
    finish: CancellationToken,
    feeding: TaskTracker,
    running: TaskTracker,
}

impl Tasks {
    /// No task yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs something that brings work in and ends soon after [`Tasks::stopping`].
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.feeding.spawn(async move {
            task.await;
            tracing::debug!(task = name, "ended");
        });
    }

    /// Runs something that finishes work: it is asked to end only when nothing brings in more.
    pub(crate) fn spawn_last<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.spawn(task);
    }

    /// Resolves when the process is asked to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the process was asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) async fn finishing(&self) {
        self.finish.cancelled().await;
    }

    /// Asks every task to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops all tasks and waits for them; false if some did not end in time.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.feeding.close();
        let fed = tokio::time::timeout(limit / 2, self.feeding.wait()).await.is_ok();
        self.finish.cancel();
        self.running.close();
        let ran = tokio::time::timeout(limit / 2, self.running.wait()).await.is_ok();
        fed && ran
    }
}
