//! What strangers put on a topic: bytes of any kind, with any headers or none.

use crate::fixture::{
    On, Stage,
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

#[test]
fn c08_the_same_id_with_another_payload_is_not_applied() {
    crate::fixture::run(async {
        let stage = Stage::start(On::Kafka).await;
        let (pair, key) = (&stage.pair, key_in(2, 0));
        let event_id = id(&key).to_string();
        let note = Raw { kind: Some("test.Note"), id: Some(&event_id), key: Some(&key), payload: Some(b"1 ok") };
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
