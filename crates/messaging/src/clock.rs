//! The one place that reads the clock, at the edge: inputs get their `at` when they come in.

use time::OffsetDateTime;

/// To the microsecond, as Postgres keeps it: what is told from memory and what is read back later are the same.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}
