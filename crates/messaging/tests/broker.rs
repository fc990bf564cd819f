//! The broker stands still, or is killed: calls are answered all the same, and everything comes through in its order.

use std::path::Path;

use local::{Kafka, process::Signal};
use messaging::bus::kafka::Cluster;

use crate::fixture::{On, Pair, keys_everywhere, run, store, wait};

#[test]
fn o06_d10_a_broker_that_stands_still_or_is_killed_loses_nothing() {
    run(async {
        let dir = std::env::temp_dir().join(format!("settle-test-{:016x}", rand::random::<u64>()));
        let mut kafka = Kafka::start(&dir).await.unwrap();
        let cluster = Cluster::new(kafka.brokers());
        let pair = Pair::new(On::Kafka).await;
        let bus = pair.bus_of(&cluster);
        let publisher = pair.publisher(&bus).await;
        let consumer = pair.consumer(&bus, "one").await;
        let keys = keys_everywhere(3);
        let mut said = 5;
        pair.say_all(&publisher.runner, &keys, 1..=said).await;
        pair.all_applied(&keys, said).await;
        pair.published().await;

        kafka.signal(Signal::Stop).unwrap();
        pair.say_all(&publisher.runner, &keys, said + 1..=said + 20).await;
        said += 20;
        assert!(store::unpublished(&pair.publisher).await > 0, "the broker has not heard of it");
        kafka.signal(Signal::Continue).unwrap();
        pair.all_applied(&keys, said).await;

        for last in [false, true] {
            kafka = killed_and_started_again(kafka, &dir, last, async {
                pair.say_all(&publisher.runner, &keys, said + 1..=said + 20).await;
                assert!(store::unpublished(&pair.publisher).await > 0, "there is no broker");
            })
            .await;
            said += 20;
            pair.all_applied(&keys, said).await;
            pair.published().await;
        }
        assert_eq!(cluster.counted().diverged, 0);

        publisher.stop().await;
        consumer.stop().await;
        pair.close().await;
        kafka.stop().await.unwrap();
        wait("its files to go", || async { !dir.exists() }).await;
    });
}

/// What happens `meanwhile` finds no broker. The last one takes its files with it.
async fn killed_and_started_again(kafka: Kafka, dir: &Path, last: bool, meanwhile: impl Future<Output = ()>) -> Kafka {
    let brokers = kafka.brokers();
    kafka.signal(Signal::Kill).unwrap();
    kafka.end().await;
    meanwhile.await;
    let again = match last {
        true => Kafka::start_throwaway(dir).await.unwrap(),
        false => Kafka::start(dir).await.unwrap(),
    };
    assert_eq!(again.brokers(), brokers, "it is where its clients look for it");
    again
}
