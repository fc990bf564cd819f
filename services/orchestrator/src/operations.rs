//! What operators do to sagas. Pure.

use saga::Operation;
use time::OffsetDateTime;
use uuid::Uuid;

const OPERATIONS: [(Operation, &str, &str); 4] = [
    (Operation::Retry, "RETRY", "SagaRetried"),
    (Operation::Skip, "SKIP", "SagaSkipped"),
    (Operation::Pause, "PAUSE", "SagaPaused"),
    (Operation::Resume, "RESUME", "SagaResumed"),
];

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) order_id: Uuid,
    /// `None` for the saga that settles the order itself.
    pub(crate) saga_id: Option<Uuid>,
    /// The version the decision was made on; `None` for whatever it is.
    pub(crate) expected_version: Option<i64>,
    pub(crate) operation: Operation,
    pub(crate) who: String,
    pub(crate) reason: String,
}

/// What an operator did: a row that is never changed.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// Of the call: one that is repeated finds that it was done.
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) saga_id: Uuid,
    /// Of the saga, after it.
    pub(crate) version: i64,
    pub(crate) operation: Operation,
    pub(crate) who: String,
    pub(crate) reason: String,
    pub(crate) at: OffsetDateTime,
}

pub(crate) fn name(operation: Operation) -> &'static str {
    OPERATIONS.iter().find(|(known, ..)| *known == operation).map_or("", |(_, name, _)| name)
}

/// What the order's timeline is told.
pub(crate) fn event(operation: Operation) -> &'static str {
    OPERATIONS.iter().find(|(known, ..)| *known == operation).map_or("", |(.., event)| event)
}

pub(crate) fn parse(name: &str) -> Option<Operation> {
    OPERATIONS.iter().find(|(_, known, _)| *known == name).map(|(operation, ..)| *operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        for (operation, name_of_it, event_of_it) in OPERATIONS {
            assert_eq!((name(operation), event(operation)), (name_of_it, event_of_it));
            assert_eq!(parse(name_of_it), Some(operation));
        }
        assert_eq!(parse("Retry"), None);
    }
}
