//! The bounds of the dispatcher.

use kit::settings::ProviderLimits;

use super::budget;
use crate::breaker;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Calls under way at the provider: those that are slow hold up nobody until there are as many of them.
    pub(crate) concurrent_calls_max: usize,
    /// Calls under way and outcomes that wait for their commit.
    pub(crate) in_work_max: usize,
    /// New calls handed over in memory; beyond that the sweep finds them.
    pub(crate) handed_max: usize,
    /// How long a call or a query may take before it counts as unknown.
    pub(crate) provider_timeout_ms: u64,
    /// How long a call is left to the dispatcher that took it: longer than a query and a call together.
    pub(crate) lease_ms: i64,
    /// Pause between two sweeps for calls that are due.
    pub(crate) sweep_ms: u64,
    /// Pause before an unknown outcome is looked at again: doubles from the first to the last, full jitter.
    pub(crate) retry_first_ms: u64,
    pub(crate) retry_last_ms: u64,
    /// How old the cause of a call may be for it to be sent unasked. Behind this it may be a replay, after a restore, of what was done long
    /// ago. More than clocks differ and commands wait, and far less than the provider keeps keys.
    pub(crate) sent_unasked_s_max: i64,
    /// How long the provider keeps our keys. After that a key is only asked about, never sent, not even for the first time.
    pub(crate) provider_key_window_s: i64,
    /// How long calls under way are waited for at the end; what is left is unknown and comes back with its lease.
    pub(crate) drain_ms: u64,
    pub(crate) breaker: breaker::Limits,
    pub(crate) retries: budget::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&ProviderLimits::default())
    }
}

impl Limits {
    pub(crate) fn of(set: &ProviderLimits) -> Self {
        let timeout_ms = i64::try_from(set.timeout_ms).unwrap_or(i64::MAX / 4);
        Self {
            concurrent_calls_max: set.calls_max,
            in_work_max: 16 * set.calls_max,
            handed_max: 16_384,
            provider_timeout_ms: set.timeout_ms,
            lease_ms: 2 * timeout_ms + 2_000,
            sweep_ms: 250,
            retry_first_ms: set.retry_ms_max.min(500),
            retry_last_ms: set.retry_ms_max,
            sent_unasked_s_max: set.key_window_s.min(60),
            provider_key_window_s: set.key_window_s,
            drain_ms: set.timeout_ms + 500,
            breaker: breaker::Limits {
                window_ms: 10_000,
                calls_min: 20,
                unknown_percent_max: 50,
                probes_max: 4,
                open_first_ms: 500,
                open_last_ms: 10_000,
            },
            retries: budget::Limits { per_s_min: 50, percent: 20, kept_s: 10 },
        }
    }

    /// What a call may take in all; a lease with less than that is renewed before the call.
    pub(super) fn call_ms_max(&self) -> i64 {
        2 * i64::try_from(self.provider_timeout_ms).unwrap_or(i64::MAX / 4) + 500
    }

    /// Full jitter, capped.
    pub(super) fn backoff_ms(&self, attempts: i32) -> u64 {
        let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default().min(16);
        let ceiling = (self.retry_first_ms << doublings).min(self.retry_last_ms);
        rand::random_range(1..=ceiling.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlasts_a_query_and_a_call() {
        for timeout_ms in [10, 2_000, 60_000] {
            let limits = Limits::of(&ProviderLimits { timeout_ms, ..ProviderLimits::default() });
            assert!(limits.lease_ms > limits.call_ms_max());
        }
    }

    #[test]
    fn the_backoff_is_capped() {
        let limits = Limits::default();
        for attempts in [i32::MIN + 1, 0, 1, 2, 30, i32::MAX] {
            assert!((1..=limits.retry_last_ms).contains(&limits.backoff_ms(attempts)));
        }
    }
}
