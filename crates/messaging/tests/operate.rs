//! What an operator does: a stopped stream is led out of LOG_GAP and LOG_DIVERGED, the dead are forgotten, the living are not.

use messaging::{
    Limits, Stream,
    operate::{self, By, Error, Log, Rejoined},
};

use crate::fixture::{On, Pair, Stage, key_in, keys_everywhere, log, store, wait};

const BY: By<'static> = By { who: "a tester", why: "a test wants it" };
/// Gaps are not waited for.
const IMPATIENT_MS: u64 = 200;

on_buses!(a_restored_publisher_is_heard_again);

/// A backup of the publisher was restored, and it went on: what it says now has sequence numbers that were read before.
async fn a_restored_publisher_is_heard_again(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let (broken, whole) = (key_in(0, 0), key_in(1, 0));
    let both = [broken.clone(), whole.clone()];
    pair.say_all(&publisher.runner, &both, 1..=6).await;
    pair.all_applied(&both, 6).await;

    store::forget_rows_after(&pair.publisher, pair.notes, 0, 3).await;
    pair.say_all(&publisher.runner, &both, 7..=16).await;
    wait_stopped(&pair, "LOG_DIVERGED").await;
    pair.wait_seen(&whole, &(1..=16).collect::<Vec<_>>()).await;
    assert_eq!(pair.seen_of(&broken).await, [1, 2, 3, 4, 5, 6], "nothing of the other history");

    let rejoined = rejoin(&pair, 0).await;
    assert_eq!((rejoined.log, rejoined.from_seq, rejoined.to.seq), (Log::Diverged, 6, 0));
    pair.wait_seen(&broken, &(1..=16).collect::<Vec<_>>()).await;
    pair.say_all(&publisher.runner, &both, 17..=20).await;
    all_applied_once(&pair, &[(&broken, (1..=20).collect()), (&whole, (1..=20).collect())]).await;
    assert_eq!(noted(&pair).await, [("rejoin".to_owned(), 6, 0)]);
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(a_group_goes_on_behind_a_hole);

/// A record is lost for good; the others each have their effect once.
async fn a_group_goes_on_behind_a_hole(on: On) {
    let pair = Pair::new(on).await;
    let (broken, whole) = (key_in(0, 0), key_in(1, 0));
    let both = [broken.clone(), whole.clone()];
    // Said before anything is carried, so that no bus has seen it.
    let publisher = pair.publisher(&pair.bus(On::Postgres).await).await;
    pair.say_all(&publisher.runner, &both, 1..=6).await;
    publisher.stop().await;
    store::take_out(&pair.publisher, pair.notes, 0, 4).await;

    let bus = pair.bus(on).await.with_limits(Limits { gap_wait_ms: IMPATIENT_MS, ..Limits::default() });
    let publisher = pair.publisher(&bus).await;
    let consumer = pair.consumer(&bus, "one").await;
    wait_stopped(&pair, "LOG_GAP").await;
    pair.wait_seen(&whole, &[1, 2, 3, 4, 5, 6]).await;
    pair.wait_seen(&broken, &[1, 2, 3]).await;

    let rejoined = rejoin(&pair, 0).await;
    assert_eq!(rejoined.log, Log::Gap { expected_seq: 4, next_seq: 5 });
    assert_eq!((rejoined.from_seq, rejoined.to.seq, rejoined.last_seq), (3, 4, 6));
    pair.wait_seen(&broken, &[1, 2, 3, 5, 6]).await;
    pair.say_all(&publisher.runner, &both, 7..=9).await;
    all_applied_once(&pair, &[(&broken, vec![1, 2, 3, 5, 6, 7, 8, 9]), (&whole, (1..=9).collect())]).await;
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(a_healthy_group_may_hear_everything_again: postgres, kafka);

/// Nobody says anything: the reader learns of it all the same, and what it hears again has no second effect.
async fn a_healthy_group_may_hear_everything_again(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let key = key_in(2, 0);
    pair.say_all(&publisher.runner, std::slice::from_ref(&key), 1..=5).await;
    pair.all_applied(std::slice::from_ref(&key), 5).await;
    let heard = pair.mind.heard();

    let rejoined = rejoin(&pair, 2).await;
    assert_eq!((rejoined.log, rejoined.from_seq, rejoined.to.seq), (Log::Whole, 5, 0));
    wait("everything to be heard again", || async { pair.mind.heard() >= heard + 5 }).await;
    all_applied_once(&pair, &[(&key, (1..=5).collect())]).await;
    Stage { pair, publisher, consumer }.stop().await;
}

on_buses!(only_the_dead_are_forgotten: postgres);

async fn only_the_dead_are_forgotten(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    pair.say_all(&publisher.runner, &keys_everywhere(1), 1..=2).await;
    wait("the group to report", || async { reports(&pair).await > 0 }).await;
    let refused = operate::forget(&mut pair.publisher.acquire().await.unwrap(), pair.group, false, BY).await;
    assert!(matches!(refused, Err(Error::Alive { .. })), "{refused:?}");
    assert!(reports(&pair).await > 0, "it is still known");

    consumer.stop().await;
    sqlx::query("update readers set at = clock_timestamp() - interval '1 hour'").execute(&pair.publisher).await.unwrap();
    let rows = reports(&pair).await;
    let forgotten = operate::forget(&mut pair.publisher.acquire().await.unwrap(), pair.group, false, BY).await.unwrap();
    assert_eq!((forgotten.len(), reports(&pair).await), (rows, 0));
    let operations = operate::operations(&mut pair.publisher.acquire().await.unwrap(), 100).await.unwrap();
    assert_eq!(operations.iter().filter(|operation| operation.operation == "forget").count(), rows);
    publisher.stop().await;
    pair.close().await;
}

on_buses!(what_cannot_be_done_is_refused: postgres);

async fn what_cannot_be_done_is_refused(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    pair.say_all(&publisher.runner, &[key_in(0, 0)], 1..=1).await;
    let (mut of_consumer, mut of_publisher) = (pair.consumer.acquire().await.unwrap(), pair.publisher.acquire().await.unwrap());
    let nowhere = Stream { topic: "nowhere".to_owned(), partition: 0 };
    let refused = operate::rejoin(&mut of_consumer, &mut of_publisher, pair.group, &nowhere, BY).await;
    assert!(matches!(refused, Err(Error::NotRead { .. })), "{refused:?}");
    let refused = operate::republish(&mut of_publisher, pair.notes, None, None, BY).await;
    assert!(matches!(refused, Err(Error::Embedded)), "{refused:?}");
    drop((of_consumer, of_publisher));

    rejoin(&pair, 0).await;
    for statement in ["delete from stream_operations", "update stream_operations set why = 'another'", "truncate stream_operations"]
    {
        let kept = sqlx::query(statement).execute(&pair.consumer).await;
        assert!(kept.is_err_and(|error| error.to_string().contains("append-only")), "{statement}");
    }
    Stage { pair, publisher, consumer }.stop().await;
}

/// A topic is rebuilt from the outbox, and readers see through it.
#[cfg(feature = "kafka")]
#[test]
fn a_topic_is_published_again() {
    crate::fixture::run(async {
        let Stage { pair, publisher, consumer } = Stage::start(On::Kafka).await;
        let keys = keys_everywhere(2);
        pair.say_all(&publisher.runner, &keys, 1..=5).await;
        pair.all_applied(&keys, 5).await;
        wait("all to be published", || async { store::unpublished(&pair.publisher).await == 0 }).await;
        let before = records_on(&pair).await;

        let mut db = pair.publisher.acquire().await.unwrap();
        let republished = operate::republish(&mut db, pair.notes, None, None, BY).await.unwrap();
        drop(db);
        let again: i64 = republished.iter().map(|one| one.from_seq - one.to_seq).sum();
        assert_eq!(again, i64::try_from(keys.len()).unwrap() * 5, "all that is kept");
        wait("the topic to have it twice", || async { records_on(&pair).await >= before + again }).await;
        pair.say_all(&publisher.runner, &keys, 6..=7).await;
        pair.all_applied(&keys, 7).await;
        Stage { pair, publisher, consumer }.stop().await;
    });
}

/// Waits until the group has said that it stopped one of its streams.
async fn wait_stopped(pair: &Pair, what: &str) {
    wait(&format!("{what} of {}", pair.notes), || async { log::said(pair.notes, what, pair.group) > 0 }).await;
}

pub(crate) async fn rejoin(pair: &Pair, partition: i32) -> Rejoined {
    let stream = Stream { topic: pair.notes.to_owned(), partition };
    let (mut consumer, mut publisher) = (pair.consumer.acquire().await.unwrap(), pair.publisher.acquire().await.unwrap());
    #[cfg(feature = "kafka")]
    if pair.on == On::Kafka {
        let cluster = cluster().await;
        return operate::rejoin_on_kafka(&mut consumer, &mut publisher, &cluster, pair.group, &stream, BY).await.unwrap();
    }
    operate::rejoin(&mut consumer, &mut publisher, pair.group, &stream, BY).await.unwrap()
}

#[cfg(feature = "kafka")]
async fn cluster() -> messaging::bus::kafka::Cluster {
    messaging::bus::kafka::Cluster::new(crate::fixture::process::brokers().await)
}

#[cfg(feature = "kafka")]
async fn records_on(pair: &Pair) -> i64 {
    cluster().await.ends(pair.notes).await.unwrap().values().sum()
}

async fn reports(pair: &Pair) -> usize {
    let reports = operate::reports(&mut pair.publisher.acquire().await.unwrap()).await.unwrap();
    reports.iter().filter(|report| report.group == pair.group).count()
}

/// The operations on the streams of the consumer's group.
async fn noted(pair: &Pair) -> Vec<(String, i64, i64)> {
    let operations = operate::operations(&mut pair.consumer.acquire().await.unwrap(), 100).await.unwrap();
    assert!(operations.iter().all(|operation| operation.who == BY.who && operation.why == BY.why));
    operations.into_iter().map(|operation| (operation.operation, operation.from_seq, operation.to_seq)).collect()
}

/// Waits until each key has had exactly these notes applied, each of them said on once, and the group stands at the end of every stream.
async fn all_applied_once(pair: &Pair, wanted: &[(&String, Vec<i64>)]) {
    for (key, notes) in wanted {
        pair.wait_seen(key, notes).await;
    }
    let all = i64::try_from(wanted.iter().map(|(_, notes)| notes.len()).sum::<usize>()).unwrap();
    assert_eq!(store::seen(&pair.consumer).await, all);
    assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, all, "what the consumer says of them");
    wait("the group to be at the end", || async {
        let ends = messaging::outbox::ends(&mut pair.publisher.acquire().await.unwrap()).await.unwrap();
        let positions = store::positions(&pair.consumer, pair.group, pair.notes).await;
        ends.iter().filter(|(stream, _)| stream.topic == pair.notes).all(|(stream, seq)| positions[&stream.partition] == *seq)
    })
    .await;
}
