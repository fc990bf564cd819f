//! `settle saga check`: before a deployment, with the new binary.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use orchestrator::{Changed, DEFINITIONS, Live, roles};
use saga::explore::{Bounds, Report, explore};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::{
    client::{At, Output},
    deployment::Deployment,
    model,
};

/// Orders that are named of each version, at most.
const STRANDED_SHOWN_MAX: i64 = 20;

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

/// What this binary could not go on with: sagas that are not over, of a version that it does not know or has in another shape.
async fn stranded(at: &At) -> Result<()> {
    let mut db = Deployment::find(&at.target)?.connect("orchestrator").await?;
    let known = orchestrator::known(&mut db).await.context("the database of orchestrator")?;
    let mut found = Vec::new();
    for live in orchestrator::live(&mut db).await.context("the database of orchestrator")? {
        let orders = match live.is_known(&known) {
            true => None,
            false => Some(orchestrator::orders_of(&mut db, &live, STRANDED_SHOWN_MAX).await?),
        };
        found.push((live, orders));
    }
    let strangers: i64 = found.iter().filter(|(_, orders)| orders.is_some()).map(|(live, _)| live.sagas).sum();
    let changed = known.changed();
    match at.output {
        Output::Json => {
            let live: Vec<Value> = found.iter().map(|(live, orders)| live_json(live, orders.as_deref())).collect();
            let changed: Vec<Value> = changed.iter().map(changed_json).collect();
            say!("{}", json!({ "live": live, "changed": changed, "stranded": strangers }));
        }
        Output::Table => {
            say!("{:<24} {:>7} {:>8} {:>6}  SINCE", "DEFINITION", "VERSION", "SAGAS", "KNOWN");
            for (Live { definition, version, sagas, since, .. }, orders) in &found {
                let known = if orders.is_none() { "yes" } else { "NO" };
                let since = since.format(&Rfc3339).unwrap_or_default();
                say!("{definition:<24} {version:>7} {sagas:>8} {known:>6}  {since}");
                orders.iter().flatten().for_each(|order_id| say!("  order {order_id}"));
            }
            for Changed { definition, version, began_as, here } in changed {
                say!("{definition} v{version} is not what its sagas began with");
                say!("  they began with  {began_as}");
                say!("  here it is       {here}");
            }
        }
    }
    let names: Vec<String> = changed.iter().map(|changed| format!("{} v{}", changed.definition, changed.version)).collect();
    ensure!(
        names.is_empty(),
        "{} has changed: give it a new version, and leave the old one as it was; {strangers} sagas would wait",
        names.join(", ")
    );
    ensure!(strangers == 0, "{strangers} sagas would wait for a binary that knows their definition");
    Ok(())
}

/// `orders` of those that this binary does not know.
fn live_json(live: &Live, orders: Option<&[Uuid]>) -> Value {
    let Live { definition, version, steps, sagas, since } = live;
    let since = since.format(&Rfc3339).unwrap_or_default();
    let (known, orders) = (orders.is_none(), orders.unwrap_or_default());
    json!({
        "definition": definition, "version": version, "steps": steps, "sagas": sagas, "since": since, "known": known,
        "orders": orders.iter().map(Uuid::to_string).collect::<Vec<_>>(),
    })
}

fn changed_json(changed: &Changed) -> Value {
    let Changed { definition, version, began_as, here } = changed;
    json!({ "definition": definition, "version": version, "began_as": began_as, "here": here })
}

/// What a walk came to.
struct Explored {
    definition: &'static str,
    version: i32,
    /// Whose rules it was.
    rules: &'static str,
    /// By their names.
    bounds: Vec<(&'static str, usize)>,
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
    let Bounds { resends_max, states_max, .. } = bounds;
    let named = [("resends_max", resends_max.into()), ("operations_max", operations_max.into()), ("states_max", states_max)];
    for known in &DEFINITIONS {
        explored(known, "the saga's", named.to_vec(), &|| explore(known, &roles(known), &bounds));
    }
    let bounds = model::Bounds { retries_max: operations_max, ..model::Bounds::default() };
    let model::Bounds { resends_max, retries_max, states_max } = bounds;
    let named = [("resends_max", resends_max.into()), ("retries_max", retries_max.into()), ("states_max", states_max)];
    for known in model::checkouts() {
        explored(known, "the services'", named.to_vec(), &|| model::explore(known, &bounds));
    }
    all
}

fn tell(models: &[Explored], output: Output) -> Result<()> {
    match output {
        Output::Json => say!("{}", Value::Array(models.iter().map(model_json).collect())),
        Output::Table => {
            for Explored { definition, version, rules, bounds, seconds, report } in models {
                let bounds: Vec<String> = bounds.iter().map(|(name, bound)| format!("{name} {bound}")).collect();
                let bounds = bounds.join(", ");
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
    let bounds: serde_json::Map<String, Value> = bounds.iter().map(|(name, bound)| ((*name).to_owned(), json!(bound))).collect();
    let reached: serde_json::Map<String, Value> =
        report.reached.iter().map(|(name, times)| ((*name).to_owned(), json!(times))).collect();
    json!({
        "definition": definition, "version": version, "rules": rules, "bounds": bounds, "seconds": seconds,
        "states": report.states, "transitions": report.transitions, "reached": reached, "holds": report.holds(),
        "violation": report.violation.as_ref().map(ToString::to_string),
    })
}
