//! Kafka's log is not what it was: deleted, made anew, read from the start. Nothing is skipped, and nothing happens twice.

use std::sync::atomic::Ordering;

use messaging::{
    Limits, Stream,
    bus::kafka::Cluster,
    operate::{self, By},
};

use crate::fixture::{On, PARTITIONS, Pair, Stage, broker, keys_everywhere, log, run, store, wait};

#[test]
fn c11_offsets_set_back_replay_the_log_without_effect() {
    run(async {
        let Stage { pair, publisher, consumer } = Stage::start(On::Kafka).await;
        let keys = keys_everywhere(3);
        pair.say_all(&publisher.runner, &keys, 1..=10).await;
        pair.all_applied(&keys, 10).await;
        let (before, rows) = (store::applied(&pair.consumer).await, store::seen(&pair.consumer).await);
        consumer.stop().await;
        broker::reset_offsets(&pair.consumer).await;

        // Repeats reach the handler, so that they can be counted.
        let consumer = pair.consumer(&pair.bus(On::Kafka).await.without_dedupe(), "again").await;
        let again = || async { i64::try_from(pair.mind.repeats.load(Ordering::Relaxed)).unwrap() >= rows };
        wait("the whole log to come again", again).await;
        pair.say(&publisher.runner, &keys[0], 11, "ok").await;
        wait("one more", || async { store::seen(&pair.consumer).await == rows + 1 }).await;
        let mut after = store::applied(&pair.consumer).await;
        assert_eq!(after.get_mut(&keys[0]).and_then(Vec::pop), Some(11));
        assert_eq!(after, before);
        consumer.stop().await;
        publisher.stop().await;
        pair.close().await;
    });
}

/// Records are lost with the topic before they are read. The relay makes the topic anew and says what it misses; readers stop; an operator
/// has everything said again.
#[test]
fn c12_o12_a_topic_deleted_under_load_is_made_anew_and_nothing_is_skipped() {
    run(async {
        let pair = Pair::new(On::Kafka).await;
        let cluster = broker::cluster().await;
        let bus = pair.bus_of(&cluster).with_limits(Limits { gap_wait_ms: 200, ..Limits::default() });
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        let keys = keys_everywhere(2);
        pair.say_all(&publisher.runner, &keys, 1..=5).await;
        pair.all_applied(&keys, 5).await;
        consumer.stop().await;
        pair.say_all(&publisher.runner, &keys, 6..=10).await;
        pair.published().await;

        broker::delete_topic(pair.notes).await;
        pair.say_all(&publisher.runner, &keys, 11..=12).await;
        pair.published().await;
        assert!(cluster.counted().restarts > 0, "the relay found no topic");
        assert!(log::said(pair.service, "LOG_GAP", pair.notes) > 0, "it says that the topic is not what it was");

        let consumer = pair.consumer(&bus, "two").await;
        let stopped = || async { log::said(pair.group, "LOG_GAP", pair.notes) >= usize::try_from(PARTITIONS).unwrap() };
        wait("every stream to be stopped", stopped).await;
        assert_eq!(store::seen(&pair.consumer).await, 5 * i64::try_from(keys.len()).unwrap(), "nothing is skipped");

        for partition in 0..PARTITIONS {
            rejoin(&pair, &cluster, partition).await;
        }
        let wanted = 12 * i64::try_from(keys.len()).unwrap();
        wait("everything to be applied", || async { store::seen(&pair.consumer).await == wanted }).await;
        let applied = store::applied(&pair.consumer).await;
        for key in &keys {
            assert_eq!(applied[key], (1..=12).collect::<Vec<_>>(), "the notes of {key}");
        }
        assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, wanted, "what the consumer says of them");
        consumer.stop().await;
        publisher.stop().await;
        pair.close().await;
    });
}

async fn rejoin(pair: &Pair, cluster: &Cluster, partition: i32) {
    let (mut consumer, mut publisher) = (pair.consumer.acquire().await.unwrap(), pair.publisher.acquire().await.unwrap());
    let stream = Stream { topic: pair.notes.to_owned(), partition };
    let by = By { who: "a tester", why: "a test wants it" };
    operate::rejoin_on_kafka(&mut consumer, &mut publisher, cluster, pair.group, &stream, by).await.unwrap();
}
