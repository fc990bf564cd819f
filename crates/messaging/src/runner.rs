//! The runner of a service: drains its queue, settles the batch, answers every caller after the commit.

mod guards;

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    Bus, Envelope, Error, Handler, Health, Position, Stream, Tasks, Trace,
    admission::Admission,
    batch::{self, Group},
    clock,
    fault::{Fault, is_unique_violation},
    item::{Item, Origin, Work},
    lag, log,
    meters::Meters,
    outbox,
    parking::{DeadLetters, rehearsal},
    patience, progress,
    queue::{self, Receiver, Sender, Unsent},
    reader, retry,
};

/// Payload of the records that wait or are in the batch, at most: many large ones are taken a part at a time.
const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a group reads. The group's name is the service's.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// Instances of one group share its partitions; two groups each hear everything.
    pub group: &'static str,
    /// None for a service that only says something.
    pub topics: &'static [&'static str],
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError<R> {
    /// The handler's own no; nothing has changed.
    #[error(transparent)]
    Refused(R),
    /// Too much waits already, or for too long; nothing was done.
    #[error("too much waits already")]
    Busy {
        /// When to try again, at the earliest.
        retry_after: Duration,
    },
    /// The input could not be saved; it alone.
    #[error("the request could not be applied")]
    Failed,
    /// The process is stopping.
    #[error("stopping")]
    Stopped,
}

/// The way into a service's handler. Cheap to clone.
pub struct Runner<H: Handler> {
    calls: Sender<Box<Item<H>>>,
    records: Sender<Box<Item<H>>>,
    /// A permit a byte of [`RECORD_BYTES_MAX`].
    room: Arc<Semaphore>,
    admission: Arc<Admission>,
    dead_letters: DeadLetters,
    health: Health,
}

impl<H: Handler> Clone for Runner<H> {
    fn clone(&self) -> Self {
        let Self { calls, records, room, admission, dead_letters, health } = self;
        Self {
            calls: calls.clone(),
            records: records.clone(),
            room: room.clone(),
            admission: admission.clone(),
            dead_letters: dead_letters.clone(),
            health: health.clone(),
        }
    }
}

impl<H: Handler> Runner<H> {
    /// Asks for new work, which others have to go on with: as [`call`](Runner::call), but refused as well while a reader is too far behind
    /// what this service has said. What brings work to an end (a cancel, what an operator does) is not new work.
    pub async fn admit(&self, id: Uuid, key: String, trace: Trace, input: H::Input) -> Result<H::Answer, CallError<H::Refusal>> {
        self.admission.behind_readers().map_err(busy)?;
        self.call(id, key, trace, input).await
    }

    /// Asks and waits for the commit. `id` is made once by the caller, so that repeated work has the same ids. Dropping the future gives up
    /// the wait, not the work.
    ///
    /// # Errors
    /// A refusal, or that nothing was done: [`CallError`]. After [`CallError::Stopped`] it may have been done all the same; asking again with
    /// the same id tells.
    pub async fn call(&self, id: Uuid, key: String, trace: Trace, input: H::Input) -> Result<H::Answer, CallError<H::Refusal>> {
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { id, correlation: key.clone(), key, at: clock::now(), trace, input };
        self.admission.behind_queue(self.calls.age().max(self.records.age())).map_err(busy)?;
        self.calls.try_send(Item::called(envelope, reply)).map_err(|unsent| match unsent {
            Unsent::Full => busy(self.admission.full()),
            Unsent::Closed => CallError::Stopped,
        })?;
        answer.await.unwrap_or(Err(CallError::Stopped))
    }

    /// Brings in a timer or an outcome of the outside world: waits for room, then for the commit. `None` if it could not be applied, which
    /// is in the log: the caller keeps what it brought, and brings it again.
    pub async fn tell(&self, id: Uuid, key: String, correlation: String, trace: Trace, input: H::Input) -> Option<H::Answer> {
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope { id, key, correlation, at: clock::now(), trace, input };
        if !self.records.send(Item::called(envelope, reply)).await {
            return None;
        }
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

    /// The desk where people look after what this service could not apply.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        self.dead_letters.clone()
    }

    /// For whoever asks whether the service is ready.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Waits for room; false when nothing is taken any more.
    pub(crate) async fn deliver(&self, mut item: Box<Item<H>>) -> bool {
        let bytes = item.record().map_or(0, |record| record.payload.len()).min(RECORD_BYTES_MAX);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Without a wait where there is room: each wait takes of what a task may do before it makes way for others.
        item.room = match self.room.clone().try_acquire_many_owned(permits) {
            Ok(room) => Some(room),
            Err(_) => self.room.clone().acquire_many_owned(permits).await.ok(),
        };
        self.records.send(item).await
    }
}

fn busy<R>(retry_after: Duration) -> CallError<R> {
    CallError::Busy { retry_after }
}

/// Starts the runner of a service and the readers of what it subscribes to; on Kafka also the relay of what it says. They end with `tasks`.
/// The database has been migrated with [`migrate`](crate::migrate).
///
/// Pattern: competing consumers (Hohpe and Woolf). Every process that starts the same group takes its share of the partitions.
///
/// # Errors
/// A partition count or a topic that is not what the bus says, or a server that does not answer. Once started, an outage is waited out.
pub async fn start<H: Handler>(
    handler: H,
    subscription: Subscription,
    pool: PgPool,
    bus: &Bus,
    tasks: &Tasks,
) -> Result<Runner<H>, Error> {
    outbox::fix_partitions(&mut *pool.acquire().await?, bus.partitions()).await?;
    let handler = Arc::new(handler);
    let group = Arc::new(Group::new(subscription.group, bus));
    let meters = Arc::new(Meters::of(subscription.group));
    let admission = Arc::new(Admission::new(group.name, group.limits));
    admission.watch(pool.clone(), tasks);
    lag::watch(group.name, group.limits.database_ms_max, pool.clone(), tasks);
    let (calls, call_queue) = queue::channel(group.limits.queue_rows_max);
    let (records, record_queue) = queue::channel(group.limits.queue_rows_max);
    let (dead_letters, rehearsals) = rehearsal::channel(group.name, pool.clone());
    let room = Arc::new(Semaphore::new(RECORD_BYTES_MAX));
    let runner = Runner { calls, records, room, admission, dead_letters, health: Health(group.clone()) };
    bus.carry(subscription.group, &pool, tasks).await?;
    reader::start(&runner, &handler, &group, subscription, &pool, bus, &meters, tasks).await?;
    let worker = Worker { handler, pool, db: None, committed: guards::Committed::default(), group, meters, bus: bus.clone() };
    let ending = tasks.clone();
    tasks.spawn_last(async move { worker.run(call_queue, record_queue, rehearsals, ending).await });
    Ok(runner)
}

struct Worker<H: Handler> {
    handler: Arc<H>,
    pool: PgPool,
    /// Kept from batch to batch: giving it back costs a round trip each time.
    db: Option<PoolConnection<Postgres>>,
    committed: guards::Committed,
    group: Arc<Group>,
    meters: Arc<Meters>,
    bus: Bus,
}

impl<H: Handler> Worker<H> {
    async fn run(
        mut self,
        mut calls: Receiver<Box<Item<H>>>,
        mut records: Receiver<Box<Item<H>>>,
        mut rehearsals: mpsc::Receiver<rehearsal::Ask>,
        tasks: Tasks,
    ) {
        let rows_max = self.group.limits.batch_rows_max;
        loop {
            let mut items = Vec::with_capacity(64);
            tokio::select! {
                biased;
                // One at most before a batch: neither keeps the other waiting for long.
                Some(ask) = rehearsals.recv() => rehearsal::answer(&self.pool, self.handler.as_ref(), &self.group, ask).await,
                Some(item) = calls.recv() => items.push(item),
                Some(item) = records.recv() => items.push(item),
                () = tasks.finishing(), if !calls.is_closed() => {
                    calls.close();
                    records.close();
                    rehearsals.close();
                    continue;
                }
                else => return,
            }
            // All that waits, never waiting for more; callers get no more than half of a batch while records wait too.
            calls.drain(&mut items, rows_max / 2);
            records.drain(&mut items, rows_max);
            calls.drain(&mut items, rows_max);
            self.settle_guarded(items).await;
        }
    }

    /// Settles the items in order, in as few transactions as it takes: halves what cannot be saved until one item is left to blame.
    async fn settle_all(&mut self, items: Vec<Box<Item<H>>>) {
        // With whether it was looked at again already, because another instance had been faster.
        let mut todo = vec![(items, false)];
        let mut attempt = 0;
        while let Some((mut items, looked_again)) = todo.pop() {
            let Err(fault) = self.try_once(&mut items).await else {
                attempt = 0;
                continue;
            };
            match fault {
                Fault::Moved(streams) => match self.stored(&streams).await {
                    Ok(stored) => {
                        self.meters.fenced();
                        self.committed.compare(self.group.name, &stored);
                        realign(&mut items, &streams, stored);
                        todo.push((items, looked_again));
                    }
                    Err(error) => {
                        self.wait(&mut attempt, &error).await;
                        todo.push((items, looked_again));
                    }
                },
                Fault::Poison { index, reason } => {
                    items[index].work = Work::Poisoned(reason);
                    todo.push((items, looked_again));
                }
                // Another instance was faster by a moment: loading again shows what it made.
                Fault::Blame(error) if is_unique_violation(&error) && !looked_again => todo.push((items, true)),
                Fault::Blame(_) if items.len() > 1 => {
                    let right = items.split_off(items.len() / 2);
                    todo.push((right, false));
                    todo.push((items, false));
                }
                // Not even the parking can be saved: a person must look, and nothing else may overtake it.
                Fault::Blame(error) if matches!(items[0].work, Work::Poisoned(_)) => {
                    log::cannot_park(self.group.name, &items[0].key, &error);
                    self.wait(&mut attempt, &error).await;
                    todo.push((items, looked_again));
                }
                Fault::Blame(error) => {
                    items[0].work = Work::Poisoned(error.to_string());
                    todo.push((items, looked_again));
                }
                Fault::ParkLimit(blamed) => {
                    self.stop_streams(&mut items, &blamed);
                    todo.push((items, looked_again));
                }
                Fault::NoRange { next, error } => {
                    if !self.make_ranges(&next).await {
                        self.wait(&mut attempt, &error).await;
                    }
                    todo.push((items, looked_again));
                }
                Fault::Away(error) => {
                    self.wait(&mut attempt, &error).await;
                    // Perhaps it is too much at a time: otherwise it would never get done.
                    if patience::is_late(&error) && items.len() > 1 {
                        todo.push((items.split_off(items.len() / 2), false));
                    }
                    todo.push((items, looked_again));
                }
            }
        }
    }

    /// Waits before a batch is tried again: nobody's fault, so without end.
    async fn wait(&self, attempt: &mut u32, error: &sqlx::Error) {
        let pause = retry::pause_ms(*attempt);
        *attempt += 1;
        log::outage(self.group.name, error, pause);
        self.group.troubles().retry(error.to_string(), Instant::now());
        self.meters.retry();
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn stored(&self, streams: &[Stream]) -> sqlx::Result<HashMap<Stream, Position>> {
        let limit_ms = self.group.limits.database_ms_max;
        let mut stored = patience::at(limit_ms, &self.pool, async |db| progress::store::all(db, self.group.name).await).await?;
        stored.retain(|(stream, _)| streams.contains(stream));
        Ok(stored.into_iter().collect())
    }

    /// One transaction. On success the items are gone: answered, or settled.
    async fn try_once(&mut self, items: &mut Vec<Box<Item<H>>>) -> Result<(), Fault> {
        for item in items.extract_if(.., |item| matches!((&item.work, &item.origin), (Work::Poisoned(_), Origin::Call(_)))) {
            if let (Work::Poisoned(reason), Origin::Call(reply)) = (item.work, item.origin) {
                log::input_failed(self.group.name, &item.key, &reason);
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
        // A panic outside of decide blames nobody: it is tried again like an outage, with an alarm.
        let panicked = |_| Fault::Away(sqlx::Error::Protocol("the handler panicked while it loaded or saved".into()));
        let settling = patience::on(self.group.limits.database_ms_max, &mut db, async |db| {
            let settled = AssertUnwindSafe(batch::settle(db, self.handler.as_ref(), &self.group, &refs)).catch_unwind().await;
            settled.map_err(panicked)?
        });
        let settled = settling.await?;
        // After a fault it goes back to the pool, which looks at it.
        self.db = Some(db);
        self.group.troubles().settled();
        if settled.saved {
            self.handler.committed();
        }
        self.bus.said(self.group.name, &settled.said);
        self.meters.batch(items.len(), settled.applied, settled.skipped, settled.parked);
        self.meters.dead_letters(settled.dead_letters);
        self.meters.duplicates(settled.duplicates);
        self.group.parked(settled.blamed);
        self.go_on(items);
        self.committed.note(items);

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

/// Streams that are not where the batch thought: what is applied already is dropped, what goes on from the stored position stays, and behind
/// a hole the reader starts again.
fn realign<H: Handler>(items: &mut Vec<Box<Item<H>>>, moved: &[Stream], mut stored: HashMap<Stream, Position>) {
    items.retain(|item| {
        let Origin::Stream { record, before, after, restart } = &item.origin else { return true };
        // Its row is gone: nobody reads this stream any more.
        let Some(position) = stored.get_mut(&record.stream) else { return !moved.contains(&record.stream) };
        let next = *before == *position;
        if next {
            *position = *after;
        } else if (after.seq, after.kafka_offset) > (position.seq, position.kafka_offset) {
            restart.ask(record.stream.clone());
        }
        next
    });
}
