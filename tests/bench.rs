//! The bench on small numbers: it prints one JSON document with the names that others read, and the floors still fit the migrations.

use std::time::Duration;

use serde_json::Value;

use crate::{
    harness::run,
    startup::{assert_one_line, end_of, settle},
};

/// Two platforms one after another, in a debug build, beside all other tests.
const ENDS_WITHIN: Duration = Duration::from_secs(240);

/// Runs it to its good end.
async fn bench(args: &[&str]) -> Value {
    let mut command = settle(&["bench", "--output", "json"]);
    command.args(args);
    let ended = local::program::run(command, ENDS_WITHIN).await.expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{args:?}: {} {said}", ended.status);
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {said}"))
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is {} in {report}", report[name]))
}

#[test]
fn every_order_settles_and_every_figure_is_there() {
    run(async {
        let report = bench(&["--orders", "120", "--concurrency", "24", "--cancel-percent", "10", "--floor-s", "1"]).await;
        for name in [
            "orders_per_second",
            "p50_ms",
            "p99_ms",
            "idle_p50_ms",
            "cpu_us_per_order",
            "mean_batch",
            "wal_bytes_per_order",
            "services_rss_mib",
            "floor_per_event_orders_per_second",
            "floor_batched_orders_per_second",
            "ratio_to_per_event_floor",
        ] {
            assert!(number(&report, name) > 0.0, "{name} in {report}");
        }
        let [confirmed, cancelled, asked] = ["confirmed", "cancelled", "asked_to_cancel"].map(|name| number(&report, name));
        assert_eq!((confirmed + cancelled, asked), (120.0, 12.0));
        assert!(cancelled <= asked, "{report}");
        assert_eq!(report["void_because"], Value::Array(vec![]));
    });
}

#[test]
fn an_open_loop_of_creations_heard_by_events() {
    run(async {
        let created = bench(&["--orders", "60", "--concurrency", "8", "--create-only", "--rate", "100", "--no-floors"]).await;
        assert!(number(&created, "creates_per_second") <= 110.0, "an open loop keeps to its rate: {created}");
        assert_eq!(number(&created, "confirmed"), 60.0);
        assert!(created["floor_per_event_orders_per_second"].is_null());

        let args = ["--orders", "60", "--concurrency", "8", "--outcome", "events", "--provider-ms", "30", "--sample-every", "20"];
        let heard = bench(&[&args[..], &["--no-floors", "--runs", "2"][..]].concat()).await;
        assert_eq!(number(&heard, "confirmed"), 60.0);
        assert!(number(&heard, "p50_ms") >= 30.0, "nobody is faster than the provider: {heard}");
        let runs = heard["runs"].as_array().expect("both runs");
        assert_eq!(runs.len(), 2);
        assert!(runs.iter().all(|run| run["samples"].as_array().is_some_and(|samples| !samples.is_empty())), "{heard}");
    });
}

#[test]
fn what_cannot_be_measured_is_said() {
    run(async {
        let closed = format!("127.0.0.1:{}", local::ports::free().expect("a port"));
        let mut command = settle(&["bench", "--orders", "1", "--outcome", "events", "--target"]);
        command.arg(&closed);
        assert_one_line("events of a target", &end_of(command).await, &["--outcome events"]);
    });
}
