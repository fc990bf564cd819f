//! A long run in slices: whether speed, cost, memory and tables stay as they are.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::Result;
use local::cpu;
use serde_json::{Value, json};

use super::{
    audit::Books,
    caller::Progress,
    measure::memory_mib,
    own::OwnPlatform,
    report::{Figures, figure, rounded},
    store,
};

pub(super) struct Sampler<'a> {
    own: &'a OwnPlatform,
    progress: Arc<Progress>,
    started: Instant,
    before: Mark,
    samples: Vec<Value>,
}

/// Where a slice begins.
struct Mark {
    at: Instant,
    orders: u32,
    platform_us: u64,
}

impl Mark {
    fn take(own: &OwnPlatform, progress: &Progress) -> Result<Self> {
        Ok(Self { at: Instant::now(), orders: progress.done(), platform_us: cpu::tree_us(own.pid())? })
    }
}

impl<'a> Sampler<'a> {
    pub(super) fn begin(own: &'a OwnPlatform, progress: Arc<Progress>) -> Result<Self> {
        let before = Mark::take(own, &progress)?;
        Ok(Self { own, progress, started: Instant::now(), before, samples: Vec::new() })
    }

    /// Takes a sample each time that so many more orders are done, until it is dropped; ends only when it cannot.
    pub(super) async fn follow(&mut self, books: &mut Books) -> anyhow::Error {
        loop {
            self.progress.crossed().await;
            if let Err(error) = self.take(books).await {
                return error;
            }
        }
    }

    /// All samples, the last slice among them unless there is next to nothing in it.
    pub(super) async fn finish(mut self, books: &mut Books) -> Result<Vec<Value>> {
        let left = self.progress.done() - self.before.orders;
        if self.samples.is_empty() || left >= self.progress.every() / 2 {
            self.take(books).await?;
        }
        Ok(self.samples)
    }

    async fn take(&mut self, books: &mut Books) -> Result<()> {
        let now = Mark::take(self.own, &self.progress)?;
        let mut tables = BTreeMap::new();
        for (service, db) in books.all() {
            for (table, bytes) in store::table_bytes(db).await? {
                tables.insert(format!("{service}.{table}"), bytes);
            }
        }
        let orders = f64::from(now.orders - self.before.orders).max(1.0);
        let (rss_mib, _) = memory_mib(self.own.pid())?;
        let outboxes = tables.iter().filter(|(name, _)| name.ends_with(".outbox")).map(|(_, bytes)| *bytes);
        let mut sample = Figures::new();
        sample.insert("orders".into(), json!(now.orders));
        sample.insert("seconds".into(), json!(rounded(self.started.elapsed().as_secs_f64(), 1)));
        sample.insert("orders_per_second".into(), json!(rounded(orders / (now.at - self.before.at).as_secs_f64(), 0)));
        sample.insert(
            "cpu_us_per_order".into(),
            json!(rounded(now.platform_us.saturating_sub(self.before.platform_us) as f64 / orders, 0)),
        );
        sample.insert("services_rss_mib".into(), json!(rss_mib));
        sample.insert("outbox_mib".into(), json!(mib(outboxes)));
        sample.insert("databases_mib".into(), json!(mib(tables.values().copied())));
        sample.insert("tables_mib".into(), tables.into_iter().map(|(name, bytes)| (name, json!(mib([bytes])))).collect());
        eprintln!("settle: {}", line(&sample));
        self.samples.push(Value::Object(sample));
        self.before = now;
        Ok(())
    }
}

fn mib(bytes: impl IntoIterator<Item = i64>) -> f64 {
    rounded(bytes.into_iter().sum::<i64>() as f64 / 1_048_576.0, 1)
}

fn line(sample: &Figures) -> String {
    let of = |name| figure(sample, name).unwrap_or(0.0);
    format!(
        "{} orders after {} s: {} orders/s, {} µs of CPU an order, services {} MiB, outboxes {} MiB, all tables {} MiB",
        of("orders"),
        of("seconds"),
        of("orders_per_second"),
        of("cpu_us_per_order"),
        of("services_rss_mib"),
        of("outbox_mib"),
        of("databases_mib")
    )
}

/// What a figure is in the last quarter of the samples, as a multiple of what it is in the first; `None` below two samples.
pub(super) fn growth(samples: &[Value], name: &str) -> Option<f64> {
    let values: Vec<f64> = samples.iter().filter_map(|sample| figure(sample.as_object()?, name)).collect();
    let part = (values.len() / 4).max(1);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let (first, last) = (mean(&values[..part]), mean(&values[values.len() - part..]));
    (first > 0.0).then(|| rounded(last / first, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_compares_the_last_quarter_with_the_first() {
        let samples = |values: &[i32]| values.iter().map(|v| json!({ "cpu_us_per_order": v })).collect::<Vec<_>>();
        let of = |values: &[i32]| growth(&samples(values), "cpu_us_per_order");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[300]), None);
        assert_eq!(of(&[300, 330]), Some(1.1));
        assert_eq!(of(&[100, 300, 9, 9, 9, 9, 400, 600]), Some(2.5));
        assert_eq!(of(&[0, 5]), None);
        assert_eq!(growth(&samples(&[1, 2]), "no such figure"), None);
    }

    #[test]
    fn tables_are_told_in_mebibytes() {
        assert_eq!(mib([1_048_576, 524_288]), 1.5);
    }
}
