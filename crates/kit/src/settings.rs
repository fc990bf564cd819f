//! Settings: read from the environment once, at start. `settle config` prints this table.

use std::{env, fs};

use messaging::Limits;

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
    setting("SETTLE_PAYMENT_GRPC_URL", "", "where the gateway takes the provider's webhooks; empty: in this process"),
    setting("SETTLE_CHECKOUT", "checkout", "the saga that settles new orders: checkout or checkout-reserve-first"),
    setting("SETTLE_DATABASE_CONNECTIONS_MAX", "8", "connections a service holds at most"),
    setting("SETTLE_DRAIN_MS", "8000", "time to finish what is in flight at a stop"),
    setting("SETTLE_PROVIDER_URL", "", "http://… of a payment provider in another process; empty: the sandbox in this one"),
    setting("SETTLE_PROVIDER_CALLS_MAX", "256", "calls under way at the provider"),
    setting("SETTLE_PROVIDER_TIMEOUT_MS", "2000", "how long a call to the provider may take before its outcome counts as unknown"),
    setting("SETTLE_PROVIDER_RETRY_MS_MAX", "30000", "longest pause before an unknown outcome is looked at again"),
    setting("SETTLE_PROVIDER_KEY_WINDOW_S", "86400", "how long the provider keeps our keys; an older one is only asked about"),
    setting("SETTLE_SANDBOX_ADDR", "127.0.0.1:8082", "`settle sandbox-provider` listens here"),
    setting("SETTLE_SANDBOX_DELAY_MS", "0", "how long the sandbox provider takes to answer"),
    setting("SETTLE_SANDBOX_CHAOS", "", "how often the sandbox provider misbehaves, such as seed=7,decline=0.02,silent=0.01"),
    setting(
        "SETTLE_WEBHOOK_URL",
        "",
        "where the sandbox provider sends its webhooks; empty: to the gateway in this process, if any",
    ),
    secret("SETTLE_WEBHOOK_SECRET", "", "signs webhooks; the new one and the old one with a comma between them are both good"),
    setting("SETTLE_BATCH_ROWS_MAX", "1024", "inputs in one transaction"),
    setting("SETTLE_QUEUE_ROWS_MAX", "4096", "calls, and records, that wait for the next transaction; more calls are refused"),
    setting("SETTLE_QUEUE_AGE_MS_MAX", "5000", "calls are refused while one has waited longer than this"),
    setting("SETTLE_BACKLOG_AGE_MS_MAX", "30000", "new orders are refused while a reader is further behind than this"),
    setting("SETTLE_PARK_MAX", "100", "records a group may park within the window; what would park more stops its streams instead"),
    setting("SETTLE_PARK_WINDOW_S", "60", "the window of SETTLE_PARK_MAX"),
    setting("SETTLE_EARLY_WAIT_S", "600", "how long a record waits for what it needs before it is a dead letter"),
    setting("SETTLE_GAP_WAIT_MS", "10000", "how long a hole in a stream may last before the stream stops"),
    setting("SETTLE_DATABASE_MS_MAX", "30000", "work at a database is given up after this, and tried again"),
    setting("SETTLE_CRASHES_MAX", "5", "a record is parked that the process died of this often in a row"),
    setting(
        "SETTLE_OUTBOX_RETENTION_S",
        "604800",
        "how long what services say is kept at least; what a reader has not passed is kept anyway",
    ),
    setting("SETTLE_PROCESSED_EVENTS_RETENTION_S", "2592000", "how long applied records of foreign producers are remembered"),
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
    pub payment_grpc_url: Option<String>,
    /// Name of the saga definition that settles new orders.
    pub checkout: &'static str,
    pub database_connections_max: u32,
    /// Of every runner in the process.
    pub limits: Limits,
    pub drain_ms: u64,
    /// A provider in another process.
    pub provider_url: Option<String>,
    pub provider_limits: ProviderLimits,
    pub sandbox_addr: String,
    /// What the sandbox provider takes to answer.
    pub sandbox_delay_ms: u64,
    /// As it was given: the sandbox reads it.
    pub sandbox_chaos: Option<String>,
    pub webhook_url: Option<String>,
    pub webhook_secret: Option<Secret>,
}

/// The bounds of calls to the payment provider.
#[derive(Clone, Copy, Debug)]
pub struct ProviderLimits {
    pub calls_max: usize,
    pub timeout_ms: u64,
    pub retry_ms_max: u64,
    pub key_window_s: i64,
}

impl Default for ProviderLimits {
    fn default() -> Self {
        Self { calls_max: 256, timeout_ms: 2_000, retry_ms_max: 30_000, key_window_s: 86_400 }
    }
}

/// A value that no log shows.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(set)")
    }
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
            payment_grpc_url: value("SETTLE_PAYMENT_GRPC_URL")?,
            checkout: one_of("SETTLE_CHECKOUT", &["checkout", "checkout-reserve-first"])?,
            database_connections_max: number("SETTLE_DATABASE_CONNECTIONS_MAX", 4..=256)?,
            limits: limits()?,
            drain_ms: number("SETTLE_DRAIN_MS", 100..=600_000)?,
            provider_url: value("SETTLE_PROVIDER_URL")?,
            provider_limits: ProviderLimits {
                calls_max: number("SETTLE_PROVIDER_CALLS_MAX", 1..=4_096)?,
                timeout_ms: number("SETTLE_PROVIDER_TIMEOUT_MS", 10..=60_000)?,
                retry_ms_max: number("SETTLE_PROVIDER_RETRY_MS_MAX", 1..=3_600_000)?,
                key_window_s: number("SETTLE_PROVIDER_KEY_WINDOW_S", 1..=315_360_000)?,
            },
            sandbox_addr: or_default("SETTLE_SANDBOX_ADDR")?,
            sandbox_delay_ms: number("SETTLE_SANDBOX_DELAY_MS", 0..=60_000)?,
            sandbox_chaos: value("SETTLE_SANDBOX_CHAOS")?,
            webhook_url: value("SETTLE_WEBHOOK_URL")?,
            webhook_secret: value("SETTLE_WEBHOOK_SECRET")?.map(Secret),
        })
    }
}

fn limits() -> Result<Limits, Error> {
    let limits = Limits {
        batch_rows_max: number("SETTLE_BATCH_ROWS_MAX", 1..=10_000)?,
        queue_rows_max: number("SETTLE_QUEUE_ROWS_MAX", 1..=1_000_000)?,
        queue_age_ms_max: number("SETTLE_QUEUE_AGE_MS_MAX", 100..=600_000)?,
        backlog_age_ms_max: number("SETTLE_BACKLOG_AGE_MS_MAX", 1_000..=604_800_000)?,
        park_max: number("SETTLE_PARK_MAX", 1..=1_000_000)?,
        park_window_s: number("SETTLE_PARK_WINDOW_S", 1..=86_400)?,
        early_wait_s: number("SETTLE_EARLY_WAIT_S", 1..=604_800)?,
        gap_wait_ms: number("SETTLE_GAP_WAIT_MS", 100..=600_000)?,
        database_ms_max: number("SETTLE_DATABASE_MS_MAX", 11_000..=600_000)?,
        crashes_max: number("SETTLE_CRASHES_MAX", 1..=100)?,
        outbox_retention_s: number("SETTLE_OUTBOX_RETENTION_S", 1..=315_360_000)?,
        processed_events_retention_s: number("SETTLE_PROCESSED_EVENTS_RETENTION_S", 1..=315_360_000)?,
        ..Limits::default()
    };
    if limits.processed_events_retention_s < limits.outbox_retention_s {
        return Err(Error::Bad {
            name: "SETTLE_PROCESSED_EVENTS_RETENTION_S",
            value: limits.processed_events_retention_s.to_string(),
            problem: "is less than SETTLE_OUTBOX_RETENTION_S: what is kept can come again".to_owned(),
        });
    }
    Ok(limits)
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

fn one_of(name: &'static str, known: &[&'static str]) -> Result<&'static str, Error> {
    let text = or_default(name)?;
    known.iter().find(|known| **known == text).copied().ok_or_else(|| Error::Bad {
        name,
        value: text,
        problem: format!("is none of {}", known.join(", ")),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_bounds_of_messaging_and_of_the_provider() {
        let default = |name: &str| TABLE.iter().find(|setting| setting.name == name).map(|setting| setting.default.to_owned());
        let (limits, provider) = (Limits::default(), ProviderLimits::default());
        for (name, value) in [
            ("SETTLE_PROVIDER_CALLS_MAX", provider.calls_max.to_string()),
            ("SETTLE_PROVIDER_TIMEOUT_MS", provider.timeout_ms.to_string()),
            ("SETTLE_PROVIDER_RETRY_MS_MAX", provider.retry_ms_max.to_string()),
            ("SETTLE_PROVIDER_KEY_WINDOW_S", provider.key_window_s.to_string()),
            ("SETTLE_BATCH_ROWS_MAX", limits.batch_rows_max.to_string()),
            ("SETTLE_QUEUE_ROWS_MAX", limits.queue_rows_max.to_string()),
            ("SETTLE_QUEUE_AGE_MS_MAX", limits.queue_age_ms_max.to_string()),
            ("SETTLE_BACKLOG_AGE_MS_MAX", limits.backlog_age_ms_max.to_string()),
            ("SETTLE_PARK_MAX", limits.park_max.to_string()),
            ("SETTLE_PARK_WINDOW_S", limits.park_window_s.to_string()),
            ("SETTLE_EARLY_WAIT_S", limits.early_wait_s.to_string()),
            ("SETTLE_GAP_WAIT_MS", limits.gap_wait_ms.to_string()),
            ("SETTLE_DATABASE_MS_MAX", limits.database_ms_max.to_string()),
            ("SETTLE_CRASHES_MAX", limits.crashes_max.to_string()),
            ("SETTLE_OUTBOX_RETENTION_S", limits.outbox_retention_s.to_string()),
            ("SETTLE_PROCESSED_EVENTS_RETENTION_S", limits.processed_events_retention_s.to_string()),
        ] {
            assert_eq!(default(name), Some(value), "{name}");
        }
    }
}
