//! Two instances are asked the same at the same time: both callers are told the first answer.

use std::sync::atomic::Ordering;

use futures::future::join_all;

use crate::fixture::{On, PUBLISHER, Pair, guards, id, publisher::Say, store, wait};

const SHARED: usize = 20;
const OWN: usize = 20;

on_buses!(the_same_calls_at_two_instances_have_one_effect: postgres);

/// Neither sees what the other is about to save: one of them runs into the unique key, and its whole batch is repeated.
async fn the_same_calls_at_two_instances_have_one_effect(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let instances = [pair.publisher(&bus).await, pair.publisher(&bus).await];
    let names = |instance: usize| {
        let shared = (0..SHARED).map(|n| format!("shared/{n}"));
        shared.chain((0..OWN).map(move |n| format!("own/{instance}/{n}"))).collect::<Vec<String>>()
    };

    let gate = store::shut_gate(&pair.publisher).await;
    let mut calls = Vec::new();
    let ask = |instance: usize, name: String| {
        let (runner, note) = (instances[instance].runner.clone(), pair.note(&name, 1, "ok"));
        tokio::spawn(async move { runner.call(id(&name), name, messaging::Trace::default(), Say::plain(vec![note])).await })
    };
    for instance in 0..instances.len() {
        calls.push(ask(instance, format!("plug/{instance}")));
    }
    wait("both plugs", || async { store::at_gate(&pair.publisher, PUBLISHER).await == 2 }).await;
    for instance in 0..instances.len() {
        calls.extend(names(instance).into_iter().map(|name| ask(instance, name)));
    }
    // A third hand holds the shared keys, unseen, until both have loaded and want to save.
    let shared: Vec<_> = (0..SHARED).map(|n| id(&format!("shared/{n}"))).collect();
    let held = guards::saying(&pair.publisher, &shared).await;
    gate.rollback().await.unwrap();
    wait("both to run into it", || async { guards::waiting_for_another(&pair.publisher, PUBLISHER).await == 2 }).await;
    held.rollback().await.unwrap();

    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().unwrap(), 1);
    }
    let said = i64::try_from(SHARED + 2 * OWN + 2).unwrap();
    assert_eq!(store::sayings(&pair.publisher).await, said);
    assert_eq!(store::said_on(&pair.publisher, pair.notes).await, said, "each is said once");
    assert_eq!(store::holes(&pair.publisher).await, 0);
    assert!(pair.largest.load(Ordering::Relaxed) > 1, "it was a batch that was repeated");
    for instance in instances {
        instance.stop().await;
    }
    pair.close().await;
}
