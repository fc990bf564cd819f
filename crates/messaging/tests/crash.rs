//! Connections die before, in and after a commit; effects and news happen once.

use tokio::sync::Mutex;

use crate::fixture::{CONSUMER, On, PUBLISHER, Pair, READER, Stage, id, keys_everywhere, load::Load, publisher::Say, store, wait};

on_buses!(d06_connections_cut_at_random);

async fn d06_connections_cut_at_random(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let keys = keys_everywhere(3);
    let load = Load::start(&pair, &publisher.runner, &keys);
    let mut cut = 0;
    while cut < 100 {
        let before = store::seen(&pair.consumer).await;
        wait("the load to get on", || async { store::seen(&pair.consumer).await > before }).await;
        cut += store::cut(&pair.consumer, CONSUMER).await;
        cut += store::cut(&pair.publisher, PUBLISHER).await;
        cut += store::cut(&pair.publisher, READER).await;
    }
    pair.all_applied(&keys, load.stop().await).await;
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(c01_a_batch_cut_before_its_commit_is_repeated);

async fn c01_a_batch_cut_before_its_commit_is_repeated(on: On) {
    let stage = Stage::start(on).await;
    let gate = store::shut_gate(&stage.pair.consumer).await;
    stage.say("a", 1, "ok").await;
    wait("the batch to be in its transaction", || async { store::at_gate(&stage.pair.consumer, CONSUMER).await == 1 }).await;
    assert!(store::cut(&stage.pair.consumer, CONSUMER).await > 0);
    assert_eq!(store::seen(&stage.pair.consumer).await, 0);
    gate.rollback().await.unwrap();
    stage.pair.all_applied(&["a".to_owned()], 1).await;
    stage.stop().await;
}

/// The setting is the server's: one test at a time.
static STANDBY: Mutex<()> = Mutex::const_new(());

on_buses!(c02_a_commit_that_nobody_hears_of_is_not_repeated);

/// The worst moment: the commit has happened, and the connection dies before it says so.
async fn c02_a_commit_that_nobody_hears_of_is_not_repeated(on: On) {
    let _alone = STANDBY.lock().await;
    let pair = Pair::new(on).await;
    let bus = pair.bus(on).await;
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.clone().waiting_for_a_standby().consumer(&bus, "one").await;
    pair.say(&publisher.runner, "a", 1, "ok").await;
    pair.wait_seen("a", &[1]).await;

    store::keep_commits_unanswered(&pair.consumer, true).await;
    // How soon the setting works is the server's affair: say notes until one of them waits.
    let unanswered = || async { store::unanswered_commits(&pair.consumer, CONSUMER).await > 0 };
    let mut said = 1;
    while !unanswered().await {
        said += 1;
        pair.say(&publisher.runner, "a", said, "ok").await;
        wait("an effect, or a commit that waits", || async { store::seen(&pair.consumer).await == said || unanswered().await })
            .await;
    }
    assert_eq!(store::seen(&pair.consumer).await, said - 1, "it is committed, and nobody sees it yet");
    assert!(store::cut(&pair.consumer, CONSUMER).await > 0);
    store::keep_commits_unanswered(&pair.consumer, false).await;

    pair.say(&publisher.runner, "a", said + 1, "ok").await;
    pair.all_applied(&["a".to_owned()], said + 1).await;
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(d03_a_call_whose_commit_nobody_hears_of_is_said_once: postgres);

async fn d03_a_call_whose_commit_nobody_hears_of_is_said_once(on: On) {
    let _alone = STANDBY.lock().await;
    let stage = Stage::of(Pair::new(on).await.waiting_for_a_standby()).await;
    let pair = &stage.pair;
    store::keep_commits_unanswered(&pair.publisher, true).await;
    // How soon the setting works is the server's affair: call until one waits.
    let mut called = 0;
    let unanswered = || async { store::unanswered_commits(&pair.publisher, PUBLISHER).await > 0 };
    let last = loop {
        called += 1;
        let (runner, line) = (stage.publisher.runner.clone(), pair.note("a", called, "ok"));
        let name = format!("a/{called}");
        let call = async move { runner.call(id(&name), "a".to_owned(), messaging::Trace::default(), Say::plain(vec![line])).await };
        let call = tokio::spawn(call);
        wait("an answer, or a commit that waits", || async { call.is_finished() || unanswered().await }).await;
        if !call.is_finished() {
            break call;
        }
    };
    assert!(store::cut(&pair.publisher, PUBLISHER).await > 0);
    store::keep_commits_unanswered(&pair.publisher, false).await;
    assert_eq!(last.await.unwrap().unwrap(), 1);
    assert_eq!(store::said_on(&pair.publisher, pair.notes).await, called);
    pair.all_applied(&["a".to_owned()], called).await;
    stage.stop().await;
}
