//! How often calls may be made again: some each second, and a share of what is sent for the first time. Without it a provider that fails
//! would get every call many times. Pure.

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Retries that are always allowed.
    pub(crate) per_s_min: u64,
    /// Of a hundred first calls, so many more.
    pub(crate) percent: u64,
    /// What is not used is kept for so long.
    pub(crate) kept_s: u64,
}

#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    /// Thousandths of a retry.
    left_milli: u64,
    at_ms: u64,
}

impl Budget {
    pub(super) fn new(limits: Limits, now_ms: u64) -> Self {
        Self { limits, left_milli: limits.per_s_min * limits.kept_s * 1_000, at_ms: now_ms }
    }

    /// How many retries may be made now.
    pub(super) fn room(&mut self, now_ms: u64) -> usize {
        let gone_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms;
        // A retry a second is a thousandth a millisecond.
        self.add(gone_ms.saturating_mul(self.limits.per_s_min));
        usize::try_from(self.left_milli / 1_000).unwrap_or(usize::MAX)
    }

    pub(super) fn sent_first(&mut self, calls: usize) {
        self.add((calls as u64).saturating_mul(self.limits.percent * 10));
    }

    pub(super) fn sent_again(&mut self, calls: usize) {
        self.left_milli = self.left_milli.saturating_sub((calls as u64).saturating_mul(1_000));
    }

    fn add(&mut self, milli: u64) {
        let Limits { per_s_min, kept_s, .. } = self.limits;
        self.left_milli = self.left_milli.saturating_add(milli).min(per_s_min * kept_s * 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_s_min: 50, percent: 20, kept_s: 10 };

    #[test]
    fn retries_are_a_floor_and_a_share_of_first_calls() {
        let mut budget = Budget::new(LIMITS, 0);
        assert_eq!(budget.room(0), 500);
        budget.sent_again(500);
        assert_eq!(budget.room(0), 0);
        assert_eq!(budget.room(100), 5, "50 a second");
        budget.sent_first(100);
        assert_eq!(budget.room(100), 25, "and 20 of a hundred");
        budget.sent_again(1_000);
        assert_eq!(budget.room(100), 0);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut budget = Budget::new(LIMITS, 0);
        budget.sent_first(1_000_000);
        assert_eq!(budget.room(u64::MAX), 500);
    }
}
