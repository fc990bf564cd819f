//! `settle config`: every setting, its default and its value.

use anyhow::Result;
use kit::settings::{self, Settings, TABLE};
use serde_json::json;

use crate::{client::Output, provider::Wiring};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Fails if a setting is bad, after printing them all.
pub fn main(args: Args) -> Result<()> {
    let mut rows = Vec::new();
    for setting in TABLE {
        let value = settings::value(setting.name)?;
        let shown = value.map(|value| if setting.secret { "(set)".to_owned() } else { value });
        rows.push((setting, shown));
    }
    match args.output {
        Output::Json => {
            let all: Vec<_> = rows
                .iter()
                .map(|(s, value)| json!({"name": s.name, "default": s.default, "value": value, "about": s.about}))
                .collect();
            say!("{}", json!(all));
        }
        Output::Table => {
            say!("{:<34} {:<18} ABOUT", "SETTING", "VALUE");
            for (setting, value) in rows {
                say!("{:<34} {:<18} {}", setting.name, value.as_deref().unwrap_or(setting.default), setting.about);
            }
        }
    }
    Wiring::read(&Settings::from_env()?)?;
    Ok(())
}
