//! Pauses before something is tried again that nobody here can mend.

use rand::RngExt;

/// The first pause and the last; it doubles in between.
const FIRST_MS: u64 = 10;
const LAST_MS: u64 = 2_000;

/// The pause after this attempt, the first being 0: capped, full jitter.
pub(crate) fn pause_ms(attempt: u32) -> u64 {
    let ceiling = (FIRST_MS << attempt.min(16)).min(LAST_MS);
    rand::rng().random_range(1..=ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_capped() {
        assert!(pause_ms(0) <= FIRST_MS);
        for attempt in [0, 1, 7, 16, 64, u32::MAX] {
            assert!((1..=LAST_MS).contains(&pause_ms(attempt)), "{attempt}");
        }
    }
}
