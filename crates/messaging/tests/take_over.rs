//! Instances of a group share its partitions; when one ends, well or badly, the others go on where it stood.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::fixture::{On, PARTITIONS, Pair, keys_everywhere, load::Load, store, wait};

/// A lease runs out after 3 seconds, and is looked for every second.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(5);

on_buses!(c03_a_stopped_instance_is_followed);

async fn c03_a_stopped_instance_is_followed(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let leaving = pair.consumer(&bus, "leaving").await;
    let staying = pair.consumer(&bus, "staying").await;
    let keys = keys_everywhere(2);
    shared(&pair).await;
    let load = Load::start(&pair, &publisher.runner, &keys);
    both_work(&pair, &keys, "leaving").await;

    leaving.stop().await;
    followed(&pair).await;

    pair.all_applied(&keys, load.stop().await).await;
    staying.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(c03_a_crashed_instance_is_followed);

/// An instance whose runtime is gone: nothing of it runs, nothing is given back.
async fn c03_a_crashed_instance_is_followed(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let doomed = Doomed::start(&pair);
    let staying = pair.consumer(&bus, "staying").await;
    let keys = keys_everywhere(2);
    shared(&pair).await;
    let load = Load::start(&pair, &publisher.runner, &keys);
    both_work(&pair, &keys, "doomed").await;

    drop(doomed);
    followed(&pair).await;

    pair.all_applied(&keys, load.stop().await).await;
    staying.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(c03_a_newcomer_gets_its_share);

/// Nothing is lost or doubled while partitions change hands between the living.
async fn c03_a_newcomer_gets_its_share(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let first = pair.consumer(&bus, "first").await;
    let keys = keys_everywhere(2);
    let load = Load::start(&pair, &publisher.runner, &keys);
    wait("the first to hold everything", || async { store::shares(&pair.consumer).await == [i64::from(PARTITIONS)] }).await;

    let newcomer = pair.consumer(&bus, "newcomer").await;
    both_work(&pair, &keys, "newcomer").await;
    shared(&pair).await;

    pair.all_applied(&keys, load.stop().await).await;
    first.stop().await;
    newcomer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

/// Waits until two instances hold half of the partitions each.
async fn shared(pair: &Pair) {
    let half = i64::from(PARTITIONS / 2);
    wait("a fair share for both", || async { store::shares(&pair.consumer).await == [half, half] }).await;
}

/// Waits until this instance and another one have applied something.
async fn both_work(pair: &Pair, keys: &[String], one: &str) {
    wait("both to work", || async {
        let by_one = store::seen_by(&pair.consumer, one, keys).await;
        by_one > 0 && by_one < store::seen(&pair.consumer).await
    })
    .await;
}

/// Waits until every partition has moved on from where it is now.
async fn followed(pair: &Pair) {
    let before = store::positions(&pair.consumer, pair.group, pair.notes).await;
    let moved = local::until("every partition to move on", TAKE_OVER_WITHIN, || async {
        let now = store::positions(&pair.consumer, pair.group, pair.notes).await;
        before.iter().all(|(partition, seq)| now[partition] > *seq).then_some(())
    });
    moved.await.unwrap();
}

/// A consumer in a runtime of its own. Dropping it is its crash.
struct Doomed(Option<Runtime>);

impl Doomed {
    fn start(pair: &Pair) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let there = pair.elsewhere();
        runtime.spawn(async move {
            let bus = there.bus(there.on).await;
            let _instance = there.consumer(&bus, "doomed").await;
            std::future::pending::<()>().await;
        });
        Self(Some(runtime))
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
