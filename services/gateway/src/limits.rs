//! Every bound of the gateway, with its unit in its name.

/// A longer request body is 413.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// A longer answer of a service is refused.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a service may take to answer, or to open a stream.
pub const DEADLINE_MS: u64 = 10_000;
/// Objects and arrays inside each other.
pub const JSON_DEPTH_MAX: usize = 32;
/// Parameters in one query.
pub const QUERY_PARAMETERS_MAX: usize = 64;
/// Bad fields told in one problem.
pub const VIOLATIONS_MAX: usize = 32;
/// Length of a field name in a problem; the rest is cut.
pub const FIELD_NAME_CHARS_MAX: usize = 200;
/// Open event streams; one more is 429.
pub const STREAMS_MAX: usize = 1_024;
/// A quiet event stream says that it lives.
pub const KEEP_ALIVE_S: u64 = 15;
/// What `Retry-After` says where the service did not say.
pub const RETRY_AFTER_S: u64 = 1;
/// A longer `tracestate` is dropped.
pub const TRACE_STATE_BYTES_MAX: usize = 512;
