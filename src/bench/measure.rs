//! What a run cost: CPU time from /proc, batches from the platform's own counters.

use anyhow::Result;
use local::cpu;

use super::OwnPlatform;

#[derive(Debug)]
pub(super) struct Snapshot {
    /// Services, Postgres and Kafka.
    platform_us: Option<u64>,
    services_us: Option<u64>,
    own_us: u64,
    /// (rows, batches) of all groups.
    batches: Option<(f64, f64)>,
}

pub(super) struct Used {
    pub(super) platform_cpu_us: Option<f64>,
    pub(super) services_cpu_us: Option<f64>,
    pub(super) own_cpu_us: f64,
    pub(super) mean_batch: Option<f64>,
}

impl Snapshot {
    pub(super) async fn take(own: Option<&OwnPlatform>) -> Result<Self> {
        let (platform_us, services_us, batches) = match own {
            Some(own) => {
                let text = reqwest::get(format!("http://{}/metrics", own.ready.admin)).await?.text().await?;
                let pid = own.program.pid();
                (
                    Some(cpu::tree_us(pid)?),
                    Some(cpu::process_us(pid)?),
                    Some((sum(&text, "settle_batch_rows_sum"), sum(&text, "settle_batch_rows_count"))),
                )
            }
            None => (None, None, None),
        };
        Ok(Self { platform_us, services_us, own_us: cpu::process_us(std::process::id())?, batches })
    }

    pub(super) fn since(&self, before: &Self) -> Used {
        let between = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?) as f64);
        let mean_batch = match (self.batches, before.batches) {
            (Some((rows, batches)), Some((rows_before, batches_before))) if batches > batches_before => {
                Some((rows - rows_before) / (batches - batches_before))
            }
            _ => None,
        };
        Used {
            platform_cpu_us: between(self.platform_us, before.platform_us),
            services_cpu_us: between(self.services_us, before.services_us),
            own_cpu_us: self.own_us.saturating_sub(before.own_us) as f64,
            mean_batch,
        }
    }
}

/// The sum of a metric over all its labels.
fn sum(text: &str, metric: &str) -> f64 {
    text.lines()
        .filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# HELP x\nx_sum{a=\"1\"} 2\nx_sum{a=\"2\"} 3.5\nx_sum_other 100\n";
        assert!((sum(text, "x_sum") - 5.5).abs() < f64::EPSILON);
    }
}
