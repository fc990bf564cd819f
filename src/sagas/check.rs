//! `settle saga check`: before a deployment, with the new binary.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use orchestrator::{DEFINITIONS, Live, roles};
use saga::explore::{Bounds, Report, explore};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::{
    client::{At, Output},
    deployment::Deployment,
    model,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Visit every state that the definitions of this binary can lead to, instead of looking at a database
    #[arg(long)]
    model: bool,
    /// With --model: operations of a person on one saga, at most. Each makes it many times larger
    #[arg(long, value_name = "N", default_value_t = 1, requires = "model", value_parser = clap::value_parser!(u8).range(0..=4))]
    operations: u8,
    #[command(flatten)]
    at: At,
}

pub(super) async fn main(args: Args) -> Result<()> {
    match args.model {
        true => {
            // It computes for seconds.
            let models = tokio::task::spawn_blocking(move || explored(args.operations)).await?;
            tell(&models, args.at.output)
        }
        false => stranded(&args.at).await,
    }
}

/// Sagas that are not over, by version, and which of them this binary could not go on with.
async fn stranded(at: &At) -> Result<()> {
    let mut db = Deployment::find(&at.target)?.connect("orchestrator").await?;
    let live = orchestrator::live(&mut db).await.context("the database of orchestrator")?;
    let strangers: i64 = live.iter().filter(|live| !live.is_known()).map(|live| live.sagas).sum();
    match at.output {
        Output::Json => say!("{}", json!({ "live": live.iter().map(live_json).collect::<Vec<_>>(), "stranded": strangers })),
        Output::Table => {
            say!("{:<24} {:>7} {:>8} {:>6}  SINCE", "DEFINITION", "VERSION", "SAGAS", "KNOWN");
            for one in &live {
                let Live { definition, version, sagas, since, .. } = one;
                let known = if one.is_known() { "yes" } else { "NO" };
                let since = since.format(&Rfc3339).unwrap_or_default();
                say!("{definition:<24} {version:>7} {sagas:>8} {known:>6}  {since}");
            }
        }
    }
    ensure!(strangers == 0, "{strangers} sagas would wait for a binary that knows their definition");
    Ok(())
}

fn live_json(live: &Live) -> Value {
    let Live { definition, version, steps, sagas, since } = live;
    let since = since.format(&Rfc3339).unwrap_or_default();
    json!({
        "definition": definition, "version": version, "steps": steps, "sagas": sagas, "since": since, "known": live.is_known(),
    })
}

/// What a walk came to.
struct Explored {
    definition: &'static str,
    version: i32,
    /// Whose rules it was.
    rules: &'static str,
    bounds: String,
    seconds: f64,
    report: Report,
}

fn explored(operations_max: u8) -> Vec<Explored> {
    let mut all = Vec::new();
    let mut explored = |definition: &'static saga::Definition, rules, bounds, walk: &dyn Fn() -> Report| {
        let began = Instant::now();
        let report = walk();
        let (seconds, saga::Definition { name, version, .. }) = (began.elapsed().as_secs_f64(), *definition);
        all.push(Explored { definition: name, version, rules, bounds, seconds, report });
    };
    let bounds = Bounds { operations_max, ..Bounds::default() };
    for known in &DEFINITIONS {
        explored(known, "the saga's", format!("{bounds:?}"), &|| explore(known, &roles(known), &bounds));
    }
    let bounds = model::Bounds { retries_max: operations_max, ..model::Bounds::default() };
    for known in model::checkouts() {
        explored(known, "the services'", format!("{bounds:?}"), &|| model::explore(known, &bounds));
    }
    all
}

fn tell(models: &[Explored], output: Output) -> Result<()> {
    match output {
        Output::Json => say!("{}", Value::Array(models.iter().map(model_json).collect())),
        Output::Table => {
            for Explored { definition, version, rules, bounds, seconds, report } in models {
                say!("{definition} v{version}, by {rules} rules, within {bounds}, {seconds:.1} s: {report}");
                for never in report.never_reached() {
                    say!("  never reached: {never}");
                }
            }
        }
    }
    let broken = models.iter().filter(|model| !model.report.holds());
    let broken: Vec<String> = broken.map(|model| format!("{} by {} rules", model.definition, model.rules)).collect();
    ensure!(broken.is_empty(), "the model of {} does not hold", broken.join(", "));
    Ok(())
}

fn model_json(model: &Explored) -> Value {
    let Explored { definition, version, rules, bounds, seconds, report } = model;
    let reached: serde_json::Map<String, Value> =
        report.reached.iter().map(|(name, times)| ((*name).to_owned(), json!(times))).collect();
    json!({
        "definition": definition, "version": version, "rules": rules, "bounds": bounds, "seconds": seconds,
        "states": report.states, "transitions": report.transitions, "reached": reached, "holds": report.holds(),
        "violation": report.violation.as_ref().map(ToString::to_string),
    })
}
