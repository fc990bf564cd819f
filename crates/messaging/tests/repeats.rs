//! A repeat has no effect: the runner drops it, and where it must not, the effect is idempotent by itself.

use std::sync::atomic::Ordering;

use crate::fixture::{On, Pair, Stage, keys_everywhere, store, wait};

on_buses!(repeats_have_no_effect: shuffle, kafka);

/// Two services hear the same streams. One drops repeats; to the other they get through, which proves that there are some.
async fn repeats_have_no_effect(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let witness = pair.another_consumer().await;
    let consumer = pair.consumer(&bus, "one").await;
    let unguarded = witness.consumer(&bus.clone().without_dedupe(), "witness").await;
    let keys = keys_everywhere(5);
    pair.say_all(&publisher.runner, &keys, 1..=20).await;
    pair.all_applied(&keys, 20).await;

    // On Kafka repeats come from a relay that says everything again.
    #[cfg(feature = "kafka")]
    let publisher = match on {
        On::Kafka => {
            wait("everything to be published", || async { store::unpublished(&pair.publisher).await == 0 }).await;
            publisher.stop().await;
            store::forget_relayed(&pair.publisher).await;
            let publisher = pair.publisher(&bus).await;
            wait("everything to be said again", || async { store::unpublished(&pair.publisher).await == 0 }).await;
            publisher
        }
        On::Postgres | On::Shuffle => publisher,
    };

    // Who has these has read all repeats before them.
    pair.say_all(&publisher.runner, &keys, 21..=21).await;
    pair.all_applied(&keys, 21).await;
    wait("the witness", || async { store::seen(&witness.consumer).await == store::seen(&pair.consumer).await }).await;
    assert!(witness.mind.repeats.load(Ordering::Relaxed) > 0, "there were repeats");
    assert_eq!(store::applied(&witness.consumer).await, store::applied(&pair.consumer).await);
    assert_eq!(store::said_on(&witness.consumer, witness.echoes).await, store::seen(&pair.consumer).await);

    unguarded.stop().await;
    consumer.stop().await;
    publisher.stop().await;
    witness.consumer.close().await;
    pair.close().await;
}

on_buses!(a_replay_from_the_start_costs_nothing);

/// What an operator does to rejoin a stream: progress goes back, everything comes again.
async fn a_replay_from_the_start_costs_nothing(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let keys = keys_everywhere(2);
    pair.say_all(&publisher.runner, &keys, 1..=10).await;
    pair.all_applied(&keys, 10).await;
    let before = store::applied(&pair.consumer).await;
    let rows = store::seen(&pair.consumer).await;

    consumer.stop().await;
    store::forget_progress(&pair.consumer).await;
    let consumer = pair.consumer(&pair.bus(on).await, "again").await;
    let again = || async { i64::try_from(pair.mind.repeats.load(Ordering::Relaxed)).unwrap() >= rows };
    wait("everything to come again", again).await;
    pair.say(&publisher.runner, &keys[0], 11, "ok").await;
    wait("one more", || async { store::seen(&pair.consumer).await == rows + 1 }).await;

    let mut after = store::applied(&pair.consumer).await;
    assert_eq!(after.get_mut(&keys[0]).and_then(Vec::pop), Some(11));
    assert_eq!(after, before);
    assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, rows + 1, "what was said on before is not said again");
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}
