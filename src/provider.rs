//! Which payment provider a process has, and how its webhooks travel: read from the settings before anything starts, so that a
//! malformed one is found out first.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use kit::{
    Room, Settings,
    database::{self, Plans},
    settings::Error,
};
use payment::{
    provider::http::Http,
    sandbox::{Chaos, Options, Sandbox, Target},
    webhook::Secrets,
};
use tonic::service::Routes;

/// What the settings say of the provider.
pub struct Wiring {
    /// A provider in another process.
    remote: Option<Arc<Http>>,
    delay: Duration,
    chaos: Chaos,
    webhook_url: Option<String>,
    secrets: Option<Secrets>,
}

impl Wiring {
    /// Fails with the setting that is wrong.
    pub fn read(settings: &Settings) -> Result<Self> {
        fn parsed<T, E: ToString>(
            name: &'static str,
            value: Option<&String>,
            parse: impl FnOnce(&str) -> Result<T, E>,
        ) -> Result<Option<T>, Error> {
            let bad = |value: &String, error: E| Error::Bad { name, value: value.clone(), problem: error.to_string() };
            value.map(|value| parse(value).map_err(|error| bad(value, error))).transpose()
        }
        let http = |url: &str| Http::new(url, settings.provider_limits.calls_max);
        let webhook_url = parsed("SETTLE_WEBHOOK_URL", settings.webhook_url.as_ref(), payment::provider::http::read_url)?;
        // Its value is not for the screen.
        let secrets = settings.webhook_secret.as_ref().map(|secret| Secrets::parse(&secret.0)).transpose();
        let secrets = secrets.context("SETTLE_WEBHOOK_SECRET")?;
        if webhook_url.is_some() && secrets.is_none() {
            return Err(Error::Missing("SETTLE_WEBHOOK_SECRET".to_owned())).context("webhooks are signed");
        }
        Ok(Self {
            remote: parsed("SETTLE_PROVIDER_URL", settings.provider_url.as_ref(), http)?.map(Arc::new),
            delay: Duration::from_millis(settings.sandbox_delay_ms),
            chaos: parsed("SETTLE_SANDBOX_CHAOS", settings.sandbox_chaos.as_ref(), str::parse::<Chaos>)?.unwrap_or_default(),
            webhook_url: webhook_url.map(|url| url.to_string()),
            secrets,
        })
    }

    /// Whether the provider is in another process, so that this one needs no database for it.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// The sandbox of a process of its own, over its database, already migrated.
    pub(crate) fn sandbox(&self, database: &str, connections_max: u32) -> Result<Sandbox> {
        self.open(database, connections_max, self.target(None, self.secrets.as_ref())?)
    }

    fn open(&self, database: &str, connections_max: u32, webhooks: Option<Target>) -> Result<Sandbox> {
        let pool = database::pool(database, Plans::Pinned, connections_max)?;
        Ok(Sandbox::start(pool, Options { delay: self.delay, chaos: self.chaos.clone(), webhooks })?)
    }

    /// Where the webhooks of a sandbox in this process go. Without an address the gateway beside it is told what could not be answered in
    /// time, if there is one.
    fn target(&self, own_gateway: Option<SocketAddr>, secrets: Option<&Secrets>) -> Result<Option<Target>> {
        let own = || own_gateway.map(|gateway| format!("http://{gateway}/webhooks/provider"));
        let (Some(url), Some(secrets)) = (self.webhook_url.clone().or_else(own), secrets) else { return Ok(None) };
        let target = Target::new(&url, secrets.clone())?;
        Ok(Some(if self.webhook_url.is_none() { target.unanswered_only() } else { target }))
    }

    /// Starts the payment service on its provider: the one in another process, else the sandbox over this database.
    pub(crate) async fn start_payment(
        &self,
        room: Room,
        sandbox_database: Option<&str>,
        own_gateway: Option<SocketAddr>,
    ) -> Result<Routes> {
        if let Some(remote) = &self.remote {
            return payment::start(room, Arc::clone(remote), self.secrets.clone()).await;
        }
        let database = sandbox_database.context("the sandbox provider has no database (SETTLE_PROVIDER_DATABASE_URL)")?;
        // Where both ends of the webhooks are here, nobody else needs to know the secret.
        let both_here = own_gateway.is_some() && self.webhook_url.is_none();
        let secrets = self.secrets.clone().or_else(|| both_here.then(Secrets::fresh));
        let target = self.target(own_gateway, secrets.as_ref())?;
        let sandbox = self.open(database, room.settings.database_connections_max, target)?;
        payment::start(room, Arc::new(sandbox), secrets).await
    }
}
