//! `settle up`: the whole platform in one process, on a private Postgres, and on a private Kafka if asked.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::topic;
use kit::{Settings, admin::Metrics, settings::BusKind, telemetry::Telemetry};
use local::{DirLock, Kafka, Postgres, postgres};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::{
    client,
    platform::{BusChoice, Listeners, Plan, Platform, Service},
    provider::Wiring,
    seed,
};

/// The services that have a database.
const OWNERS: [Service; 6] =
    [Service::Order, Service::Orchestrator, Service::Payment, Service::Inventory, Service::Shipping, Service::Notification];
const PRICES_WITHIN: Duration = Duration::from_secs(30);
const PRICES_POLL: Duration = Duration::from_millis(20);

#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Where everything is kept; the same directory goes on where it stopped [default: $SETTLE_DATA, else /var/lib/settle for root, else the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// postgres or kafka; a directory remembers its bus
    #[arg(long)]
    pub bus: Option<BusKind>,
    /// REST listens here; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// gRPC listens here [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<String>,
    /// /healthz, /readyz and /metrics listen here [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Written when all is ready, beside DIR/ready.json
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Do not create the products of the examples
    #[arg(long)]
    pub no_seed: bool,
}

/// Runs until a stop signal.
pub async fn main(args: Args) -> Result<()> {
    let stop = kit::signal::stop()?;
    tokio::pin!(stop);
    let telemetry = Telemetry::install(&Service::ALL.map(Service::name))?;
    let metrics = Metrics::install()?;
    let mut up = tokio::select! {
        up = Up::start(args, None, metrics) => up?,
        signal = &mut stop => {
            // Children hang on a pipe and end with this process.
            eprintln!("settle: {signal} before it was ready");
            return Ok(());
        }
    };
    say!("{}", up.summary());
    up.announce()?;
    let failed = tokio::select! {
        signal = stop => {
            eprintln!("settle: {signal}, finishing what is in flight");
            None
        }
        error = up.failed() => Some(error),
    };
    let stopped = up.stop().await;
    telemetry.flush().await;
    match failed {
        Some(error) => Err(error),
        None => stopped,
    }
}

/// A running platform with the servers it started.
pub struct Up {
    pub platform: Platform,
    pub data: PathBuf,
    /// Databases by service, `provider` included where the sandbox is in here.
    pub databases: BTreeMap<String, String>,
    bus: BusKind,
    ready_files: Vec<PathBuf>,
    postgres: Postgres,
    kafka: Option<Kafka>,
    _lock: DirLock,
}

impl Up {
    /// Starts everything; `bus` overrides the choice of bus for tests.
    pub async fn start(args: Args, bus: Option<BusChoice>, metrics: Metrics) -> Result<Self> {
        let settings = Settings::from_env()?;
        let provider = Wiring::read(&settings)?;
        let data = args.data.map_or_else(local::data_dir::default_dir, Ok)?;
        fs::create_dir_all(&data).with_context(|| format!("cannot create the data directory {}", data.display()))?;
        let data = data.canonicalize()?;
        let lock = DirLock::take(&data)?;
        let ready_files: Vec<PathBuf> = [Some(data.join("ready.json")), args.ready_file].into_iter().flatten().collect();
        for file in &ready_files {
            remove(file)?;
        }
        let listeners = Listeners::bind(
            args.grpc.as_deref().unwrap_or(&settings.grpc_addr),
            args.http.as_deref().unwrap_or(&settings.http_addr),
            args.admin.as_deref().unwrap_or(&settings.admin_addr),
        )
        .await?;
        let bus_kind = args.bus.or(remembered_bus(&data)).unwrap_or(settings.bus);
        if let (BusKind::Kafka, Some(brokers)) = (bus_kind, &settings.kafka_brokers) {
            messaging::bus::kafka::Cluster::new(brokers).answers().await?;
        }

        progress("starting Postgres");
        let postgres = Postgres::start(&data, postgres::Options::default()).await?;
        let mut databases = BTreeMap::new();
        let sandbox = (!provider.is_remote()).then_some("provider");
        for name in OWNERS.map(Service::name).into_iter().chain(sandbox) {
            postgres.create_database(&database_of(name)).await?;
            databases.insert(name.to_owned(), postgres.url(&database_of(name)));
        }
        let mut kafka = None;
        let choice = match (bus, bus_kind) {
            (Some(choice), _) => choice,
            (None, BusKind::Postgres) => BusChoice::Postgres,
            (None, BusKind::Kafka) => {
                let brokers = match &settings.kafka_brokers {
                    Some(brokers) => brokers.clone(),
                    None => {
                        progress("starting Apache Kafka (the first time its jars are fetched, which takes a while)");
                        let started = Kafka::start(&data).await?;
                        let brokers = started.brokers();
                        kafka = Some(started);
                        brokers
                    }
                };
                BusChoice::Kafka { brokers }
            }
        };

        progress("starting the services");
        let plan = Plan {
            services: Service::ALL.to_vec(),
            databases: OWNERS.iter().map(|s| (*s, postgres.socket_url(&database_of(s.name())))).collect(),
            provider_database: sandbox.map(|name| postgres.socket_url(&database_of(name))),
            provider,
            bus: choice,
            listeners,
            settings: Arc::new(settings),
            metrics,
        };
        let platform = Platform::start(plan).await?;
        fs::write(data.join("bus"), format!("{bus_kind}\n")).with_context(|| format!("cannot write to {}", data.display()))?;
        let up = Self { platform, data, databases, bus: bus_kind, ready_files, postgres, kafka, _lock: lock };
        if !args.no_seed {
            up.seed_once().await?;
        }
        Ok(up)
    }

    /// Writes the ready files: whoever waits for one of them may go on.
    pub fn announce(&self) -> Result<()> {
        self.ready_files.iter().try_for_each(|file| self.write_ready(file))
    }

    /// Kafka's address, where this process started one.
    #[must_use]
    pub fn kafka_brokers(&self) -> Option<String> {
        self.kafka.as_ref().map(Kafka::brokers)
    }

    /// Resolves when something this process cannot do without has ended.
    pub async fn failed(&mut self) -> anyhow::Error {
        let kafka = async {
            match &self.kafka {
                Some(kafka) => kafka.end().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = self.platform.failed() => error,
            status = self.postgres.end() => anyhow::anyhow!("Postgres ended by itself ({status}); its log is {}", self.postgres.log().display()),
            status = kafka => anyhow::anyhow!("Kafka ended by itself ({status})"),
        }
    }

    /// Finishes what is in flight, then stops the servers.
    pub async fn stop(self) -> Result<()> {
        let removed: Result<()> = self.ready_files.iter().try_for_each(|file| remove(file));
        let drained = self.platform.stop().await;
        let kafka = match self.kafka {
            Some(kafka) => kafka.stop().await,
            None => Ok(()),
        };
        let postgres = self.postgres.stop().await;
        removed.and(drained).and(Ok(kafka?)).and(Ok(postgres?))
    }

    /// A short table of addresses and three commands to try.
    #[must_use]
    pub fn summary(&self) -> String {
        let Platform { grpc, http, admin, .. } = &self.platform;
        let is_default = local::data_dir::default_dir().is_ok_and(|dir| dir == self.data);
        format!(
            "\nSettle is ready: bus {bus}, data in {data}\n\n  gRPC    {grpc}\n  REST    http://{http}\n  admin   http://{admin}/healthz /readyz /metrics\n\n\
             Try:\n  curl -s http://{http}/api/v1/orders -H 'Content-Type: application/json' \\\n    \
             -d '{{\"userId\":\"usr_001\",\"items\":[{{\"sku\":\"SKU-123\",\"qty\":2,\"price\":1200}}],\"currency\":\"LKR\"}}'\n  \
             grpcurl -plaintext {grpc} list\n  {settle} demo{with_data}\n",
            settle = std::env::current_exe().map_or_else(|_| "settle".to_owned(), |path| path.display().to_string()),
            with_data = if is_default { String::new() } else { format!(" --data {}", self.data.display()) },
            bus = self.bus,
            data = self.data.display(),
        )
    }

    /// The products of the examples, once a data directory.
    async fn seed_once(&self) -> Result<()> {
        let marker = self.data.join("seeded");
        if marker.exists() {
            return Ok(());
        }
        progress("creating the products of the examples");
        seed::run(client::connect(&self.platform.grpc.to_string()).await?).await?;
        self.prices_heard().await?;
        fs::write(&marker, "")?;
        Ok(())
    }

    /// Waits until the order service has heard of the catalogue's prices: from then on an order need not name them.
    async fn prices_heard(&self) -> Result<()> {
        let mut inventory = PgConnection::connect(&self.databases["inventory"]).await?;
        let mut order = PgConnection::connect(&self.databases["order"]).await?;
        let mut said = messaging::outbox::ends(&mut inventory).await?;
        said.retain(|(stream, _)| stream.topic == topic::PRODUCT_EVENTS);
        let deadline = tokio::time::Instant::now() + PRICES_WITHIN;
        loop {
            let heard = messaging::progress::of_group(&mut order, "order").await?;
            if said.iter().all(|(stream, seq)| heard.iter().any(|(at, position)| at == stream && position.seq >= *seq)) {
                return Ok(());
            }
            ensure!(tokio::time::Instant::now() < deadline, "the order service does not hear of the catalogue's prices");
            tokio::time::sleep(PRICES_POLL).await;
        }
    }

    fn write_ready(&self, file: &Path) -> Result<()> {
        let Platform { grpc, http, admin, .. } = &self.platform;
        let ready = json!({
            "grpc": grpc.to_string(),
            "http": http.to_string(),
            "admin": admin.to_string(),
            "databases": self.databases,
            "kafka": self.kafka_brokers().or_else(|| std::env::var("KAFKA_BROKERS").ok().filter(|_| self.bus == BusKind::Kafka)),
            "pid": std::process::id(),
        });
        let temporary = file.with_extension("tmp");
        remove(&temporary)?;
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        writeln!(out, "{ready}")?;
        out.sync_all()?;
        fs::rename(&temporary, file).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn database_of(service: &str) -> String {
    format!("settle_{service}")
}

fn progress(what: &str) {
    eprintln!("settle: {what}");
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// The bus this directory was last run with.
fn remembered_bus(data: &Path) -> Option<BusKind> {
    fs::read_to_string(data.join("bus")).ok()?.trim().parse().ok()
}
