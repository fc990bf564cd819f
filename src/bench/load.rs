//! The closed loop: keeps so many orders open until so many are done.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use contracts::order::v1::OrderStatus;
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    caller::{Callers, Placed, Plan},
    latency::Latencies,
};

/// What a load came to.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) elapsed: Duration,
    pub(super) confirmed: u32,
    pub(super) cancelled: u32,
    pub(super) failed: u32,
    pub(super) asked_to_cancel: u32,
    pub(super) refused_calls: u32,
    pub(super) created_in: Latencies,
    pub(super) confirmed_in: Latencies,
    pub(super) cancelled_in: Latencies,
    /// Orders that were created and not waited for.
    pub(super) open: Vec<String>,
}

impl Run {
    /// One more piece of work; `late` is what passed between the time it was meant to begin and the time it did.
    pub(super) fn add(&mut self, placed: Placed, late: Duration, took: Duration) {
        let took = late + took;
        self.refused_calls += placed.refused_calls;
        self.asked_to_cancel += u32::from(placed.asked_to_cancel);
        if let Some(created_in) = placed.created_in {
            self.created_in.add(late + created_in);
        }
        match placed.status {
            None => self.open.push(placed.order_id),
            Some(OrderStatus::Confirmed) => {
                self.confirmed += 1;
                self.confirmed_in.add(took);
            }
            Some(OrderStatus::Cancelled) => {
                self.cancelled += 1;
                self.cancelled_in.add(took);
            }
            Some(_) => self.failed += 1,
        }
    }

    fn append(&mut self, mut other: Self) {
        self.take_outcomes_of(&other);
        self.asked_to_cancel += other.asked_to_cancel;
        self.created_in.append(other.created_in);
        self.confirmed_in.append(other.confirmed_in);
        self.cancelled_in.append(other.cancelled_in);
        self.open.append(&mut other.open);
    }

    /// What became of the orders that were left open, without the time it took.
    pub(super) fn take_outcomes_of(&mut self, learnt: &Self) {
        self.confirmed += learnt.confirmed;
        self.cancelled += learnt.cancelled;
        self.failed += learnt.failed;
        self.refused_calls += learnt.refused_calls;
    }

    /// Why a run of so many orders says nothing. A run without a reason here has settled every order.
    pub(super) fn void(&self, orders: u32) -> Vec<String> {
        let mut why = Vec::new();
        let settled = self.confirmed + self.cancelled;
        if settled != orders {
            why.push(format!("{settled} of {orders} orders are confirmed or cancelled, {} failed", self.failed));
        }
        if self.cancelled > self.asked_to_cancel {
            why.push(format!("{} orders are cancelled, {} were asked to", self.cancelled, self.asked_to_cancel));
        }
        why
    }
}

/// So many pieces of work, so many at a time.
pub(super) async fn closed(plan: Plan, pieces: u32, concurrency: u32) -> Result<Run> {
    apart(move || async move {
        let callers = Callers::connect(plan).await?;
        callers.listening(share_out(&callers, pieces, concurrency)).await
    })
    .await
}

async fn share_out(callers: &Callers, pieces: u32, concurrency: u32) -> Result<Run> {
    let next = Arc::new(AtomicU32::new(0));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for nth in 0..concurrency.min(pieces) {
        let mut caller = callers.caller(nth);
        let next = next.clone();
        tasks.spawn(async move {
            let mut run = Run::default();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= pieces {
                    return anyhow::Ok(run);
                }
                let begun = Instant::now();
                let placed = caller.step(n).await?;
                run.add(placed, Duration::ZERO, begun.elapsed());
            }
        });
    }
    let mut all = Run::default();
    while let Some(ended) = tasks.join_next().await {
        all.append(ended??);
    }
    all.elapsed = start.elapsed();
    Ok(all)
}

/// Does the work on a thread and a runtime of its own. The load generator is a part of what is measured, and one thread is cheap: its
/// callers and connections hand over to each other without waking another one.
pub(super) async fn apart<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let (mut tell, done) = oneshot::channel();
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    ended = work() => ended,
                    // Nobody waits for it any more.
                    () = tell.closed() => Err(anyhow!("stopped")),
                }
            }),
            Err(error) => Err(error.into()),
        };
        let _ = tell.send(ended);
    })?;
    done.await.context("the load generator ended without a word")?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(status: Option<OrderStatus>, asked_to_cancel: bool) -> Placed {
        let created_in = Some(Duration::from_millis(2));
        Placed { order_id: "x".into(), created_in, asked_to_cancel, refused_calls: 1, status }
    }

    fn run(of: impl IntoIterator<Item = (Option<OrderStatus>, bool)>) -> Run {
        let mut run = Run::default();
        for (status, asked_to_cancel) in of {
            run.add(placed(status, asked_to_cancel), Duration::from_millis(5), Duration::from_millis(10));
        }
        run
    }

    #[test]
    fn a_run_is_void_unless_every_order_settled() {
        use OrderStatus::{Cancelled, Confirmed, Failed};
        assert!(run([(Some(Confirmed), false), (Some(Cancelled), true), (Some(Confirmed), true)]).void(3).is_empty());
        for (what, run) in [
            ("one failed", run([(Some(Confirmed), false), (Some(Failed), false)])),
            ("one is open", run([(Some(Confirmed), false), (None, false)])),
            ("one is missing", run([(Some(Confirmed), false)])),
            ("one too many", run([(Some(Confirmed), false); 3])),
            ("one is cancelled that nobody cancelled", run([(Some(Confirmed), false), (Some(Cancelled), false)])),
        ] {
            assert_eq!(run.void(2).len(), 1, "{what}");
        }
    }

    #[test]
    fn orders_left_open_count_once_their_outcome_is_learnt() {
        let mut created = run([(None, false), (None, false)]);
        assert_eq!(created.open.len(), 2);
        created.take_outcomes_of(&run([(Some(OrderStatus::Confirmed), false); 2]));
        assert!(created.void(2).is_empty());
        assert_eq!(created.created_in.percentiles_ms([1.0]), [Some(7.0)], "from the time it was meant to begin");
    }

    #[test]
    fn callers_are_put_together() {
        let mut all = run([(Some(OrderStatus::Confirmed), false)]);
        all.append(run([(Some(OrderStatus::Cancelled), true), (None, false)]));
        assert_eq!((all.confirmed, all.cancelled, all.asked_to_cancel, all.refused_calls), (1, 1, 1, 3));
        assert_eq!(all.open.len(), 1);
        assert_eq!(all.confirmed_in.percentiles_ms([1.0]), [Some(15.0)]);
        assert_eq!(all.cancelled_in.percentiles_ms([1.0]), [Some(15.0)]);
    }

    #[tokio::test]
    async fn work_apart_gives_its_answer_or_its_error() {
        assert_eq!(apart(|| async { Ok(7) }).await.unwrap(), 7);
        assert_eq!(apart::<(), _>(|| async { Err(anyhow!("no")) }).await.unwrap_err().to_string(), "no");
    }
}
