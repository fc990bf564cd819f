//! A database that is slow for one instance and not for another: nobody is thrown out for being slow, and nothing is done twice.

use std::{slice::from_ref, time::Duration};

use local::proxy::Direction;
use messaging::Limits;

use crate::fixture::{CONSUMER, On, PARTITIONS, Pair, Stage, faults, keys_everywhere, log, store, variants::proxy, wait};

/// A lease: a batch takes longer than this.
const LEASE_MS: i64 = 3_000;
/// On the way of each statement, a dozen or more of which make a batch.
const DELAY: Duration = Duration::from_millis(400);

on_buses!(c13_a_batch_that_outlives_its_lease_gets_through: postgres, kafka);

async fn c13_a_batch_that_outlives_its_lease_gets_through(on: On) {
    let pair = Pair::new(on).await;
    let proxy = proxy().await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let slow = pair.consumer_through(&proxy).consumer(&bus, "slow").await;
    let other = pair.consumer(&bus, "other").await;
    let half = i64::from(PARTITIONS / 2);
    wait("a fair share for both", || async { store::shares(&pair.consumer).await == [half, half] }).await;

    let keys = keys_everywhere(1);
    pair.say_all(&publisher.runner, &keys, 1..=1).await;
    pair.all_applied(&keys, 1).await;
    let mut of_slow = None;
    for key in &keys {
        if store::seen_by(&pair.consumer, "slow", from_ref(key)).await == 1 {
            of_slow = Some(key);
        }
    }
    let key = of_slow.expect("it works in half of the partitions");

    proxy.delay(Direction::ToServer, DELAY);
    pair.say(&publisher.runner, key, 2, "ok").await;
    wait("a transaction longer than a lease", || async {
        faults::oldest_transaction_ms(&pair.consumer, CONSUMER).await > LEASE_MS
    })
    .await;
    pair.wait_seen(key, &[1, 2]).await;
    assert_eq!(store::seen_by(&pair.consumer, "slow", from_ref(key)).await, 2, "it was not thrown out");
    assert!(proxy.counts().delayed_pieces > 0);

    proxy.delay(Direction::ToServer, Duration::ZERO);
    pair.say_all(&publisher.runner, &keys, 2..=10).await;
    pair.all_applied(&keys, 10).await;
    slow.stop().await;
    other.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(c13_a_batch_that_is_too_much_for_its_time_gets_through_in_parts: postgres);

async fn c13_a_batch_that_is_too_much_for_its_time_gets_through_in_parts(on: On) {
    const NOTES: i64 = 30;
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await.with_limits(Limits { database_ms_max: 1_000, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let keys = ["a".to_owned()];
    pair.say_all(&publisher.runner, &keys, 1..=NOTES).await;
    faults::slow_notes(&pair.consumer).await;

    let consumer = pair.consumer(&bus, "one").await;
    pair.all_applied(&keys, NOTES).await;
    wait("the log of what was given up", || async { log::said(pair.group, "PROCESSING_ERROR", "not done within") > 0 }).await;
    assert!(messaging::totals()[pair.group].retries > 0);
    Stage { pair, publisher, consumer }.stop().await;
}
