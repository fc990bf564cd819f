//! Some bad records are parked. Too many at once are an outage or a bad deploy: their streams stop, and nothing else is parked.

use messaging::{Held, Limits};

use crate::fixture::{On, Pair, key_in, log, wait};

const BAD: usize = 20;
const PARK_MAX: usize = 5;

on_buses!(what_would_park_too_much_stops_its_stream);

/// A deploy that understands nothing of one stream.
async fn what_would_park_too_much_stops_its_stream(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await.with_limits(Limits { park_max: PARK_MAX, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    let bad: Vec<String> = (0..BAD).map(|nth| key_in(0, nth)).collect();
    let good = key_in(1, 0);
    for key in &bad {
        pair.say(&publisher.runner, key, 1, "poison").await;
    }
    let stops = || log::said(pair.group, "PARK_LIMIT", "stopped");
    wait("the stream to be stopped, and tried again", || async { stops() >= 3 }).await;
    assert_eq!(consumer.runner.health().problems(), [format!("{}/0 PARK_LIMIT", pair.notes)]);
    let parked = pair.parked().await;
    assert!(parked.len() <= PARK_MAX, "{} are parked", parked.len());
    assert!(parked.iter().all(|row| row.held == Held::Parked));
    assert!(pair.mind.refused() > PARK_MAX, "more were refused than are parked");

    pair.say(&publisher.runner, &good, 1, "ok").await;
    pair.wait_seen(&good, &[1]).await;
    let tried = stops();
    wait("it to be tried once more", || async { stops() > tried }).await;
    assert_eq!(pair.parked().await.len(), parked.len(), "no more than that");

    // The good deploy: the stream goes on by itself, and what was parked is brought back by a person.
    pair.mind.cure();
    wait("the rest of the stream", || async {
        let mut applied = 0;
        for key in &bad {
            applied += pair.seen_of(key).await.len();
        }
        applied == BAD - parked.len()
    })
    .await;
    for row in &parked {
        assert_eq!(pair.redrive(&row.record.key).await, 1);
    }
    let all: Vec<String> = bad.into_iter().chain([good]).collect();
    pair.all_applied(&all, 1).await;
    wait("it to be over", || async { consumer.runner.health().problems().is_empty() }).await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(a_blamed_record_counts_and_those_behind_it_do_not: postgres);

/// One bad record with many behind it is one bad record.
async fn a_blamed_record_counts_and_those_behind_it_do_not(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await.with_limits(Limits { park_max: 1, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    let key = key_in(0, 0);
    pair.say(&publisher.runner, &key, 1, "trouble").await;
    for n in 2..=30 {
        pair.say(&publisher.runner, &key, n, "ok").await;
    }
    pair.wait_parked(30).await;
    assert_eq!(log::said(pair.group, "PARK_LIMIT", "stopped"), 0);
    pair.mind.cure();
    assert_eq!(pair.redrive(&key).await, 30);
    pair.all_applied(&[key], 30).await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(no_more_early_records_are_given_up_than_may_be_parked: postgres);

/// What they wait for does not come: an outage elsewhere.
async fn no_more_early_records_are_given_up_than_may_be_parked(on: On) {
    const EARLY: usize = 8;
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await.with_limits(Limits { park_max: PARK_MAX, early_wait_s: 1, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    let keys: Vec<String> = (0..EARLY).map(|nth| key_in(2, nth)).collect();
    for key in &keys {
        pair.say(&publisher.runner, key, 1, "early").await;
    }
    let count = async |held: Held| pair.parked().await.iter().filter(|row| row.held == held).count();
    wait("some to be given up", || async { count(Held::Parked).await == PARK_MAX }).await;
    wait("that to be said", || async { log::said(pair.group, "PARK_LIMIT", "wait on") > 0 }).await;
    assert_eq!(count(Held::Early).await, EARLY - PARK_MAX);
    assert_eq!(messaging::totals()[pair.group].dead_letters, PARK_MAX as u64, "each is counted, once");

    for key in &keys {
        publisher.call(&format!("flag/{key}"), key, crate::fixture::publisher::Say::plain(vec![pair.flag(key)])).await.unwrap();
    }
    // Flags of a parked key queue behind it.
    wait("the others to be applied", || async { count(Held::Early).await == 0 }).await;
    assert_eq!(count(Held::Parked).await, 2 * PARK_MAX);
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}
