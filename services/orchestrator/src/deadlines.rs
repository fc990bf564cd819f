//! Asks again where no answer came for long: a last resort, since streams lose nothing.

use std::time::Duration;

use contracts::ids;
use futures::{StreamExt, stream};
use messaging::{Runner, Tasks, Trace};
use sqlx::PgPool;

use crate::{
    events::{Input, Orchestrator},
    instance::DEADLINE_FIRST_MS,
    store::{self, Due},
};

/// Deadlines are minutes long; nobody misses these seconds.
const CHECK_EVERY_MS: u64 = 5_000;
/// Sagas that ask again in one go, at most; the rest waits for the next check.
const CLAIM_ROWS_MAX: i64 = 1_000;
/// Of these, how many wait for a commit at a time.
const TOLD_AT_ONCE_MAX: usize = 128;

pub(crate) async fn run(runner: Runner<Orchestrator>, pool: PgPool, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(Duration::from_millis(CHECK_EVERY_MS)) => {}
        }
        match store::due(&pool, DEADLINE_FIRST_MS, CLAIM_ROWS_MAX).await {
            Ok(due) => stream::iter(due).for_each_concurrent(TOLD_AT_ONCE_MAX, |due| ask_again(&runner, &pool, &tasks, due)).await,
            Err(error) => tracing::warn!(%error, "deadlines could not be looked up"),
        }
    }
}

/// Two instances may claim the same saga: the id is that of the deadline, and a deadline that is not the saga's any more does
/// nothing.
async fn ask_again(runner: &Runner<Orchestrator>, pool: &PgPool, tasks: &Tasks, due: Due) {
    if tasks.is_stopping() {
        return;
    }
    let id = ids::derive(due.saga_id, &format!("due/{}", due.deadline_at.unix_timestamp_nanos()));
    let trace = Trace { parent: due.traceparent.clone(), state: due.tracestate.clone() };
    let input = Input::Due { order_id: due.order_id, deadline_at: due.deadline_at };
    let key = due.order_id.to_string();
    if runner.tell(id, key.clone(), key, trace, input).await.is_some() || tasks.is_stopping() {
        return;
    }
    tracing::error!(order_id = %due.order_id, "a saga could not ask again: it needs attention");
    if let Err(error) = store::set_aside(pool, &due).await {
        tracing::warn!(%error, order_id = %due.order_id, "a saga could not be listed as needing attention");
    }
}
