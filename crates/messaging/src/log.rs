//! The lines of the log that tools read, a function a type, so that the names of their fields stand in one place.
//!
//! What is said once a record is at debug: where that is off it costs a comparison.

use std::fmt::Display;

use uuid::Uuid;

use crate::Record;

/// EVENT_RECEIVED: the record is the next of its stream and goes to the handler.
pub(crate) fn received(service: &str, record: &Record) {
    tracing::debug!(
        r#type = "EVENT_RECEIVED",
        service,
        eventId = %record.id,
        eventType = record.type_name,
        topic = record.stream.topic,
        partition = record.stream.partition,
        correlationId = record.correlation,
        traceId = record.trace.id(),
        "received"
    );
}

/// DUPLICATE_EVENT: the record was applied before, and has no effect.
pub(crate) fn duplicate(service: &str, record: &Record) {
    tracing::debug!(
        r#type = "DUPLICATE_EVENT",
        service,
        eventId = %record.id,
        eventType = record.type_name,
        correlationId = record.correlation,
        traceId = record.trace.id(),
        "skipped"
    );
}

/// DLQ_EVENT: the record waits for a person.
pub(crate) fn dead_letter(service: &str, record: &Record, reason: &str) {
    tracing::error!(
        r#type = "DLQ_EVENT",
        service,
        eventId = %record.id,
        eventType = record.type_name,
        key = record.key,
        reason,
        correlationId = record.correlation,
        traceId = record.trace.id(),
        "parked"
    );
}

/// DLQ_EVENT of an early record whose patience has run out.
pub(crate) fn given_up(service: &str, event_id: Uuid, key: &str, reason: &str) {
    tracing::error!(r#type = "DLQ_EVENT", service, eventId = %event_id, key, reason, "parked: it waited too long");
}

/// PROCESSING_ERROR: an outage. Nobody's fault here, so the batch waits and is tried again.
pub(crate) fn outage(service: &str, error: &dyn Display, pause_ms: u64) {
    tracing::warn!(r#type = "PROCESSING_ERROR", service, %error, pauseMs = pause_ms, "a batch waits");
}

/// PROCESSING_ERROR: a call, a timer or an outcome that cannot be saved; who asked is told.
pub(crate) fn input_failed(service: &str, key: &str, reason: &str) {
    tracing::error!(r#type = "PROCESSING_ERROR", service, key, error = reason, "an input could not be applied");
}

/// PROCESSING_ERROR: not even the parking of a record can be saved. A person must look, and nothing else may overtake it.
pub(crate) fn cannot_park(service: &str, key: &str, error: &dyn Display) {
    tracing::error!(r#type = "PROCESSING_ERROR", service, key, %error, "cannot be parked");
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use bytes::Bytes;
    use serde_json::{Value, json};
    use time::OffsetDateTime;

    use super::*;
    use crate::{Stream, Trace};

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is said, without the time and the message.
    fn lines(say: impl FnOnce()) -> Vec<Value> {
        let said = Said::default();
        let to = said.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        let line = |text: &str| {
            let mut line: Value = serde_json::from_str(text).unwrap();
            let fields = line.as_object_mut().unwrap();
            fields.remove("timestamp");
            fields.remove("message");
            line
        };
        text.lines().map(line).collect()
    }

    fn record(parent: Option<&str>) -> Record {
        Record {
            stream: Stream { topic: "order.events".into(), partition: 3 },
            place: None,
            kafka_offset: None,
            id: Uuid::nil(),
            key: "k".into(),
            type_name: "shop.v1.Sold".into(),
            payload: Bytes::new(),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: "c".into(),
            causation: None,
            trace: Trace { parent: parent.map(ToOwned::to_owned), state: None },
        }
    }

    #[test]
    fn each_type_has_its_fields() {
        let traced = record(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let (nil, trace) = ("00000000-0000-0000-0000-000000000000", "4bf92f3577b34da6a3ce929d0e0e4736");
        let said = lines(|| {
            received("points", &traced);
            duplicate("points", &traced);
            dead_letter("points", &record(None), "unreadable");
            given_up("points", Uuid::nil(), "k", "the flag is not up yet");
            outage("points", &"away", 20);
            input_failed("points", "k", "too long");
            cannot_park("points", "k", &"full");
        });
        let expected = [
            json!({"level": "DEBUG", "type": "EVENT_RECEIVED", "service": "points", "eventId": nil, "eventType": "shop.v1.Sold",
                "topic": "order.events", "partition": 3, "correlationId": "c", "traceId": trace}),
            json!({"level": "DEBUG", "type": "DUPLICATE_EVENT", "service": "points", "eventId": nil, "eventType": "shop.v1.Sold",
                "correlationId": "c", "traceId": trace}),
            json!({"level": "ERROR", "type": "DLQ_EVENT", "service": "points", "eventId": nil, "eventType": "shop.v1.Sold", "key": "k",
                "reason": "unreadable", "correlationId": "c"}),
            json!({"level": "ERROR", "type": "DLQ_EVENT", "service": "points", "eventId": nil, "key": "k",
                "reason": "the flag is not up yet"}),
            json!({"level": "WARN", "type": "PROCESSING_ERROR", "service": "points", "error": "away", "pauseMs": 20}),
            json!({"level": "ERROR", "type": "PROCESSING_ERROR", "service": "points", "key": "k", "error": "too long"}),
            json!({"level": "ERROR", "type": "PROCESSING_ERROR", "service": "points", "key": "k", "error": "full"}),
        ];
        assert_eq!(said, expected);
    }
}
