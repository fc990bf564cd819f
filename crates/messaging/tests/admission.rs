//! Whether another call is taken depends on how long others have waited; a batch and the queue have bounds.

use std::{sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use messaging::{CallError, Limits, Trace};
use tokio::time::timeout;

use crate::fixture::{
    Instance, On, PUBLISHER, Pair, SOON, guards, id,
    publisher::{No, Publisher, Say},
    store, wait,
};

type Answer = Result<usize, CallError<No>>;

fn nothing() -> Say {
    Say::plain(Vec::new())
}

/// Asks for something new.
async fn admit(publisher: &Instance<Publisher>, name: &str) -> Answer {
    publisher.runner.admit(id(name), "key".to_owned(), Trace::default(), nothing()).await
}

/// When to come again, if the answer is no.
fn told_to_wait(answer: &Answer) -> Option<Duration> {
    match answer {
        Err(CallError::Busy { retry_after }) => Some(*retry_after),
        _ => None,
    }
}

on_buses!(calls_are_refused_while_others_wait_too_long: postgres);

async fn calls_are_refused_while_others_wait_too_long(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await.with_limits(Limits { queue_age_ms_max: 50, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let gate = store::shut_gate(&pair.publisher).await;
    let mut plug = Box::pin(publisher.call("plug", "key", nothing()));
    assert!(timeout(Duration::ZERO, plug.as_mut()).await.is_err());
    wait("the plug", || async { store::at_gate(&pair.publisher, PUBLISHER).await == 1 }).await;
    let mut first = Box::pin(publisher.call("first", "key", nothing()));
    assert!(timeout(Duration::ZERO, first.as_mut()).await.is_err(), "it waits in the queue");

    let refused = local::until("a refusal", SOON, || async {
        let answer = timeout(Duration::ZERO, publisher.call("another", "key", nothing())).await.ok()?;
        told_to_wait(&answer)
    });
    assert!(!refused.await.unwrap().is_zero());

    gate.rollback().await.unwrap();
    assert!(plug.await.is_ok());
    assert!(first.await.is_ok(), "what waited is done");
    wait("calls to be taken again", || async { publisher.call("later", "key", nothing()).await.is_ok() }).await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(o06_new_work_is_refused_while_a_reader_is_behind: postgres);

async fn o06_new_work_is_refused_while_a_reader_is_behind(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await.with_limits(Limits { backlog_age_ms_max: 100, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    pair.say(&publisher.runner, "a", 1, "ok").await;
    admit(&publisher, "nobody reads").await.unwrap();

    let partition = messaging::partition_of("a", crate::fixture::PARTITIONS);
    guards::report(&pair.publisher, "slow", pair.notes, partition, 0).await;
    wait("a refusal", || async { told_to_wait(&admit(&publisher, "new").await).is_some_and(|wait| !wait.is_zero()) }).await;
    publisher.call("a cancel", "key", nothing()).await.unwrap();

    guards::report(&pair.publisher, "slow", pair.notes, partition, 1).await;
    wait("new work to be taken", || async { admit(&publisher, "new again").await.is_ok() }).await;

    pair.say(&publisher.runner, "a", 2, "ok").await;
    wait("another refusal", || async { told_to_wait(&admit(&publisher, "too new").await).is_some() }).await;
    guards::forget(&pair.publisher, "slow").await;
    wait("new work to be taken again", || async { admit(&publisher, "after all").await.is_ok() }).await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(what_a_reader_has_before_it_is_told: postgres);

async fn what_a_reader_has_before_it_is_told(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    for n in 1..=3 {
        pair.say(&publisher.runner, "a", n, "ok").await;
    }
    let unread = async || messaging::outbox::unread(&mut pair.publisher.acquire().await.unwrap()).await.unwrap();
    assert!(unread().await.is_empty(), "nobody reads");

    let partition = messaging::partition_of("a", crate::fixture::PARTITIONS);
    let mut since = None;
    for seq in 0..3 {
        guards::report(&pair.publisher, "slow", pair.notes, partition, seq).await;
        let found = unread().await;
        let [one] = &found[..] else { panic!("{found:?}") };
        assert_eq!((one.group.as_str(), one.stream.topic.as_str(), one.stream.partition), ("slow", pair.notes, partition));
        assert!(since.is_none_or(|before| before < one.since), "the next is younger");
        since = Some(one.since);
    }
    guards::report(&pair.publisher, "slow", pair.notes, partition, 3).await;
    assert!(unread().await.is_empty(), "all is read");
    guards::forget(&pair.publisher, "slow").await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(no_batch_is_larger_than_its_bound: postgres);

async fn no_batch_is_larger_than_its_bound(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await.with_limits(Limits { batch_rows_max: 7, queue_rows_max: 50, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let gate = store::shut_gate(&pair.publisher).await;
    let mut calls = Vec::new();
    let refused = loop {
        assert!(calls.len() <= 60, "the queue has a bound");
        let name = format!("call {}", calls.len());
        let publisher = &publisher;
        let mut call = Box::pin(async move { publisher.call(&name, "key", nothing()).await });
        match timeout(Duration::ZERO, call.as_mut()).await {
            Ok(answer) => break answer,
            Err(_) => calls.push(call),
        }
    };
    assert!(told_to_wait(&refused).is_some(), "{refused:?}");
    assert!(calls.len() >= 50, "{} in the queue and a batch", calls.len());
    gate.rollback().await.unwrap();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(pair.largest.load(Ordering::Relaxed), 7);
    publisher.stop().await;
    pair.close().await;
}
