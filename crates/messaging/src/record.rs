//! What travels: a [`News`] is what a decision wants said, a [`Record`] is what a reader hears.

use bytes::Bytes;
use time::OffsetDateTime;
use uuid::Uuid;

/// A message to be said: the result of a decision, before it has a place in a stream.
///
/// Its id is derived by the runner from the id of the input and its place among the input's news: repeated work says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// One of the topics that this service writes, see [`Publisher::topics`](crate::bus::Publisher::topics).
    pub topic: &'static str,
    /// Full protobuf name, the header `ce_type`.
    pub type_name: &'static str,
    /// Chooses the partition: news of one key keep their order.
    pub key: String,
    /// The bare protobuf. It is carried to the reader unchanged.
    pub payload: Bytes,
}

/// W3C trace context, carried unchanged where nobody traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The header `traceparent`.
    pub parent: Option<String>,
    /// The header `tracestate`.
    pub state: Option<String>,
}

impl Trace {
    /// The id of the trace, 32 hex digits, as tools show it; none where there is no trace, or none that can be read.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.parent.as_deref()?.split('-').nth(1).filter(|id| id.len() == 32)
    }
}

/// One stream: a partition of a topic. Its records have the sequence numbers 1, 2, 3 … without holes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    /// What is spoken of; one service writes it.
    pub topic: String,
    /// From 0; see [`partition_of`](crate::partition_of).
    pub partition: i32,
}

/// Where a group stands in a stream: everything up to `seq`, whose record is `last_id`, is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Sequence number of the last record; 0 before the first.
    pub seq: i64,
    /// Its id: tells whether the log is still the one that was read. None before the first.
    pub last_id: Option<Uuid>,
    /// Where to read on, on Kafka.
    pub kafka_offset: Option<i64>,
}

/// A message as a reader hears it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it was read.
    pub stream: Stream,
    /// Place in the stream and id of the predecessor; a record of a foreign producer has none.
    pub place: Option<Place>,
    /// Where it stands in Kafka's log; none on the embedded bus.
    pub kafka_offset: Option<i64>,
    /// The same message has the same id, however often it comes: the header `ce_id`.
    pub id: Uuid,
    /// Of the records of one key a group applies the earlier first, within a stream. Records without one have no order.
    pub key: String,
    /// Full protobuf name: the header `ce_type`. Empty where a foreign producer gave none.
    pub type_name: String,
    /// As it was said.
    pub payload: Bytes,
    /// When it was decided.
    pub at: OffsetDateTime,
    /// What all messages of one business transaction share.
    pub correlation: String,
    /// The input that led to this message.
    pub causation: Option<Uuid>,
    /// Of which trace it is a part.
    pub trace: Trace,
}

/// Postgres stores no NUL in a text.
pub(crate) fn storable(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

/// Place of a record in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1, without holes.
    pub seq: i64,
    /// Id of the record before it; none of the first.
    pub prev: Option<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_an_id_where_it_can_be_read() {
        let id = |parent: Option<&str>| Trace { parent: parent.map(ToOwned::to_owned), state: None }.id().map(ToOwned::to_owned);
        let traced = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert_eq!(id(Some(traced)).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!([id(None), id(Some("")), id(Some("00")), id(Some("00-1-2-00"))], [None, None, None, None]);
    }
}
