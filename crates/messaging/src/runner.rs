//! The runner of a service: drains its queue, settles the batch, answers every caller after the commit.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use rand::RngExt;
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    Bus, Envelope, Error, Handler, Position, Stream, Tasks, Trace,
    batch::{self, Group},
    clock,
    fault::{Fault, is_unique_violation},
    item::{Item, Origin, Work},
    lease,
    meters::Meters,
    outbox, progress, reader,
};

/// Inputs in one transaction, at most.
const BATCH_ROWS_MAX: usize = 1_024;
/// Inputs that wait for the next batch, at most: calls and records each. A call beyond that is refused.
const QUEUE_ROWS_MAX: usize = 4_096;
/// Pause before a batch is tried again after an outage: doubles from the first to the last, full jitter.
const RETRY_MS: (u64, u64) = (10, 2_000);

/// What a group reads. The group's name is the service's.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub group: &'static str,
    pub topics: &'static [&'static str],
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError<R> {
    #[error(transparent)]
    Refused(R),
    /// The queue is full: try again a little later.
    #[error("too much waits already")]
    Busy,
    /// The input could not be saved; it alone.
    #[error("the request could not be applied")]
    Failed,
    /// The process is stopping.
    #[error("stopping")]
    Stopped,
}

/// The way into a service's handler. Cheap to clone.
pub struct Runner<H: Handler> {
    calls: mpsc::Sender<Box<Item<H>>>,
    records: mpsc::Sender<Box<Item<H>>>,
}

impl<H: Handler> Clone for Runner<H> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone(), records: self.records.clone() }
    }
}

impl<H: Handler> Runner<H> {
    /// Asks and waits for the commit. `id` is made once by the caller, so that repeated work has the same ids. Dropping the future gives up
    /// the wait, not the work.
    pub async fn call(&self, id: Uuid, key: String, trace: Trace, input: H::Input) -> Result<H::Answer, CallError<H::Refusal>> {
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { id, correlation: key.clone(), key, at: clock::now(), trace, input };
        self.calls.try_send(Item::called(envelope, reply)).map_err(|full| match full {
            mpsc::error::TrySendError::Full(_) => CallError::Busy,
            mpsc::error::TrySendError::Closed(_) => CallError::Stopped,
        })?;
        answer.await.unwrap_or(Err(CallError::Stopped))
    }

    /// Brings in a timer or an outcome of the outside world: waits for room, then for the commit. `None` if it could not be applied.
    pub async fn tell(&self, id: Uuid, key: String, correlation: String, trace: Trace, input: H::Input) -> Option<H::Answer> {
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { id, key, correlation, at: clock::now(), trace, input };
        self.records.send(Item::called(envelope, reply)).await.ok()?;
        match answer.await.ok()? {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%error, %id, "an outcome was not applied");
                None
            }
        }
    }

    /// Whether nothing is taken any more: what `tell` does not bring in now comes again with the next start.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.records.is_closed()
    }

    pub(crate) async fn deliver(&self, item: Box<Item<H>>) -> bool {
        self.records.send(item).await.is_ok()
    }
}

/// Starts the runner of a service and the readers of what it subscribes to; on Kafka also the relay of what it says.
pub async fn start<H: Handler>(
    handler: H,
    subscription: Subscription,
    pool: PgPool,
    bus: &Bus,
    tasks: &Tasks,
) -> Result<Runner<H>, Error> {
    outbox::fix_partitions(&mut *pool.acquire().await?, bus.partitions()).await?;
    let handler = Arc::new(handler);
    let group = Arc::new(Group {
        name: subscription.group,
        instance: new_instance(),
        partitions: bus.partitions(),
        lease_ms: lease::LEASE_MS,
    });
    let meters = Arc::new(Meters::of(subscription.group));
    let (calls, call_queue) = mpsc::channel(QUEUE_ROWS_MAX);
    let (records, record_queue) = mpsc::channel(QUEUE_ROWS_MAX);
    let runner = Runner { calls, records };
    bus.carry(subscription.group, &pool, tasks).await?;
    reader::start(&runner, &handler, &group, subscription, &pool, bus, &meters, tasks).await?;
    let worker = Worker { handler, pool, db: None, group, meters, bus: bus.clone() };
    let ending = tasks.clone();
    tasks.spawn_last(async move { worker.run(call_queue, record_queue, ending).await });
    Ok(runner)
}

#[expect(clippy::disallowed_methods, reason = "an instance is new at each start; nothing else is derived from its id")]
fn new_instance() -> Uuid {
    Uuid::new_v4()
}

struct Worker<H: Handler> {
    handler: Arc<H>,
    pool: PgPool,
    /// Kept from batch to batch: giving it back costs a round trip each time.
    db: Option<PoolConnection<Postgres>>,
    group: Arc<Group>,
    meters: Arc<Meters>,
    bus: Bus,
}

impl<H: Handler> Worker<H> {
    async fn run(mut self, mut calls: mpsc::Receiver<Box<Item<H>>>, mut records: mpsc::Receiver<Box<Item<H>>>, tasks: Tasks) {
        loop {
            let mut items = Vec::with_capacity(64);
            tokio::select! {
                biased;
                Some(item) = calls.recv() => items.push(item),
                Some(item) = records.recv() => items.push(item),
                () = tasks.finishing(), if !calls.is_closed() => {
                    calls.close();
                    records.close();
                    continue;
                }
                else => return,
            }
            // All that waits, never waiting for more; callers get no more than half of a batch while records wait too.
            drain(&mut calls, &mut items, BATCH_ROWS_MAX / 2);
            drain(&mut records, &mut items, BATCH_ROWS_MAX);
            drain(&mut calls, &mut items, BATCH_ROWS_MAX);
            self.settle_all(items).await;
        }
    }

    /// Settles the items in order, in as few transactions as it takes: halves what cannot be saved until one item is left to blame.
    async fn settle_all(&mut self, items: Vec<Box<Item<H>>>) {
        let mut todo = vec![items];
        let mut attempt = 0;
        let mut looked_again = None;
        while let Some(mut items) = todo.pop() {
            let Err(fault) = self.try_once(&mut items).await else {
                attempt = 0;
                continue;
            };
            match fault {
                Fault::Moved(streams) => match self.stored(&streams).await {
                    Ok(stored) => {
                        realign(&mut items, &streams, stored);
                        todo.push(items);
                    }
                    Err(error) => {
                        self.wait(&mut attempt, &error).await;
                        todo.push(items);
                    }
                },
                Fault::Panic { index, message } => {
                    items[index].work = Work::Poisoned(format!("panicked: {message}"));
                    todo.push(items);
                }
                Fault::Blame(_) if items.len() > 1 => {
                    let right = items.split_off(items.len() / 2);
                    todo.push(right);
                    todo.push(items);
                }
                Fault::Blame(error) if is_unique_violation(&error) && looked_again != Some(items[0].key.clone()) => {
                    looked_again = Some(items[0].key.clone());
                    todo.push(items);
                }
                // Not even the parking can be saved: a person must look, and nothing else may overtake it.
                Fault::Blame(error) if matches!(items[0].work, Work::Poisoned(_)) => {
                    tracing::error!(r#type = "PROCESSING_ERROR", group = self.group.name, key = items[0].key, %error, "cannot be parked");
                    self.wait(&mut attempt, &error).await;
                    todo.push(items);
                }
                Fault::Blame(error) => {
                    items[0].work = Work::Poisoned(error.to_string());
                    todo.push(items);
                }
                Fault::Away(error) => {
                    self.wait(&mut attempt, &error).await;
                    todo.push(items);
                }
            }
        }
    }

    /// Waits before a batch is tried again: nobody's fault, so without end.
    async fn wait(&self, attempt: &mut u32, error: &sqlx::Error) {
        let (first, last) = RETRY_MS;
        let ceiling = (first << (*attempt).min(16)).min(last);
        let pause = rand::rng().random_range(1..=ceiling);
        *attempt += 1;
        tracing::warn!(r#type = "PROCESSING_ERROR", group = self.group.name, %error, pause_ms = pause, "a batch waits");
        self.meters.retry();
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn stored(&self, streams: &[Stream]) -> sqlx::Result<HashMap<Stream, Position>> {
        let mut stored = progress::store::all(&mut *self.pool.acquire().await?, self.group.name).await?;
        stored.retain(|(stream, _)| streams.contains(stream));
        Ok(stored.into_iter().collect())
    }

    /// One transaction. On success the items are gone: answered, or settled.
    async fn try_once(&mut self, items: &mut Vec<Box<Item<H>>>) -> Result<(), Fault> {
        for item in items.extract_if(.., |item| matches!((&item.work, &item.origin), (Work::Poisoned(_), Origin::Call(_)))) {
            if let (Work::Poisoned(reason), Origin::Call(reply)) = (item.work, item.origin) {
                tracing::error!(
                    r#type = "PROCESSING_ERROR",
                    group = self.group.name,
                    key = item.key,
                    reason,
                    "an input could not be applied"
                );
                let _ = reply.send(Err(CallError::Failed));
            }
        }
        if items.is_empty() {
            return Ok(());
        }
        let mut db = match self.db.take() {
            Some(db) => db,
            None => self.pool.acquire().await.map_err(Fault::Away)?,
        };
        let refs: Vec<&Item<H>> = items.iter().map(Box::as_ref).collect();
        let settling = AssertUnwindSafe(batch::settle(&mut db, self.handler.as_ref(), &self.group, &refs)).catch_unwind();
        // A panic outside of decide blames nobody: it is tried again like an outage, with an alarm.
        let panicked = |_| Fault::Away(sqlx::Error::Protocol("the handler panicked while it loaded or saved".into()));
        let settled = settling.await.map_err(panicked)??;
        // After a fault it goes back to the pool, which looks at it.
        self.db = Some(db);
        self.handler.committed();
        self.bus.said(self.group.name, &settled.said);
        self.meters.batch(items.len(), settled.applied, settled.skipped, settled.parked);

        let mut answers: Vec<Option<batch::Answered<H>>> = Vec::new();
        answers.resize_with(items.len(), || None);
        for (index, answer) in settled.answers {
            if let Some(slot) = answers.get_mut(index) {
                *slot = Some(answer);
            }
        }
        for (item, answer) in items.drain(..).zip(answers) {
            if let (Origin::Call(reply), Some(answer)) = (item.origin, answer) {
                let _ = reply.send(answer.map_err(CallError::Refused));
            }
        }
        Ok(())
    }
}

fn drain<T>(queue: &mut mpsc::Receiver<T>, items: &mut Vec<T>, limit: usize) {
    while items.len() < limit
        && let Ok(item) = queue.try_recv()
    {
        items.push(item);
    }
}

/// Streams that are not where the batch thought: what is applied already is dropped, what goes on from the stored position stays, and behind
/// a hole the reader starts again.
fn realign<H: Handler>(items: &mut Vec<Box<Item<H>>>, moved: &[Stream], mut stored: HashMap<Stream, Position>) {
    items.retain(|item| {
        let Origin::Stream { record, before, after, restart } = &item.origin else { return true };
        // Its row is gone: nobody reads this stream any more.
        let Some(position) = stored.get_mut(&record.stream) else { return !moved.contains(&record.stream) };
        let next = (before.seq, before.last_id) == (position.seq, position.last_id) && after.kafka_offset >= position.kafka_offset;
        if next {
            *position = *after;
        } else if after.seq > position.seq {
            restart.ask(record.stream.clone());
        }
        next
    });
}
