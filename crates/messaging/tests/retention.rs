//! The outbox goes away a range at a time, when everybody has passed it and not before; and nobody notices.

pub(crate) mod store;

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use messaging::{
    Bus, Limits,
    operate::{self, By},
};
use sqlx::PgPool;

use crate::fixture::{
    Instance, On, PARTITIONS, Pair, key_in, log,
    publisher::{Publisher, Say},
    store as rows, wait,
};

const RANGE_ROWS: i64 = 64;
const NOBODYS: &str = "nobodys";

/// Small ranges that are old at once.
async fn short_memory(pair: &Pair, on: On) -> Bus {
    let limits = Limits { outbox_range_rows: RANGE_ROWS, outbox_retention_s: 1, ..Limits::default() };
    pair.bus(on).await.with_limits(limits)
}

/// Says these notes of one key in every partition, all in one transaction.
async fn say_everywhere(pair: &Pair, publisher: &Instance<Publisher>, topic: &'static str, notes: RangeInclusive<i64>) {
    say_in(pair, publisher, topic, 0..=PARTITIONS - 1, notes).await;
}

async fn say_in(
    pair: &Pair,
    publisher: &Instance<Publisher>,
    topic: &'static str,
    partitions: RangeInclusive<i32>,
    notes: RangeInclusive<i64>,
) {
    let name = format!("{topic}/{partitions:?}/{notes:?}");
    let keys: Vec<String> = partitions.map(|partition| key_in(partition, 0)).collect();
    let note = |n: i64| keys.iter().map(move |key| pair.news(topic, "test.Note", key, format!("{n} ok").into_bytes()));
    let lines = notes.flat_map(note).collect();
    publisher.call(&name, "everywhere", Say::plain(lines)).await.unwrap();
}

async fn seen_everywhere(pair: &Pair, notes: RangeInclusive<i64>) {
    let notes: Vec<i64> = notes.collect();
    for partition in 0..PARTITIONS {
        pair.wait_seen(&key_in(partition, 0), &notes).await;
    }
}

/// Waits until the topic's oldest range begins there.
async fn wait_kept_from(db: &PgPool, topic: &str, first_seq: i64) {
    wait(&format!("{topic} to be kept from {first_seq}"), || async { store::ranges(db, topic).await.first() == Some(&first_seq) })
        .await;
}

async fn wait_reported(pair: &Pair, group: &str, seq: i64) {
    wait(&format!("{group} to say that it has come to {seq}"), || async {
        let reported = store::reported(&pair.publisher, group, pair.notes).await;
        reported.len() == usize::try_from(PARTITIONS).unwrap() && reported.values().all(|at| *at == seq)
    })
    .await;
}

on_buses!(ranges_are_made_ahead: postgres);

async fn ranges_are_made_ahead(on: On) {
    let pair = Pair::new(on).await;
    let limits = Limits { outbox_range_rows: RANGE_ROWS, ..Limits::default() };
    let publisher = pair.publisher(&pair.bus(on).await.with_limits(limits)).await;
    for topic in [pair.notes, pair.flags] {
        assert_eq!(store::ranges(&pair.publisher, topic).await, [0, 64, 128], "before anything is said");
    }
    say_everywhere(&pair, &publisher, pair.notes, 1..=70).await;
    wait("another range", || async { store::ranges(&pair.publisher, pair.notes).await == [0, 64, 128, 192] }).await;
    assert_eq!(store::ranges(&pair.publisher, pair.flags).await, [0, 64, 128]);
    publisher.stop().await;
    pair.close().await;
}

on_buses!(a_batch_that_is_ahead_of_the_ranges_is_said_all_the_same: postgres);

/// Also of a topic that nobody announced.
async fn a_batch_that_is_ahead_of_the_ranges_is_said_all_the_same(on: On) {
    let pair = Pair::new(on).await;
    let limits = Limits { outbox_range_rows: RANGE_ROWS, ..Limits::default() };
    let publisher = pair.publisher(&pair.bus(on).await.with_limits(limits)).await;
    assert_eq!(store::ranges(&pair.publisher, pair.notes).await, [0, 64, 128], "there is no room for what comes");
    say_everywhere(&pair, &publisher, pair.notes, 1..=500).await;
    assert_eq!(store::ranges(&pair.publisher, NOBODYS).await, [0; 0]);
    say_everywhere(&pair, &publisher, NOBODYS, 1..=10).await;
    assert_eq!(rows::said_on(&pair.publisher, pair.notes).await, 500 * i64::from(PARTITIONS));
    assert_eq!(rows::said_on(&pair.publisher, NOBODYS).await, 10 * i64::from(PARTITIONS));
    assert_eq!(rows::holes(&pair.publisher).await, 0);
    publisher.stop().await;
    pair.close().await;
}

on_buses!(what_everybody_has_passed_is_dropped: postgres, kafka);

/// And the streams go on, over the bounds of ranges, as if nothing were.
async fn what_everybody_has_passed_is_dropped(on: On) {
    let pair = Pair::new(on).await;
    let bus = short_memory(&pair, on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    say_everywhere(&pair, &publisher, pair.notes, 1..=200).await;
    seen_everywhere(&pair, 1..=200).await;
    wait_reported(&pair, pair.group, 200).await;
    wait_kept_from(&pair.publisher, pair.notes, 192).await;
    assert_eq!(rows::said_on(&pair.publisher, pair.notes).await, 9 * i64::from(PARTITIONS), "the last of each stream are kept");
    assert!(log::said(pair.notes, "RETENTION", "is dropped") >= 3, "and the log says so");

    say_everywhere(&pair, &publisher, pair.notes, 201..=300).await;
    seen_everywhere(&pair, 1..=300).await;
    wait_kept_from(&pair.publisher, pair.notes, 256).await;
    consumer.stop().await;
    publisher.stop().await;

    // Nothing is in memory any more: the readers look into the outbox for where they were.
    let bus = short_memory(&pair, on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "two").await;
    say_everywhere(&pair, &publisher, pair.notes, 301..=310).await;
    seen_everywhere(&pair, 1..=310).await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(a_slow_reader_keeps_what_it_has_not_read_until_it_is_forgotten: postgres);

async fn a_slow_reader_keeps_what_it_has_not_read_until_it_is_forgotten(on: On) {
    let pair = Pair::new(on).await;
    let other = pair.another_consumer().await;
    let bus = short_memory(&pair, on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    let slow = other.consumer(&bus, "slow").await;
    say_everywhere(&pair, &publisher, pair.notes, 1..=10).await;
    seen_everywhere(&other, 1..=10).await;
    wait_reported(&pair, other.group, 10).await;
    slow.stop().await;

    say_everywhere(&pair, &publisher, pair.notes, 11..=200).await;
    seen_everywhere(&pair, 1..=200).await;
    wait_reported(&pair, pair.group, 200).await;
    // What nobody reads, and is younger, goes: it was looked after.
    say_everywhere(&pair, &publisher, NOBODYS, 1..=200).await;
    wait_kept_from(&pair.publisher, NOBODYS, 192).await;
    assert_eq!(rows::said_on(&pair.publisher, pair.notes).await, 200 * i64::from(PARTITIONS), "nothing of it is dropped");

    let by = By { who: "a tester", why: "it is dead" };
    operate::forget(&mut pair.publisher.acquire().await.unwrap(), other.group, true, by).await.unwrap();
    wait_kept_from(&pair.publisher, pair.notes, 192).await;

    // It comes back all the same. It cannot go on from where it was, and says so.
    let late = other.consumer(&short_memory(&pair, on).await, "late").await;
    wait("it to be noticed", || async { log::said(other.group, "LOG_DIVERGED", "") > 0 }).await;
    assert_eq!(other.seen_of(&key_in(0, 0)).await, (1..=10).collect::<Vec<_>>());
    late.stop().await;
    other.consumer.close().await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(a_new_group_begins_at_the_oldest_record_kept: postgres, shuffle);

async fn a_new_group_begins_at_the_oldest_record_kept(on: On) {
    let pair = Pair::new(on).await;
    let other = pair.another_consumer().await;
    let bus = short_memory(&pair, on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    say_everywhere(&pair, &publisher, pair.notes, 1..=200).await;
    seen_everywhere(&pair, 1..=200).await;
    wait_kept_from(&pair.publisher, pair.notes, 192).await;

    let newcomer = other.consumer(&bus, "newcomer").await;
    seen_everywhere(&other, 192..=200).await;
    say_everywhere(&pair, &publisher, pair.notes, 201..=210).await;
    seen_everywhere(&other, 192..=210).await;
    seen_everywhere(&pair, 1..=210).await;
    newcomer.stop().await;
    other.consumer.close().await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(a_new_group_is_waited_for_from_its_first_moment: postgres);

/// It has a place in `readers` before it has applied anything.
async fn a_new_group_is_waited_for_from_its_first_moment(on: On) {
    let pair = Pair::new(on).await;
    let bus = short_memory(&pair, on).await;
    let publisher = pair.publisher(&bus).await;
    let gate = rows::shut_gate(&pair.consumer).await;
    let consumer = pair.consumer(&bus, "one").await;
    wait_reported(&pair, pair.group, 0).await;
    say_everywhere(&pair, &publisher, pair.notes, 1..=200).await;
    say_everywhere(&pair, &publisher, NOBODYS, 1..=200).await;
    wait_kept_from(&pair.publisher, NOBODYS, 192).await;
    assert_eq!(rows::said_on(&pair.publisher, pair.notes).await, 200 * i64::from(PARTITIONS), "nothing of it is dropped");
    gate.rollback().await.unwrap();
    seen_everywhere(&pair, 1..=200).await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(a_quiet_partition_keeps_all_behind_its_end: postgres);

/// What it has yet to write must not fall into a hole that was made for the busy ones. A new group begins where all of it is kept.
async fn a_quiet_partition_keeps_all_behind_its_end(on: On) {
    let pair = Pair::new(on).await;
    let other = pair.another_consumer().await;
    let bus = short_memory(&pair, on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    let (busy, quiet) = (key_in(0, 0), key_in(1, 0));
    say_in(&pair, &publisher, pair.notes, 1..=3, 1..=3).await;
    say_in(&pair, &publisher, pair.notes, 0..=0, 1..=300).await;
    pair.wait_seen(&busy, &(1..=300).collect::<Vec<_>>()).await;
    say_everywhere(&pair, &publisher, NOBODYS, 1..=200).await;
    wait_kept_from(&pair.publisher, NOBODYS, 192).await;
    assert!(store::ranges(&pair.publisher, pair.notes).await.starts_with(&[0, 64]), "nothing of it is dropped meanwhile");

    say_in(&pair, &publisher, pair.notes, 1..=3, 4..=300).await;
    pair.wait_seen(&quiet, &(1..=300).collect::<Vec<_>>()).await;
    wait_kept_from(&pair.publisher, pair.notes, 256).await;
    let newcomer = other.consumer(&bus, "newcomer").await;
    for key in [&busy, &quiet] {
        other.wait_seen(key, &(256..=300).collect::<Vec<_>>()).await;
    }
    newcomer.stop().await;
    other.consumer.close().await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(what_an_instance_left_half_dropped_is_dropped_by_the_next: postgres);

/// It died between giving a range up, detaching it, and dropping it. What a person detached is left alone.
async fn what_an_instance_left_half_dropped_is_dropped_by_the_next(on: On) {
    let pair = Pair::new(on).await;
    let db = &pair.publisher;
    // Nothing is old enough to be dropped for its age.
    let limits = Limits { outbox_range_rows: RANGE_ROWS, ..Limits::default() };
    let bus = pair.bus(on).await.with_limits(limits);
    let publisher = pair.publisher(&bus).await;
    say_everywhere(&pair, &publisher, NOBODYS, 1..=300).await;
    publisher.stop().await;
    let mut tables = Vec::new();
    for nth in 0..4 {
        tables.push(store::table(db, NOBODYS, nth * RANGE_ROWS).await);
    }
    let [of_a_person, given_up, detached, half_detached] = tables.as_slice() else { panic!("four tables") };
    store::detach(db, of_a_person).await;
    for table in [given_up, detached, half_detached] {
        store::give_up(db, table).await;
    }
    store::detach(db, detached).await;
    store::begin_to_detach(db, half_detached).await;
    assert_eq!(store::half_detached(db).await, 1);

    let publisher = pair.publisher(&bus).await;
    wait("the ranges to be gone", || async {
        let mut there = Vec::new();
        for table in [given_up, detached, half_detached] {
            there.push(store::is_there(db, table).await);
        }
        there == [false, false, false]
    })
    .await;
    assert_eq!(store::half_detached(db).await, 0);
    assert_eq!(store::ranges(db, NOBODYS).await.first(), Some(&256));
    assert!(store::is_there(db, of_a_person).await, "it is somebody's");
    publisher.stop().await;
    pair.close().await;
}

on_buses!(an_open_transaction_holds_up_nobody: postgres, kafka);

/// It has looked into the outbox, so that no range can be dropped. Who says and hears something does not wait for that, and ranges are still
/// made.
async fn an_open_transaction_holds_up_nobody(on: On) {
    /// Far below the lock timeout of everybody, far above what a note takes.
    const AT_ONCE: Duration = Duration::from_secs(4);
    let pair = Pair::new(on).await;
    let db = &pair.publisher;
    let bus = short_memory(&pair, on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    let holder = store::hold_outbox(db).await;
    say_everywhere(&pair, &publisher, pair.notes, 1..=100).await;
    wait("a range to be on its way out", || async { store::half_detached(db).await == 1 }).await;

    let ranges = store::ranges(db, pair.notes).await.len();
    let mut slowest = Duration::ZERO;
    for n in 101..=200 {
        let began = Instant::now();
        say_everywhere(&pair, &publisher, pair.notes, n..=n).await;
        slowest = slowest.max(began.elapsed());
    }
    assert_eq!(store::half_detached(db).await, 1, "it was so all the time");
    assert!(slowest < AT_ONCE, "somebody waited {slowest:?}");
    seen_everywhere(&pair, 1..=200).await;
    wait("ranges ahead", || async { store::ranges(db, pair.notes).await.len() > ranges }).await;
    assert_eq!(store::half_detached(db).await, 1, "it was so all the time");

    holder.rollback().await.unwrap();
    wait_kept_from(db, pair.notes, 192).await;
    assert_eq!(store::half_detached(db).await, 0);
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(what_is_remembered_of_old_records_goes_a_little_at_a_time: postgres);

async fn what_is_remembered_of_old_records_goes_a_little_at_a_time(on: On) {
    let pair = Pair::new(on).await;
    let db = &pair.publisher;
    // More than go in a round.
    store::apply_foreign(db, 2_500, 31).await;
    store::apply_foreign(db, 7, 29).await;
    store::hold_back(db, 1_500, "DONE", 31).await;
    store::hold_back(db, 7, "DONE", 29).await;
    store::hold_back(db, 7, "PARKED", 31).await;
    let publisher = pair.publisher(&pair.bus(on).await).await;
    wait("what is old to go", || async { (store::applied_foreign(db).await, store::held_back(db).await) == (7, 14) }).await;
    publisher.stop().await;
    pair.close().await;
}
