//! `settle doctor`: what this machine has, what a running platform says of itself, and what its databases and brokers say of it.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    client::{self, Output, Target},
    deployment::Deployment,
};

mod databases;
mod store;
mod streams;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

struct Check {
    name: String,
    ok: bool,
    /// Without it nothing works, or a promise is not kept.
    needed: bool,
    says: String,
}

impl Check {
    fn new<E: std::fmt::Display>(name: impl Into<String>, needed: bool, found: Result<String, E>) -> Self {
        let (ok, says) = match found {
            Ok(says) => (true, says),
            Err(error) => (false, error.to_string()),
        };
        Self { name: name.into(), ok, needed, says }
    }

    /// All is well if nothing is found.
    fn none_of(name: &str, found: &[String], well: impl Into<String>) -> Self {
        let says = if found.is_empty() { well.into() } else { several(found) };
        Self { name: name.to_owned(), ok: found.is_empty(), needed: true, says }
    }
}

/// Fails if something that is needed is missing or not in order.
pub async fn main(args: Args) -> Result<()> {
    let mut checks = vec![
        Check::new("Postgres server programs", true, local::postgres::programs().map(|dir| dir.display().to_string())),
        Check::new("Java, for --bus kafka", false, local::kafka::java().map(|path| path.display().to_string())),
        Check::new("settings", true, kit::Settings::from_env().map(|settings| format!("bus {}", settings.bus))),
        Check::new("data directory", true, args.target.data_dir().map(|dir| dir.display().to_string())),
    ];
    if let Ok(ready) = args.target.ready() {
        let url = format!("http://{}/readyz", ready.admin);
        let says = match client::http().get(&url).send().await {
            Ok(response) => Ok((response.status().is_success(), response.json::<String>().await.unwrap_or_default())),
            Err(error) => Err(error),
        };
        let (ok, says) = says.unwrap_or_else(|error| (false, format!("{url} does not answer: {error}")));
        checks.push(Check { name: "running platform".to_owned(), ok, needed: true, says });
    }
    // Where no platform runs and the environment names no database there is nothing more to look at.
    if let Ok(deployment) = Deployment::find(&args.target) {
        checks.extend(databases::look(&deployment).await);
        checks.extend(streams::look(&deployment).await);
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
    let missing: Vec<&str> = checks.iter().filter(|check| check.needed && !check.ok).map(|check| check.name.as_str()).collect();
    ensure!(missing.is_empty(), "not in order: {}", missing.join(", "));
    Ok(())
}

/// So many are named, the others counted.
const NAMED_MAX: usize = 4;

fn several(found: &[String]) -> String {
    let named = found[..found.len().min(NAMED_MAX)].join("; ");
    match found.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_however_much_is_found() {
        let found: Vec<String> = (1..=6).map(|n| n.to_string()).collect();
        assert_eq!(several(&found), "1; 2; 3; 4; and 2 more");
        assert_eq!(several(&found[..4]), "1; 2; 3; 4");
        let well = Check::none_of("readers", &[], "all read");
        assert!(well.ok && well.says == "all read");
        assert!(!Check::none_of("readers", &found, "all read").ok);
    }
}
