//! The open loop: so many orders a second begin whether the platform keeps up or not. What an order takes counts from the time it was meant
//! to begin, so a stall shows in every order that it held up (no coordinated omission).

use std::time::Duration;

use anyhow::Result;
use tokio::{task::JoinSet, time::Instant};

use super::{
    caller::{Callers, Plan},
    load::{Run, apart},
};

/// Orders open at once; beyond that the next one waits, and the wait counts.
const OPEN_MAX: usize = 65_536;

pub(super) async fn open(plan: Plan, orders: u32, per_second: u32) -> Result<Run> {
    apart(move || async move {
        let callers = Callers::connect(plan).await?;
        callers.listening(begin_all(&callers, orders, per_second)).await
    })
    .await
}

async fn begin_all(callers: &Callers, orders: u32, per_second: u32) -> Result<Run> {
    let mut run = Run::default();
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for n in 0..orders {
        let meant = start + offset(n, per_second);
        tokio::time::sleep_until(meant).await;
        while let Some(ended) = tasks.try_join_next() {
            let (placed, late, took) = flat(ended)?;
            run.add(placed, late, took);
        }
        while tasks.len() >= OPEN_MAX
            && let Some(ended) = tasks.join_next().await
        {
            let (placed, late, took) = flat(ended)?;
            run.add(placed, late, took);
        }
        let mut caller = callers.caller(n);
        tasks.spawn(async move {
            let begun = Instant::now();
            let placed = caller.step(n).await?;
            anyhow::Ok((placed, begun - meant, begun.elapsed()))
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let (placed, late, took) = flat(ended)?;
        run.add(placed, late, took);
    }
    run.elapsed = start.elapsed();
    Ok(run)
}

fn flat<T>(ended: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    ended?
}

/// When the nth order is meant to begin.
fn offset(n: u32, per_second: u32) -> Duration {
    Duration::from_nanos(u64::from(n) * 1_000_000_000 / u64::from(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_begin_at_even_times() {
        assert_eq!(offset(0, 7), Duration::ZERO);
        assert_eq!(offset(1, 1_000), Duration::from_millis(1));
        assert_eq!(offset(6_000, 6_000), Duration::from_secs(1));
        assert_eq!(offset(10_000_000, 1), Duration::from_secs(10_000_000));
    }
}
