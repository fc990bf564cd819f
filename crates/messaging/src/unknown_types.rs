//! Types of records that nobody here knows: named in the log once a minute each.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::Record;

const SAY_EVERY: Duration = Duration::from_secs(60);
/// Foreign producers may make up types without end.
const TYPES_MAX: usize = 256;

pub(crate) struct UnknownTypes {
    group: &'static str,
    /// When each type was named last.
    said: Mutex<HashMap<String, Instant>>,
}

impl UnknownTypes {
    pub(crate) fn of(group: &'static str) -> Self {
        Self { group, said: Mutex::default() }
    }

    pub(crate) fn heard(&self, record: &Record) {
        if self.is_to_be_said(&record.type_name, Instant::now()) {
            tracing::debug!(
                r#type = "UNKNOWN_TYPE",
                service = self.group,
                eventId = %record.id,
                eventType = record.type_name,
                topic = record.stream.topic,
                "passed over"
            );
        }
    }

    fn is_to_be_said(&self, type_name: &str, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |at: &Instant| now.saturating_duration_since(*at) < SAY_EVERY;
        if said.get(type_name).is_some_and(recent) {
            return false;
        }
        if said.len() >= TYPES_MAX {
            said.retain(|_, at| recent(at));
            if said.len() >= TYPES_MAX {
                return false;
            }
        }
        said.insert(type_name.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_once_a_minute_and_never_more_than_can_be_kept() {
        let types = UnknownTypes::of("g");
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        assert!(types.is_to_be_said("a", at(0)) && types.is_to_be_said("b", at(1)));
        assert!(!types.is_to_be_said("a", at(59)));
        assert!(types.is_to_be_said("a", at(60)));
        let more = (0..2 * TYPES_MAX).filter(|n| types.is_to_be_said(&format!("made up {n}"), at(61))).count();
        assert_eq!(more, TYPES_MAX - 1, "b has been forgotten, a has not");
        assert!(types.is_to_be_said("b", at(200)));
    }
}
