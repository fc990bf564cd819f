//! An early record waits, and is applied once its key has moved; later ones of its stream and key do not overtake it.

use messaging::{Held, Trace};

use crate::fixture::{On, Stage, consumer::Input, id, key_in, store, wait};

on_buses!(c07_an_early_record_waits_for_its_key);

async fn c07_an_early_record_waits_for_its_key(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    stage.say(&key, 1, "early").await;
    stage.say(&key, 2, "ok").await;
    stage.say(&neighbour, 1, "ok").await;
    pair.wait_seen(&neighbour, &[1]).await;
    pair.wait_parked(2).await;
    assert!(pair.mind.refused() > 0, "it came too early");
    assert_eq!(pair.seen_of(&key).await, [0; 0]);

    stage.say_news("flag", vec![pair.flag(&key)]).await;
    pair.wait_seen(&key, &[1, 2]).await;
    pair.wait_parked(0).await;
    stage.say(&key, 3, "ok").await;
    pair.wait_seen(&key, &[1, 2, 3]).await;
    stage.stop().await;
}

on_buses!(nothing_overtakes_an_early_record);

/// Its key moves, but it is still too early: what is behind it waits on with it.
async fn nothing_overtakes_an_early_record(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let key = key_in(2, 0);
    stage.say(&key, 1, "early").await;
    stage.say(&key, 2, "ok").await;
    pair.wait_parked(2).await;
    let refused = pair.mind.refused();
    stage.say_news("nudge", vec![pair.nudge(&key)]).await;
    wait("the nudge", || async { store::positions(&pair.consumer, pair.group, pair.flags).await[&2] == 1 }).await;
    wait("another try", || async { pair.mind.refused() > refused }).await;
    assert_eq!(pair.seen_of(&key).await, [0; 0], "nobody overtakes it");

    stage.say_news("flag", vec![pair.flag(&key)]).await;
    pair.all_applied(&[key], 2).await;
    stage.stop().await;
}

on_buses!(an_early_record_and_its_cause_in_one_batch);

/// The cause comes behind it, in the same batch.
async fn an_early_record_and_its_cause_in_one_batch(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let gate = store::shut_gate(&pair.consumer).await;
    stage.say("plug", 1, "ok").await;
    wait("the plug", || async { pair.mind.heard() >= 1 }).await;
    stage.say("a", 1, "early").await;
    wait("the early note", || async { pair.mind.heard() >= 2 }).await;
    stage.say_news("flag", vec![pair.flag("a")]).await;
    wait("the flag", || async { pair.mind.heard() >= 3 }).await;
    gate.rollback().await.unwrap();
    pair.wait_seen("a", &[1]).await;
    pair.wait_parked(0).await;
    assert!(pair.mind.refused() > 0, "it came too early");
    stage.stop().await;
}

on_buses!(an_early_record_is_applied_when_a_call_moves_its_key: postgres);

async fn an_early_record_is_applied_when_a_call_moves_its_key(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    stage.say("a", 1, "early").await;
    pair.wait_parked(1).await;
    stage.consumer.runner.call(id("flag"), "a".to_owned(), Trace::default(), Input::Flag).await.unwrap();
    pair.wait_seen("a", &[1]).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(an_early_record_that_breaks_a_constraint_is_blamed_itself);

/// Its key moves, and now it turns out that it cannot be applied. What moved the key is innocent.
async fn an_early_record_that_breaks_a_constraint_is_blamed_itself(on: On) {
    late_failure(on, "early trouble").await;
}

on_buses!(an_early_record_that_panics_is_blamed_itself);

async fn an_early_record_that_panics_is_blamed_itself(on: On) {
    late_failure(on, "early panic").await;
}

async fn late_failure(on: On, text: &str) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(1, 0), key_in(1, 1));
    stage.say(&key, 1, text).await;
    pair.wait_parked(1).await;
    // By a call, which is never queued behind what is parked: the caller sees who is blamed.
    let flag = stage.consumer.runner.call(id("flag"), key.clone(), Trace::default(), Input::Flag).await;
    assert!(flag.is_ok(), "{flag:?}");
    assert!(store::flagged(&pair.consumer, &key).await);
    stage.say_news("nudge", vec![pair.nudge(&key)]).await;
    stage.say(&neighbour, 1, "ok").await;
    pair.wait_seen(&neighbour, &[1]).await;
    let guilty = |row: &messaging::Parked| format!("{:?}", row.held) == "Parked" && row.record.payload.ends_with(text.as_bytes());
    wait("the early record to be parked", || async { pair.parked().await.iter().any(guilty) }).await;

    pair.mind.cure();
    assert!(pair.redrive(&key).await > 0);
    pair.wait_seen(&key, &[1]).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}

on_buses!(c10_a_newer_version_waits_for_a_binary_that_knows_it);

/// It holds back what is behind it in its stream; an upgrade applies both, in order, without a person.
async fn c10_a_newer_version_waits_for_a_binary_that_knows_it(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    stage.say_news("newer", vec![pair.news(pair.notes, "test.v2.Note", &key, b"1 ok".to_vec())]).await;
    stage.say(&key, 2, "ok").await;
    stage.say_news("strange", vec![pair.news(pair.notes, "test.Stranger", &neighbour, vec![0xff])]).await;
    stage.say(&neighbour, 1, "ok").await;
    pair.wait_seen(&neighbour, &[1]).await;
    pair.wait_parked(2).await;
    assert!(pair.parked().await.iter().all(|row| row.held == Held::Waiting && row.record.key == key));

    pair.mind.cure();
    pair.wait_seen(&key, &[1, 2]).await;
    pair.wait_parked(0).await;
    stage.stop().await;
}
