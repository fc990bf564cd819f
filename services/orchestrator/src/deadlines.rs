//! Asks again where no answer came for long: a last resort, since streams lose nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use contracts::ids;
use futures::{StreamExt, stream};
use messaging::{Runner, Tasks, Trace, outbox, partition_of};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    events::{Input, Orchestrator},
    instance::{DEADLINE_FIRST_MS, Unread},
    known::Known,
    store::{self, Due},
};

/// Deadlines are minutes long; nobody misses these seconds.
const CHECK_EVERY_MS: u64 = 5_000;
/// Sagas that ask again in one go, at most; the rest waits for the next check. After an outage many are due at once.
const CLAIM_ROWS_MAX: usize = 1_000;
/// Of these, how many wait for a commit at a time.
const TOLD_AT_ONCE_MAX: usize = 128;

/// When a saga began, and its id: before all of them.
const START: (OffsetDateTime, Uuid) = (OffsetDateTime::UNIX_EPOCH, Uuid::nil());

pub(crate) async fn run(runner: Runner<Orchestrator>, pool: PgPool, known: Known, partitions: i32, tasks: Tasks) {
    let mut behind = START;
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(Duration::from_millis(CHECK_EVERY_MS)) => {}
        }
        match check(&runner, &pool, &known, partitions, &tasks, behind).await {
            Ok(last) => behind = last,
            Err(error) => tracing::warn!(%error, "deadlines could not be looked up"),
        }
    }
}

/// Has those that are due ask again, and tells behind which of them the next check begins. A saga whose row cannot be read stays due, and
/// so many of them must not be all that is ever looked at.
async fn check(
    runner: &Runner<Orchestrator>,
    pool: &PgPool,
    known: &Known,
    partitions: i32,
    tasks: &Tasks,
    behind: (OffsetDateTime, Uuid),
) -> sqlx::Result<(OffsetDateTime, Uuid)> {
    let due = store::due(pool, known, DEADLINE_FIRST_MS, behind, CLAIM_ROWS_MAX).await?;
    let last = due.last().filter(|_| due.len() == CLAIM_ROWS_MAX).map_or(START, |last| (last.started_at, last.saga_id));
    if due.is_empty() {
        return Ok(last);
    }
    let unread = unread(pool).await?;
    let claimed = due.into_iter().map(|due| {
        let unread = unread.get(&partition_of(&due.order_id.to_string(), partitions)).cloned().unwrap_or_default();
        (due, unread)
    });
    stream::iter(claimed).for_each_concurrent(TOLD_AT_ONCE_MAX, |(due, unread)| ask_again(runner, pool, tasks, due, unread)).await;
    Ok(last)
}

/// By partition, what participants have not read yet of the commands for them.
async fn unread(pool: &PgPool) -> sqlx::Result<HashMap<i32, Arc<Unread>>> {
    let mut of_partition: HashMap<i32, Unread> = HashMap::new();
    for outbox::Unread { group, stream, since } in outbox::unread(&mut *pool.acquire().await?).await? {
        if stream.topic.strip_suffix(".commands") == Some(group.as_str()) {
            of_partition.entry(stream.partition).or_default().insert(stream.topic, since);
        }
    }
    Ok(of_partition.into_iter().map(|(partition, unread)| (partition, Arc::new(unread))).collect())
}

/// Two instances may claim the same saga: the id is that of the deadline, and a deadline that is not the saga's any more does
/// nothing.
async fn ask_again(runner: &Runner<Orchestrator>, pool: &PgPool, tasks: &Tasks, due: Due, unread: Arc<Unread>) {
    if tasks.is_stopping() {
        return;
    }
    let id = ids::derive(due.saga_id, &format!("due/{}", due.deadline_at.unix_timestamp_nanos()));
    let trace = Trace { parent: due.traceparent.clone(), state: due.tracestate.clone() };
    let input = Input::Due { order_id: due.order_id, saga_id: due.saga_id, deadline_at: due.deadline_at, unread };
    let key = due.order_id.to_string();
    if runner.tell(id, key.clone(), key, trace, input).await.is_some() || tasks.is_stopping() {
        return;
    }
    tracing::error!(order_id = %due.order_id, saga_id = %due.saga_id, "a saga could not ask again: it needs attention");
    if let Err(error) = store::set_aside(pool, &due).await {
        tracing::warn!(%error, order_id = %due.order_id, "a saga could not be listed as needing attention");
    }
}
