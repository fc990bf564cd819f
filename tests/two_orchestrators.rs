//! Two orchestrators on one database. A saga has no owner that could be lost or doubled: it is a row, and a turn of it one transaction.
//! What is leased are streams, which only spreads the work: whoever is gone is followed by another, and who comes back late finds that its
//! streams have moved on.

use std::{collections::BTreeMap, path::Path};

use contracts::order::v1::{OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient};
use futures::future::join_all;
use kit::settings::BusKind;
use local::{Program, process::Signal};
use sqlx::{Connection, PgConnection};

use crate::{
    agreement::agree,
    harness::{SETTLE_WITHIN, data_dir, run},
    placing::at_own_price,
    process::Process,
    startup::settle,
};

const ORDERS: usize = 24;

/// A platform, and the orchestrator once more in a process of its own.
struct Two {
    platform: Process,
    second: Program,
}

impl Two {
    async fn start(dir: &Path) -> Self {
        let platform = Process::start(dir, BusKind::Postgres, &[]).await.expect("it starts");
        let mut command = settle(&["serve", "orchestrator"]);
        for (service, url) in &platform.ready.databases {
            command.env(format!("SETTLE_{}_DATABASE_URL", service.to_uppercase()), url);
        }
        command.env("SETTLE_BUS", "postgres");
        for addr in ["SETTLE_GRPC_ADDR", "SETTLE_HTTP_ADDR", "SETTLE_ADMIN_ADDR"] {
            command.env(addr, "127.0.0.1:0");
        }
        let second = Program::start(command).expect("it starts");
        let two = Self { platform, second };
        two.comes_to("both to have their share of the streams", |owners| owners.len() == 2).await;
        two
    }

    async fn database(&self) -> PgConnection {
        PgConnection::connect(&self.platform.ready.databases["orchestrator"]).await.expect("the database answers")
    }

    /// Streams by the instance that reads them; those without one are under none.
    async fn owners(&self) -> BTreeMap<String, i64> {
        let sql = "select coalesce(owner::text, 'none'), count(*) from (
                 select case when lease_until > clock_timestamp() then owner end as owner from progress where grp = 'orchestrator'
             ) as now group by owner";
        let owners: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&mut self.database().await).await.expect("read");
        owners.into_iter().collect()
    }

    /// Waits until no stream is without an instance and they are shared like that.
    async fn comes_to(&self, what: &str, are: impl Fn(&BTreeMap<String, i64>) -> bool) -> BTreeMap<String, i64> {
        let shared = local::until(what, SETTLE_WITHIN, || async {
            Some(self.owners().await).filter(|owners| !owners.contains_key("none") && are(owners))
        });
        match shared.await {
            Ok(owners) => owners,
            Err(error) => panic!("{error}: {:?}\n{}", self.owners().await, self.second.stderr().join("\n")),
        }
    }

    async fn place(&self, token: &str) -> Vec<String> {
        let orders = OrderServiceClient::new(settle::client::connect(&self.platform.ready.grpc).await.expect("gRPC answers"));
        let placed = (0..ORDERS).map(|_| {
            let (mut orders, request) = (orders.clone(), at_own_price("prod-A", token));
            async move { orders.create_order(request).await.expect("accepted").into_inner().order_id }
        });
        join_all(placed).await
    }

    async fn all_confirmed(&self, order_ids: Vec<String>) {
        let orders = OrderServiceClient::new(settle::client::connect(&self.platform.ready.grpc).await.expect("gRPC answers"));
        let settled = order_ids.into_iter().map(|order_id| {
            let (mut orders, request) = (orders.clone(), WatchOrderRequest { order_id, final_only: true });
            async move {
                let outcome = orders.watch_order(request).await.expect("watched").into_inner().message().await.expect("told");
                let order = outcome.and_then(|told| told.order).expect("an outcome");
                assert_eq!(order.status(), OrderStatus::Confirmed, "{}", order.order_id);
            }
        });
        tokio::time::timeout(SETTLE_WITHIN, join_all(settled)).await.expect("settled in time");
    }

    /// Nobody was asked twice, and all books agree.
    async fn all_agree(&self) {
        let sql = "select count(*) from (
                 select key, type from outbox where topic in ('payment.commands', 'inventory.commands', 'shipping.commands')
                 group by key, type having count(*) > 1
             ) as twice";
        let twice: i64 = sqlx::query_scalar(sql).fetch_one(&mut self.database().await).await.expect("read");
        assert_eq!(twice, 0, "commands that were asked twice");
        let violations = agree(&self.platform.ready.databases, SETTLE_WITHIN).await;
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

#[test]
fn s09_of_two_orchestrators_one_that_was_stopped_finds_its_streams_moved_on() {
    run(async {
        let dir = data_dir().expect("a directory");
        let mut two = Two::start(dir.path()).await;
        let shared = two.place("").await;
        two.all_confirmed(shared).await;
        assert_eq!(two.owners().await.len(), 2, "both had a part in it");

        let in_flight = two.place("tok_slow").await;
        two.second.signal(Signal::Stop).expect("stopped");
        two.comes_to("one to have all streams", |owners| owners.len() == 1).await;
        two.all_confirmed(in_flight).await;
        two.second.signal(Signal::Continue).expect("goes on");
        let later = two.place("").await;
        two.all_confirmed(later).await;
        two.comes_to("both to have their share again", |owners| owners.len() == 2).await;
        two.all_agree().await;
        two.second.kill().await.expect("it ends");
        two.platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s10_what_an_orchestrator_left_behind_that_never_comes_back_is_taken_over() {
    run(async {
        let dir = data_dir().expect("a directory");
        let mut two = Two::start(dir.path()).await;
        let in_flight = two.place("tok_slow").await;
        let left = two.owners().await;
        assert!(left.len() == 2 && left.values().all(|streams| *streams > 0), "{left:?}");
        two.second.kill().await.expect("it is gone");
        let taken = two.comes_to("one to have all streams", |owners| owners.len() == 1).await;
        assert_eq!(taken.values().sum::<i64>(), left.values().sum::<i64>(), "none is left without one");
        two.all_confirmed(in_flight).await;
        let later = two.place("").await;
        two.all_confirmed(later).await;
        two.all_agree().await;
        two.platform.stop().await.expect("it ends well");
    });
}
