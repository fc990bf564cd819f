//! A record that kills whoever decides it is parked after a few deaths; who is killed for another reason leaves no trace.

use crate::fixture::{CONSUMER, On, Pair, guards, key_in, keys_everywhere, load::Load, process::Process, store, wait};

/// Deaths of a record before it is parked, with its mark: the default of the bound.
const CRASHES_MAX: usize = 5;

on_buses!(a_record_that_kills_is_parked_and_nothing_else);

async fn a_record_that_kills_is_parked_and_nothing_else(on: On) {
    let pair = Pair::new(on).await;
    let publisher = pair.publisher(&pair.bus(on).await).await;
    let (deadly, neighbour, elsewhere) = (key_in(0, 0), key_in(0, 1), key_in(1, 0));
    pair.say(&publisher.runner, &neighbour, 1, "ok").await;
    pair.say(&publisher.runner, &deadly, 1, "deadly").await;
    pair.say(&publisher.runner, &deadly, 2, "ok").await;
    pair.say(&publisher.runner, &neighbour, 2, "ok").await;
    pair.say(&publisher.runner, &elsewhere, 1, "ok").await;

    let mut deaths = 0;
    let survivor = loop {
        let mut process = Process::consumer(&pair, "doomed").await;
        let died = tokio::select! {
            () = process.died() => true,
            () = pair.wait_parked(2) => false,
        };
        if !died {
            break process;
        }
        deaths += 1;
        // The first is not marked yet, nor the next if the stream has moved before it.
        assert!(deaths <= CRASHES_MAX + 3, "it is never parked");
        guards::bury(&pair.consumer).await;
    };
    assert!(deaths > CRASHES_MAX, "it was parked after {deaths} deaths");

    let parked = pair.parked().await;
    assert!(parked.iter().all(|row| row.record.key == deadly), "{parked:?}");
    assert!(parked[0].reason.contains("CRASH_LOOP"), "{}", parked[0].reason);
    pair.wait_seen(&neighbour, &[1, 2]).await;
    pair.wait_seen(&elsewhere, &[1]).await;
    assert_eq!(pair.seen_of(&deadly).await, [0; 0]);
    wait("all marks to be gone", || async { guards::marks(&pair.consumer).await.is_empty() }).await;
    survivor.kill().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(a_healthy_record_outlives_kills_in_a_row: postgres);

/// The same record is being decided at every kill, and still it is not parked: it only looks like what kills, and then it is applied.
async fn a_healthy_record_outlives_kills_in_a_row(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    pair.say(&publisher.runner, "a", 1, "ok").await;
    let gate = store::shut_gate(&pair.consumer).await;
    for kill in 0..CRASHES_MAX {
        let process = Process::consumer(&pair, "killed").await;
        wait("it to be in its transaction", || async { store::at_gate(&pair.consumer, CONSUMER).await == 1 }).await;
        // The first has no reason to be careful.
        let crashes = kill.checked_sub(1).map(|before| i32::try_from(before).unwrap());
        assert_eq!(guards::marks(&pair.consumer).await, Vec::from_iter(crashes));
        process.kill().await;
        // The server does not see that a client is gone that waits for a lock.
        assert!(store::cut(&pair.consumer, CONSUMER).await > 0);
        guards::bury(&pair.consumer).await;
    }
    gate.rollback().await.unwrap();
    let consumer = pair.consumer(&bus, "survivor").await;
    pair.all_applied(&["a".to_owned()], 1).await;
    assert_eq!(pair.parked().await.len(), 0);
    wait("its mark to be gone", || async { guards::marks(&pair.consumer).await.is_empty() }).await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(kills_at_random_park_nothing);

async fn kills_at_random_park_nothing(on: On) {
    const KILLS: usize = 12;
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let keys = keys_everywhere(2);
    let load = Load::start(&pair, &publisher.runner, &keys);
    for _ in 0..KILLS {
        let before = store::seen(&pair.consumer).await;
        let process = Process::consumer(&pair, "killed").await;
        wait("it to apply something", || async { store::seen(&pair.consumer).await > before }).await;
        process.kill().await;
        guards::bury(&pair.consumer).await;
    }
    let consumer = pair.consumer(&bus, "survivor").await;
    pair.all_applied(&keys, load.stop().await).await;
    assert_eq!(pair.parked().await.len(), 0);
    wait("all marks to be gone", || async { guards::marks(&pair.consumer).await.is_empty() }).await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}
