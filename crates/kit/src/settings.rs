//! Settings: read from the environment once, at start. `settle config` prints this table.

use std::{env, fs};

/// One setting, for people.
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub about: &'static str,
    pub secret: bool,
}

const fn setting(name: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting { name, default, about, secret: false }
}

const fn secret(name: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting { name, default, about, secret: true }
}

/// Every setting there is. `{NAME}_FILE` names a file to read the value from instead.
pub const TABLE: &[Setting] = &[
    setting("SETTLE_BUS", "", "postgres or kafka; without it kafka where KAFKA_BROKERS is set, else postgres"),
    setting("SETTLE_PARTITIONS", "4", "streams a topic; fixed at the first start"),
    setting("KAFKA_BROKERS", "", "host:port, comma separated"),
    setting("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "PLAINTEXT"),
    setting("SETTLE_GRPC_ADDR", "127.0.0.1:50051", "gRPC listens here"),
    setting("SETTLE_HTTP_ADDR", "127.0.0.1:8080", "REST listens here"),
    setting("SETTLE_ADMIN_ADDR", "127.0.0.1:9464", "/healthz /readyz /metrics listen here"),
    secret("SETTLE_ORDER_DATABASE_URL", "", "postgres://…"),
    secret("SETTLE_ORCHESTRATOR_DATABASE_URL", "", "postgres://…"),
    secret("SETTLE_PAYMENT_DATABASE_URL", "", "postgres://…"),
    secret("SETTLE_INVENTORY_DATABASE_URL", "", "postgres://…"),
    secret("SETTLE_SHIPPING_DATABASE_URL", "", "postgres://…"),
    secret("SETTLE_NOTIFICATION_DATABASE_URL", "", "postgres://…"),
    secret("SETTLE_PROVIDER_DATABASE_URL", "", "postgres://… of the sandbox provider's statement"),
    setting("SETTLE_ORDER_GRPC_URL", "", "where the gateway finds the order service; empty: in this process"),
    setting("SETTLE_DATABASE_CONNECTIONS_MAX", "8", "connections a service holds at most"),
    setting("SETTLE_DRAIN_MS", "8000", "time to finish what is in flight at a stop"),
    setting("OTEL_EXPORTER_OTLP_ENDPOINT", "", "OTLP over gRPC, for example http://127.0.0.1:4317; empty: no traces leave"),
    setting("RUST_LOG", "info", "log filter"),
];

/// What is wrong with a setting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}={value}: {problem}")]
    Bad { name: &'static str, value: String, problem: String },
    #[error("{name}_FILE={path}")]
    Unreadable { name: &'static str, path: String, source: std::io::Error },
    #[error("{0} is not set")]
    Missing(String),
}

/// The settings of a process.
#[derive(Clone, Debug)]
pub struct Settings {
    pub bus: BusKind,
    pub kafka_brokers: Option<String>,
    pub partitions: i32,
    pub grpc_addr: String,
    pub http_addr: String,
    pub admin_addr: String,
    pub order_grpc_url: Option<String>,
    pub database_connections_max: u32,
    pub drain_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusKind {
    Postgres,
    Kafka,
}

impl std::str::FromStr for BusKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "postgres" => Ok(Self::Postgres),
            "kafka" => Ok(Self::Kafka),
            _ => Err("is neither postgres nor kafka".into()),
        }
    }
}

impl std::fmt::Display for BusKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
        })
    }
}

impl Settings {
    pub fn from_env() -> Result<Self, Error> {
        let kafka_brokers = value("KAFKA_BROKERS")?;
        let protocol = or_default("KAFKA_SECURITY_PROTOCOL")?;
        if protocol != "PLAINTEXT" {
            let problem = "this build speaks PLAINTEXT only".to_owned();
            return Err(Error::Bad { name: "KAFKA_SECURITY_PROTOCOL", value: protocol, problem });
        }
        let bus = match value("SETTLE_BUS")? {
            Some(text) => text.parse().map_err(|problem| Error::Bad { name: "SETTLE_BUS", value: text, problem })?,
            None if kafka_brokers.is_some() => BusKind::Kafka,
            None => BusKind::Postgres,
        };
        Ok(Self {
            bus,
            kafka_brokers,
            partitions: number("SETTLE_PARTITIONS", 1..=1024)?,
            grpc_addr: or_default("SETTLE_GRPC_ADDR")?,
            http_addr: or_default("SETTLE_HTTP_ADDR")?,
            admin_addr: or_default("SETTLE_ADMIN_ADDR")?,
            order_grpc_url: value("SETTLE_ORDER_GRPC_URL")?,
            database_connections_max: number("SETTLE_DATABASE_CONNECTIONS_MAX", 4..=256)?,
            drain_ms: number("SETTLE_DRAIN_MS", 100..=600_000)?,
        })
    }
}

/// The database of a service, as the environment names it.
pub fn database_url(service: &str) -> Result<String, Error> {
    let wanted = format!("SETTLE_{}_DATABASE_URL", service.to_uppercase());
    let setting = TABLE.iter().find(|setting| setting.name == wanted);
    setting.and_then(|setting| value(setting.name).transpose()).unwrap_or(Err(Error::Missing(wanted)))
}

/// The value in the environment, or in the file that `{NAME}_FILE` names; an empty one counts as absent.
pub fn value(name: &'static str) -> Result<Option<String>, Error> {
    if let Ok(path) = env::var(format!("{name}_FILE")) {
        let text = fs::read_to_string(&path).map_err(|source| Error::Unreadable { name, path, source })?;
        return Ok(Some(text.trim_end().to_owned()));
    }
    Ok(env::var(name).ok().filter(|text| !text.is_empty()))
}

fn or_default(name: &'static str) -> Result<String, Error> {
    let default = TABLE.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default);
    Ok(value(name)?.unwrap_or_else(|| default.to_owned()))
}

fn number<N>(name: &'static str, range: std::ops::RangeInclusive<N>) -> Result<N, Error>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let text = or_default(name)?;
    match text.parse::<N>() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err(Error::Bad { name, value: text, problem: format!("is not a number from {} to {}", range.start(), range.end()) }),
    }
}
