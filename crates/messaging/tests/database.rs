//! What a database may do to those who work with it: it restarts, gives nobody a connection, ends transactions, and lets them wait. All of
//! it is waited out, nothing is lost, and nothing of it is blamed on a record.

use std::{net::Ipv4Addr, time::Duration};

use local::{Postgres, Proxy, postgres::Options, process::Signal};
use messaging::Trace;
use tokio::sync::oneshot;

use crate::fixture::{
    CONSUMER, On, PUBLISHER, Pair, Stage, faults, id, key_in, keys_everywhere, load::Load, log, publisher::Say, store, wait,
};

const OUTAGE: &str = "PROCESSING_ERROR";

on_buses!(d01_postgres_crashes_under_load: postgres, kafka);

/// An immediate shutdown is a crash to everybody who is connected. What callers were told is there afterwards.
async fn d01_postgres_crashes_under_load(on: On) {
    const CRASHES: usize = 3;
    let dir = std::env::temp_dir().join(format!("settle-test-{:016x}", rand::random::<u64>()));
    let mut server = Postgres::start(&dir, Options::for_tests()).await.unwrap();
    let proxy = Proxy::start((Ipv4Addr::LOCALHOST, server.port()).into()).await.unwrap();
    // What is acknowledged must be there: so commits are not asynchronous here.
    let pair = Pair::on_server(on, &server, proxy.port()).await.with("synchronous_commit", "on");
    let Stage { pair, publisher, consumer } = Stage::of(pair).await;
    let keys = keys_everywhere(3);
    let load = Load::start(&pair, &publisher.runner, &keys);
    for _ in 0..CRASHES {
        let before = store::seen(&pair.consumer).await;
        wait("the load to get on", || async { store::seen(&pair.consumer).await > before + 24 }).await;
        server.signal(Signal::Quit).unwrap();
        server.end().await;
        server = Postgres::start(&dir, Options::for_tests()).await.unwrap();
        proxy.forward_to((Ipv4Addr::LOCALHOST, server.port()).into());
    }
    pair.all_applied(&keys, load.stop().await).await;
    let recoveries = std::fs::read_to_string(server.log()).unwrap().matches("database system was not properly shut down").count();
    assert_eq!(recoveries, CRASHES, "each was a crash");
    assert!(messaging::totals()[pair.service].retries + messaging::totals()[pair.group].retries > 0, "somebody had to wait");
    Stage { pair, publisher, consumer }.stop().await;
    server.stop().await.unwrap();
}

on_buses!(d04_of_a_deadlock_the_batch_is_the_victim: postgres);

/// Somebody else takes the same rows in the opposite order.
async fn d04_of_a_deadlock_the_batch_is_the_victim(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let mut keys = [key_in(0, 0), key_in(0, 1)];
    // Batches take them in this order.
    keys.sort();
    let [first, second] = &keys;
    let mut said = 1;
    for key in &keys {
        stage.say(key, said, "ok").await;
    }
    while log::said(pair.group, OUTAGE, "deadlock") == 0 {
        assert!(said < 6, "no batch was ever the victim");
        for key in &keys {
            pair.wait_seen(key, &(1..=said).collect::<Vec<_>>()).await;
        }
        said += 1;
        // Both notes in one batch: they wait behind another one.
        let heard = pair.mind.heard();
        let gate = store::shut_gate(&pair.consumer).await;
        stage.say("plug", said, "ok").await;
        wait("the plug", || async { pair.mind.heard() > heard }).await;
        stage.say_news(&format!("note {said}"), keys.iter().map(|key| pair.note(key, said, "ok")).collect()).await;
        wait("both notes", || async { pair.mind.heard() > heard + 2 }).await;

        let mut holder = faults::hold_head(&pair.consumer, second, "1min").await;
        faults::be_patient_in_deadlocks(&mut holder).await;
        gate.rollback().await.unwrap();
        wait("the batch to wait", || async { faults::waiting_for_rows(&pair.consumer, CONSUMER).await == 1 }).await;
        // The batch has the first row and waits for the second. Whether it is the victim, or gives up the wait, this gets through.
        faults::take_head(&mut holder, first).await.unwrap();
        holder.rollback().await.unwrap();
    }
    for key in &keys {
        pair.wait_seen(key, &(1..=said).collect::<Vec<_>>()).await;
    }
    assert_eq!(pair.parked().await.len(), 0);
    stage.stop().await;
}

on_buses!(d04_no_outage_is_blamed_on_a_record: postgres);

/// Serialization failures, a full disk, too many connections, a shutdown, a missing table or permission: whatever it is, it is waited out.
async fn d04_no_outage_is_blamed_on_a_record(on: On) {
    const OUTAGES: [&str; 16] = [
        "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "58030", "08006", "25P02",
        "42501", "42P01", "XX000",
    ];
    const FAILURES: i64 = 2;
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    for (n, sqlstate) in (1..).zip(OUTAGES) {
        faults::fail(&pair.consumer, sqlstate, FAILURES).await;
        let retries = messaging::totals()[pair.group].retries;
        stage.say("a", n, "ok").await;
        wait(sqlstate, || async { store::seen(&pair.consumer).await == n }).await;
        assert_eq!(faults::tries(&pair.consumer).await, FAILURES + 1, "{sqlstate} came up as often as it should");
        assert!(messaging::totals()[pair.group].retries >= retries + 2, "{sqlstate} was waited out");
        assert_eq!(pair.parked().await.len(), 0, "{sqlstate} parks nothing");
    }
    pair.all_applied(&["a".to_owned()], i64::try_from(OUTAGES.len()).unwrap()).await;
    stage.stop().await;
}

on_buses!(d04_what_does_not_go_away_is_named: postgres);

/// A deploy without its migration: nothing is lost, and whoever asks whether the service is ready is told.
async fn d04_what_does_not_go_away_is_named(on: On) {
    let stage = Stage::start(on).await;
    let (pair, health) = (&stage.pair, stage.consumer.runner.health());
    faults::fail(&pair.consumer, "42P01", i64::from(i32::MAX)).await;
    stage.say("a", 1, "ok").await;
    wait("it to be tried again", || async { messaging::totals()[pair.group].retries > 0 }).await;
    assert_eq!(health.problems(), [""; 0], "it may go by");
    wait("it to be named", || async { health.problems().iter().any(|problem| problem.contains("a test wants this")) }).await;
    assert_eq!(stage.publisher.runner.health().problems(), [""; 0]);
    faults::fail(&pair.consumer, "42P01", 0).await;
    pair.all_applied(&["a".to_owned()], 1).await;
    wait("it to be over", || async { health.problems().is_empty() }).await;
    stage.stop().await;
}

on_buses!(d05_an_exhausted_pool_holds_work_up_and_loses_none: postgres);

/// The worker loses its connection, and somebody else in its process has taken all there are.
async fn d05_an_exhausted_pool_holds_work_up_and_loses_none(on: On) {
    let stage = Stage::of(Pair::new(on).await.with_patience(Duration::from_millis(300))).await;
    let pair = &stage.pair;
    stage.say("a", 1, "ok").await;
    pair.wait_seen("a", &[1]).await;
    // More than one, so that whatever comes free finds one waiting.
    let hogs: Vec<_> = (0..3)
        .map(|_| {
            let (pool, (enough, mut ends)) = (stage.publisher.pool.clone(), oneshot::channel::<()>());
            let hog = tokio::spawn(async move {
                let mut held = Vec::new();
                loop {
                    tokio::select! {
                        taken = pool.acquire() => held.extend(taken.ok()),
                        _ = &mut ends => break,
                    }
                }
                held.len()
            });
            (enough, hog)
        })
        .collect();
    wait("the pool to be taken", || async { stage.publisher.pool.size() == 6 && stage.publisher.pool.num_idle() == 0 }).await;
    assert!(store::cut(&pair.publisher, PUBLISHER).await > 0);
    let (runner, line) = (stage.publisher.runner.clone(), pair.note("a", 2, "ok"));
    let call = async move { runner.call(id("a/2"), "a".to_owned(), Trace::default(), Say::plain(vec![line])).await };
    let call = tokio::spawn(call);
    wait("the pool to be found empty", || async { log::said(pair.service, OUTAGE, "pool timed out") > 0 }).await;
    assert!(!call.is_finished(), "its caller waits");
    assert!(!store::is_said(&pair.publisher, id("a/2")).await);

    for (enough, hog) in hogs {
        enough.send(()).unwrap();
        assert!(hog.await.unwrap() > 0);
    }
    assert_eq!(call.await.unwrap().unwrap(), 1);
    pair.all_applied(&["a".to_owned()], 2).await;
    stage.stop().await;
}

on_buses!(d08_a_client_that_holds_rows_and_stands_still_is_ended: postgres);

/// To the server a process that is stopped is one that says nothing; as everybody here it has told the server how long it may.
async fn d08_a_client_that_holds_rows_and_stands_still_is_ended(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    stage.say("a", 1, "ok").await;
    pair.wait_seen("a", &[1]).await;
    let mut silent = faults::hold_head(&pair.consumer, "a", "2s").await;
    stage.say("a", 2, "ok").await;
    wait("the batch to wait for it", || async { faults::waiting_for_rows(&pair.consumer, CONSUMER).await == 1 }).await;
    pair.all_applied(&["a".to_owned()], 2).await;
    assert!(faults::take_head(&mut silent, "a").await.is_err(), "its transaction is gone, and it did not end it");
    drop(silent);
    stage.stop().await;
}

on_buses!(d08_rows_that_nobody_gives_back_hold_a_batch_up_and_no_longer: postgres);

/// A stranger who may be silent for as long as he likes: the batch gives up the wait, not the work.
async fn d08_rows_that_nobody_gives_back_hold_a_batch_up_and_no_longer(on: On) {
    let stage = Stage::of(Pair::new(on).await.with("lock_timeout", "300ms")).await;
    let pair = &stage.pair;
    stage.say("a", 1, "ok").await;
    pair.wait_seen("a", &[1]).await;
    let stranger = faults::hold_head(&pair.consumer, "a", "0").await;
    stage.say("a", 2, "ok").await;
    wait("the batch to give up and try again", || async { log::said(pair.group, OUTAGE, "lock timeout") >= 2 }).await;
    assert_eq!(store::seen(&pair.consumer).await, 1);
    stranger.rollback().await.unwrap();
    pair.all_applied(&["a".to_owned()], 2).await;
    assert_eq!(pair.parked().await.len(), 0);
    stage.stop().await;
}
