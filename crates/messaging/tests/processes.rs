//! Processes are killed and stopped at the worst moments; others go on where they stood.

use std::time::{Duration, Instant};

use local::proxy::{Direction, Mark, Then};

use crate::fixture::{
    CONSUMER, Instance, On, Pair, consumer::Consumer, faults, guards, keys_everywhere, process::Process, publisher::Publisher,
    store, variants::proxy, wait,
};

/// From the loss of an instance until another has taken over, and from a start until what was left behind is heard.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// The heir of a dead consumer says what it has done, and everything was done once.
async fn inherit(pair: Pair, publisher: Instance<Publisher>, heir: Instance<Consumer>, notes: i64, by_heir: i64) {
    let keys = ["a".to_owned()];
    pair.all_applied(&keys, notes).await;
    assert_eq!(store::seen_by(&pair.consumer, "heir", &keys).await, by_heir);
    heir.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(c01_a_consumer_killed_before_its_commit: postgres, kafka);

async fn c01_a_consumer_killed_before_its_commit(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let doomed = Process::consumer(&pair, "doomed").await;
    let gate = store::shut_gate(&pair.consumer).await;
    pair.say(&publisher.runner, "a", 1, "ok").await;
    wait("the batch to be in its transaction", || async { store::at_gate(&pair.consumer, CONSUMER).await == 1 }).await;
    doomed.kill().await;
    gate.rollback().await.unwrap();
    assert_eq!(store::seen(&pair.consumer).await, 0);

    guards::bury(&pair.consumer).await;
    let heir = pair.consumer(&bus, "heir").await;
    pair.say(&publisher.runner, "a", 2, "ok").await;
    inherit(pair, publisher, heir, 2, 2).await;
}

on_buses!(c02_a_consumer_killed_after_its_commit: postgres, kafka);

/// It has committed, and dies before it knows, and before anybody is told where it stands.
async fn c02_a_consumer_killed_after_its_commit(on: On) {
    let pair = Pair::new(on).await;
    let proxy = proxy().await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let doomed = Process::consumer(&pair.consumer_through(&proxy), "doomed").await;
    pair.say(&publisher.runner, "a", 1, "ok").await;
    pair.wait_seen("a", &[1]).await;

    proxy.after(Direction::ToServer, Mark::Pattern(b"COMMIT\0".to_vec()), Then::Silence);
    pair.say(&publisher.runner, "a", 2, "ok").await;
    pair.wait_seen("a", &[1, 2]).await;
    wait("the answer to be lost", || async { proxy.counts().swallowed_bytes > 0 }).await;
    doomed.kill().await;

    guards::bury(&pair.consumer).await;
    let heir = pair.consumer(&bus, "heir").await;
    pair.say(&publisher.runner, "a", 3, "ok").await;
    inherit(pair, publisher, heir, 3, 1).await;
}

on_buses!(c04_a_consumer_stopped_in_its_transaction: postgres, kafka);

/// Its process stands still with the transaction open and all connections up. When it wakes it is late, and the fence tells it.
async fn c04_a_consumer_stopped_in_its_transaction(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let zombie = Process::consumer(&pair, "zombie").await;
    let gate = store::shut_gate(&pair.consumer).await;
    pair.say(&publisher.runner, "a", 1, "ok").await;
    wait("the batch to be in its transaction", || async { store::at_gate(&pair.consumer, CONSUMER).await == 1 }).await;

    zombie.stop();
    let stopped = Instant::now();
    gate.rollback().await.unwrap();
    wait("the server to wait for it", || async { faults::idle_in_transaction(&pair.consumer, CONSUMER).await == 1 }).await;
    let heir = pair.consumer(&bus, "heir").await;
    let left = AGAIN_WITHIN.saturating_sub(stopped.elapsed());
    let applied = || async { (store::seen(&pair.consumer).await == 1).then_some(()) };
    local::until("another to take over", left, applied).await.unwrap();

    zombie.go_on();
    wait("the fence", || async { zombie.totals().fenced > 0 }).await;
    assert!(zombie.totals().retries > 0, "its transaction was ended");
    inherit(pair, publisher, heir, 1, 1).await;
}

on_buses!(c04_a_consumer_stopped_in_the_copy_of_its_news: postgres, kafka);

/// The same where the server does not call it idle: it waits for the rows of a COPY, without a bound, and the streams are locked.
async fn c04_a_consumer_stopped_in_the_copy_of_its_news(on: On) {
    let pair = Pair::new(on).await;
    let proxy = proxy().await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let zombie = Process::consumer(&pair.consumer_through(&proxy), "zombie").await;
    proxy.after(Direction::ToServer, Mark::Pattern(b"copy outbox (topic".to_vec()), Then::Silence);
    pair.say(&publisher.runner, "a", 1, "ok").await;
    wait("the server to wait for its rows", || async { faults::waited_for_in_copy(&pair.consumer, CONSUMER).await == 1 }).await;

    zombie.stop();
    let stopped = Instant::now();
    assert_eq!(proxy.counts().marks, 1);
    let heir = pair.consumer(&bus, "heir").await;
    let left = AGAIN_WITHIN.saturating_sub(stopped.elapsed());
    let applied = || async { (store::seen(&pair.consumer).await == 1).then_some(()) };
    local::until("another to take over", left, applied).await.unwrap();

    zombie.go_on();
    wait("the fence", || async { zombie.totals().fenced > 0 }).await;
    assert!(zombie.totals().retries > 0, "its transaction was ended");
    inherit(pair, publisher, heir, 1, 1).await;
}

on_buses!(o02_what_was_committed_before_a_crash_is_heard_after_it: postgres, kafka);

async fn o02_what_was_committed_before_a_crash_is_heard_after_it(on: On) {
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let consumer = pair.consumer(&bus, "one").await;
    let keys = keys_everywhere(3);
    let gate = store::shut_gate(&pair.consumer).await;
    let mut kills = 0;
    while kills == 0 || faults::unheard(on, &pair.publisher, &pair.consumer, pair.notes).await == 0 {
        assert!(kills < 20, "each was killed with nothing under way");
        let doomed = Process::publisher(&pair).await;
        let before = store::sayings(&pair.publisher).await;
        wait("it to work", || async { store::sayings(&pair.publisher).await > before + 20 }).await;
        doomed.kill().await;
        kills += 1;
    }
    gate.rollback().await.unwrap();

    // On the embedded bus nobody else is needed: the outbox is the log.
    let heard = || async {
        let said = store::said_on(&pair.publisher, pair.notes).await;
        (store::seen(&pair.consumer).await == said).then_some(())
    };
    if on == On::Postgres {
        local::until("what was left behind to be heard", AGAIN_WITHIN, heard).await.unwrap();
    }
    let publisher = pair.publisher(&bus).await;
    local::until("what was left behind to be heard", AGAIN_WITHIN, heard).await.unwrap();

    // The round in which it died is brought to its end, by the same ids.
    let rounds = store::sayings(&pair.publisher).await / i64::try_from(keys.len()).unwrap() + 1;
    pair.say_all(&publisher.runner, &keys, 1..=rounds).await;
    pair.all_applied(&keys, rounds).await;
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}
