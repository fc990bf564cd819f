//! Somebody forgets to end a transaction, in every database, and goes home: the platform is as fast as before.

use std::{collections::BTreeMap, time::Duration};

use kit::settings::BusKind;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::{
    harness::{data_dir, run},
    process::Process,
    startup::settle,
};

/// How long each of the two is measured, about.
const SECONDS: f64 = 60.0;
/// To learn how many orders that is.
const FIRST_ORDERS: u64 = 20_000;
const CONCURRENCY: &str = "512";
const BENCH_ENDS_WITHIN: Duration = Duration::from_secs(900);
/// Without by with.
const RATIO_MAX: f64 = 1.2;

#[test]
#[ignore = "takes minutes: make soak"]
fn a_transaction_held_open_slows_nothing() {
    run(async {
        let dir = data_dir().expect("a directory");
        let platform = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        let orders = (orders_per_second(&platform, FIRST_ORDERS).await * SECONDS) as u64;
        let without = orders_per_second(&platform, orders).await;
        let holders = hold(&platform.ready.databases).await;
        let with = orders_per_second(&platform, orders).await;
        let_go(holders).await;

        let ratio = without / with;
        println!(
            "{}",
            json!({
                "soak": "a transaction held open",
                "orders": orders,
                "orders_per_second_without": without,
                "orders_per_second_with": with,
                "ratio": (ratio * 100.0).round() / 100.0,
                "release_build": !cfg!(debug_assertions),
            })
        );
        assert!(ratio <= RATIO_MAX, "{ratio:.2} times slower");
        platform.stop().await.expect("it ends well");
    });
}

/// Of so many orders in a closed loop. The bench fails unless each is confirmed.
async fn orders_per_second(platform: &Process, orders: u64) -> f64 {
    let mut command = settle(&["bench", "--output", "json", "--no-floors", "--concurrency", CONCURRENCY]);
    command.args(["--target", platform.ready.grpc.as_str(), "--orders"]).arg(orders.to_string());
    let ended = local::program::run(command, BENCH_ENDS_WITHIN).await.expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}: {said}", ended.status);
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    report["orders_per_second"].as_f64().expect("a figure")
}

struct Holder {
    pid: i32,
    db: PgConnection,
}

/// A transaction in each database that keeps the snapshot of now.
async fn hold(databases: &BTreeMap<String, String>) -> Vec<Holder> {
    let mut holders = Vec::new();
    for url in databases.values() {
        let mut db = PgConnection::connect(url).await.expect("the database answers");
        for sql in ["set idle_in_transaction_session_timeout = 0", "begin isolation level repeatable read", "select 1"] {
            sqlx::query(sql).execute(&mut db).await.expect("done");
        }
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut db).await.expect("read");
        holders.push(Holder { pid, db });
    }
    holders
}

/// Every one of them held its snapshot until now.
async fn let_go(mut holders: Vec<Holder>) {
    let pids: Vec<i32> = holders.iter().map(|holder| holder.pid).collect();
    let asker = &mut holders.first_mut().expect("there are databases").db;
    // Who asks is not idle.
    let sql = "select count(*) from pg_stat_activity
        where pid = any($1) and backend_xmin is not null and (state = 'idle in transaction' or pid = pg_backend_pid())";
    let held: i64 = sqlx::query_scalar(sql).bind(&pids).fetch_one(asker).await.expect("read");
    assert_eq!(usize::try_from(held).expect("not negative"), pids.len(), "some were ended before");
    for mut holder in holders {
        sqlx::query("commit").execute(&mut holder.db).await.expect("it was still open");
    }
}
