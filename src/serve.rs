//! `settle serve`: some services, on databases and a bus that others share.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use kit::{
    Settings,
    admin::Metrics,
    settings::{BusKind, database_url},
    telemetry::Telemetry,
};

use crate::{
    platform::{BusChoice, Listeners, Plan, Platform, Service},
    provider::Wiring,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which services
    #[arg(required = true, value_enum)]
    pub services: Vec<Service>,
}

/// Runs until a stop signal.
pub async fn main(args: Args) -> Result<()> {
    let stop = kit::signal::stop()?;
    let telemetry = Telemetry::install(&Service::ALL.map(Service::name))?;
    let metrics = Metrics::install()?;
    let settings = Settings::from_env()?;
    let provider = Wiring::read(&settings)?;
    let bus = match settings.bus {
        BusKind::Postgres => BusChoice::Postgres,
        BusKind::Kafka => BusChoice::Kafka { brokers: settings.kafka_brokers.clone().context("KAFKA_BROKERS is not set")? },
    };
    if let BusChoice::Kafka { brokers } = &bus {
        messaging::bus::kafka::Cluster::new(brokers).answers().await?;
    }
    let mut services = args.services;
    services.sort_unstable();
    services.dedup();
    let plan = Plan {
        databases: databases(&services, &bus)?,
        provider_database: match services.contains(&Service::Payment) && !provider.is_remote() {
            true => Some(database_url("provider")?),
            false => None,
        },
        provider,
        services,
        bus,
        listeners: Listeners::bind(&settings.grpc_addr, &settings.http_addr, &settings.admin_addr).await?,
        settings: Arc::new(settings),
        metrics,
    };
    let mut platform = Platform::start(plan).await?;
    tracing::info!(r#type = "STARTUP", grpc = %platform.grpc, http = %platform.http, admin = %platform.admin, "ready");
    let failed = tokio::select! {
        signal = stop => {
            tracing::info!(signal, "stopping");
            None
        }
        error = platform.failed() => Some(error),
    };
    let stopped = platform.stop().await;
    telemetry.flush().await;
    failed.map_or(stopped, Err)
}

/// The databases of these services; on the embedded bus also those they read, which are all that write a topic.
fn databases(services: &[Service], bus: &BusChoice) -> Result<BTreeMap<Service, String>> {
    let mut databases = BTreeMap::new();
    for service in Service::ALL.into_iter().filter(|service| *service != Service::Gateway) {
        let own = services.contains(&service);
        let reads = *bus == BusChoice::Postgres && services.iter().any(|service| *service != Service::Gateway);
        if own || reads {
            databases.insert(service, database_url(service.name())?);
        }
    }
    Ok(databases)
}
