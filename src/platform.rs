//! The platform in a process: any subset of the services, on their databases and a bus.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use contracts::topic;
use kit::{
    Desks, Room, Settings,
    admin::{self, Metrics, Readiness},
    database::{self, Plans},
};
use messaging::{Bus, Tasks, bus::Publisher};
use sqlx::{PgPool, migrate::Migrator};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{service::Routes, transport::Channel};

use crate::{dead_letters, provider::Wiring};

/// How long a start waits for a database that does not answer yet.
const DATABASE_WAIT_MS: u64 = 15_000;
const DATABASE_RETRY_MS: u64 = 250;
/// Every group that reads a service keeps a connection, and one to listen where the service is in another process.
const READER_CONNECTIONS_MAX: u32 = 2 * Service::ALL.len() as u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Service {
    Order,
    Orchestrator,
    Payment,
    Inventory,
    Shipping,
    Notification,
    Gateway,
}

impl Service {
    pub const ALL: [Self; 7] =
        [Self::Order, Self::Orchestrator, Self::Payment, Self::Inventory, Self::Shipping, Self::Notification, Self::Gateway];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Orchestrator => "orchestrator",
            Self::Payment => "payment",
            Self::Inventory => "inventory",
            Self::Shipping => "shipping",
            Self::Notification => "notification",
            Self::Gateway => "gateway",
        }
    }

    /// Its own migrations; the gateway owns nothing.
    fn migrations(self) -> Option<&'static Migrator> {
        match self {
            Self::Order => Some(&order::MIGRATIONS),
            Self::Orchestrator => Some(&orchestrator::MIGRATIONS),
            Self::Payment => Some(&payment::MIGRATIONS),
            Self::Inventory => Some(&inventory::MIGRATIONS),
            Self::Shipping => Some(&shipping::MIGRATIONS),
            Self::Notification => Some(&notification::MIGRATIONS),
            Self::Gateway => None,
        }
    }

    /// The gRPC services it answers.
    fn grpc_services(self) -> &'static [&'static str] {
        match self {
            Self::Order => &["settle.order.v1.OrderService"],
            Self::Orchestrator => &["settle.saga.v1.SagaService"],
            Self::Payment => &["settle.payment.v1.PaymentService"],
            Self::Inventory => &["settle.inventory.v1.InventoryService"],
            Self::Shipping => &["settle.shipping.v1.ShippingService"],
            Self::Notification => &["settle.notification.v1.NotificationService"],
            Self::Gateway => &[],
        }
    }

    fn topics(self) -> Vec<&'static str> {
        let written = topic::WRITERS.iter().chain(topic::COPIES).filter(|(_, writer)| *writer == self.name());
        written.map(|(topic, _)| *topic).collect()
    }
}

/// Which bus, and how kind it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusChoice {
    Postgres,
    Kafka {
        brokers: String,
    },
    /// For tests: any interleaving, dribs and repeats.
    Shuffle {
        seed: u64,
        dedupe: bool,
    },
}

/// Addresses that are bound already, so that a port in use is found out before anything starts.
pub struct Listeners {
    pub grpc: TcpListener,
    pub http: TcpListener,
    pub admin: TcpListener,
}

impl Listeners {
    pub async fn bind(grpc: &str, http: &str, admin: &str) -> Result<Self> {
        let bind = async |what: &str, addr: &str| {
            TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr} for {what}"))
        };
        Ok(Self { grpc: bind("gRPC", grpc).await?, http: bind("REST", http).await?, admin: bind("admin", admin).await? })
    }
}

/// What to run, and on what.
pub struct Plan {
    pub services: Vec<Service>,
    /// Databases of the services to run, and on the embedded bus of those they read.
    pub databases: BTreeMap<Service, String>,
    /// The sandbox provider's statement; needed by payment, unless its provider is in another process.
    pub provider_database: Option<String>,
    pub provider: Wiring,
    pub bus: BusChoice,
    pub listeners: Listeners,
    pub settings: Arc<Settings>,
    pub metrics: Metrics,
}

/// Running services.
pub struct Platform {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    tasks: Tasks,
    readiness: Readiness,
    servers: JoinSet<Result<()>>,
    drain: Duration,
}

impl Platform {
    /// Migrates the databases, starts the services and serves them.
    pub async fn start(plan: Plan) -> Result<Self> {
        let Plan { services, databases, provider_database, provider, bus, listeners, settings, metrics } = plan;
        let (grpc, http, admin) = (listeners.grpc.local_addr()?, listeners.http.local_addr()?, listeners.admin.local_addr()?);
        let drain = Duration::from_millis(settings.drain_ms);
        let tasks = Tasks::new();

        for service in &services {
            if let Some(url) = databases.get(service) {
                migrate(*service, url).await?;
            }
        }
        if let Some(url) = &provider_database {
            migrate_provider(url).await?;
        }
        let bus = open_bus(&services, &databases, bus, &settings)?;
        let mut routes = Routes::default();
        let mut grpc_services = Vec::new();
        let (desks, readiness) = (Desks::default(), Readiness::default());
        let own_gateway = services.contains(&Service::Gateway).then(|| reachable(http));
        for service in &services {
            if *service == Service::Gateway {
                continue;
            }
            let url = databases.get(service).with_context(|| format!("the {} service has no database", service.name()))?;
            let pool = database::pool(url, Plans::Pinned, settings.database_connections_max)?;
            let room = Room {
                pool,
                bus: bus.clone(),
                tasks: tasks.clone(),
                settings: settings.clone(),
                desks: desks.clone(),
                readiness: readiness.clone(),
            };
            let started = match service {
                Service::Payment => provider.start_payment(room, provider_database.as_deref(), own_gateway).await,
                _ => start_service(*service, room).await,
            };
            routes = merge(routes, started.with_context(|| format!("the {} service does not start", service.name()))?);
            grpc_services.extend(service.grpc_services());
            tracing::info!(r#type = "STARTUP", service = service.name(), "started");
        }
        tasks.spawn("METRICS", kit::counts::report(tasks.clone()));
        if !desks.services().is_empty() {
            routes = merge(routes, dead_letters::routes(desks));
            grpc_services.push(dead_letters::SERVICE);
        }
        let routes = kit::serve::with_reflection(routes, &grpc_services).await?;
        let mut servers = JoinSet::new();
        servers.spawn(kit::serve::grpc(listeners.grpc, routes, tasks.clone(), drain));
        servers.spawn(kit::serve::http(listeners.admin, admin::router(metrics, readiness.clone()), tasks.clone(), drain));
        if services.contains(&Service::Gateway) {
            let in_here = services.contains(&Service::Order);
            ensure!(
                in_here || settings.order_grpc_url.is_some(),
                "the gateway does not know where orders are: set SETTLE_ORDER_GRPC_URL"
            );
            let here = format!("http://{}", reachable(grpc));
            let channel = |url: &str| anyhow::Ok(Channel::from_shared(url.to_owned())?.tcp_nodelay(true).connect_lazy());
            let orders = channel(settings.order_grpc_url.as_deref().unwrap_or(&here))?;
            let mut upstreams = gateway::Upstreams::new().add("settle.order.v1", orders);
            let in_here = services.contains(&Service::Payment).then_some(&*here);
            if let Some(url) = settings.payment_grpc_url.as_deref().or(in_here) {
                upstreams = upstreams.add("settle.payment.v1", channel(url)?);
            }
            servers.spawn(kit::serve::http(listeners.http, gateway::router(upstreams)?, tasks.clone(), drain));
        }
        Ok(Self { grpc, http, admin, tasks, readiness, servers, drain })
    }

    /// Resolves when a server ends by itself, which only a failure makes it do.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.servers.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return error.into(),
                None => std::future::pending().await,
            }
        }
    }

    /// Finishes what is in flight and stops; says so if something did not end in time.
    pub async fn stop(mut self) -> Result<()> {
        self.readiness.draining();
        let drained = self.tasks.drain(self.drain).await;
        while let Some(ended) = self.servers.join_next().await {
            ended??;
        }
        if !drained {
            bail!("something was still busy after {} ms; nothing is lost, it goes on at the next start", self.drain.as_millis());
        }
        Ok(())
    }
}

/// An unspecified address is reached over loopback.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    addr
}

/// Brings a service's database to the newest schema, waiting a while for a server that does not answer yet.
pub async fn migrate(service: Service, url: &str) -> Result<()> {
    let Some(migrations) = service.migrations() else { return Ok(()) };
    wait_for_database(url).await.with_context(|| format!("the database of the {} service", service.name()))?;
    database::migrate(url, migrations).await.with_context(|| format!("migrating the database of the {} service", service.name()))
}

/// Brings the sandbox provider's database to the newest schema.
pub async fn migrate_provider(url: &str) -> Result<()> {
    wait_for_database(url).await.context("the database of the sandbox provider")?;
    database::migrate_alone(url, &payment::sandbox::MIGRATIONS).await.context("migrating the database of the sandbox provider")
}

async fn wait_for_database(url: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(DATABASE_WAIT_MS);
    loop {
        match database::answers(url).await {
            Ok(()) => return Ok(()),
            Err(sqlx::Error::Io(_)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(DATABASE_RETRY_MS)).await;
            }
            Err(error) => bail!("does not answer: {error}"),
        }
    }
}

fn open_bus(services: &[Service], databases: &BTreeMap<Service, String>, choice: BusChoice, settings: &Settings) -> Result<Bus> {
    let mut publishers = Vec::new();
    for (service, url) in databases {
        let topics = service.topics();
        if topics.is_empty() {
            continue;
        }
        let pool: PgPool = database::pool(url, Plans::Pinned, READER_CONNECTIONS_MAX)?;
        let remote = services.len() < Service::ALL.len();
        publishers.push(Publisher { service: service.name(), readers: readers_of(&topics), topics, pool, remote });
    }
    let partitions = settings.partitions;
    let bus = match choice {
        BusChoice::Postgres => Bus::postgres(partitions, publishers),
        BusChoice::Shuffle { seed, dedupe: true } => Bus::shuffle(partitions, publishers, seed),
        BusChoice::Shuffle { seed, dedupe: false } => Bus::shuffle(partitions, publishers, seed).without_dedupe(),
        BusChoice::Kafka { brokers } => Bus::kafka(partitions, publishers, messaging::bus::kafka::Cluster::new(brokers)),
    };
    Ok(bus.with_limits(settings.limits))
}

/// Who hears one of these topics: whoever could copy a dead letter of it.
fn readers_of(topics: &[&str]) -> Vec<&'static str> {
    let heard = contracts::topic::COPIES
        .iter()
        .filter(|(copies, _)| copies.strip_suffix(".dlq").is_some_and(|topic| topics.contains(&topic)));
    BTreeSet::from_iter(heard.map(|(_, service)| *service)).into_iter().collect()
}

async fn start_service(service: Service, room: Room) -> Result<Routes> {
    match service {
        Service::Order => order::start(room).await,
        Service::Orchestrator => orchestrator::start(room).await,
        Service::Inventory => inventory::start(room).await,
        Service::Shipping => shipping::start(room).await,
        Service::Notification => notification::start(room).await,
        // Payment is started on its provider.
        Service::Payment | Service::Gateway => Ok(Routes::default()),
    }
}

fn merge(all: Routes, one: Routes) -> Routes {
    // Both answer unknown paths with UNIMPLEMENTED; a router has one such answer.
    Routes::from(all.into_axum_router().merge(one.into_axum_router().reset_fallback()))
}
