//! A stream with a hole, or with another history, stops; the others go on.

use messaging::Limits;

use crate::fixture::{On, Pair, Stage, key_in, log, store, wait};

on_buses!(nothing_behind_a_hole_is_applied);

async fn nothing_behind_a_hole_is_applied(on: On) {
    let pair = Pair::new(on).await;
    let (broken, whole) = (key_in(0, 0), key_in(1, 0));
    with_hole(&pair, &broken, &whole).await;

    let bus = pair.bus(on).await.with_limits(Limits { gap_wait_ms: 1_000, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    pair.wait_seen(&whole, &[1, 2, 3, 4, 5, 6]).await;
    pair.wait_seen(&broken, &[1, 2, 3]).await;
    pair.say_all(&publisher.runner, &[broken.clone(), whole.clone()], 7..=12).await;
    pair.wait_seen(&whole, &(1..=12).collect::<Vec<_>>()).await;
    assert_eq!(pair.seen_of(&broken).await, [1, 2, 3], "nothing behind the hole");
    wait("the reader to say so", || async { log::said(pair.group, "LOG_GAP", "number 4 is missing") > 0 }).await;
    assert_eq!(consumer.runner.health().problems(), [format!("{}/0 LOG_GAP", pair.notes)]);
    assert_eq!(store::positions(&pair.consumer, pair.group, pair.notes).await[&0], 3);
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(a_hole_that_is_filled_in_time_does_no_harm: postgres, shuffle);

async fn a_hole_that_is_filled_in_time_does_no_harm(on: On) {
    let pair = Pair::new(on).await;
    let (broken, whole) = (key_in(0, 0), key_in(1, 0));
    with_hole(&pair, &broken, &whole).await;

    let stage = Stage::of(pair).await;
    stage.pair.wait_seen(&broken, &[1, 2, 3]).await;
    stage.pair.wait_seen(&whole, &[1, 2, 3, 4, 5, 6]).await;
    assert_eq!(stage.pair.seen_of(&broken).await, [1, 2, 3], "nothing behind the hole");
    store::put_back(&stage.pair.publisher).await;
    stage.pair.all_applied(&[broken, whole], 6).await;
    stage.stop().await;
}

/// Six notes of two keys, the fourth of one of them lost. They are said before anything is carried, so that no bus has seen it.
async fn with_hole(pair: &Pair, broken: &str, whole: &str) {
    let publisher = pair.publisher(&pair.bus(On::Postgres).await).await;
    pair.say_all(&publisher.runner, &[broken.to_owned(), whole.to_owned()], 1..=6).await;
    publisher.stop().await;
    store::take_out(&pair.publisher, pair.notes, 0, 4).await;
}

on_buses!(another_history_stops_its_stream);

/// The record read last has become another one: a restored backup, a wrong cluster.
async fn another_history_stops_its_stream(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let (broken, whole) = (key_in(0, 0), key_in(1, 0));
    let both = [broken.clone(), whole.clone()];
    pair.say_all(&publisher.runner, &both, 1..=3).await;
    pair.all_applied(&both, 3).await;

    store::change_last(&pair.publisher, pair.notes, 0).await;
    pair.say_all(&publisher.runner, &both, 4..=9).await;
    pair.wait_seen(&whole, &(1..=9).collect::<Vec<_>>()).await;
    assert_eq!(pair.seen_of(&broken).await, [1, 2, 3], "nothing of the other history");
    wait("the reader to say so", || async { log::said(pair.group, "LOG_DIVERGED", pair.notes) > 0 }).await;
    assert_eq!(store::positions(&pair.consumer, pair.group, pair.notes).await[&0], 3);
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(a_log_that_ends_before_the_last_record_stops: postgres, shuffle);

/// A backup was restored: what comes next has sequence numbers that were read before.
async fn a_log_that_ends_before_the_last_record_stops(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let (broken, whole) = (key_in(0, 0), key_in(1, 0));
    let both = [broken.clone(), whole.clone()];
    pair.say_all(&publisher.runner, &both, 1..=6).await;
    pair.all_applied(&both, 6).await;

    store::forget_rows_after(&pair.publisher, pair.notes, 0, 3).await;
    pair.say_all(&publisher.runner, &both, 7..=16).await;
    pair.wait_seen(&whole, &(1..=16).collect::<Vec<_>>()).await;
    assert_eq!(pair.seen_of(&broken).await, [1, 2, 3, 4, 5, 6], "nothing of the other history");
    wait("the reader to say so", || async { log::said(pair.group, "LOG_DIVERGED", pair.notes) > 0 }).await;
    Stage { pair, publisher, consumer }.stop().await;
}
