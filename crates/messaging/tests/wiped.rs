//! Kafka's log is not what it was: deleted, made anew, read from the start. Nothing is skipped, and nothing happens twice.

use std::sync::atomic::Ordering;

use messaging::{
    Limits, Stream,
    bus::kafka::Cluster,
    operate::{self, By},
};

use crate::fixture::{On, PARTITIONS, Pair, Stage, broker, foreign::produce, id, key_in, keys_everywhere, log, run, store, wait};

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

/// The group was there before the first record of the partition, and has read none: what is lost of it is missed all the same.
#[test]
fn c12_first_records_that_are_lost_are_not_skipped_by_a_group_that_waited_for_them() {
    run(async {
        let pair = Pair::new(On::Kafka).await;
        let cluster = broker::cluster().await;
        let bus = pair.bus_of(&cluster).with_limits(Limits { gap_wait_ms: 200, ..Limits::default() });
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        let (whole, lost) = ([key_in(0, 0)], [key_in(1, 0)]);
        pair.say_all(&publisher.runner, &whole, 1..=3).await;
        pair.all_applied(&whole, 3).await;
        wait("the group to begin", || async { broker::is_opened(&pair.consumer, pair.notes, 1).await }).await;
        consumer.stop().await;
        pair.say_all(&publisher.runner, &lost, 1..=3).await;
        pair.published().await;

        broker::delete_topic(pair.notes).await;
        pair.say_all(&publisher.runner, &lost, 4..=4).await;
        pair.published().await;
        assert_eq!(broker::records(pair.notes).await, 1, "three are lost");

        let consumer = pair.consumer(&bus, "two").await;
        wait("the group to miss them", || async { log::said(pair.group, "LOG_GAP", "number 1 is missing") > 0 }).await;
        assert_eq!(pair.seen_of(&lost[0]).await, [0; 0], "nothing behind them is applied");
        rejoin(&pair, &cluster, 1).await;
        pair.wait_seen(&lost[0], &[1, 2, 3, 4]).await;
        consumer.stop().await;
        publisher.stop().await;
        pair.close().await;
    });
}

/// What is gone was gone before it came, and the first record it meets says nothing of that.
#[test]
fn c12_a_new_group_begins_behind_a_foreign_record_of_a_log_that_was_cut() {
    run(async {
        let pair = Pair::new(On::Kafka).await;
        let bus = pair.bus(On::Kafka).await.with_limits(Limits { gap_wait_ms: 200, ..Limits::default() });
        let publisher = pair.publisher(&bus).await;
        let (key, stranger) = (key_in(0, 0), key_in(0, 1));
        pair.say_all(&publisher.runner, std::slice::from_ref(&key), 1..=3).await;
        pair.published().await;
        produce(pair.notes, 0, &stranger, &id(&stranger).to_string(), "1 ok").await;
        pair.say(&publisher.runner, &key, 4, "ok").await;
        pair.published().await;
        broker::cut_log(pair.notes, 0, 3).await;
        assert_eq!(broker::records(pair.notes).await, 2, "the foreign one, and the last of ours");

        let consumer = pair.consumer(&bus, "one").await;
        pair.wait_seen(&stranger, &[1]).await;
        pair.wait_seen(&key, &[4]).await;
        pair.say(&publisher.runner, &key, 5, "ok").await;
        pair.wait_seen(&key, &[4, 5]).await;
        assert_eq!(log::said(pair.group, "LOG_GAP", ""), 0);
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
