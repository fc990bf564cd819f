//! The one place that reads the clock, at the edge: inputs get their `at` when they come in.

pub(crate) fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}
