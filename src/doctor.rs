//! `settle doctor`: what this machine has, and what a running platform says of itself.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::{self, Output, Target};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

struct Check {
    name: &'static str,
    ok: bool,
    /// Without it nothing works.
    needed: bool,
    says: String,
}

/// Fails if something that is needed is missing.
pub async fn main(args: Args) -> Result<()> {
    let mut checks = vec![
        check("Postgres server programs", true, local::postgres::programs().map(|dir| dir.display().to_string())),
        check("Java, for --bus kafka", false, local::kafka::java().map(|path| path.display().to_string())),
        check("settings", true, kit::Settings::from_env().map(|settings| format!("bus {}", settings.bus))),
        check("data directory", true, args.target.data_dir().map(|dir| dir.display().to_string())),
    ];
    if let Ok(ready) = args.target.ready() {
        let url = format!("http://{}/readyz", ready.admin);
        let says = match client::http().get(&url).send().await {
            Ok(response) => Ok((response.status().is_success(), response.json::<String>().await.unwrap_or_default())),
            Err(error) => Err(error),
        };
        let (ok, says) = says.unwrap_or_else(|error| (false, format!("{url} does not answer: {error}")));
        checks.push(Check { name: "running platform", ok, needed: true, says });
    }
    match args.output {
        Output::Json => {
            let all: Vec<_> =
                checks.iter().map(|c| json!({"check": c.name, "ok": c.ok, "needed": c.needed, "says": c.says})).collect();
            say!("{}", json!(all));
        }
        Output::Table => {
            for Check { name, ok, says, .. } in &checks {
                say!("{:<4} {name:<26} {says}", if *ok { "ok" } else { "no" });
            }
        }
    }
    let missing: Vec<&str> = checks.iter().filter(|check| check.needed && !check.ok).map(|check| check.name).collect();
    ensure!(missing.is_empty(), "not in order: {}", missing.join(", "));
    Ok(())
}

fn check<E: std::fmt::Display>(name: &'static str, needed: bool, found: Result<String, E>) -> Check {
    match found {
        Ok(says) => Check { name, ok: true, needed, says },
        Err(error) => Check { name, ok: false, needed, says: error.to_string() },
    }
}
