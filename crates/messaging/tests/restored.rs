//! A database is put back to an older copy while everything runs. What was said since is gone, or is said again: never in silence.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use messaging::operate::Log;

use crate::{
    fixture::{On, PARTITIONS, Pair, Stage, faults, keys_everywhere, load::Load, log, store, wait},
    operate::rejoin,
    retention::store::reported,
};

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

/// It had told that it had come further: it stops and says so, and when a person has looked it does again what the copy has not.
async fn a_consumer_restored_to_an_older_copy_is_noticed_and_catches_up(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let keys = keys_everywhere(1);
    let load = Load::start(&pair, &publisher.runner, &keys);
    get_on(&pair).await;
    faults::back_up(&pair.consumer, &CONSUMERS).await;
    told_more_than_the_copy_has(&pair).await;

    assert!(faults::restore(&pair.consumer, &CONSUMERS).await > 0, "something was lost");
    noticed(&pair).await;
    rejoined_where_it_stands(&pair).await;
    pair.all_applied(&keys, load.stop().await).await;
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(a_consumer_restored_while_it_was_stopped_is_noticed_and_catches_up: postgres, kafka);

/// Nobody remembers: what it had told is with the others. Nothing is done again before a person has looked, however often it is started.
async fn a_consumer_restored_while_it_was_stopped_is_noticed_and_catches_up(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let keys = keys_everywhere(1);
    let load = Load::start(&pair, &publisher.runner, &keys);
    get_on(&pair).await;
    faults::back_up(&pair.consumer, &CONSUMERS).await;
    told_more_than_the_copy_has(&pair).await;
    let said = load.stop().await;
    pair.all_applied(&keys, said).await;
    consumer.stop().await;

    assert!(faults::restore(&pair.consumer, &CONSUMERS).await > 0, "something was lost");
    let before = store::seen(&pair.consumer).await;
    let bus = pair.bus(on).await;
    for name in ["two", "three"] {
        let stopped = log::said(pair.group, "LOG_DIVERGED", pair.notes);
        let consumer = pair.consumer(&bus, name).await;
        let all = stopped + usize::try_from(PARTITIONS).unwrap();
        wait("every stream to be stopped", || async { log::said(pair.group, "LOG_DIVERGED", pair.notes) >= all }).await;
        // What it tells now does not hide what it told before.
        pair.say(&publisher.runner, "another key", 1, "ok").await;
        consumer.stop().await;
    }
    assert_eq!(store::seen(&pair.consumer).await, before, "nothing is done again");
    noticed(&pair).await;

    let consumer = pair.consumer(&bus, "four").await;
    rejoined_where_it_stands(&pair).await;
    wait("all to be applied", || async { store::seen(&pair.consumer).await == store::said_on(&pair.publisher, pair.notes).await })
        .await;
    for key in &keys {
        assert_eq!(pair.seen_of(key).await, (1..=said).collect::<Vec<_>>(), "the notes of {key}");
    }
    assert_eq!(pair.mind.repeats.load(Ordering::Relaxed), 0, "nothing that the copy has came again");
    consumer.stop().await;

    // And that was that.
    let stopped = log::said(pair.group, "LOG_DIVERGED", pair.notes);
    let consumer = pair.consumer(&bus, "five").await;
    pair.say_all(&publisher.runner, &keys, said + 1..=said + 2).await;
    for key in &keys {
        pair.wait_seen(key, &(1..=said + 2).collect::<Vec<_>>()).await;
    }
    assert_eq!(log::said(pair.group, "LOG_DIVERGED", pair.notes), stopped);
    Stage { pair, publisher, consumer }.stop().await;
}

/// Waits until the publisher has heard of every partition that the consumer is further than it is now.
async fn told_more_than_the_copy_has(pair: &Pair) {
    let copied = store::positions(&pair.consumer, pair.group, pair.notes).await;
    wait("the group to tell that it got on", || async {
        let told = reported(&pair.publisher, pair.group, pair.notes).await;
        copied.iter().all(|(partition, seq)| told.get(partition).is_some_and(|told| told > seq))
    })
    .await;
}

/// As docs/runbooks/streams.md has it.
async fn rejoined_where_it_stands(pair: &Pair) {
    for partition in 0..PARTITIONS {
        let rejoined = rejoin(pair, partition).await;
        assert_eq!(rejoined.log, Log::Whole);
        assert!(0 < rejoined.to.seq && rejoined.to.seq < rejoined.from_seq, "{rejoined:?}");
    }
}
