//! Where the databases and the brokers of a platform are, for tools that look behind the services.

use std::{collections::BTreeMap, fs, path::Path, str::FromStr, time::Duration};

use anyhow::{Context, Result, anyhow};
use contracts::topic;
use kit::settings::{self, BusKind, Settings, database_url};
use messaging::bus::kafka::Cluster;
use serde::Deserialize;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

use crate::{client::Target, platform::Service};

const CONNECT_MS_MAX: u64 = 5_000;

/// Databases by service, `provider` included, and Kafka where it carries the streams.
#[derive(Deserialize)]
pub struct Deployment {
    databases: BTreeMap<String, String>,
    kafka: Option<String>,
    /// Of a payment provider in another process.
    #[serde(skip)]
    provider_url: Option<String>,
}

impl Deployment {
    /// The platform of the data directory that is named; without one the databases that the environment names, as for `settle serve`; where
    /// it names none, the platform of the default directory.
    pub fn find(target: &Target) -> Result<Self> {
        if target.data.is_none() {
            let named = Self::named()?;
            if !named.databases.is_empty() {
                return Ok(named);
            }
            if let Some(addr) = &target.target {
                return Err(anyhow!(
                    "{addr} does not tell where its databases are: set SETTLE_<SERVICE>_DATABASE_URL, or name its directory with --data"
                ));
            }
        }
        // Says in one line what is wrong.
        target.ready()?;
        Self::read(&target.data_dir()?.join("ready.json"))
    }

    /// What the ready file of a platform says.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut read: Self =
            serde_json::from_str(&text).with_context(|| format!("{} does not say where the databases are", file.display()))?;
        // A sandbox provider in a process of its own has no ready file that says so.
        if let (false, Ok(url)) = (read.databases.contains_key("provider"), database_url("provider")) {
            read.databases.insert("provider".to_owned(), url);
        }
        read.provider_url = settings::value("SETTLE_PROVIDER_URL")?;
        Ok(read)
    }

    /// These databases, by service and `provider`, without Kafka.
    #[must_use]
    pub fn of(databases: BTreeMap<String, String>) -> Self {
        Self { databases, kafka: None, provider_url: None }
    }

    /// The same with a payment provider at this address.
    #[must_use]
    pub fn with_provider(self, url: &str) -> Self {
        Self { provider_url: Some(url.to_owned()), ..self }
    }

    /// What the environment names.
    fn named() -> Result<Self> {
        let settings = Settings::from_env()?;
        let mut databases = BTreeMap::new();
        for name in owners().into_iter().chain(["provider"]) {
            match database_url(name) {
                Ok(url) => drop(databases.insert(name.to_owned(), url)),
                Err(settings::Error::Missing(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let kafka = settings.kafka_brokers.filter(|_| settings.bus == BusKind::Kafka);
        Ok(Self { databases, kafka, provider_url: settings.provider_url })
    }

    /// The services with streams whose databases are known.
    #[must_use]
    pub fn services(&self) -> Vec<&'static str> {
        owners().into_iter().filter(|service| self.databases.contains_key(*service)).collect()
    }

    /// Where the payment provider is asked for its statement: over HTTP, as long as nobody says where its database is.
    #[must_use]
    pub fn provider_url(&self) -> Option<&str> {
        self.provider_url.as_deref().filter(|_| !self.databases.contains_key("provider"))
    }

    /// Connects to the database of a service, or of `provider`.
    pub async fn connect(&self, service: &str) -> Result<PgConnection> {
        let url = self.databases.get(service).with_context(|| format!("nobody says where the database of {service} is"))?;
        let connect = async {
            let options = PgConnectOptions::from_str(url)?
                .application_name("settle-tool")
                .options([("jit", "off"), ("lock_timeout", "10s"), ("timezone", "UTC")])
                .disable_statement_logging();
            options.connect().await
        };
        let connected = tokio::time::timeout(Duration::from_millis(CONNECT_MS_MAX), connect).await;
        match connected {
            Ok(Ok(db)) => Ok(db),
            Ok(Err(error)) => Err(anyhow!("the database of {service}: {error}")),
            Err(_) => Err(anyhow!("the database of {service} does not answer in {CONNECT_MS_MAX} ms")),
        }
    }

    /// Kafka, where it carries the streams.
    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        self.kafka.as_deref().map(Cluster::new)
    }

    /// The addresses of its brokers.
    #[must_use]
    pub fn brokers(&self) -> Option<&str> {
        self.kafka.as_deref()
    }
}

/// The services that have a database with streams.
fn owners() -> Vec<&'static str> {
    Service::ALL.into_iter().filter(|service| *service != Service::Gateway).map(Service::name).collect()
}

/// The service that writes a topic.
pub fn writer_of(topic: &str) -> Result<&'static str> {
    let writer = topic::WRITERS.iter().find(|(written, _)| *written == topic).map(|(_, writer)| *writer);
    writer.with_context(|| {
        let topics: Vec<&str> = topic::WRITERS.iter().map(|(topic, _)| *topic).collect();
        format!("there is no topic {topic}; they are {}", topics.join(" "))
    })
}

/// All topics, or those that are named, which must be there.
pub fn topics(named: &[String]) -> Result<Vec<String>> {
    if named.is_empty() {
        return Ok(topic::WRITERS.iter().map(|(topic, _)| (*topic).to_owned()).collect());
    }
    named.iter().map(|topic| writer_of(topic).map(|_| topic.clone())).collect()
}

/// Whoever asks for a change, and why: people look it up later.
#[derive(clap::Args, Clone, Debug)]
pub struct Responsible {
    /// Why, for whoever reads the audit later
    #[arg(long, value_name = "TEXT", value_parser = said)]
    pub reason: String,
    /// Who asks [default: $USER]
    #[arg(long, value_name = "NAME", value_parser = said)]
    pub who: Option<String>,
}

impl Responsible {
    /// A name, given or the user's.
    pub fn who(&self) -> Result<String> {
        asker(self.who.as_ref())
    }
}

/// The same for a change that can be tried before: nobody answers for a dry run.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub struct ResponsibleOrDryRun {
    /// Why, for whoever reads the audit later
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub reason: Option<String>,
    /// Who asks [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Only tell which
    #[arg(long)]
    pub dry_run: bool,
}

impl ResponsibleOrDryRun {
    /// A name, given or the user's; empty for a dry run.
    pub fn who(&self) -> Result<String> {
        if self.dry_run { Ok(String::new()) } else { asker(self.who.as_ref()) }
    }
}

/// Whom a change is put down to.
fn asker(who: Option<&String>) -> Result<String> {
    let of_environment = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|who| !who.is_empty()));
    who.cloned().or(of_environment).context("say who asks: --who NAME")
}

const SAID_CHARS_MAX: usize = 500;

fn said(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("must not be empty".into()),
        text if text.chars().count() > SAID_CHARS_MAX => Err(format!("must not be longer than {SAID_CHARS_MAX} characters")),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches, error::ErrorKind};

    use super::*;

    #[test]
    fn a_change_needs_a_reason_and_a_dry_run_neither_that_nor_a_name() {
        let read = |args: &[&str]| {
            let command = ResponsibleOrDryRun::augment_args(Command::new("change").no_binary_name(true));
            command.try_get_matches_from(args).and_then(|matches| ResponsibleOrDryRun::from_arg_matches(&matches))
        };
        let none = read(&["--who", "ann"]).expect_err("no reason");
        assert_eq!(none.kind(), ErrorKind::MissingRequiredArgument);
        assert!(none.to_string().contains("--reason <TEXT>"), "{none}");
        let change = read(&["--reason", "r", "--who", "ann"]).expect("a change");
        assert_eq!((change.who().expect("ann"), change.reason.as_deref(), change.dry_run), ("ann".to_owned(), Some("r"), false));
        let tried = read(&["--dry-run", "--who", "ann"]).expect("a dry run");
        assert_eq!((tried.who().expect("nobody"), tried.reason, tried.dry_run), (String::new(), None, true));
    }
}
