//! Every bound of the runner and its readers, with its unit in its name.

/// How much a group takes on, and how long it waits. Given with [`Bus::with_limits`](crate::Bus::with_limits); the default is good for
/// most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inputs in one transaction, at most.
    pub batch_rows_max: usize,
    /// Inputs that wait for the next batch, at most: calls and records each. A call beyond that is refused.
    pub queue_rows_max: usize,
    /// A call is refused while an input waits for its batch for longer than this.
    pub queue_age_ms_max: u64,
    /// New work is refused while a reader has not passed a record of this service that is older than this: see
    /// [`Runner::admit`](crate::Runner::admit).
    pub backlog_age_ms_max: u64,
    /// Records that may become dead letters within [`park_window_s`](Limits::park_window_s), those that only queue behind another not
    /// counted. What would park more is no matter of some bad records: its streams stop until the cause is gone or this is raised.
    pub park_max: usize,
    /// The window of [`park_max`](Limits::park_max).
    pub park_window_s: u64,
    /// How long a record waits for something that is not there yet before it is a dead letter.
    pub early_wait_s: u64,
    /// How long a hole in a stream may last before the stream stops loudly.
    pub gap_wait_ms: u64,
    /// How long a batch, or another piece of work at a database, may take before it is given up, and tried again: its answer may be lost.
    /// Well above `lock_timeout`, for which each of its statements may wait for others.
    pub database_ms_max: u64,
    /// A record is parked that the process died of this often in a row.
    pub crashes_max: u32,
    /// How long records are kept at least, also when every reader has passed them: so long a new group can begin in the past.
    pub outbox_retention_s: u64,
    /// Rows of a partition in one range of the outbox, at least. What goes goes a range at a time.
    pub outbox_range_rows: i64,
    /// How long it is remembered that a record without a place in a stream was applied, and how long dead letters are kept that are
    /// settled. Not shorter than records can come again.
    pub processed_events_retention_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_rows_max: 1_024,
            queue_rows_max: 4_096,
            queue_age_ms_max: 5_000,
            backlog_age_ms_max: 30_000,
            park_max: 100,
            park_window_s: 60,
            early_wait_s: 600,
            gap_wait_ms: 10_000,
            database_ms_max: 30_000,
            crashes_max: 5,
            outbox_retention_s: 7 * 86_400,
            outbox_range_rows: 65_536,
            processed_events_retention_s: 30 * 86_400,
        }
    }
}
