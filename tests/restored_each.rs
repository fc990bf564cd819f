//! Each database is put back to an older copy while its service is stopped: no start goes on as if nothing were.

use std::collections::BTreeMap;

use contracts::order::v1::{OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient};
use kit::settings::BusKind;
use local::postgres;
use sqlx::{Connection, PgConnection};

use crate::{
    harness::{SETTLE_WITHIN, run},
    older_copy,
    placing::at_own_price,
    served::{Ground, SERVICES, Served},
};

#[test]
fn every_database_put_back_while_its_service_was_stopped_is_noticed() {
    run(each_put_back(BusKind::Postgres));
}

#[test]
fn every_database_put_back_while_its_service_was_stopped_is_noticed_on_kafka() {
    run(each_put_back(BusKind::Kafka));
}

async fn each_put_back(bus: BusKind) {
    for service in SERVICES {
        println!("{bus}: {service}");
        put_back(bus, service).await;
    }
}

async fn put_back(bus: BusKind, service: &str) {
    let ground = Ground::prepare(bus, postgres::Options::for_tests(), &[]).await.expect("the ground is laid");
    let (others, order, one) = older_copy::started(&ground, service).await;
    let order = if service == "order" { one.grpc.clone() } else { order };
    place(&order).await;
    older_copy::take(&ground, service).await;
    let copied = copied(&ground, service).await;
    let got_on = local::until("the service to tell that it got on", SETTLE_WITHIN, || async {
        place(&order).await;
        let told = told(&ground, service).await;
        told.iter().any(|(stream, seq)| copied.get(stream).is_some_and(|copied| copied < seq)).then_some(())
    });
    got_on.await.expect("it tells");
    one.stop().await.expect("it ends well");
    older_copy::put_back(&ground, service).await;

    let again = Served::start(&ground, service).await.expect("it starts again");
    let noticed = local::until("the notice", SETTLE_WITHIN, || async {
        (again.lines_with("its database is an older copy") > 0).then_some(())
    });
    noticed.await.unwrap_or_else(|error| panic!("{service} goes on as if nothing were: {error}"));
    assert!(again.lines_with("LOG_DIVERGED") > 0, "{service} says so in the way of all others");
    again.stop().await.expect("it ends well");
    for served in others {
        served.stop().await.expect("it ends well");
    }
    ground.stop().await.expect("it ends");
}

/// An order, to its end: everybody hears something of it. The order service may have lost its connections a moment ago.
async fn place(order: &str) {
    let confirmed = local::until("an order to be confirmed", SETTLE_WITHIN, || async {
        let mut orders = OrderServiceClient::new(settle::client::connect(order).await.ok()?);
        let placed = orders.create_order(at_own_price("prod-A", "")).await.ok()?.into_inner();
        let watched = WatchOrderRequest { order_id: placed.order_id, final_only: true };
        let mut told = orders.watch_order(watched).await.ok()?.into_inner();
        let ended = tokio::time::timeout(SETTLE_WITHIN, told.message()).await.ok()?.ok()??;
        (ended.order?.status() == OrderStatus::Confirmed).then_some(())
    });
    confirmed.await.expect("it is confirmed");
}

type Places = BTreeMap<(String, i32), i64>;

/// How far a service is by the copy of its database. What it was doing when the copy was taken may be in it.
async fn copied(ground: &Ground, service: &str) -> Places {
    let url = ground.databases[service].replace(&format!("settle_{service}"), &format!("{service}_before"));
    let mut db = PgConnection::connect(&url).await.expect("the copy answers");
    let sql = "select topic, partition, seq from progress where grp = $1";
    let rows: Vec<(String, i32, i64)> = sqlx::query_as(sql).bind(service).fetch_all(&mut db).await.expect("read");
    db.close().await.expect("it closes");
    rows.into_iter().map(|(topic, partition, seq)| ((topic, partition), seq)).collect()
}

/// How far the others have heard it to be.
async fn told(ground: &Ground, service: &str) -> Places {
    let mut told = Places::new();
    for publisher in SERVICES {
        let mut db = PgConnection::connect(&ground.databases[publisher]).await.expect("the database answers");
        let rows: Vec<(String, i32, i64)> = sqlx::query_as("select topic, partition, furthest from readers where grp = $1")
            .bind(service)
            .fetch_all(&mut db)
            .await
            .expect("read");
        told.extend(rows.into_iter().map(|(topic, partition, seq)| ((topic, partition), seq)));
    }
    told
}
