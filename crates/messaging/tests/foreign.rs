//! Records of producers that know nothing of streams: they have no place in one, so that they are told apart by their ids.

use crate::fixture::{CONSUMER, On, PARTITIONS, Pair, Stage, foreign::produce, id, key_in, store, wait};

#[test]
fn a_foreign_record_is_applied_once() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let (pair, key) = (&stage.pair, key_in(0, 0));
        let event_id = id(&key).to_string();
        stage.say(&key, 1, "ok").await;
        pair.wait_seen(&key, &[1]).await;
        produce(pair.notes, 0, &key, &event_id, "2 ok").await;
        produce(pair.notes, 0, &key, &event_id, "2 ok").await;
        stage.say(&key, 3, "ok").await;
        pair.wait_seen(&key, &[1, 2, 3]).await;

        wait("the second one to be counted, and it alone", || async { messaging::totals()[pair.group].duplicates == 1 }).await;

        // The same id with something else to say is not the same record.
        produce(pair.notes, 0, &key, &event_id, "2 changed").await;
        pair.wait_parked(1).await;
        assert!(pair.parked().await[0].reason.contains("PAYLOAD_MISMATCH"));
        assert_eq!(pair.seen_of(&key).await, [1, 2, 3]);
        stage.stop().await;
    });
}

/// Two instances have decided the same record, each out of a partition of its own, and neither could know of the other: the second to save
/// it is refused and looks again. Its handler could not tell, for the keys differ.
#[test]
fn c04_the_same_foreign_record_in_two_partitions_has_one_effect() {
    crate::fixture::run(async {
        let pair = Pair::new(On::Kafka).await;
        let bus = pair.bus(On::Kafka).await;
        let publisher = pair.publisher(&bus).await;
        let instances = [pair.consumer(&bus, "one").await, pair.consumer(&bus, "two").await];
        wait("a fair share for both", || async { store::shares(&pair.consumer).await == [2, 2] }).await;

        let gate = store::shut_gate(&pair.consumer).await;
        let event_id = id(pair.notes).to_string();
        for partition in 0..PARTITIONS {
            produce(pair.notes, partition, &key_in(partition, 0), &event_id, "1 once").await;
        }
        wait("both to be past their look", || async { store::at_gate(&pair.consumer, CONSUMER).await == 2 }).await;
        gate.rollback().await.unwrap();

        // Behind each of them, so that all are through.
        let neighbours: Vec<String> = (0..PARTITIONS).map(|partition| key_in(partition, 1)).collect();
        for neighbour in &neighbours {
            pair.say(&publisher.runner, neighbour, 1, "ok").await;
        }
        for neighbour in &neighbours {
            pair.wait_seen(neighbour, &[1]).await;
        }
        assert_eq!(store::seen(&pair.consumer).await, i64::from(PARTITIONS) + 1, "one effect of the foreign record");
        assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, i64::from(PARTITIONS) + 1, "said on once");
        wait("the others to be counted as repeats", || async { messaging::totals()[pair.group].duplicates == 3 }).await;
        assert_eq!(pair.parked().await.len(), 0);
        for instance in instances {
            instance.stop().await;
        }
        publisher.stop().await;
        pair.close().await;
    });
}

#[test]
fn a_parked_foreign_record_is_redriven_once() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let (pair, key) = (&stage.pair, key_in(0, 0));
        produce(pair.notes, 0, &key, &id(&key).to_string(), "1 poison").await;
        pair.wait_parked(1).await;
        stage.say(&key, 2, "ok").await;
        pair.wait_parked(2).await;
        pair.mind.cure();
        assert_eq!(pair.redrive(&key).await, 2);
        pair.wait_seen(&key, &[1, 2]).await;
        pair.wait_parked(0).await;
        stage.stop().await;
    });
}

/// Whoever sends it, and however often: the group goes on.
#[test]
fn a_record_no_database_can_hold_does_not_stop_the_rest() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let (pair, key) = (&stage.pair, key_in(0, 0));
        produce(pair.notes, 0, "nul\0key", &id("nul").to_string(), "1 ok").await;
        wait("the bad record", || async { pair.mind.heard() >= 1 }).await;
        stage.say(&key, 1, "ok").await;
        pair.wait_seen(&key, &[1]).await;
        stage.stop().await;
    });
}

/// CloudEvents promises no UUID, only that source and id together are one event.
#[test]
fn a_foreign_id_need_not_be_a_uuid() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let (pair, key) = (&stage.pair, key_in(0, 0));
        produce(pair.notes, 0, &key, "order-4711", "1 ok").await;
        produce(pair.notes, 0, &key, "order-4711", "1 ok").await;
        stage.say(&key, 2, "ok").await;
        pair.wait_seen(&key, &[1, 2]).await;
        stage.stop().await;
    });
}
