//! The relay is cut off, overtaken, refused: what it says twice is heard once, and nothing overtakes.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use local::{
    Kafka, Proxy,
    proxy::{Direction, Mark, Then},
};
use messaging::{Error, Subscription, Tasks, bus::kafka::Cluster};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::fixture::{
    On, PARTITIONS, PUBLISHER, Pair, SOON, Stage, broker, foreign::flood, key_in, keys_everywhere, load::Load, log,
    publisher::Publisher, run, store, wait,
};

/// The worst moment: the broker has acknowledged, and the cursor is not saved.
#[test]
fn o01_what_is_acknowledged_and_not_noted_is_said_again() {
    run(async {
        let stage = Stage::start(On::Kafka).await;
        let pair = &stage.pair;
        let keys = [key_in(0, 0), key_in(1, 0)];
        pair.say_all(&stage.publisher.runner, &keys, 1..=3).await;
        pair.all_applied(&keys, 3).await;
        pair.published().await;

        let held = broker::hold_cursors(&pair.publisher).await;
        pair.say_all(&stage.publisher.runner, &keys, 4..=6).await;
        // Who has applied them has them from the broker.
        pair.all_applied(&keys, 6).await;
        assert!(store::unpublished(&pair.publisher).await > 0, "nothing of it is saved");
        assert!(store::cut(&pair.publisher, PUBLISHER).await > 0);
        held.rollback().await.unwrap();
        pair.published().await;
        let rows = store::said_on(&pair.publisher, pair.notes).await;
        assert!(broker::records(pair.notes).await > rows, "some were said twice");

        pair.say_all(&stage.publisher.runner, &keys, 7..=7).await;
        pair.all_applied(&keys, 7).await;
        stage.stop().await;
    });
}

/// Both send, until one finds that the other is ahead; a person sets the cursors back all the while; then the one that sends ends.
#[test]
fn o03_two_relays_keep_the_order_and_one_is_enough() {
    run(async {
        let pair = Pair::new(On::Kafka).await;
        let (one, other) = (broker::cluster().await, broker::cluster().await);
        let (bus, others_bus) = (pair.bus_of(&one), pair.bus_of(&other));
        let publisher = pair.publisher(&bus).await;
        let rival = pair.publisher(&others_bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        let keys = keys_everywhere(3);

        let load = Load::start(&pair, &publisher.runner, &keys);
        for _ in 0..5 {
            let before = store::seen(&pair.consumer).await;
            wait("the load to get on", || async { store::seen(&pair.consumer).await > before + 50 }).await;
            store::forget_relayed(&pair.publisher).await;
        }
        let said = load.stop().await;
        pair.all_applied(&keys, said).await;
        wait("one to be overtaken", || async { one.counted().overtaken + other.counted().overtaken > 0 }).await;
        let rows = store::said_on(&pair.publisher, pair.notes).await;
        assert!(broker::records(pair.notes).await > rows, "some were said twice");

        publisher.stop().await;
        let before = other.counted().relayed;
        pair.say_all(&rival.runner, &keys, said + 1..=said + 3).await;
        pair.all_applied(&keys, said + 3).await;
        wait("the other one to have sent it", || async { other.counted().relayed > before }).await;
        rival.stop().await;
        consumer.stop().await;
        pair.close().await;
    });
}

/// What a broker may answer that ends a producer for good.
const FATAL: [RDKafkaRespErr; 2] =
    [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER];

#[test]
fn o08_a_producer_that_is_refused_is_made_anew() {
    run(async {
        let mock = MockCluster::new(1).unwrap();
        let (pair, cluster) = mocked(&mock).await;
        let bus = pair.bus_of(&cluster);
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        let keys = keys_everywhere(2);
        let mut said = 3;
        pair.say_all(&publisher.runner, &keys, 1..=said).await;
        pair.all_applied(&keys, said).await;
        for error in FATAL {
            let restarts = cluster.counted().restarts;
            mock.request_errors(RDKafkaApiKey::Produce, &[error]);
            said += 1;
            pair.say_all(&publisher.runner, &keys, said..=said).await;
            wait("a new client", || async { cluster.counted().restarts > restarts }).await;
            pair.all_applied(&keys, said).await;
        }
        publisher.stop().await;
        consumer.stop().await;
        pair.close().await;
    });
}

/// Of every request to produce, and of nothing else: `acks` is all, and the broker has 30 s.
const PRODUCE: [u8; 6] = [0xff, 0xff, 0, 0, 0x75, 0x30];

/// The broker has it, and its answer never comes. Nothing is marked; the client asks again, with the numbers that tell a repeat.
#[test]
fn o09_a_lost_answer_is_asked_for_again() {
    run(async {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let proxy = Proxy::start(nowhere).await.unwrap();
        let dir = std::env::temp_dir().join(format!("settle-test-{:016x}", rand::random::<u64>()));
        let kafka = Kafka::start_throwaway_behind(&dir, proxy.port()).await.unwrap();
        proxy.forward_to(SocketAddr::from((Ipv4Addr::LOCALHOST, kafka.port())));
        let brokers = format!("127.0.0.1:{}", proxy.port());
        let cluster = Cluster::new(brokers.clone());
        let pair = Pair::new(On::Kafka).await;
        let bus = pair.bus_of(&cluster);
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        let keys = keys_everywhere(2);
        pair.say_all(&publisher.runner, &keys, 1..=3).await;
        pair.all_applied(&keys, 3).await;
        pair.published().await;
        let (restarts, before) = (cluster.counted().restarts, store::seen(&pair.consumer).await);

        proxy.after(Direction::ToServer, Mark::Pattern(PRODUCE.to_vec()), Then::Silence);
        pair.say_all(&publisher.runner, &keys, 4..=4).await;
        wait("some of it to be in the topic", || async { store::seen(&pair.consumer).await > before }).await;
        wait("the broker's answer to be lost", || async { proxy.counts().swallowed_bytes > 0 }).await;
        assert_eq!(proxy.counts().marks, 1, "the relay's connection is the silent one");
        let rows = i64::try_from(keys.len()).unwrap();
        assert_eq!(store::unpublished(&pair.publisher).await, rows, "nothing of it is marked");

        assert!(proxy.cut() > 0);
        pair.say_all(&publisher.runner, &keys, 5..=9).await;
        pair.all_applied(&keys, 9).await;
        pair.published().await;
        assert_eq!(broker::records_at(&brokers, pair.notes).await, 9 * rows, "one copy of each");
        assert_eq!(cluster.counted().restarts, restarts, "the client mends that by itself");
        publisher.stop().await;
        consumer.stop().await;
        pair.close().await;
        kafka.stop().await.unwrap();
    });
}

/// Where the stream ends cannot be told in time. It is said on all the same, and its reader sees that it goes on.
#[test]
fn a_relay_starts_behind_any_number_of_foreign_records() {
    /// More than are looked through.
    const FOREIGN: usize = 10_100;
    run(async {
        let Stage { pair, publisher, consumer } = Stage::start(On::Kafka).await;
        let keys = keys_everywhere(1);
        pair.say_all(&publisher.runner, &keys, 1..=3).await;
        pair.all_applied(&keys, 3).await;
        pair.published().await;
        consumer.stop().await;
        publisher.stop().await;
        flood(pair.notes, 0, FOREIGN).await;
        let rows = store::said_on(&pair.publisher, pair.notes).await;
        assert_eq!(broker::records(pair.notes).await, rows + i64::try_from(FOREIGN).unwrap());

        let cluster = broker::cluster().await;
        let bus = pair.bus_of(&cluster);
        let publisher = pair.publisher(&bus).await;
        pair.say_all(&publisher.runner, &keys, 4..=6).await;
        pair.published().await;
        assert_eq!(log::partitions(pair.notes, "LOG_UNCHECKED"), BTreeSet::from([0]), "it says so, of that partition alone");
        assert_eq!((cluster.counted().restarts, cluster.counted().diverged), (0, 0));
        let consumer = pair.consumer(&bus, "two").await;
        for key in &keys {
            pair.wait_seen(key, &(1..=6).collect::<Vec<_>>()).await;
        }
        Stage { pair, publisher, consumer }.stop().await;
    });
}

/// A pair whose topics are on a broker that answers what a test tells it to.
async fn mocked<C: rdkafka::ClientContext>(mock: &MockCluster<'_, C>) -> (Pair, Cluster) {
    let pair = Pair::new(On::Kafka).await;
    for topic in [pair.notes, pair.flags] {
        mock.create_topic(topic, PARTITIONS, 1).unwrap();
    }
    (pair, Cluster::new(mock.bootstrap_servers()))
}

#[test]
fn o12_a_topic_with_other_partitions_is_refused() {
    run(async {
        let Stage { pair, publisher, consumer } = Stage::start(On::Kafka).await;
        let pool = publisher.pool.clone();
        let largest = pair.largest.clone();
        publisher.stop().await;
        broker::add_partitions(pair.notes, 8).await;
        let bus = pair.bus(On::Kafka).await;
        let started = || async {
            let subscription = Subscription { group: pair.service, topics: &[] };
            let (handler, tasks) = (Publisher { largest: largest.clone() }, Tasks::new());
            let refused = messaging::start(handler, subscription, pool.clone(), &bus, &tasks).await.err();
            assert!(tasks.drain(SOON).await, "nothing goes on behind a refusal");
            matches!(refused, Some(Error::PartitionsDiffer { stored: 8, asked: PARTITIONS }))
        };
        // The broker takes a moment to know it itself.
        wait("it to be refused", started).await;
        consumer.stop().await;
        pair.close().await;
    });
}

/// The relay sends from memory what its process has said. What another says only the outbox has, and neither overtakes the other.
#[test]
fn what_another_process_says_is_sent_between_ours_in_its_order() {
    run(async {
        let pair = Pair::new(On::Kafka).await;
        // As in a process whose relay stands still: nobody here hears of what it says.
        let other = pair.publisher(&pair.bus(On::Postgres).await).await;
        let cluster = broker::cluster().await;
        let bus = pair.bus_of(&cluster);
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        let keys = keys_everywhere(2);
        for n in 1..=10 {
            let writer = if n % 2 == 0 { &other } else { &publisher };
            pair.say_all(&writer.runner, &keys, n..=n).await;
        }
        pair.all_applied(&keys, 10).await;
        let half = 5 * u64::try_from(keys.len()).unwrap();
        wait("all to be noted", || async { cluster.counted().relayed == 2 * half }).await;
        let before = cluster.counted().remembered;
        assert!(before <= half, "what the other one has said is in the outbox alone");

        pair.say_all(&publisher.runner, &keys, 11..=20).await;
        pair.all_applied(&keys, 20).await;
        assert!(cluster.counted().remembered > before, "ours come from memory, also behind what the other one has said");
        other.stop().await;
        publisher.stop().await;
        consumer.stop().await;
        pair.close().await;
    });
}

/// What every reader has read on the embedded bus is not sent to Kafka.
#[test]
fn a_relay_starts_at_the_slowest_reader() {
    run(async {
        let pair = Pair::new(On::Postgres).await;
        let keys = keys_everywhere(2);
        let bus = pair.bus(On::Postgres).await;
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        pair.say_all(&publisher.runner, &keys, 1..=20).await;
        pair.all_applied(&keys, 20).await;
        consumer.stop().await;
        publisher.stop().await;
        broker::report_all_but_one(&pair.publisher, pair.group, pair.notes).await;

        let bus = pair.bus(On::Kafka).await;
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        pair.say_all(&publisher.runner, &keys, 21..=22).await;
        pair.all_applied(&keys, 22).await;
        pair.published().await;
        let new = 2 * i64::try_from(keys.len()).unwrap();
        assert_eq!(broker::records(pair.notes).await, new + i64::from(PARTITIONS), "what is new, and one record a partition");
        consumer.stop().await;
        publisher.stop().await;
        pair.close().await;
    });
}
