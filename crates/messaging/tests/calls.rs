//! A caller is answered after the commit, or told why not, and nobody pays for another's mistake.

use std::{future::Future, pin::Pin, sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use messaging::{CallError, Trace};
use tokio::time::timeout;

use crate::fixture::{
    Instance, On, PUBLISHER, SOON, Stage, id,
    publisher::{Manner, No, Publisher, Say},
    store, wait,
};

type Answer = Result<usize, CallError<No>>;
type Call<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

fn say(manner: Manner) -> Say {
    Say { lines: Vec::new(), manner }
}

/// Asks; gives the call back once its input waits in the queue, or the answer if there is one at once.
async fn ask<'a>(publisher: &'a Instance<Publisher>, name: &str, manner: Manner) -> Result<Call<'a>, Answer> {
    let name = name.to_owned();
    let mut call: Call<'a> = Box::pin(async move { publisher.call(&name, "key", say(manner)).await });
    match timeout(Duration::ZERO, call.as_mut()).await {
        Ok(answer) => Err(answer),
        Err(_) => Ok(call),
    }
}

/// Asks, while the gate is shut.
async fn queue<'a>(publisher: &'a Instance<Publisher>, name: &str, manner: Manner) -> Call<'a> {
    match ask(publisher, name, manner).await {
        Ok(call) => call,
        Err(answer) => panic!("answered at once: {answer:?}"),
    }
}

/// Fills the worker with one batch that waits at the gate: what is asked now waits in the queue.
async fn plug(stage: &Stage) -> Call<'_> {
    let plug = queue(&stage.publisher, "plug", Manner::Plain).await;
    wait("the plug", || async { store::at_gate(&stage.pair.publisher, PUBLISHER).await == 1 }).await;
    plug
}

on_buses!(an_answer_comes_after_the_commit: postgres);

async fn an_answer_comes_after_the_commit(on: On) {
    let stage = Stage::start(on).await;
    let gate = store::shut_gate(&stage.pair.publisher).await;
    let mut waiting = plug(&stage).await;
    assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err(), "nothing is committed yet");
    gate.rollback().await.unwrap();
    assert!(waiting.await.is_ok());
    assert!(store::is_said(&stage.pair.publisher, id("plug")).await);
    for n in 0..50 {
        let name = format!("one more/{n}");
        stage.publisher.call(&name, "key", say(Manner::Plain)).await.unwrap();
        assert!(store::is_said(&stage.pair.publisher, id(&name)).await, "others see it when its caller hears of it");
    }
    stage.stop().await;
}

on_buses!(callers_share_a_batch_and_not_its_mistakes: postgres);

async fn callers_share_a_batch_and_not_its_mistakes(on: On) {
    const CALLERS: usize = 200;
    let stage = Stage::start(on).await;
    let gate = store::shut_gate(&stage.pair.publisher).await;
    let plug = plug(&stage).await;
    let manner = |n| match n {
        31 => Manner::Forbidden,
        62 => Manner::Panicking,
        93 => Manner::Refused,
        124 => Manner::Broken,
        _ => Manner::Plain,
    };
    let mut calls = Vec::new();
    for n in 0..CALLERS {
        calls.push(queue(&stage.publisher, &format!("caller {n}"), manner(n)).await);
    }
    gate.rollback().await.unwrap();
    assert!(plug.await.is_ok());
    for (n, answer) in join_all(calls).await.into_iter().enumerate() {
        let right = match manner(n) {
            Manner::Plain => answer.is_ok(),
            Manner::Refused => matches!(answer, Err(CallError::Refused(No))),
            Manner::Panicking | Manner::Broken | Manner::Forbidden => matches!(answer, Err(CallError::Failed)),
        };
        assert!(right, "caller {n} was told {answer:?}");
    }
    assert_eq!(stage.pair.largest.load(Ordering::Relaxed), CALLERS, "all were in one batch");
    assert_eq!(store::sayings(&stage.pair.publisher).await, 197, "196 callers and the plug");
    stage.stop().await;
}

on_buses!(d05_a_full_queue_says_so: postgres);

async fn d05_a_full_queue_says_so(on: On) {
    let stage = Stage::start(on).await;
    let gate = store::shut_gate(&stage.pair.publisher).await;
    let plug = plug(&stage).await;
    let mut calls = Vec::new();
    let busy = loop {
        assert!(calls.len() < 100_000, "the queue has a bound");
        match ask(&stage.publisher, &format!("caller {}", calls.len()), Manner::Plain).await {
            Ok(call) => calls.push(call),
            Err(answer) => break answer,
        }
    };
    assert!(matches!(busy, Err(CallError::Busy { retry_after }) if !retry_after.is_zero()), "{busy:?}");
    gate.rollback().await.unwrap();
    let queued = i64::try_from(calls.len()).unwrap();
    assert!(plug.await.is_ok());
    assert!(join_all(calls).await.iter().all(Result::is_ok), "those in the queue are answered");
    assert_eq!(store::sayings(&stage.pair.publisher).await, queued + 1);
    stage.publisher.call("later", "key", say(Manner::Plain)).await.unwrap();
    stage.stop().await;
}

on_buses!(work_whose_caller_left_is_done: postgres);

async fn work_whose_caller_left_is_done(on: On) {
    let stage = Stage::start(on).await;
    let gate = store::shut_gate(&stage.pair.publisher).await;
    drop(plug(&stage).await);
    drop(queue(&stage.publisher, "queued", Manner::Plain).await);
    gate.rollback().await.unwrap();
    wait("both to be done", || async { store::sayings(&stage.pair.publisher).await == 2 }).await;
    stage.stop().await;
}

on_buses!(the_same_call_twice_has_one_effect: postgres);

async fn the_same_call_twice_has_one_effect(on: On) {
    let stage = Stage::start(on).await;
    let line = || Say::plain(vec![stage.pair.note("a", 1, "ok")]);
    assert_eq!(stage.publisher.call("once", "a", line()).await.unwrap(), 1);
    assert_eq!(stage.publisher.call("once", "a", line()).await.unwrap(), 1);
    assert_eq!(store::said_on(&stage.pair.publisher, stage.pair.notes).await, 1);
    stage.stop().await;
}

on_buses!(an_outcome_is_told_and_waits_for_its_commit: postgres);

async fn an_outcome_is_told_and_waits_for_its_commit(on: On) {
    let stage = Stage::start(on).await;
    let tell = |name: &'static str, manner| {
        stage.publisher.runner.tell(id(name), "key".to_owned(), "key".to_owned(), Trace::default(), say(manner))
    };
    assert_eq!(tell("outcome", Manner::Plain).await, Some(0));
    assert!(store::is_said(&stage.pair.publisher, id("outcome")).await);
    assert_eq!(tell("forbidden", Manner::Forbidden).await, None);
    assert_eq!(tell("refused", Manner::Refused).await, None);
    stage.stop().await;
}

on_buses!(a_stop_finishes_what_waits_and_takes_no_more: postgres);

async fn a_stop_finishes_what_waits_and_takes_no_more(on: On) {
    let stage = Stage::start(on).await;
    let gate = store::shut_gate(&stage.pair.publisher).await;
    let mut calls = vec![plug(&stage).await];
    for n in 0..50 {
        calls.push(queue(&stage.publisher, &format!("caller {n}"), Manner::Plain).await);
    }
    let tasks = stage.publisher.tasks.clone();
    let stopping = tokio::spawn(async move { tasks.drain(SOON).await });
    wait("the stop", || async { stage.publisher.tasks.is_stopping() }).await;
    gate.rollback().await.unwrap();
    assert!(join_all(calls).await.iter().all(Result::is_ok), "what waited is done");
    assert!(stopping.await.unwrap(), "and then all tasks end");
    let late = stage.publisher.call("late", "key", say(Manner::Plain)).await;
    assert!(matches!(late, Err(CallError::Stopped)), "{late:?}");
    assert_eq!(store::sayings(&stage.pair.publisher).await, 51);
    stage.stop().await;
}
