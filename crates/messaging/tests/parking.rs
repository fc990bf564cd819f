//! A poisoned record parks its key; everything else flows on. A redrive applies what is parked, in order, once.

use messaging::{Held, Parked};

use crate::fixture::{On, Pair, Stage, desk, faults, key_in, keys_everywhere, store, wait};

/// What is held back, as (state, note).
fn states(parked: &[Parked]) -> Vec<(String, String)> {
    let note = |row: &Parked| String::from_utf8_lossy(&row.record.payload).into_owned();
    parked.iter().map(|row| (format!("{:?}", row.held), note(row))).collect()
}

fn state(held: &str, note: &str) -> (String, String) {
    (held.to_owned(), note.to_owned())
}

on_buses!(c05_poison_parks_its_key_and_nothing_else);

async fn c05_poison_parks_its_key_and_nothing_else(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    stage.say(&key, 1, "ok").await;
    stage.say(&key, 2, "poison").await;
    for n in 1..=3 {
        stage.say(&neighbour, n, "ok").await;
    }
    stage.say(&key, 3, "ok").await;
    pair.wait_seen(&neighbour, &[1, 2, 3]).await;
    pair.wait_parked(2).await;
    let parked = pair.parked().await;
    assert_eq!(states(&parked), [state("Parked", "2 poison"), state("Parked", "3 ok")]);
    assert!(parked[0].reason.contains("poisonous"), "{}", parked[0].reason);
    assert_eq!(pair.seen_of(&key).await, [1]);

    pair.mind.cure();
    assert_eq!(pair.redrive(&key).await, 2);
    assert_eq!(pair.redrive(&key).await, 0, "a second redrive finds nothing to do");
    pair.wait_seen(&key, &[1, 2, 3]).await;
    pair.wait_parked(0).await;
    assert_eq!(pair.redrive(&key).await, 0);
    stage.say(&key, 4, "ok").await;
    stage.say(&neighbour, 4, "ok").await;
    pair.all_applied(&[key, neighbour], 4).await;
    stage.stop().await;
}

on_buses!(a_redrive_in_vain_parks_again);

async fn a_redrive_in_vain_parks_again(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    stage.say("a", 1, "poison").await;
    stage.say("a", 2, "ok").await;
    pair.wait_parked(2).await;
    let refused = pair.mind.refused();

    assert_eq!(pair.redrive("a").await, 2);
    wait("the first to be tried again", || async { pair.mind.refused() > refused }).await;
    wait("it to be parked again", || async { states(&pair.parked().await)[0] == state("Parked", "1 poison") }).await;
    stage.say("a", 3, "ok").await;
    pair.wait_parked(3).await;
    assert_eq!(pair.seen_of("a").await, [0; 0], "nobody overtakes it");

    pair.mind.cure();
    assert!(pair.redrive("a").await > 0);
    pair.all_applied(&["a".to_owned()], 3).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(a_long_parked_key_catches_up_with_its_stream);

/// More waits than a round a record could bring back in time, and more comes meanwhile.
async fn a_long_parked_key_catches_up_with_its_stream(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    stage.say("a", 1, "poison").await;
    let behind = (2..=150).map(|n| pair.note("a", n, "ok")).collect();
    stage.say_news("behind", behind).await;
    pair.wait_parked(150).await;
    pair.mind.cure();
    assert_eq!(pair.redrive("a").await, 150);
    for n in 151..=200 {
        stage.say("a", n, "ok").await;
    }
    pair.all_applied(&["a".to_owned()], 200).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(c05_a_batch_reads_not_all_that_waits_behind_a_parked_record: postgres, kafka);

/// Shown by a row in the middle that is held: who read them all under lock would wait for it.
async fn c05_a_batch_reads_not_all_that_waits_behind_a_parked_record(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    stage.say(&key, 1, "poison").await;
    stage.say_news("behind", (2..=50).map(|n| pair.note(&key, n, "ok")).collect()).await;
    pair.wait_parked(50).await;
    let holder = faults::hold_dead_letter(&pair.consumer, pair.parked().await[25].id).await;
    stage.say(&key, 51, "ok").await;
    stage.say(&neighbour, 1, "ok").await;
    pair.wait_seen(&neighbour, &[1]).await;
    pair.wait_parked(51).await;
    holder.rollback().await.unwrap();

    pair.mind.cure();
    assert_eq!(pair.redrive(&key).await, 51);
    pair.wait_seen(&key, &(1..=51).collect::<Vec<_>>()).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(c05_a_reason_that_no_database_holds_is_told_as_far_as_it_can_be: postgres);

/// With a copy too, and when it is tried again in vain.
async fn c05_a_reason_that_no_database_holds_is_told_as_far_as_it_can_be(on: On) {
    let stage = Stage::with_copies(Pair::new(on).await).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    stage.say(&key, 1, "unspeakable").await;
    stage.say(&neighbour, 1, "ok").await;
    pair.wait_seen(&neighbour, &[1]).await;
    pair.wait_parked(1).await;
    assert_eq!(pair.parked().await[0].reason, "no database holds \u{fffd}");
    assert_eq!(pair.redrive(&key).await, 1);
    wait("it to be parked again", || async { pair.parked().await.iter().any(|row| row.held == Held::Parked && row.redrives == 1) })
        .await;
    assert_eq!(pair.mind.refused(), 2);
    assert_eq!(desk::said(&pair.consumer, desk::copies_of(pair.notes)).await.len(), 2);
    stage.stop().await;
}

on_buses!(c06_a_broken_constraint_is_blamed_on_its_record_alone);

async fn c06_a_broken_constraint_is_blamed_on_its_record_alone(on: On) {
    one_of_a_big_batch(on, "trouble", "no_trouble").await;
}

on_buses!(c06_a_panic_is_blamed_on_its_record_alone);

async fn c06_a_panic_is_blamed_on_its_record_alone(on: On) {
    one_of_a_big_batch(on, "panic", "panicked").await;
}

/// One record of 240 in one batch cannot be applied.
async fn one_of_a_big_batch(on: On, text: &str, reason: &str) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let keys = keys_everywhere(6);
    let bad = keys[7].clone();

    let gate = store::shut_gate(&pair.consumer).await;
    stage.say("plug", 1, "ok").await;
    wait("the plug", || async { pair.mind.heard() >= 1 }).await;
    let lines = (1..=10).flat_map(|n| keys.iter().map(move |key| (key, n)));
    let lines = lines.map(|(key, n)| pair.note(key, n, if n == 5 && *key == bad { text } else { "ok" })).collect();
    stage.say_news("all", lines).await;
    wait("all to be heard", || async { pair.mind.heard() > 240 }).await;
    gate.rollback().await.unwrap();

    // The plug and all notes but the bad one and the five behind it.
    wait("all others to be applied", || async { store::seen(&pair.consumer).await == 235 }).await;
    pair.wait_parked(6).await;
    let parked = pair.parked().await;
    assert!(parked.iter().all(|row| row.record.key == bad), "{:?}", states(&parked));
    assert_eq!(states(&parked)[0], state("Parked", &format!("5 {text}")));
    assert!(parked[0].reason.contains(reason), "{}", parked[0].reason);
    assert!(pair.mind.largest() > 200, "it was a big batch");
    assert_eq!(pair.seen_of(&bad).await, [1, 2, 3, 4]);

    pair.mind.cure();
    assert_eq!(pair.redrive(&bad).await, 6);
    wait("all to be applied", || async { store::seen(&pair.consumer).await == 241 }).await;
    for key in &keys {
        assert_eq!(pair.seen_of(key).await, (1..=10).collect::<Vec<_>>(), "{key}");
    }
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(c05_bytes_that_mean_nothing_are_parked);

async fn c05_bytes_that_mean_nothing_are_parked(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    stage.say_news("garbage", vec![pair.news(pair.notes, "test.Note", &key, vec![0xff, 0xfe])]).await;
    stage.say(&key, 1, "ok").await;
    stage.say(&neighbour, 1, "ok").await;
    pair.wait_seen(&neighbour, &[1]).await;
    pair.wait_parked(2).await;
    let parked = pair.parked().await;
    assert_eq!(parked[0].record.payload[..], [0xff, 0xfe], "kept as it came");
    assert!(parked[0].reason.contains("no note"), "{}", parked[0].reason);
    assert_eq!(pair.seen_of(&key).await, [0; 0]);
    stage.stop().await;
}

on_buses!(c10_a_type_of_no_interest_is_passed_over);

/// One that nobody here knows is counted.
async fn c10_a_type_of_no_interest_is_passed_over(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    stage.say_news("other", vec![pair.news(pair.notes, "test.Other", "a", vec![0xff])]).await;
    stage.say_news("stranger", vec![pair.news(pair.notes, "test.Stranger", "a", vec![0xff])]).await;
    stage.say("a", 1, "ok").await;
    pair.all_applied(&["a".to_owned()], 1).await;
    assert_eq!(pair.parked().await.len(), 0);
    assert_eq!(messaging::totals()[pair.group].unknown_types, 1, "the stranger alone");
    stage.stop().await;
}
