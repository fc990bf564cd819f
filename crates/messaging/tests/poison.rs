//! Records that cannot be applied, of every kind: none is lost, none is applied twice, and none stands in the way of others.

use std::sync::atomic::Ordering;

use messaging::Held;

use crate::fixture::{On, Stage, key_in, publisher::Say, store, wait};

on_buses!(c05_garbage_of_every_kind_is_parked_as_it_came);

async fn c05_garbage_of_every_kind_is_parked_as_it_came(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let large: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).take(200_000).collect();
    let garbage: Vec<(String, Vec<u8>)> = [Vec::new(), b"7".to_vec(), vec![0xff, 0xfe], b"0\x001 ok".to_vec(), large]
        .into_iter()
        .enumerate()
        .map(|(nth, bytes)| (key_in(0, nth), bytes))
        .collect();
    let neighbour = key_in(0, garbage.len());
    for (key, bytes) in &garbage {
        stage.say_news(&format!("garbage/{key}"), vec![pair.news(pair.notes, "test.Note", key, bytes.clone())]).await;
    }
    stage.say(&neighbour, 1, "ok").await;
    pair.wait_seen(&neighbour, &[1]).await;
    pair.wait_parked(garbage.len()).await;
    let parked: Vec<(String, Vec<u8>)> =
        pair.parked().await.into_iter().map(|row| (row.record.key, row.record.payload.to_vec())).collect();
    assert!(parked == garbage, "kept as they came, in the order in which they came");
    assert_eq!(store::seen(&pair.consumer).await, 1);
    stage.stop().await;
}

on_buses!(c06_one_bad_item_in_a_batch_of_500: postgres, kafka);

/// Wherever it stands: it alone is parked, and the 499 others are applied once.
async fn c06_one_bad_item_in_a_batch_of_500(on: On) {
    const ITEMS: usize = 500;
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    // The ends, both sides of the middle, and two places by chance.
    let (left, right) = (rand::random_range(2..248), rand::random_range(252..498));
    for (round, bad) in [0, left, 249, 250, right, 498, 499].into_iter().enumerate() {
        pair.mind.largest.store(0, Ordering::Relaxed);
        let heard = pair.mind.heard();
        let gate = store::shut_gate(&pair.consumer).await;
        stage.say(&format!("plug/{round}"), 1, "ok").await;
        wait("the plug", || async { pair.mind.heard() > heard }).await;
        let text = |item| if item == bad { "trouble" } else { "ok" };
        let lines = (0..ITEMS).map(|item| pair.note(&format!("{round}/{item}"), 1, text(item))).collect();
        stage.say_news(&format!("round/{round}"), lines).await;
        wait("all to be heard", || async { pair.mind.heard() > heard + ITEMS }).await;
        gate.rollback().await.unwrap();

        // With the plug, and without the bad one.
        let wanted = i64::try_from((round + 1) * ITEMS).unwrap();
        wait("all others to be applied", || async { store::seen(&pair.consumer).await == wanted }).await;
        pair.wait_parked(round + 1).await;
        let parked = pair.parked().await;
        assert_eq!(parked[round].record.key, format!("{round}/{bad}"), "the bad one of round {round}");
        assert!(parked[round].reason.contains("no_trouble"), "{}", parked[round].reason);
        assert!(pair.mind.largest() >= ITEMS, "they were in one batch");
        assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, wanted, "each was said on once");
    }
    assert_eq!(store::holes(&pair.consumer).await, 0);
    assert_eq!(pair.mind.repeats.load(Ordering::Relaxed), 0);
    stage.stop().await;
}

on_buses!(c09_the_same_fact_under_another_id_has_one_effect);

/// A publisher that says a thing twice, as two records: only the key of the business can tell.
async fn c09_the_same_fact_under_another_id_has_one_effect(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let key = key_in(1, 0);
    for name in ["said", "said again"] {
        stage.say_news(name, vec![pair.note(&key, 1, "once")]).await;
    }
    stage.say(&key, 2, "ok").await;
    pair.wait_seen(&key, &[1, 2]).await;
    assert_eq!(store::said_on(&pair.publisher, pair.notes).await, 3, "there were two records of it");
    assert_eq!(pair.mind.repeats.load(Ordering::Relaxed), 1, "both came to the handler");
    assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, 2);
    assert_eq!(pair.parked().await.len(), 0);
    stage.stop().await;
}

on_buses!(c10_what_an_older_binary_did_not_know_an_upgrade_applies);

/// Of a type with a new version, or with something in it that the handler does not know.
async fn c10_what_an_older_binary_did_not_know_an_upgrade_applies(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    pair.say(&publisher.runner, &key, 1, "ok").await;
    pair.say(&publisher.runner, &key, 2, "future").await;
    let newer = pair.news(pair.notes, "test.v2.Note", &key, b"3 ok".to_vec());
    publisher.call("newer", &key, Say::plain(vec![newer])).await.unwrap();
    pair.say(&publisher.runner, &key, 4, "ok").await;
    pair.say(&publisher.runner, &neighbour, 1, "ok").await;
    publisher.call("flag", &key, Say::plain(vec![pair.flag(&key)])).await.unwrap();
    pair.wait_seen(&neighbour, &[1]).await;
    wait("the key's other stream to flow on", || async { store::flagged(&pair.consumer, &key).await }).await;
    pair.wait_parked(3).await;
    assert!(pair.parked().await.iter().all(|row| row.held == Held::Waiting), "{:?}", pair.parked().await);
    wait("another try", || async { pair.mind.refused() >= 2 }).await;
    assert_eq!(pair.seen_of(&key).await, [1]);
    consumer.stop().await;

    pair.mind.cure();
    let upgraded = pair.consumer(&pair.bus(on).await, "upgraded").await;
    pair.wait_seen(&key, &[1, 2, 3, 4]).await;
    pair.wait_parked(0).await;
    pair.say(&publisher.runner, &key, 5, "ok").await;
    pair.wait_seen(&key, &[1, 2, 3, 4, 5]).await;
    assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, 6, "each was said on once");
    upgraded.stop().await;
    publisher.stop().await;
    pair.close().await;
}
