//! What travels: a [`News`] is what a decision wants said, a [`Record`] is what a reader hears.

use bytes::Bytes;
use time::OffsetDateTime;
use uuid::Uuid;

/// A message to be said: the result of a decision, before it has a place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
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
    pub parent: Option<String>,
    pub state: Option<String>,
}

/// One stream: a partition of a topic. Its records have the sequence numbers 1, 2, 3 … without holes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    pub topic: String,
    pub partition: i32,
}

/// Where a group stands in a stream: everything up to `seq`, whose record is `last_id`, is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub seq: i64,
    pub last_id: Option<Uuid>,
    /// Where to read on, on Kafka.
    pub kafka_offset: Option<i64>,
}

/// A message as a reader hears it.
#[derive(Clone, Debug)]
pub struct Record {
    pub stream: Stream,
    /// Place in the stream and id of the predecessor; a record of a foreign producer has none.
    pub place: Option<Place>,
    pub kafka_offset: Option<i64>,
    pub id: Uuid,
    pub key: String,
    pub type_name: String,
    pub payload: Bytes,
    pub at: OffsetDateTime,
    /// What all messages of one business transaction share.
    pub correlation: String,
    /// The input that led to this message.
    pub causation: Option<Uuid>,
    pub trace: Trace,
}

/// Place of a record in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub seq: i64,
    pub prev: Option<Uuid>,
}
