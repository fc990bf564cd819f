//! What is printed: the figures of a run, medians of several, tables.

use serde_json::{Map, Value, json};

use super::{Args, load::Run, measure::Used};
use crate::client::Output;

/// Figures by name.
pub(super) type Figures = Map<String, Value>;

/// One measured run, and why it says nothing, if it does.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) figures: Figures,
    pub(super) void_because: Vec<String>,
}

/// The figures of one run of so many orders.
pub(super) fn figures(args: &Args, orders: u32, run: &mut Run, idle: &mut Run, used: &Used) -> Figures {
    let per_second = f64::from(orders) / run.elapsed.as_secs_f64();
    let per_order = |all: f64| rounded(all / f64::from(orders), 0);
    let [created_p50, created_p99] = run.created_in.percentiles_ms([0.5, 0.99]);
    let timed = if args.create_only { &mut run.created_in } else { &mut run.confirmed_in };
    let [p50, p99, p999] = timed.percentiles_ms([0.5, 0.99, 0.999]);
    let platform = used.platform;
    let Value::Object(mut figures) = json!({
        "bus": if args.target.is_some() { "target's".to_owned() } else { args.bus.to_string() },
        "mode": mode(args),
        "orders": orders,
        "confirmed": run.confirmed,
        "cancelled": run.cancelled,
        "failed": run.failed,
        "refused_calls": run.refused_calls,
        "orders_per_second": rounded(per_second, 0),
        "p50_ms": p50,
        "p99_ms": p99,
        "p999_ms": p999,
        "create_p50_ms": created_p50,
        "create_p99_ms": created_p99,
        "idle_p50_ms": idle.confirmed_in.percentiles_ms([0.5])[0],
        "cpu_us_per_order": platform.map(|used| per_order(used.cpu_us)),
        "services_cpu_us_per_order": platform.map(|used| per_order(used.services_cpu_us)),
        "postgres_cpu_us_per_order": platform.map(|used| per_order(used.postgres_cpu_us)),
        "load_generator_cpu_us_per_order": per_order(used.own_cpu_us),
        "wal_bytes_per_order": platform.map(|used| per_order(used.wal_bytes)),
        "mean_batch": platform.and_then(|used| used.mean_batch).map(|rows| rounded(rows, 1)),
        "release_build": !cfg!(debug_assertions),
    }) else {
        return Figures::new();
    };
    if args.rate.is_none() {
        figures.insert("concurrency".into(), json!(args.concurrency));
    }
    let given = [("rate", args.rate), ("provider_ms", args.provider_ms), ("partitions", args.partitions)];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        figures.insert(name.into(), json!(value));
    }
    if args.create_only {
        figures.insert("creates_per_second".into(), json!(rounded(per_second, 0)));
    }
    if args.cancel_percent > 0 {
        let [p50, p99] = run.cancelled_in.percentiles_ms([0.5, 0.99]);
        figures.insert("cancel_percent".into(), json!(args.cancel_percent));
        figures.insert("asked_to_cancel".into(), json!(run.asked_to_cancel));
        figures.insert("cancelled_p50_ms".into(), json!(p50));
        figures.insert("cancelled_p99_ms".into(), json!(p99));
    }
    figures
}

fn mode(args: &Args) -> String {
    let loop_of = if args.rate.is_some() { "open loop" } else { "closed loop" };
    let work = if args.create_only { "create" } else { "create to outcome" };
    format!("{work}, {loop_of}")
}

/// The median of every figure; what is not a number, or is the same in all runs, stays as it is. The runs themselves are kept beside it.
pub(super) fn median(runs: &[Measured]) -> Measured {
    let Some(first) = runs.first() else {
        return Measured { figures: Figures::new(), void_because: vec!["nothing was run".into()] };
    };
    let mut figures = first.figures.clone();
    for (name, value) in &mut figures {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| figure(&run.figures, name)).collect();
        if runs.iter().any(|run| run.figures.get(name) != Some(&*value))
            && let Some(middle) = middle(&mut values)
        {
            *value = json!(rounded(middle, 3));
        }
    }
    if runs.len() > 1 {
        figures.insert("runs".into(), runs.iter().map(|run| Value::Object(run.figures.clone())).collect());
    }
    let mut void_because = Vec::new();
    for (n, run) in runs.iter().enumerate() {
        for why in &run.void_because {
            void_because.push(if runs.len() > 1 { format!("run {}: {why}", n + 1) } else { why.clone() });
        }
    }
    Measured { figures, void_because }
}

fn middle(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// A figure, if it is a number.
pub(super) fn figure(figures: &Figures, name: &str) -> Option<f64> {
    figures.get(name)?.as_f64()
}

pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

pub(super) fn print(figures: &Figures, output: Output) {
    match output {
        Output::Json => say!("{}", Value::Object(figures.clone())),
        Output::Table => {
            for (name, value) in figures {
                match value {
                    Value::Array(rows) if rows.iter().any(Value::is_object) => {}
                    Value::String(text) => say!("{name:<34} {text}"),
                    other => say!("{name:<34} {other}"),
                }
            }
            for (name, value) in figures {
                // What the medians are of is for programs.
                if let Value::Array(rows) = value
                    && name != "runs"
                {
                    table(rows).into_iter().for_each(|line| say!("{line}"));
                }
            }
        }
    }
}

/// Rows with the same figures, below their names.
fn table(rows: &[Value]) -> Vec<String> {
    let rows: Vec<&Figures> = rows.iter().filter_map(Value::as_object).collect();
    let Some(first) = rows.first().copied() else { return Vec::new() };
    let names: Vec<&String> = first.iter().filter(|(_, value)| !value.is_object()).map(|(name, _)| name).collect();
    let head = names.iter().map(|name| format!("{name:>18}")).collect();
    let cells = |row: &Figures| names.iter().map(|name| format!("{:>18}", row.get(*name).unwrap_or(&Value::Null))).collect();
    std::iter::once(head).chain(rows.into_iter().map(cells)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(figures: Value, void_because: &[&str]) -> Measured {
        let Value::Object(figures) = figures else { panic!("no object") };
        Measured { figures, void_because: void_because.iter().map(|why| (*why).to_owned()).collect() }
    }

    #[test]
    fn the_median_of_each_figure_by_itself() {
        let all = median(&[
            run(json!({"bus": "kafka", "orders": 10, "p50_ms": 3.5, "mean_batch": null}), &[]),
            run(json!({"bus": "kafka", "orders": 10, "p50_ms": 1.0, "mean_batch": 7}), &["one is open"]),
            run(json!({"bus": "kafka", "orders": 10, "p50_ms": 9.0, "mean_batch": null}), &[]),
        ]);
        assert_eq!((&all.figures["bus"], &all.figures["orders"]), (&json!("kafka"), &json!(10)));
        assert_eq!((&all.figures["p50_ms"], &all.figures["mean_batch"]), (&json!(3.5), &json!(7.0)));
        assert_eq!(all.figures["runs"].as_array().map(Vec::len), Some(3));
        assert_eq!(all.void_because, ["run 2: one is open"]);
    }

    #[test]
    fn one_run_is_its_own_median_and_no_run_is_void() {
        let one = median(&[run(json!({"orders": 10}), &["one is open"])]);
        assert_eq!(Value::Object(one.figures), json!({"orders": 10}));
        assert_eq!(one.void_because, ["one is open"]);
        assert!(!median(&[]).void_because.is_empty());
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(middle(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(middle(&mut [4.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(middle(&mut []), None);
    }

    #[test]
    fn rows_stand_below_their_names() {
        let lines = table(&[json!({"a": 1, "b": {"c": 2}}), json!({"a": 2.5, "b": {}})]);
        let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
        assert_eq!(lines, ["a", "1", "2.5"]);
        assert!(table(&[]).is_empty());
    }
}
