//! Records as people and programs read them: protobuf becomes ProtoJSON by the descriptors of the protos.

use std::fmt::Write;

use anyhow::{Context, Result};
use messaging::Record;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};

use super::time_of;
use crate::{client::Output, deployment::writer_of, outbox::name_of};

/// Knows all messages of the protos.
pub(super) struct Decoder(DescriptorPool);

impl Decoder {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(DescriptorPool::decode(contracts::DESCRIPTORS).context("the descriptors of the protos")?))
    }

    /// What a record says, or why that cannot be told.
    pub(super) fn payload(&self, record: &Record) -> Result<Value, String> {
        let descriptor = self.0.get_message_by_name(&record.type_name).ok_or("the type is not in the protos of this binary")?;
        let message = DynamicMessage::decode(descriptor, record.payload.as_ref()).map_err(|error| error.to_string())?;
        serde_json::to_value(&message).map_err(|error| error.to_string())
    }

    pub(super) fn json(&self, record: &Record) -> Value {
        let mut json = json!({
            "event_id": record.id.to_string(),
            "type": record.type_name,
            "service": writer_of(&record.stream.topic).ok(),
            "topic": record.stream.topic,
            "partition": record.stream.partition,
            "seq": record.place.map(|place| place.seq),
            "kafka_offset": record.kafka_offset,
            "at": time_of(record.at),
            "key": record.key,
            "correlation": record.correlation,
            "causation": record.causation.map(|id| id.to_string()),
            "trace_id": record.trace.id(),
        });
        match self.payload(record) {
            Ok(payload) => json["payload"] = payload,
            Err(error) => {
                json["undecodable"] = error.into();
                json["payload_hex"] = hex(&record.payload).into();
            }
        }
        json
    }

    pub(super) fn line(&self, record: &Record) -> String {
        let place = record.place.map_or_else(|| "-".to_owned(), |place| place.seq.to_string());
        let name = record.type_name.rsplit('.').next().unwrap_or_default();
        let payload = match self.payload(record) {
            Ok(payload) => payload.to_string(),
            Err(error) => format!("{error}: {}", hex(&record.payload)),
        };
        let (at, stream) = (time_of(record.at), name_of(&record.stream));
        format!("{at:<27}  {stream:<24} {place:>8}  {}  {name:<22} {:<36}  {payload}", record.id, record.key)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Prints records until there are enough.
pub(super) struct Printer {
    decoder: Decoder,
    output: Output,
    limit: Option<usize>,
    printed: usize,
    /// One document: it is printed at the end.
    document: Vec<Value>,
}

impl Printer {
    pub(super) fn new(output: Output, limit: Option<usize>) -> Result<Self> {
        Ok(Self { decoder: Decoder::new()?, output, limit, printed: 0, document: Vec::new() })
    }

    /// Whether more is wanted.
    pub(super) fn print(&mut self, record: &Record) -> bool {
        match self.output {
            Output::Json => self.document.push(self.decoder.json(record)),
            Output::Table => say!("{}", self.decoder.line(record)),
        }
        self.printed += 1;
        self.limit.is_none_or(|limit| self.printed < limit)
    }

    pub(super) fn end(self) {
        if self.output == Output::Json {
            say!("{}", Value::Array(self.document));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use contracts::{Message, order::v1::OrderCreated};
    use messaging::{Place, Stream, Trace};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn record(type_name: &str, payload: Vec<u8>) -> Record {
        Record {
            stream: Stream { topic: "order.events".into(), partition: 2 },
            place: Some(Place { seq: 7, prev: None }),
            kafka_offset: None,
            id: Uuid::nil(),
            key: "k".into(),
            type_name: type_name.into(),
            payload: Bytes::from(payload),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: "k".into(),
            causation: None,
            trace: Trace::default(),
        }
    }

    #[test]
    fn a_message_is_shown_with_its_fields() {
        let message = Message::from(OrderCreated { order_id: "o-1".into(), ..Default::default() });
        let decoder = Decoder::new().unwrap();
        let json = decoder.json(&record(message.type_name(), message.encode()));
        assert_eq!((&json["payload"]["orderId"], &json["seq"]), (&json!("o-1"), &json!(7)));
        assert_eq!((&json["service"], &json["at"]), (&json!("order"), &json!("1970-01-01T00:00:00Z")));
        assert!(decoder.line(&record(message.type_name(), message.encode())).contains("OrderCreated"));
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_bytes() {
        let decoder = Decoder::new().unwrap();
        for type_name in ["", "nobody.v1.Knows", "settle.order.v1.OrderCreated"] {
            let json = decoder.json(&record(type_name, vec![0xff, 0x01]));
            assert!(json["payload"].is_null() && json["undecodable"].is_string(), "{type_name}: {json}");
            assert_eq!(json["payload_hex"], "ff01");
        }
    }
}
