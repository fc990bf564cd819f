//! A stream is gapless, whoever writes it, and a key keeps its order.

use futures::future::join_all;
use messaging::CallError;

use crate::fixture::{
    Instance, On, Pair, Stage, faults,
    publisher::{Manner, Publisher, Say},
    store, wait,
};

const KEYS: usize = 40;
const NOTES: i64 = 25;

on_buses!(o10_what_is_rolled_back_is_never_said);

/// Two publishers on one database (on Kafka: two relays), and every fifth note beside one whose transaction is rolled back. What is
/// committed is heard and nothing else, and every key keeps its order.
async fn o10_what_is_rolled_back_is_never_said(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publishers = [pair.publisher(&bus).await, pair.publisher(&bus).await];
    let consumer = pair.consumer(&bus, "one").await;
    let keys: Vec<String> = (0..KEYS).map(|k| format!("key-{k}")).collect();

    let rolled_back = join_all(keys.iter().enumerate().map(|(k, key)| write(&pair, &publishers, k, key))).await;
    assert_eq!(rolled_back.into_iter().sum::<usize>(), KEYS * 5, "a fifth of the notes stood beside a rolled back one");
    let rows = i64::try_from(KEYS).unwrap() * NOTES;
    assert_eq!(store::said_on(&pair.publisher, pair.notes).await, rows, "what was rolled back is not said");

    pair.all_applied(&keys, NOTES).await;
    assert_eq!(faults::seen_ids(&pair.consumer).await, store::news_ids(&pair.publisher).await, "no phantom, and nothing lost");
    consumer.stop().await;
    for publisher in publishers {
        publisher.stop().await;
    }
    pair.close().await;
}

/// The notes of one key, by both publishers in turn; how many inputs were rolled back beside them.
async fn write(pair: &Pair, publishers: &[Instance<Publisher>; 2], k: usize, key: &str) -> usize {
    let mut rolled_back = 0;
    for n in 1..=NOTES {
        let publisher = &publishers[(k + usize::try_from(n).unwrap()) % 2];
        if n % 5 == 0 {
            let manner = if n % 2 == 0 { Manner::Broken } else { Manner::Forbidden };
            let say = Say { lines: vec![pair.note(key, -n, "never")], manner };
            let answer = publisher.call(&format!("{key}/never/{n}"), key, say).await;
            assert!(matches!(answer, Err(CallError::Failed)), "{answer:?}");
            rolled_back += 1;
        }
        pair.say(&publisher.runner, key, n, "ok").await;
    }
    rolled_back
}

on_buses!(the_news_of_one_input_keep_their_order);

/// Many lines in one decision, and many decisions in one batch.
async fn the_news_of_one_input_keep_their_order(on: On) {
    let stage = Stage::start(on).await;
    let keys = ["a", "b", "c"].map(String::from);
    let lines = (1..=100).flat_map(|n| keys.iter().map(move |key| (key, n)));
    let lines = lines.map(|(key, n)| stage.pair.note(key, n, "ok")).collect();
    stage.say_news("all at once", lines).await;
    stage.pair.all_applied(&keys, 100).await;
    stage.stop().await;
}

on_buses!(what_two_services_say_of_one_record_has_two_ids: postgres);

/// Ids are derived from causes, and two services may have the same cause.
async fn what_two_services_say_of_one_record_has_two_ids(on: On) {
    let stage = Stage::start(on).await;
    let other = stage.pair.another_consumer().await;
    let also = other.consumer(&stage.pair.bus(on).await, "also").await;
    stage.say("a", 1, "ok").await;
    for pair in [&stage.pair, &other] {
        wait("the echo", || async { store::said_on(&pair.consumer, pair.echoes).await == 1 }).await;
    }
    let (one, two) = (store::news_ids(&stage.pair.consumer).await, store::news_ids(&other.consumer).await);
    assert!(one.is_disjoint(&two), "both services said {one:?}");
    also.stop().await;
    other.consumer.close().await;
    stage.stop().await;
}
