//! `<topic>.dlq` has a copy of every dead letter, as it came, with why it is one.

use messaging::parking::Discarded;

use crate::fixture::{On, Pair, Stage, desk, key_in, store, wait};

on_buses!(a_dead_letter_is_copied_as_it_came);

async fn a_dead_letter_is_copied_as_it_came(on: On) {
    let stage = Stage::with_copies(Pair::new(on).await).await;
    let pair = &stage.pair;
    let (key, copies) = (key_in(2, 0), desk::copies_of(pair.notes));
    stage.say(&key, 1, "poison").await;
    stage.say(&key, 2, "ok").await;
    pair.wait_parked(2).await;
    let record = pair.parked().await.remove(0).record;
    let said = desk::said(&pair.consumer, copies).await;
    let [copy] = said.as_slice() else { panic!("{} copies: what only waits behind it is no dead letter", said.len()) };
    assert_eq!((&copy.payload[..], &copy.key, &copy.type_name), (&record.payload[..], &record.key, &record.type_name));
    assert_eq!((&copy.correlation, copy.causation), (&record.correlation, record.causation));
    assert_eq!(copy.tracestate, record.trace.state);
    assert_ne!(copy.id, record.id, "it is a message of its own");
    let extra = copy.extra.as_deref().unwrap();
    let id = record.id.to_string();
    for word in [pair.group, "poisonous", pair.notes, id.as_str(), "\"dlqpartition\": 2", "\"dlqseq\": 1", "dlqtime"] {
        assert!(extra.contains(word), "{word} is not in {extra}");
    }
    #[cfg(feature = "kafka")]
    {
        if on == On::Kafka {
            is_on_kafka(pair, &record, copy).await;
        }
    }

    // A redrive in vain is another failure; what is given up is one already.
    assert_eq!(pair.redrive(&key).await, 2);
    wait("another copy", || async { desk::said(&pair.consumer, copies).await.len() == 2 }).await;
    assert_eq!(pair.discard(pair.parked().await[0].id).await, Discarded::Marked);
    pair.wait_seen(&key, &[2]).await;
    let said = desk::said(&pair.consumer, copies).await;
    assert_eq!(said.len(), 2);
    assert_ne!(said[0].id, said[1].id);
    assert_eq!(store::holes(&pair.consumer).await, 0);
    stage.stop().await;
}

#[cfg(feature = "kafka")]
async fn is_on_kafka(pair: &Pair, record: &messaging::Record, copy: &desk::Row) {
    let (payload, headers) = desk::first_on_kafka(desk::copies_of(pair.notes), &record.key).await;
    let header = |name: &str| headers.get(name).map(String::as_str);
    let (id, of, source) = (copy.id.to_string(), record.id.to_string(), format!("settle/{}", pair.group));
    assert_eq!(&payload[..], &record.payload[..]);
    assert_eq!(
        (header("ce_id"), header("ce_type"), header("ce_source")),
        (Some(id.as_str()), Some("test.Note"), Some(source.as_str()))
    );
    assert_eq!((header("ce_dlqid"), header("ce_dlqtopic")), (Some(of.as_str()), Some(pair.notes)));
    assert!(header("ce_dlqreason").is_some_and(|reason| reason.contains("poisonous")), "{headers:?}");
    assert_eq!((header("ce_streamseq"), header("ce_streamprev")), (None, None), "several services may write it");
}

on_buses!(c05_a_copy_that_is_parked_is_not_copied_again);

async fn c05_a_copy_that_is_parked_is_not_copied_again(on: On) {
    let (pair, elsewhere) = Pair::new(on).await.with_topic_of_copies();
    let stage = Stage::with_copies(pair).await;
    let pair = &stage.pair;
    let copy = pair.news(elsewhere, "test.Note", "a", b"1 poison".to_vec());
    stage.say_news("a copy", vec![copy]).await;
    stage.say("b", 1, "poison").await;
    pair.wait_parked(2).await;
    let copied = desk::copies_of(pair.notes);
    let topics: Vec<String> = desk::topics(&pair.consumer).await.into_iter().filter(|topic| topic.ends_with(".dlq")).collect();
    assert_eq!(topics, [copied], "only what is no copy itself");
    stage.stop().await;
}

on_buses!(what_nobody_may_write_is_not_copied: postgres);

async fn what_nobody_may_write_is_not_copied(on: On) {
    let stage = Stage::start(on).await;
    stage.say("a", 1, "poison").await;
    stage.pair.wait_parked(1).await;
    assert!(!desk::topics(&stage.pair.consumer).await.iter().any(|topic| topic.ends_with(".dlq")));
    stage.stop().await;
}
