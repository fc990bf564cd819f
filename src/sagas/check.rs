//! `settle saga check`: before a deployment, with the new binary.

use anyhow::{Context, Result, ensure};
use orchestrator::{Changed, DEFINITIONS, Live, roles};
use saga::explore::{Bounds, Report, explore};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::{
    client::{At, Output},
    deployment::Deployment,
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
            let bounds = Bounds { operations_max: args.operations, ..Bounds::default() };
            let reports = tokio::task::spawn_blocking(move || explored(&bounds)).await?;
            model(&bounds, &reports, args.at.output)
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

fn explored(bounds: &Bounds) -> Vec<(&'static str, i32, Report)> {
    DEFINITIONS.iter().map(|known| (known.name, known.version, explore(known, &roles(known), bounds))).collect()
}

fn model(bounds: &Bounds, reports: &[(&str, i32, Report)], output: Output) -> Result<()> {
    match output {
        Output::Json => say!("{}", Value::Array(reports.iter().map(|report| report_json(bounds, report)).collect())),
        Output::Table => {
            let Bounds { resends_max, operations_max, states_max } = bounds;
            say!("within resends_max {resends_max}, operations_max {operations_max}, states_max {states_max}");
            for (name, version, report) in reports {
                say!("{name} v{version}: {report}");
                for never in report.never_reached() {
                    say!("  never reached: {never}");
                }
            }
        }
    }
    let broken: Vec<&str> = reports.iter().filter(|(.., report)| !report.holds()).map(|(name, ..)| *name).collect();
    ensure!(broken.is_empty(), "the model of {} does not hold", broken.join(", "));
    Ok(())
}

fn report_json(bounds: &Bounds, (name, version, report): &(&str, i32, Report)) -> Value {
    let Bounds { resends_max, operations_max, states_max } = bounds;
    let reached: serde_json::Map<String, Value> =
        report.reached.iter().map(|(name, times)| ((*name).to_owned(), json!(times))).collect();
    json!({
        "definition": name, "version": version, "states": report.states, "transitions": report.transitions,
        "bounds": { "resends_max": resends_max, "operations_max": operations_max, "states_max": states_max },
        "reached": reached, "holds": report.holds(),
        "violation": report.violation.as_ref().map(ToString::to_string),
    })
}
