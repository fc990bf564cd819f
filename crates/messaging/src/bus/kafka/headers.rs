//! A record as Kafka carries it: the bare protobuf as value, CloudEvents in binary mode as headers, and the place in the stream.

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{Place, Record, Stream, Trace, clock};

const ID: &str = "ce_id";
const TYPE: &str = "ce_type";
const TIME: &str = "ce_time";
const CORRELATION: &str = "ce_correlationid";
const CAUSATION: &str = "ce_causationid";
const SEQ: &str = "ce_streamseq";
const PREV: &str = "ce_streamprev";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The headers of a record that `source` publishes.
pub(super) fn write(record: &Record, source: &str) -> OwnedHeaders {
    fn with(headers: OwnedHeaders, key: &str, value: Option<&str>) -> OwnedHeaders {
        match value {
            Some(value) => headers.insert(Header { key, value: Some(value) }),
            None => headers,
        }
    }
    let id = record.id.to_string();
    let at = record.at.format(&Rfc3339).ok();
    let causation = record.causation.map(|id| id.to_string());
    let seq = record.place.map(|place| place.seq.to_string());
    let prev = record.place.and_then(|place| place.prev).map(|id| id.to_string());
    [
        ("ce_specversion", Some("1.0")),
        (ID, Some(id.as_str())),
        (TYPE, Some(record.type_name.as_str())),
        ("ce_source", Some(source)),
        (TIME, at.as_deref()),
        ("ce_subject", Some(record.key.as_str())),
        (CORRELATION, Some(record.correlation.as_str())),
        (CAUSATION, causation.as_deref()),
        ("content-type", Some("application/protobuf")),
        (TRACEPARENT, record.trace.parent.as_deref()),
        (TRACESTATE, record.trace.state.as_deref()),
        (SEQ, seq.as_deref()),
        (PREV, prev.as_deref()),
    ]
    .into_iter()
    .fold(OwnedHeaders::new_with_capacity(13), |headers, (key, value)| with(headers, key, value))
}

/// Postgres stores no NUL in a text.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Reads whatever anybody may have put on a topic. What has no id gets one from its place in the log, so that it stays the same.
pub(super) fn read(message: &BorrowedMessage<'_>) -> Record {
    let header = |name: &str| {
        let headers = message.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value?).ok().map(storable)
    };
    let id = |name: &str| header(name).and_then(|text| Uuid::try_parse(&text).ok());
    // A foreign id need not be a UUID: its source and it name the event (CloudEvents, section 3.1).
    let foreign_id = || {
        let name = format!("{}#{}", header("ce_source").unwrap_or_default(), header(ID)?);
        Some(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()))
    };
    let stream = Stream { topic: message.topic().to_owned(), partition: message.partition() };
    let offset = message.offset();
    let key = message.key().map(|key| storable(&String::from_utf8_lossy(key))).unwrap_or_default();
    Record {
        place: header(SEQ).and_then(|seq| seq.parse().ok()).map(|seq| Place { seq, prev: id(PREV) }),
        kafka_offset: Some(offset),
        id: id(ID).or_else(foreign_id).unwrap_or_else(|| {
            Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("kafka:{}/{}/{offset}", stream.topic, stream.partition).as_bytes())
        }),
        correlation: header(CORRELATION).unwrap_or_else(|| key.clone()),
        key,
        type_name: header(TYPE).unwrap_or_default(),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        at: header(TIME).and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok()).unwrap_or_else(clock::now),
        causation: id(CAUSATION),
        trace: Trace { parent: header(TRACEPARENT), state: header(TRACESTATE) },
        stream,
    }
}
