//! What strangers put on a topic: bytes of any kind, with any headers or none.

use messaging::parking::Discarded;

use crate::fixture::{
    On, Pair, Stage, desk,
    foreign::{Raw, produce_raw},
    id, key_in, log, store,
};

#[test]
fn c05_whatever_a_stranger_sends_is_parked_as_it_came() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let pair = &stage.pair;
        let large = vec![0xfe; 900_000];
        let note = Raw { kind: Some("test.Note"), ..Raw::default() };
        let (null, empty, cut, huge, untyped) = (key_in(0, 0), key_in(0, 1), key_in(0, 2), key_in(0, 3), key_in(0, 4));
        let sent = [
            Raw { key: Some(&null), ..note },
            Raw { key: Some(&empty), payload: Some(b""), ..note },
            Raw { key: Some(&cut), payload: Some(b"1"), ..note },
            Raw { key: Some(&huge), payload: Some(&large), ..note },
            Raw { key: Some(&untyped), payload: Some(b"1 ok"), ..Raw::default() },
            Raw { payload: Some(b"no note of nobody"), ..note },
        ];
        for raw in sent {
            produce_raw(pair.notes, 0, raw).await;
        }
        let neighbour = key_in(0, 5);
        stage.say(&neighbour, 1, "ok").await;
        pair.wait_seen(&neighbour, &[1]).await;
        pair.wait_parked(sent.len()).await;
        for (row, raw) in pair.parked().await.iter().zip(sent) {
            assert_eq!(row.record.key, raw.key.unwrap_or_default());
            assert!(row.record.payload[..] == *raw.payload.unwrap_or_default(), "the bytes of {:?} are kept", raw.key);
            let why = if raw.kind.is_none() { "ce_type" } else { "no note" };
            assert!(row.reason.contains(why), "{}", row.reason);
        }
        assert_eq!(store::seen(&pair.consumer).await, 1);
        stage.stop().await;
    });
}

/// No key is no promise of an order: each is applied, or parked, by itself.
#[test]
fn c05_records_without_a_key_do_not_wait_for_each_other() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let pair = &stage.pair;
        for payload in ["no note", "1 poison", "2 ok", "3 poison", "4 ok"] {
            let note = Raw { kind: Some("test.Note"), payload: Some(payload.as_bytes()), ..Raw::default() };
            produce_raw(pair.notes, 0, note).await;
        }
        pair.wait_seen("", &[2, 4]).await;
        pair.wait_parked(3).await;
        let parked = pair.parked().await;
        assert!(parked.iter().all(|row| row.record.key.is_empty() && !row.behind), "{parked:?}");

        // Nor does a redrive wait for the older ones.
        pair.mind.cure();
        assert_eq!(pair.redrive_ids(&[parked[2].id]).await.marked, [parked[2].id]);
        pair.wait_seen("", &[2, 4, 3]).await;
        pair.wait_parked(2).await;
        stage.stop().await;
    });
}

#[test]
fn c08_the_same_id_with_another_payload_is_not_applied() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let (pair, key) = (&stage.pair, key_in(2, 0));
        let event_id = id(&key).to_string();
        let note = Raw { kind: Some("test.Note"), id: Some(&event_id), key: Some(&key), payload: Some(b"1 ok"), ..Raw::default() };
        for raw in [note, note, Raw { payload: Some(b"1 changed"), ..note }] {
            produce_raw(pair.notes, 2, raw).await;
        }
        pair.wait_parked(1).await;
        let parked = &pair.parked().await[0];
        assert!(parked.reason.contains("PAYLOAD_MISMATCH"), "{}", parked.reason);
        assert_eq!(parked.record.payload[..], *b"1 changed");
        assert_eq!(pair.seen_of(&key).await, [1], "the first one, once");
        assert_eq!(store::said_on(&pair.consumer, pair.echoes).await, 1);
        assert!(log::said(pair.group, "DLQ_EVENT", "PAYLOAD_MISMATCH") > 0, "an alarm");
        stage.stop().await;
    });
}

/// What a stranger says is carried on by what is said of it: not beyond what can be published.
#[test]
fn o05_a_header_that_is_too_long_is_not_carried_on() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let (pair, key) = (&stage.pair, key_in(1, 0));
        let long = "c".repeat(300_000);
        let note = Raw { kind: Some("test.Note"), key: Some(&key), payload: Some(b"1 ok"), ..Raw::default() };
        produce_raw(pair.notes, 1, Raw { correlation: Some(&long), tracestate: Some(&long), ..note }).await;
        produce_raw(pair.notes, 1, Raw { correlation: Some("theirs"), tracestate: Some("a=1"), payload: Some(b"2 ok"), ..note })
            .await;
        pair.wait_seen(&key, &[1, 2]).await;
        let said = desk::said(&pair.consumer, pair.echoes).await;
        let carried: Vec<_> = said.iter().map(|row| (row.correlation.as_str(), row.tracestate.as_deref())).collect();
        assert_eq!(carried, [(key.as_str(), None), ("theirs", Some("a=1"))], "a correlation that is none is the key");
        assert_eq!(pair.parked().await.len(), 0);
        stage.stop().await;
    });
}

/// Bytes that no compression makes fewer.
fn noise(bytes: usize) -> String {
    (0..bytes).map(|_| char::from(rand::random_range(b'!'..=b'~'))).collect()
}

/// The key is sent twice. One byte more is not copied, and holds up nothing either.
#[test]
fn o05_the_largest_copy_of_a_dead_letter_is_taken_by_the_broker() {
    const COPY_BYTES_MAX: usize = 900_000;
    crate::fixture::run(async {
        let stage = Stage::with_copies(Pair::new(On::Kafka).await).await;
        let pair = &stage.pair;
        let (kind, copies) = ("test.Note", desk::copies_of(pair.notes));
        let key = noise(100_000);
        // Without a correlation that could be one, the id is it: 36 characters.
        let largest = noise(COPY_BYTES_MAX - 2 * key.len() - kind.len() - 36);
        let too_large = noise(largest.len() + 1);
        for payload in [&too_large, &largest] {
            produce_raw(
                pair.notes,
                0,
                Raw { kind: Some(kind), key: Some(&key), payload: Some(payload.as_bytes()), ..Raw::default() },
            )
            .await;
            // The next is not to queue behind it.
            pair.wait_parked(1).await;
            assert_eq!(pair.discard(pair.parked().await[0].id).await, Discarded::Marked);
            pair.wait_parked(0).await;
        }
        assert_eq!(desk::said(&pair.consumer, copies).await.len(), 1, "one byte more is in the table alone");
        let (payload, headers) = desk::first_on_kafka(copies, &key).await;
        assert!(payload == largest.as_bytes(), "as it came");
        assert!(headers.get("ce_subject") == Some(&key), "with its key, once more");
        stage.stop().await;
    });
}
