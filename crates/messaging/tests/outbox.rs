//! The outbox under many writers, with what cannot be published, and under an old snapshot.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::future::join_all;
use messaging::CallError;

use crate::fixture::{
    Instance, On, Pair, Stage, desk,
    faults::{self, Sizes},
    id, key_in,
    publisher::{Manner, Publisher, Say},
    store, wait,
};

/// What a broker takes with its own limits as they come, and room to spare.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

const WRITERS: usize = 32;
const NOTES: i64 = 16;

on_buses!(o04_the_order_of_commits_is_the_order_of_the_stream: postgres, kafka);

/// Writers that know nothing of each other, commits that take their time with the places in the streams already taken, and some of them
/// rolled back: whoever looks, and whenever, sees streams without holes.
async fn o04_the_order_of_commits_is_the_order_of_the_stream(on: On) {
    let pair = Pair::new(on).await;
    faults::pause_commits(&pair.publisher).await;
    let bus = pair.bus(on).await;
    // On Kafka one relay will do, that of the last.
    let writes_on = if on == On::Postgres { bus.clone() } else { pair.bus(On::Postgres).await };
    let mut writers = Vec::new();
    for _ in 1..WRITERS {
        writers.push(pair.publisher(&writes_on).await);
    }
    writers.push(pair.publisher(&bus).await);
    let consumer = pair.consumer(&bus, "one").await;
    let looks = Looks::start(&pair);

    let keys: Vec<String> = (0..WRITERS).map(|writer| format!("writer-{writer}")).collect();
    let rolled_back = join_all(writers.iter().zip(&keys).map(|(writer, key)| write(&pair, writer, key))).await;
    assert!(rolled_back.into_iter().sum::<usize>() > 100, "transactions were rolled back with their places taken");
    assert!(faults::turns(&pair.publisher, pair.notes).await > 100, "the writers took turns");
    let (looks, holes) = looks.stop().await;
    assert!(looks > 10, "somebody looked");
    assert_eq!(holes, 0, "holes that anybody saw");

    pair.all_applied(&keys, NOTES).await;
    consumer.stop().await;
    for writer in writers {
        writer.stop().await;
    }
    pair.close().await;
}

/// The notes of one key; how many inputs were rolled back beside them.
async fn write(pair: &Pair, writer: &Instance<Publisher>, key: &str) -> usize {
    let mut rolled_back = 0;
    for n in 1..=NOTES {
        if n % 3 == 0 {
            let say = Say { lines: vec![pair.note(key, -n, "never")], manner: Manner::Forbidden };
            let answer = writer.call(&format!("{key}/never/{n}"), key, say).await;
            assert!(matches!(answer, Err(CallError::Failed)), "{answer:?}");
            rolled_back += 1;
        }
        pair.say(&writer.runner, key, n, "ok").await;
    }
    rolled_back
}

/// Somebody who looks for holes again and again.
struct Looks {
    enough: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<(usize, i64)>,
}

impl Looks {
    fn start(pair: &Pair) -> Self {
        let (enough, db) = (Arc::new(AtomicBool::new(false)), pair.publisher.clone());
        let ends = enough.clone();
        let looking = tokio::spawn(async move {
            let (mut looks, mut holes) = (0, 0);
            while !ends.load(Ordering::Relaxed) {
                holes += store::holes(&db).await;
                looks += 1;
            }
            (looks, holes)
        });
        Self { enough, looking }
    }

    /// How often, and how many holes there were in all.
    async fn stop(self) -> (usize, i64) {
        self.enough.store(true, Ordering::Relaxed);
        self.looking.await.unwrap()
    }
}

on_buses!(o05_what_cannot_be_published_cannot_be_committed: postgres);

/// Whoever writes it, and by whatever way: the table refuses it, for what would be a header too.
async fn o05_what_cannot_be_published_cannot_be_committed(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let largest = Sizes { kind: 1_024, key: 1_024, payload: 262_144, correlation: 1_024, traceparent: 256, tracestate: 512 };
    // Of a copy all of it together, the key twice.
    let copy = Sizes { kind: 9, key: 100_000, payload: 600_000, correlation: 99_000, traceparent: 55, tracestate: 936 };
    let copies = desk::copies_of(pair.flags);
    for (topic, fits) in [(pair.flags, largest), (copies, copy)] {
        for (larger, part) in [
            (Sizes { kind: fits.kind + 1, ..fits }, "type"),
            (Sizes { key: fits.key + 1, ..fits }, "key"),
            (Sizes { payload: fits.payload + 1, ..fits }, "payload"),
            (Sizes { correlation: fits.correlation + 1, ..fits }, "correlation"),
            (Sizes { traceparent: fits.traceparent + 1, ..fits }, "traceparent"),
            (Sizes { tracestate: fits.tracestate + 1, ..fits }, "tracestate"),
        ] {
            let refused = faults::put(&pair.publisher, topic, larger).await;
            assert_eq!(refused.as_deref(), Some("outbox_publishable"), "the {part} on {topic}");
        }
        assert_eq!(faults::put(&pair.publisher, topic, fits).await, None, "as large as may be on {topic}");
    }
    let untyped = faults::put(&pair.publisher, pair.notes, Sizes { kind: 0, ..largest }).await;
    assert_eq!(untyped.as_deref(), Some("outbox_publishable"), "of no type");
    stage.stop().await;
}

on_buses!(o07_the_largest_news_get_through_and_larger_ones_are_refused: postgres, kafka);

/// One byte too much fails its caller alone; its key and its neighbours go on.
async fn o07_the_largest_news_get_through_and_larger_ones_are_refused(on: On) {
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let (key, neighbour) = (key_in(0, 0), key_in(0, 1));
    let note = |n: i64, bytes: usize| pair.note(&key, n, &"x".repeat(bytes - "1 ".len()));
    stage.say_news("largest", vec![note(1, PAYLOAD_BYTES_MAX)]).await;

    let too_large = stage.publisher.call("too large", &key, Say::plain(vec![note(2, PAYLOAD_BYTES_MAX + 1)]));
    let beside = stage.publisher.call("beside", &neighbour, Say::plain(vec![pair.note(&neighbour, 1, "ok")]));
    let (too_large, beside) = tokio::join!(too_large, beside);
    assert!(matches!(too_large, Err(CallError::Failed)), "{too_large:?}");
    assert!(beside.is_ok(), "{beside:?}");
    assert!(!store::is_said(&pair.publisher, id("too large")).await, "nothing of it");
    stage.say_news("next", vec![note(2, 100)]).await;
    pair.wait_seen(&key, &[1, 2]).await;
    pair.wait_seen(&neighbour, &[1]).await;
    assert_eq!(pair.parked().await.len(), 0);
    stage.stop().await;
}

on_buses!(many_large_news_are_taken_a_part_at_a_time: postgres, kafka);

/// What a reader finds after an outage is bounded in bytes, not only in rows: 20 MiB that wait are no batch.
async fn many_large_news_are_taken_a_part_at_a_time(on: On) {
    const NEWS: i64 = 80;
    const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    consumer.stop().await;
    let key = key_in(0, 0);
    let text = "x".repeat(PAYLOAD_BYTES_MAX - "80 ".len());
    for n in 1..=NEWS {
        let say = Say::plain(vec![pair.note(&key, n, &text)]);
        publisher.call(&format!("large {n}"), &key, say).await.expect("it is said");
    }
    let consumer = pair.consumer(&pair.bus(on).await, "after the outage").await;
    pair.wait_seen(&key, &(1..=NEWS).collect::<Vec<_>>()).await;
    let largest = pair.mind.largest();
    assert!((2..=BATCH_BYTES_MAX / PAYLOAD_BYTES_MAX + 1).contains(&largest), "{largest} in one batch");
    consumer.stop().await;
    publisher.stop().await;
    pair.close().await;
}

on_buses!(o11_an_old_snapshot_does_not_slow_the_poll: postgres);

/// Counted in pages: rows of the outbox are neither updated nor deleted one by one, so there are no dead ones to step over.
async fn o11_an_old_snapshot_does_not_slow_the_poll(on: On) {
    /// Levels that an index may grow by.
    const MORE_PAGES_MAX: i64 = 4;
    let stage = Stage::start(on).await;
    let pair = &stage.pair;
    let nudges = |from: usize, to: usize| (from..to).map(|k| pair.nudge(&format!("key-{k}"))).collect();
    stage.say_news("few", nudges(0, 50)).await;
    let pages = async || {
        let poll = faults::pages_of_a_poll(&pair.publisher, pair.flags, 0).await;
        (poll, faults::pages_of_the_last_row(&pair.publisher, pair.flags, 0).await)
    };
    let (poll, last_row) = pages().await;

    let (holder, pid) = faults::hold_snapshot(&pair.publisher).await;
    for n in 0..100 {
        stage.say_news(&format!("many/{n}"), nudges(n * 50, n * 50 + 50)).await;
    }
    wait("all to be heard", || async { faults::passed(&pair.consumer, pair.group).await == 5_050 }).await;
    assert!(faults::snapshot_age(&pair.publisher, pid).await > 50, "it is old");
    let (poll_then, last_row_then) = pages().await;
    assert!(poll_then <= poll + MORE_PAGES_MAX, "{poll} pages before, {poll_then} then");
    assert!(last_row_then <= last_row + MORE_PAGES_MAX, "{last_row} pages before, {last_row_then} then");
    holder.rollback().await.unwrap();
    stage.stop().await;
}
