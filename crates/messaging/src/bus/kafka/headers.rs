//! A record as Kafka carries it: the bare protobuf as value, CloudEvents in binary mode as headers, and the place in the stream.

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{is_shared, store::Line};
use crate::{Place, Record, Stream, Trace, clock, outbox::publishable, record::storable};

const ID: &str = "ce_id";
const SOURCE: &str = "ce_source";
const TYPE: &str = "ce_type";
const TIME: &str = "ce_time";
const CORRELATION: &str = "ce_correlationid";
const CAUSATION: &str = "ce_causationid";
const SEQ: &str = "ce_streamseq";
const PREV: &str = "ce_streamprev";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const HEADERS_MAX: usize = 14;

/// The headers of a row that `source` publishes. A topic that several services write is no stream: its records have no place.
pub(super) fn write(line: &Line<'_>, source: &str) -> OwnedHeaders {
    let (mut id, mut causation, mut prev) = ([0; 36], [0; 36], [0; 36]);
    let (mut at, mut seq) = ([0; 48], [0; 20]);
    let has_place = !is_shared(line.topic);
    let headers = [
        ("ce_specversion", Some("1.0")),
        (ID, Some(hyphenated(line.id, &mut id))),
        (TYPE, Some(line.type_name)),
        (SOURCE, Some(source)),
        (TIME, timestamp(line.at, &mut at)),
        ("ce_subject", Some(line.key)),
        (CORRELATION, Some(line.correlation)),
        (CAUSATION, line.causation.map(|id| hyphenated(id, &mut causation))),
        ("content-type", Some("application/protobuf")),
        (TRACEPARENT, line.traceparent),
        (TRACESTATE, line.tracestate),
        (SEQ, has_place.then(|| decimal(line.seq, &mut seq))),
        (PREV, line.prev.filter(|_| has_place).map(|id| hyphenated(id, &mut prev))),
    ];
    let given = headers.into_iter().filter_map(|(key, value)| Some(Header { key, value: Some(value?) }));
    let headers = given.fold(OwnedHeaders::new_with_capacity(HEADERS_MAX), |headers, header| headers.insert(header));
    // CloudEvents: every attribute of an event is a header by the name of ce_ and its own.
    let extra = line.extra.iter().flat_map(|extra| extra.as_chunks::<2>().0);
    extra.fold(headers, |headers, [name, value]| headers.insert(Header { key: &format!("ce_{name}"), value: Some(value.as_str()) }))
}

fn hyphenated(id: Uuid, into: &mut [u8; 36]) -> &str {
    id.hyphenated().encode_lower(into)
}

fn decimal(number: i64, into: &mut [u8; 20]) -> &str {
    let room = into.len();
    let mut left = &mut into[..];
    // An i64 has twenty characters at most.
    let _ = write!(left, "{number}");
    let written = room - left.len();
    std::str::from_utf8(&into[..written]).unwrap_or_default()
}

fn timestamp(at: OffsetDateTime, into: &mut [u8; 48]) -> Option<&str> {
    let written = at.format_into(&mut &mut into[..], &Rfc3339).ok()?;
    std::str::from_utf8(&into[..written]).ok()
}

/// The headers we know, of all that there may be; of each the first.
#[derive(Default)]
struct Found<'m> {
    id: Option<&'m str>,
    source: Option<&'m str>,
    type_name: Option<&'m str>,
    time: Option<&'m str>,
    correlation: Option<&'m str>,
    causation: Option<&'m str>,
    seq: Option<&'m str>,
    prev: Option<&'m str>,
    traceparent: Option<&'m str>,
    tracestate: Option<&'m str>,
}

impl<'m> Found<'m> {
    fn of(message: &'m BorrowedMessage<'_>) -> Self {
        let Some(headers) = message.headers() else { return Self::default() };
        // The client panics at a name that is not UTF-8; brokers let it pass. Such a record has no headers.
        catch_unwind(AssertUnwindSafe(|| Self::among(headers))).unwrap_or_default()
    }

    fn among(headers: &'m BorrowedHeaders) -> Self {
        let mut found = Self::default();
        for Header { key, value } in headers.iter() {
            let slot = match key {
                ID => &mut found.id,
                SOURCE => &mut found.source,
                TYPE => &mut found.type_name,
                TIME => &mut found.time,
                CORRELATION => &mut found.correlation,
                CAUSATION => &mut found.causation,
                SEQ => &mut found.seq,
                PREV => &mut found.prev,
                TRACEPARENT => &mut found.traceparent,
                TRACESTATE => &mut found.tracestate,
                _ => continue,
            };
            if slot.is_none() {
                *slot = value.and_then(|value| std::str::from_utf8(value).ok());
            }
        }
        found
    }

    /// A record of ours has a UUID and a number from 1.
    fn place(&self, topic: &str) -> Option<(i64, Uuid)> {
        let seq = self.seq?.parse::<i64>().ok().filter(|seq| *seq >= 1)?;
        let id = Uuid::try_parse(self.id?).ok()?;
        (!is_shared(topic)).then_some((seq, id))
    }
}

/// Sequence number and id of a record that has a place in its stream.
pub(super) fn place(message: &BorrowedMessage<'_>) -> Option<(i64, Uuid)> {
    Found::of(message).place(message.topic())
}

/// Reads whatever anybody may have put on a topic. What has no id gets one from its place in the log, so that it stays the same. What news
/// would carry on and is too long for that is not read: the correlation is then the key, or the id where that is too long as well.
pub(super) fn read(message: &BorrowedMessage<'_>) -> Record {
    let found = Found::of(message);
    let stream = Stream { topic: message.topic().to_owned(), partition: message.partition() };
    let offset = message.offset();
    let key = message.key().map(|key| storable(&String::from_utf8_lossy(key))).unwrap_or_default();
    let uuid = |text: Option<&str>| text.and_then(|text| Uuid::try_parse(text).ok());
    let place = found.place(&stream.topic);
    let named = |name: String| Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
    // A foreign id need not be a UUID: its source and it name the event (CloudEvents, section 3.1).
    let id = uuid(found.id)
        .or_else(|| found.id.map(|id| named(format!("{}#{id}", found.source.unwrap_or_default()))))
        .unwrap_or_else(|| named(format!("kafka:{}/{}/{offset}", stream.topic, stream.partition)));
    let correlation =
        [found.correlation.map(storable), Some(key.clone())].into_iter().flatten().find(|c| publishable::is_correlation(c));
    Record {
        place: place.map(|(seq, _)| Place { seq, prev: uuid(found.prev) }),
        kafka_offset: Some(offset),
        id,
        correlation: correlation.unwrap_or_else(|| id.to_string()),
        key,
        type_name: found.type_name.map(storable).unwrap_or_default(),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        at: found.time.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).unwrap_or_else(|| written_at(message)),
        causation: uuid(found.causation),
        trace: publishable::trace(&Trace { parent: found.traceparent.map(storable), state: found.tracestate.map(storable) }),
        stream,
    }
}

/// When the producer or the broker says that it was written.
fn written_at(message: &BorrowedMessage<'_>) -> OffsetDateTime {
    let millis = message.timestamp().to_millis();
    millis
        .and_then(|millis| OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok())
        .unwrap_or_else(clock::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(topic: &str, seq: i64) -> Vec<(String, String)> {
        let line = Line {
            topic,
            partition: 0,
            seq,
            prev: (seq > 1).then(|| Uuid::from_u128(1)),
            id: Uuid::from_u128(2),
            key: "k",
            type_name: "shop.v1.Sold",
            payload: b"",
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: "c",
            causation: None,
            traceparent: None,
            tracestate: None,
            extra: topic.ends_with(".dlq").then(|| ["dlqgroup", "shipping", "dlqreason", "unreadable"].map(String::from).to_vec()),
        };
        let headers = write(&line, "settle/shop");
        let text = |header: Header<'_, &[u8]>| {
            (header.key.to_owned(), String::from_utf8(header.value.unwrap_or_default().to_vec()).unwrap())
        };
        headers.iter().map(text).collect()
    }

    fn value<'h>(headers: &'h [(String, String)], key: &str) -> Option<&'h str> {
        headers.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_record_of_a_stream_tells_its_place() {
        let headers = written("order.events", 1_234);
        assert_eq!(value(&headers, "ce_specversion"), Some("1.0"));
        assert_eq!(value(&headers, "ce_id"), Some("00000000-0000-0000-0000-000000000002"));
        assert_eq!(value(&headers, "ce_source"), Some("settle/shop"));
        assert_eq!(value(&headers, "ce_time"), Some("1970-01-01T00:00:00Z"));
        assert_eq!(value(&headers, "ce_streamseq"), Some("1234"));
        assert_eq!(value(&headers, "ce_streamprev"), Some("00000000-0000-0000-0000-000000000001"));
        assert_eq!((value(&headers, "ce_causationid"), value(&headers, "traceparent")), (None, None));
        let first = written("order.events", 1);
        assert_eq!((value(&first, "ce_streamseq"), value(&first, "ce_streamprev")), (Some("1"), None));
    }

    #[test]
    fn a_record_of_a_topic_with_several_writers_has_no_place() {
        let headers = written("order.events.dlq", 7);
        assert_eq!(value(&headers, "ce_id"), Some("00000000-0000-0000-0000-000000000002"));
        assert_eq!((value(&headers, "ce_streamseq"), value(&headers, "ce_streamprev")), (None, None));
        assert_eq!((value(&headers, "ce_dlqgroup"), value(&headers, "ce_dlqreason")), (Some("shipping"), Some("unreadable")));
    }

    #[test]
    fn numbers_fit() {
        for number in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string());
        }
    }
}
