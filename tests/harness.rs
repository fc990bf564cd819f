//! Platforms for tests: started once a bus, through the same door as `settle up`, and ended with the process.

use std::{collections::BTreeMap, future::Future, sync::OnceLock, time::Duration};

use anyhow::Result;
use contracts::order::v1::{
    CreateOrderRequest, GetOrderRequest, Order, WatchOrderRequest, order_service_client::OrderServiceClient,
};
use kit::{admin::Metrics, settings::BusKind};
use settle::{
    platform::BusChoice,
    up::{Args, Up},
};
use tokio::{runtime::Runtime, sync::OnceCell};
use tonic::transport::Channel;

/// How long an order may take to settle; far more than it needs.
pub(crate) const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// The buses every whole-system test passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    Postgres,
    Kafka,
    /// Streams interleaved at random, dribs, repeats.
    Shuffle,
    /// The same, and the repeats reach the handlers.
    ShuffleWithoutDedupe,
}

/// Runs a test on the runtime that all share: what it starts lives on for the others.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime")).block_on(test)
}

/// A running platform.
pub(crate) struct Stage {
    pub(crate) bus: Bus,
    pub(crate) grpc: String,
    pub(crate) http: String,
    /// By service, `provider` included.
    pub(crate) databases: BTreeMap<String, String>,
    _up: Up,
    _dir: tempfile::TempDir,
}

/// The platform on this bus. Kafka is real; without Java it is an error, never a skip.
pub(crate) async fn platform(bus: Bus) -> &'static Stage {
    static STAGES: [OnceCell<Stage>; 4] = [const { OnceCell::const_new() }; 4];
    STAGES[bus as usize].get_or_init(|| async { Stage::start(bus).await.expect("the platform starts") }).await
}

impl Stage {
    async fn start(bus: Bus) -> Result<Self> {
        let dir = data_dir()?;
        let any = || Some("127.0.0.1:0".to_owned());
        let args = Args {
            data: Some(dir.path().join("data")),
            bus: Some(if bus == Bus::Kafka { BusKind::Kafka } else { BusKind::Postgres }),
            http: any(),
            grpc: any(),
            admin: any(),
            ..Args::default()
        };
        let choice = match bus {
            Bus::Postgres | Bus::Kafka => None,
            Bus::Shuffle => Some(BusChoice::Shuffle { seed: 7, dedupe: true }),
            Bus::ShuffleWithoutDedupe => Some(BusChoice::Shuffle { seed: 11, dedupe: false }),
        };
        let up = Up::start(args, choice, metrics()).await?;
        Ok(Self {
            bus,
            grpc: up.platform.grpc.to_string(),
            http: up.platform.http.to_string(),
            databases: up.databases.clone(),
            _up: up,
            _dir: dir,
        })
    }

    pub(crate) async fn channel(&self) -> Channel {
        settle::client::connect(&self.grpc).await.expect("gRPC answers")
    }

    pub(crate) async fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel().await)
    }

    /// Places an order and waits until it is final.
    pub(crate) async fn settle(&self, request: CreateOrderRequest) -> Order {
        let mut orders = self.orders().await;
        let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
        self.outcome(&order_id).await
    }

    /// Waits until an order is final, and gives it with its whole timeline.
    pub(crate) async fn outcome(&self, order_id: &str) -> Order {
        let mut orders = self.orders().await;
        let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
        let watch = async {
            let mut outcome = orders.watch_order(request).await.expect("watched").into_inner();
            outcome.message().await.expect("told").expect("an outcome");
        };
        tokio::time::timeout(SETTLE_WITHIN, watch).await.expect("settled in time");
        let request = GetOrderRequest { order_id: order_id.to_owned() };
        orders.get_order(request).await.expect("there").into_inner().order.expect("an order")
    }

    /// A connection to the database of a service.
    pub(crate) async fn database(&self, service: &str) -> sqlx::PgConnection {
        use sqlx::Connection;
        sqlx::PgConnection::connect(&self.databases[service]).await.expect("the database answers")
    }
}

/// A directory that Postgres, running as another user, can enter.
pub(crate) fn data_dir() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("settle-test").tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

pub(crate) fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::install().expect("installed once")).clone()
}
