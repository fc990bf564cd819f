//! From one bus to the other is a restart: nothing is lost, nothing comes twice.

use crate::fixture::{On, Pair, keys_everywhere, store, wait};

#[test]
fn from_postgres_to_kafka_and_back() {
    crate::fixture::run(async {
        let pair = Pair::new(On::Postgres).await;
        let keys = keys_everywhere(3);
        let mut said = 0;
        for on in [On::Postgres, On::Kafka, On::Postgres, On::Kafka, On::Shuffle] {
            let bus = pair.bus(on).await;
            let publisher = pair.publisher(&bus).await;
            let consumer = pair.consumer(&bus, "one").await;
            pair.say_all(&publisher.runner, &keys, said + 1..=said + 5).await;
            said += 5;
            // Also what the bus before has left.
            pair.all_applied(&keys, said).await;
            if on == On::Kafka {
                wait("all to be published", || async { store::unpublished(&pair.publisher).await == 0 }).await;
                let offsets = messaging::progress::of_group(&mut pair.consumer.acquire().await.unwrap(), pair.group).await.unwrap();
                assert!(offsets.iter().any(|(_, position)| position.kafka_offset.is_some()), "it came by Kafka");
            }
            consumer.stop().await;
            // Nobody hears these on this bus any more.
            pair.say_all(&publisher.runner, &keys, said + 1..=said + 3).await;
            said += 3;
            publisher.stop().await;
        }
        let bus = pair.bus(On::Postgres).await;
        let consumer = pair.consumer(&bus, "one").await;
        pair.all_applied(&keys, said).await;
        consumer.stop().await;
        pair.close().await;
    });
}
