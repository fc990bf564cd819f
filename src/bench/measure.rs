//! What a run cost: CPU time and memory from /proc, batches from the platform's own counters, the write-ahead log from its Postgres.

use std::fs;

use anyhow::Result;
use local::cpu;

use super::{audit::Books, own::OwnPlatform, store};

#[derive(Debug)]
pub(super) struct Snapshot {
    own_us: u64,
    /// Of the bench's own platform alone.
    platform: Option<PlatformSnapshot>,
}

#[derive(Clone, Copy, Debug)]
struct PlatformSnapshot {
    /// Services, Postgres and Kafka.
    all_us: u64,
    services_us: u64,
    postgres_us: u64,
    /// (rows, batches) of all groups.
    batches: (f64, f64),
    wal_bytes: i64,
}

/// What lies between two snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) own_cpu_us: f64,
    pub(super) platform: Option<PlatformUsed>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PlatformUsed {
    pub(super) cpu_us: f64,
    pub(super) services_cpu_us: f64,
    pub(super) postgres_cpu_us: f64,
    pub(super) mean_batch: Option<f64>,
    pub(super) wal_bytes: f64,
}

impl Snapshot {
    pub(super) async fn take(platform: Option<(&OwnPlatform, &mut Books)>) -> Result<Self> {
        let platform = match platform {
            Some((own, books)) => Some(PlatformSnapshot::take(own, books).await?),
            None => None,
        };
        Ok(Self { own_us: cpu::process_us(std::process::id())?, platform })
    }

    pub(super) fn since(&self, before: &Self) -> Used {
        let platform = self.platform.zip(before.platform).map(|(now, then)| now.since(&then));
        Used { own_cpu_us: self.own_us.saturating_sub(before.own_us) as f64, platform }
    }
}

impl PlatformSnapshot {
    async fn take(own: &OwnPlatform, books: &mut Books) -> Result<Self> {
        let metrics = reqwest::get(format!("http://{}/metrics", own.ready.admin)).await?.text().await?;
        Ok(Self {
            all_us: cpu::tree_us(own.pid())?,
            services_us: cpu::process_us(own.pid())?,
            postgres_us: cpu::tree_us(own.postgres_pid()?)?,
            batches: (sum(&metrics, "settle_batch_rows_sum"), sum(&metrics, "settle_batch_rows_count")),
            wal_bytes: store::wal_bytes(books.of("order")?).await?,
        })
    }

    fn since(&self, then: &Self) -> PlatformUsed {
        let (rows, batches) = (self.batches.0 - then.batches.0, self.batches.1 - then.batches.1);
        PlatformUsed {
            cpu_us: self.all_us.saturating_sub(then.all_us) as f64,
            services_cpu_us: self.services_us.saturating_sub(then.services_us) as f64,
            postgres_cpu_us: self.postgres_us.saturating_sub(then.postgres_us) as f64,
            mean_batch: (batches > 0.0).then(|| rows / batches),
            wal_bytes: (self.wal_bytes - then.wal_bytes) as f64,
        }
    }
}

/// Memory of a process in MiB: now, and the most it ever had.
pub(super) fn memory_mib(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok((status_mib(&status, "VmRSS:"), status_mib(&status, "VmHWM:")))
}

fn status_mib(status: &str, field: &str) -> f64 {
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    (value.unwrap_or(0.0) / 102.4).round() / 10.0
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

    #[test]
    fn memory_is_read_in_mebibytes() {
        let status = "Name:\tsettle\nVmHWM:\t  204800 kB\nVmRSS:\t  102502 kB\nThreads:\t3\n";
        assert_eq!((status_mib(status, "VmRSS:"), status_mib(status, "VmHWM:")), (100.1, 200.0));
        assert_eq!(status_mib("Name:\tzombie\n", "VmRSS:"), 0.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory() {
        let (now, most) = memory_mib(std::process::id()).unwrap();
        assert!(now > 0.0 && most >= now);
    }

    #[test]
    fn what_lies_between_is_the_difference() {
        let then = PlatformSnapshot { all_us: 100, services_us: 40, postgres_us: 50, batches: (10.0, 2.0), wal_bytes: 1_000 };
        let now = PlatformSnapshot { all_us: 400, services_us: 140, postgres_us: 240, batches: (110.0, 6.0), wal_bytes: 5_000 };
        let used = now.since(&then);
        assert_eq!((used.cpu_us, used.services_cpu_us, used.postgres_cpu_us), (300.0, 100.0, 190.0));
        assert_eq!((used.mean_batch, used.wal_bytes), (Some(25.0), 4_000.0));
        assert_eq!(now.since(&now).mean_batch, None);
    }
}
