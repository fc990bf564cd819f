//! What can be published: the bounds that the table has too (`outbox_publishable`). Kafka would refuse more after the commit.

use crate::{News, Trace};

const TYPE_BYTES_MAX: usize = 1_024;
const KEY_BYTES_MAX: usize = 1_024;
const PAYLOAD_BYTES_MAX: usize = 262_144;
const CORRELATION_BYTES_MAX: usize = 1_024;
/// The version there is has 55.
const TRACEPARENT_BYTES_MAX: usize = 256;
/// What is to be carried on at the least (W3C trace context, section 3.3.1.5).
const TRACESTATE_BYTES_MAX: usize = 512;

/// Why news cannot be published.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unpublishable {
    #[error("cannot be published: news without a type")]
    Untyped,
    #[error("cannot be published: the {what} of a {type_name} has {bytes} bytes, more than {bytes_max}")]
    TooLong { type_name: &'static str, what: &'static str, bytes: usize, bytes_max: usize },
}

/// Tells whoever says it before the database does, which would have the batch halved to find it.
pub(crate) fn check(news: &News, correlation: &str) -> Result<(), Unpublishable> {
    let type_name = news.type_name;
    if type_name.is_empty() {
        return Err(Unpublishable::Untyped);
    }
    let parts = [
        ("type", type_name.len(), TYPE_BYTES_MAX),
        ("key", news.key.len(), KEY_BYTES_MAX),
        ("payload", news.payload.len(), PAYLOAD_BYTES_MAX),
        ("correlation", correlation.len(), CORRELATION_BYTES_MAX),
    ];
    match parts.into_iter().find(|(_, bytes, bytes_max)| bytes > bytes_max) {
        Some((what, bytes, bytes_max)) => Err(Unpublishable::TooLong { type_name, what, bytes, bytes_max }),
        None => Ok(()),
    }
}

/// Whether news can carry this on.
#[cfg(feature = "kafka")]
pub(crate) fn is_correlation(text: &str) -> bool {
    text.len() <= CORRELATION_BYTES_MAX
}

/// What news carry on of a trace. What is too long is dropped, never an error: nobody's work depends on it.
pub(crate) fn trace(trace: &Trace) -> Trace {
    let fits = |text: Option<&String>, bytes_max| text.filter(|text| text.len() <= bytes_max).cloned();
    Trace { parent: fits(trace.parent.as_ref(), TRACEPARENT_BYTES_MAX), state: fits(trace.state.as_ref(), TRACESTATE_BYTES_MAX) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn each_part_has_its_bound() {
        let news = |type_name, key: usize, payload: usize| News {
            topic: "t",
            type_name,
            key: "k".repeat(key),
            payload: Bytes::from(vec![0; payload]),
        };
        let told = |news: &News, correlation: usize| check(news, &"c".repeat(correlation));
        assert_eq!(told(&news("x", KEY_BYTES_MAX, PAYLOAD_BYTES_MAX), CORRELATION_BYTES_MAX), Ok(()));
        assert_eq!(told(&news("", 1, 1), 1), Err(Unpublishable::Untyped));
        for (news, correlation, part) in [
            (news("x", KEY_BYTES_MAX + 1, 1), 1, "key"),
            (news("x", 1, PAYLOAD_BYTES_MAX + 1), 1, "payload"),
            (news("x", 1, 1), CORRELATION_BYTES_MAX + 1, "correlation"),
        ] {
            let told = told(&news, correlation);
            assert!(matches!(told, Err(Unpublishable::TooLong { what, .. }) if what == part), "{told:?}");
        }
    }

    #[test]
    fn a_trace_that_is_too_long_is_dropped() {
        let long = |parent: usize, state: usize| Trace { parent: Some("p".repeat(parent)), state: Some("s".repeat(state)) };
        let whole = long(TRACEPARENT_BYTES_MAX, TRACESTATE_BYTES_MAX);
        assert_eq!(trace(&whole), whole);
        assert_eq!(trace(&long(TRACEPARENT_BYTES_MAX + 1, TRACESTATE_BYTES_MAX + 1)), Trace::default());
    }
}
