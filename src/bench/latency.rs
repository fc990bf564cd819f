//! How long things took: collected in microseconds, told in milliseconds.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<u32>);

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// For each share the latency that so many did not exceed (nearest rank), in milliseconds to a hundredth; `None` where nothing was
    /// timed.
    pub(super) fn percentiles_ms<const N: usize>(&mut self, shares: [f64; N]) -> [Option<f64>; N] {
        self.0.sort_unstable();
        shares.map(|share| {
            let rank = (share * self.0.len() as f64).ceil() as usize;
            self.0.get(rank.max(1) - 1).map(|us| (f64::from(*us) / 10.0).round() / 100.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: impl IntoIterator<Item = u64>) -> Latencies {
        let mut all = Latencies::default();
        ms.into_iter().for_each(|ms| all.add(Duration::from_millis(ms)));
        all
    }

    #[test]
    fn the_nearest_rank_is_told() {
        let mut hundred = of((1..=100).rev());
        assert_eq!(hundred.percentiles_ms([0.5, 0.99, 0.999, 1.0]), [Some(50.0), Some(99.0), Some(100.0), Some(100.0)]);
        assert_eq!(of([7]).percentiles_ms([0.0, 0.5, 0.999]), [Some(7.0); 3]);
        assert_eq!(of([]).percentiles_ms([0.5]), [None]);
    }

    #[test]
    fn a_hundredth_of_a_millisecond_is_kept_and_callers_are_put_together() {
        let mut all = of([]);
        all.add(Duration::from_micros(1_236));
        all.append(of([5]));
        assert_eq!(all.percentiles_ms([0.5, 1.0]), [Some(1.24), Some(5.0)]);
        all.add(Duration::from_secs(1_000_000));
        assert_eq!(all.percentiles_ms([1.0]), [Some(4_294_967.3)]);
    }
}
