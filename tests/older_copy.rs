//! A database is put back to an older copy, and an operator leads out of it whoever notices: as docs/runbooks/streams.md has it.

use std::time::Instant;

use local::Kafka;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::Command;

use crate::{
    harness::SETTLE_WITHIN,
    served::{Ground, SERVICES, Served},
    startup::{end_of, settle},
};

/// All services, with something to sell; the address of the order service, and one of them apart.
pub(crate) async fn started(ground: &Ground, apart: &str) -> (Vec<Served>, String, Served) {
    let mut others = Vec::new();
    let (mut order, mut inventory) = (String::new(), String::new());
    let mut one = None;
    for service in SERVICES {
        let served = Served::start(ground, service).await.expect("it starts");
        match service {
            "order" => order.clone_from(&served.grpc),
            "inventory" => inventory.clone_from(&served.grpc),
            _ => {}
        }
        match service == apart {
            true => one = Some(served),
            false => others.push(served),
        }
    }
    settle::seed::run(settle::client::connect(&inventory).await.expect("gRPC answers")).await.expect("seeded");
    (others, order, one.expect("it is one of them"))
}

/// Copies the database of a service. Whoever needs it meanwhile tries again until it is there.
pub(crate) async fn take(ground: &Ground, service: &str) {
    let mut db = keeper(ground, service).await;
    shut(&mut db, service).await;
    done(&mut db, format!("create database {service}_before template settle_{service}")).await;
    done(&mut db, format!("alter database settle_{service} allow_connections true")).await;
}

/// Puts the copy in the place of the database.
pub(crate) async fn put_back(ground: &Ground, service: &str) {
    let mut db = keeper(ground, service).await;
    shut(&mut db, service).await;
    done(&mut db, format!("drop database settle_{service}")).await;
    done(&mut db, format!("create database settle_{service} template {service}_before")).await;
}

/// A connection from which this database can be copied and dropped.
async fn keeper(ground: &Ground, service: &str) -> PgConnection {
    let other = if service == "notification" { "order" } else { "notification" };
    PgConnection::connect(&ground.databases[other]).await.expect("the database answers")
}

async fn done(db: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(db).await.unwrap_or_else(|error| panic!("{error} in {sql}"));
}

/// Waits until nobody is connected to this database.
async fn shut(db: &mut PgConnection, service: &str) {
    done(db, format!("alter database settle_{service} allow_connections false")).await;
    let end = Instant::now() + SETTLE_WITHIN;
    loop {
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = 'settle_' || $1";
        let left: i64 = sqlx::query_scalar(sql).bind(service).fetch_one(&mut *db).await.expect("read");
        if left == 0 {
            return;
        }
        assert!(Instant::now() < end, "{left} sessions do not end");
        tokio::task::yield_now().await;
    }
}

/// Leads every stopped group back, or one of them: whoever has read more of a service than that has said now, and whoever has told that he
/// had come further than he knows now. How many streams that are.
pub(crate) async fn rejoin(ground: &Ground, group: Option<&str>) -> usize {
    let stopped = diverged(ground, group).await;
    for [group, topic, partition] in &stopped {
        let by = ["--who", "ann", "--reason", "restored to an older copy"];
        let args = [&["outbox", "rejoin", group, topic, partition][..], &by].concat();
        let ended = end_of(tool(ground, &args)).await;
        assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }
    let whole = local::until("all streams to be whole again", SETTLE_WITHIN, || async {
        diverged(ground, group).await.is_empty().then_some(())
    });
    whole.await.expect("no stream is stopped");
    stopped.len()
}

/// Group, topic and partition of the readers that an operator finds stopped.
async fn diverged(ground: &Ground, group: Option<&str>) -> Vec<[String; 3]> {
    let ended = end_of(tool(ground, &["outbox", "readers", "--output", "json"])).await;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let readers: Value = serde_json::from_slice(&ended.stdout).expect("one document");
    let text = |reader: &Value, name: &str| reader[name].as_str().expect("a text").to_owned();
    let stopped = readers.as_array().expect("a list").iter().filter(|reader| {
        ["LOG_DIVERGED", "LOG_GAP"].iter().any(|state| reader["state"] == *state)
            && group.is_none_or(|group| reader["group"] == group)
    });
    stopped.map(|reader| [text(reader, "group"), text(reader, "topic"), reader["partition"].to_string()]).collect()
}

/// What an operator has there.
fn tool(ground: &Ground, args: &[&str]) -> Command {
    let mut command = settle(args);
    for (service, url) in &ground.databases {
        command.env(format!("SETTLE_{}_DATABASE_URL", service.to_uppercase()), url);
    }
    match ground.kafka.as_ref().map(Kafka::brokers) {
        Some(brokers) => command.env("KAFKA_BROKERS", brokers),
        None => command.env("SETTLE_BUS", "postgres"),
    };
    command
}
