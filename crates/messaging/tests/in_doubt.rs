//! The connection fails at the very commit. Whether it has happened is told by the same batch again, and it happens once.

use std::time::Duration;

use local::{
    Proxy,
    proxy::{Direction, Mark, Then},
};
use messaging::Limits;

use crate::fixture::{On, Pair, Stage, id, publisher::Say, store, variants::proxy, wait};

/// As the driver sends it.
fn commit() -> Mark {
    Mark::Pattern(b"COMMIT\0".to_vec())
}

/// The next commit through this proxy fails, and nobody can connect again: nothing is repeated before a test has looked.
fn fail_next_commit(proxy: &Proxy, then: Then) {
    proxy.refuse(true);
    proxy.after(Direction::ToServer, commit(), then);
}

/// Waits until the client has been told, by the end of its connection, that it knows nothing, and has tried to go on.
async fn fails(proxy: &Proxy, then: Then) {
    wait("the commit", || async { proxy.counts().marks == 1 }).await;
    if then == Then::Silence {
        wait("its answer to be lost", || async { proxy.counts().swallowed_bytes > 0 }).await;
        assert!(proxy.cut() > 0);
    }
    let refused = proxy.counts().refused;
    wait("another try to connect", || async { proxy.counts().refused > refused }).await;
    assert!(proxy.counts().cuts > 0);
}

on_buses!(d03_a_batch_cut_before_its_commit_is_repeated: postgres, kafka);

async fn d03_a_batch_cut_before_its_commit_is_repeated(on: On) {
    a_batch_in_doubt(on, Then::CutBefore, false).await;
}

on_buses!(d03_a_batch_cut_after_its_commit_is_not_repeated: postgres, kafka);

async fn d03_a_batch_cut_after_its_commit_is_not_repeated(on: On) {
    a_batch_in_doubt(on, Then::Silence, true).await;
}

async fn a_batch_in_doubt(on: On, then: Then, committed: bool) {
    let pair = Pair::new(on).await;
    let proxy = proxy().await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer_through(&proxy).consumer(&bus, "one").await;
    pair.say(&publisher.runner, "a", 1, "ok").await;
    pair.wait_seen("a", &[1]).await;
    let fenced = messaging::totals()[pair.group].fenced;

    fail_next_commit(&proxy, then);
    pair.say(&publisher.runner, "a", 2, "ok").await;
    fails(&proxy, then).await;
    assert_eq!(store::seen(&pair.consumer).await, 1 + i64::from(committed), "what is there while nothing can be repeated");
    proxy.refuse(false);

    pair.say(&publisher.runner, "a", 3, "ok").await;
    pair.all_applied(&["a".to_owned()], 3).await;
    let found_done = messaging::totals()[pair.group].fenced > fenced;
    assert_eq!(found_done, committed, "the compare-and-set tells whether it was done");
    assert!(messaging::totals()[pair.group].retries > 0);
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(d03_a_call_cut_before_its_commit_is_said_once: postgres);

async fn d03_a_call_cut_before_its_commit_is_said_once(on: On) {
    a_call_in_doubt(on, Then::CutBefore, false).await;
}

on_buses!(d03_a_call_cut_after_its_commit_is_said_once: postgres);

async fn d03_a_call_cut_after_its_commit_is_said_once(on: On) {
    a_call_in_doubt(on, Then::Silence, true).await;
}

async fn a_call_in_doubt(on: On, then: Then, committed: bool) {
    let pair = Pair::new(on).await;
    let proxy = proxy().await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher_through(&proxy).publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    pair.say(&publisher.runner, "a", 1, "ok").await;

    fail_next_commit(&proxy, then);
    let (runner, line) = (publisher.runner.clone(), pair.note("a", 2, "ok"));
    let call = async move { runner.call(id("a/2"), "a".to_owned(), messaging::Trace::default(), Say::plain(vec![line])).await };
    let call = tokio::spawn(call);
    fails(&proxy, then).await;
    assert_eq!(store::is_said(&pair.publisher, id("a/2")).await, committed, "what is there while nothing can be repeated");
    assert!(!call.is_finished(), "its caller is told when it is known");
    proxy.refuse(false);

    assert_eq!(call.await.unwrap().unwrap(), 1);
    assert_eq!(store::said_on(&pair.publisher, pair.notes).await, 2);
    assert!(messaging::totals()[pair.service].retries > 0);
    pair.all_applied(&["a".to_owned()], 2).await;
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(d03_a_database_that_falls_silent_is_given_up_and_asked_again: postgres, kafka);

/// Its answers are lost on the way, and nobody is told: no connection ends by itself. The publisher's database falls silent for the
/// relay, or for its readers, in the same way.
async fn d03_a_database_that_falls_silent_is_given_up_and_asked_again(on: On) {
    let pair = Pair::new(on).await.with_patience(Duration::from_secs(2));
    let proxy = proxy().await;
    let limits = Limits { database_ms_max: 1_000, ..Limits::default() };
    let through = pair.publisher_through(&proxy).consumer_through(&proxy);
    let bus = through.bus(on).await.with_limits(limits);
    let publisher = through.publisher(&bus).await;
    let consumer = through.consumer(&bus, "one").await;
    through.say(&publisher.runner, "a", 1, "ok").await;
    pair.wait_seen("a", &[1]).await;

    proxy.swallow(Direction::ToClient, true);
    let (runner, line) = (publisher.runner.clone(), pair.note("a", 2, "ok"));
    let call = async move { runner.call(id("a/2"), "a".to_owned(), messaging::Trace::default(), Say::plain(vec![line])).await };
    let call = tokio::spawn(call);
    wait("the batch to be given up", || async { messaging::totals()[pair.service].retries > 0 }).await;
    assert!(proxy.counts().swallowed_bytes > 0);
    assert!(!call.is_finished(), "its caller is told when it is known");
    proxy.swallow(Direction::ToClient, false);

    assert_eq!(call.await.unwrap().unwrap(), 1);
    through.say(&publisher.runner, "a", 3, "ok").await;
    pair.all_applied(&["a".to_owned()], 3).await;
    assert_eq!(proxy.counts().cuts, 0, "nobody was told");
    Stage { pair: through, publisher, consumer }.stop().await;
}
