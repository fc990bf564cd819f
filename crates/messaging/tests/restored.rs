//! A database is put back to an older copy while everything runs. What was said since is gone, or is said again: never in silence.

use std::collections::BTreeSet;

use crate::fixture::{On, PARTITIONS, Pair, Stage, faults, keys_everywhere, load::Load, log, store, wait};

/// In the order in which batches take them.
const PUBLISHERS: [&str; 4] = ["said", "outbox", "relay", "readers"];
const CONSUMERS: [&str; 7] = ["progress", "dead_letter_events", "processed_events", "heads", "flags", "seen", "outbox"];

/// Waits until every partition is well past where it is now.
async fn get_on(pair: &Pair) {
    let before = store::positions(&pair.consumer, pair.group, pair.notes).await;
    wait("every partition to get on", || async {
        let now = store::positions(&pair.consumer, pair.group, pair.notes).await;
        before.iter().all(|(partition, seq)| now[partition] > seq + 5)
    })
    .await;
}

/// Waits until somebody has said so of every stream.
async fn noticed(pair: &Pair) {
    let all: BTreeSet<i32> = (0..PARTITIONS).collect();
    wait("it to be noticed in every stream", || async { log::partitions(pair.notes, "LOG_DIVERGED") == all }).await;
}

on_buses!(a_publisher_restored_to_an_older_copy_is_noticed);

/// Its streams go on from an older end. Their readers have read further, and on Kafka the log has more: they stop, and nothing of another
/// history is applied.
async fn a_publisher_restored_to_an_older_copy_is_noticed(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let keys = keys_everywhere(1);
    let load = Load::start(&pair, &publisher.runner, &keys);
    get_on(&pair).await;
    faults::back_up(&pair.publisher, &PUBLISHERS).await;
    get_on(&pair).await;

    assert!(faults::restore(&pair.publisher, &PUBLISHERS).await > 0, "something was lost");
    noticed(&pair).await;
    load.stop().await;
    for (key, notes) in store::applied(&pair.consumer).await {
        assert!(notes.is_sorted_by(|one, next| one < next), "nothing of {key} came twice or in another order: {notes:?}");
    }
    assert_eq!(pair.parked().await.len(), 0);
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(a_consumer_restored_to_an_older_copy_is_noticed_and_catches_up: postgres, kafka);

/// It knows that it had come further, says so, and does again what the copy has not.
async fn a_consumer_restored_to_an_older_copy_is_noticed_and_catches_up(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let keys = keys_everywhere(1);
    let load = Load::start(&pair, &publisher.runner, &keys);
    get_on(&pair).await;
    faults::back_up(&pair.consumer, &CONSUMERS).await;
    get_on(&pair).await;

    assert!(faults::restore(&pair.consumer, &CONSUMERS).await > 0, "something was lost");
    noticed(&pair).await;
    pair.all_applied(&keys, load.stop().await).await;
    Stage { pair, publisher, consumer }.stop().await;
}
