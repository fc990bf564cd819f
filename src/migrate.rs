//! `settle migrate`: every service's database to the newest schema. Safe to run by several at once: an advisory lock lets one go first.

use anyhow::Result;
use kit::settings::database_url;

use crate::platform::{self, Service};

#[derive(clap::Args, Debug)]
pub struct Args {}

pub async fn main(_: Args) -> Result<()> {
    for service in Service::ALL.into_iter().filter(|service| *service != Service::Gateway) {
        platform::migrate(service, &database_url(service.name())?).await?;
        say!("{}: up to date", service.name());
    }
    platform::migrate_provider(&database_url("provider")?).await?;
    say!("provider: up to date");
    Ok(())
}
