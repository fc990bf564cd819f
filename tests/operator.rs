//! What an operator is told is what the databases and the topics have: `settle outbox`, `settle events`, `settle doctor`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Output,
};

use contracts::order::v1::{CreateOrderRequest, OrderItem, WatchOrderRequest, order_service_client::OrderServiceClient};
use kit::settings::BusKind;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tonic::transport::Channel;

use crate::{
    harness::{SETTLE_WITHIN, data_dir, run},
    process::Process,
    startup::{assert_one_line, end_of, settle},
};

#[test]
fn on_the_embedded_bus() {
    run(look_around(BusKind::Postgres));
}

#[test]
fn on_kafka() {
    run(look_around(BusKind::Kafka));
}

async fn look_around(bus: BusKind) {
    let dir = data_dir().expect("a directory");
    let platform = Process::start(dir.path(), bus, &[]).await.expect("it starts");
    let stage = Stage { data: dir.path().join("data"), platform };
    let confirmed = stage.settled("").await;
    let declined = stage.settled("tok_declined").await;
    stage.all_read().await;

    stage.streams_are_true().await;
    stage.readers_are_true().await;
    for order_id in [&confirmed, &declined] {
        stage.events_are_true(order_id).await;
    }
    stage.what_comes_is_followed().await;
    let event_id = stage.one_event_is_shown(&confirmed).await;
    stage.doctor_is_right().await;
    stage.a_group_hears_everything_again().await;
    stage.a_living_group_is_not_forgotten().await;
    match bus {
        BusKind::Postgres => stage.refused(&["events", "republish", "--topic", "order.events"], &["the outbox is the log"]).await,
        BusKind::Kafka => stage.a_topic_is_published_again(&event_id).await,
    }
    let Stage { platform, .. } = stage;
    platform.stop().await.expect("it ends well");
}

/// Who asks, and why.
const RESPONSIBLE: [&str; 4] = ["--who", "a tester", "--reason", "a test wants it"];

struct Stage {
    data: PathBuf,
    platform: Process,
}

impl Stage {
    /// What a command says, as JSON.
    async fn told(&self, args: &[&str]) -> Value {
        let ended = self.ended(args).await;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{args:?}: {} {said}", ended.status);
        parsed(args, &ended)
    }

    async fn ended(&self, args: &[&str]) -> Output {
        let mut command = settle(args);
        command.args(["--output", "json", "--data"]).arg(&self.data);
        end_of(command).await
    }

    /// A change that is refused in one line that has these words.
    async fn refused(&self, args: &[&str], words: &[&str]) {
        let args = [args, &RESPONSIBLE].concat();
        assert_one_line(&args.join(" "), &self.ended(&args).await, words);
    }

    /// Places an order and waits until it is final.
    async fn settled(&self, token: &str) -> String {
        let channel = settle::client::connect(&self.platform.ready.grpc).await.expect("gRPC answers");
        place(&mut OrderServiceClient::new(channel), token).await
    }

    /// Waits until no group has anything left to read.
    async fn all_read(&self) {
        let read = local::until("everything to be read", SETTLE_WITHIN, || async {
            let readers = self.told(&["outbox", "readers"]).await;
            let readers = readers.as_array().expect("a list");
            let all = readers.iter().all(|reader| reader["lag_records"] == 0 && reader["state"] == "READING");
            (all && !readers.is_empty()).then_some(())
        });
        if let Err(error) = read.await {
            panic!("{error}: {:#}", self.told(&["outbox", "readers"]).await);
        }
    }

    /// Rows of one statement in the database of every service, with the service's name.
    async fn everywhere<T>(&self, sql: &'static str) -> Vec<(String, T)>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        let mut all = Vec::new();
        for (service, url) in self.platform.ready.databases.iter().filter(|(service, _)| *service != "provider") {
            let mut db = PgConnection::connect(url).await.expect("the database answers");
            let rows: Vec<T> = sqlx::query_as(sql).fetch_all(&mut db).await.expect("read");
            all.extend(rows.into_iter().map(|row| (service.clone(), row)));
        }
        all
    }

    async fn streams_are_true(&self) {
        let sql = "select topic, partition, min(seq), max(seq), count(*) from outbox group by topic, partition";
        // By service: topic, partition, first and last number, records.
        type Row = (String, i32, i64, i64, i64);
        let wanted: BTreeSet<(String, Row)> = self.everywhere(sql).await.into_iter().collect();
        let stream = |one: &Value| {
            (
                text(one, "service"),
                (text(one, "topic"), partition(one), int(one, "first_seq"), int(one, "last_seq"), int(one, "records")),
            )
        };
        let told = self.told(&["outbox", "streams"]).await;
        assert_eq!(told.as_array().expect("a list").iter().map(stream).collect::<BTreeSet<_>>(), wanted);
        assert!(wanted.len() > 10, "{wanted:?}");

        // The same where the environment says where the databases are.
        let mut command = settle(&["outbox", "streams", "--output", "json"]);
        for (service, url) in &self.platform.ready.databases {
            command.env(format!("SETTLE_{}_DATABASE_URL", service.to_uppercase()), url);
        }
        let told = parsed(&["outbox", "streams"], &end_of(command).await);
        assert_eq!(told.as_array().expect("a list").iter().map(stream).collect::<BTreeSet<_>>(), wanted);
    }

    async fn readers_are_true(&self) {
        let wanted = self.everywhere::<(String, String, i32, i64)>("select grp, topic, partition, seq from progress").await;
        let wanted: BTreeSet<_> = wanted.into_iter().map(|(_, row)| row).collect();
        let told = self.told(&["outbox"]).await;
        let readers = told["readers"].as_array().expect("a list");
        let place = |one: &Value| (text(one, "group"), text(one, "topic"), partition(one), int(one, "seq"));
        assert_eq!(readers.iter().map(place).collect::<BTreeSet<_>>(), wanted);
        assert!(readers.iter().all(|reader| reader["owner"].is_string() && reader["detail"] == ""), "{told:#}");
        assert!(!told["streams"].as_array().expect("a list").is_empty());
    }

    async fn events_are_true(&self, order_id: &str) {
        let rows: Vec<(String, (String, String, String))> = self.everywhere("select key, correlation, id::text from outbox").await;
        let about = rows.into_iter().filter(|(_, (key, correlation, _))| key == order_id || correlation == order_id);
        let wanted: BTreeSet<String> = about.map(|(_, (_, _, id))| id).collect();
        let args = ["events", "tail", "--order", order_id, "--from-start", "--limit", "1000"];
        // What nobody reads may be on its way to its topic.
        let events = local::until("all events of the order", SETTLE_WITHIN, || async {
            let events = self.told(&args).await;
            let events = events.as_array().expect("a list").clone();
            let ids: BTreeSet<String> = events.iter().map(|event| text(event, "event_id")).collect();
            (ids == wanted).then_some(events)
        });
        let events = events.await.expect("they are all told");

        assert_eq!(events[0]["type"], "settle.order.v1.OrderCreated");
        assert_eq!((&events[0]["payload"]["orderId"], &events[0]["service"]), (&order_id.into(), &"order".into()));
        let mut seqs: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for event in &events {
            let stream = (text(event, "topic"), partition(event));
            let before = seqs.insert(stream, int(event, "seq")).unwrap_or_default();
            assert!(before < int(event, "seq"), "out of order: {event:#}");
            assert!(event["payload"].is_object(), "not decoded: {event:#}");
        }
        let args = ["events", "tail", "--order", order_id, "--type", "OrderCreated", "--topic", "order.events", "--limit", "5"];
        assert_eq!(self.told(&args).await.as_array().map(Vec::len), Some(1));

        let mut lines = settle(&["events", "tail", "--order", order_id, "--limit", "1", "--data"]);
        lines.arg(&self.data);
        let ended = end_of(lines).await;
        let lines = String::from_utf8_lossy(&ended.stdout);
        assert!(lines.lines().count() == 1 && lines.contains(order_id), "{lines}");
        let endless = ["events", "tail", "--order", order_id];
        assert_one_line("a document without an end", &self.ended(&endless).await, &["--limit"]);
    }

    async fn what_comes_is_followed(&self) {
        let following = self.ended(&["events", "tail", "--follow", "--type", "OrderCreated", "--limit", "1"]);
        tokio::pin!(following);
        let mut placed = BTreeSet::new();
        // Until it looks, nothing comes.
        let ended = loop {
            let placing = self.settled("");
            tokio::pin!(placing);
            tokio::select! {
                ended = &mut following => {
                    placed.insert(placing.await);
                    break ended;
                }
                order_id = &mut placing => {
                    placed.insert(order_id);
                }
            }
        };
        let events = parsed(&["events", "tail"], &ended);
        assert_eq!(events.as_array().map(Vec::len), Some(1));
        assert!(placed.contains(&text(&events[0]["payload"], "orderId")), "{events:#}");
        self.all_read().await;
    }

    async fn one_event_is_shown(&self, order_id: &str) -> String {
        let args = ["events", "tail", "--order", order_id, "--type", "OrderCreated", "--from-start", "--limit", "1"];
        let event_id = text(&self.told(&args).await[0], "event_id");
        let shown = self.told(&["events", "show", &event_id]).await;
        let written = &shown["written"];
        assert_eq!((text(written, "service"), text(written, "topic")), ("order".to_owned(), "order.events".to_owned()));
        assert_eq!((text(written, "key"), text(&written["payload"], "orderId")), (order_id.to_owned(), order_id.to_owned()));
        let groups: BTreeMap<String, String> =
            shown["groups"].as_array().expect("a list").iter().map(|one| (text(one, "group"), text(one, "state"))).collect();
        let applied =
            ["inventory", "notification", "orchestrator", "shipping"].map(|group| (group.to_owned(), "APPLIED".to_owned()));
        assert_eq!(groups, BTreeMap::from(applied));
        let nobodys = "0190d3a8-7c1e-7000-8000-000000000001";
        assert_one_line("no event", &self.ended(&["events", "show", nobodys]).await, &[nobodys]);
        event_id
    }

    async fn doctor_is_right(&self) {
        let checks = self.told(&["doctor"]).await;
        let names: BTreeSet<String> = checks.as_array().expect("a list").iter().map(|check| text(check, "check")).collect();
        for name in ["database order", "partitions", "durability", "idle transactions", "readers", "unread records", "dead letters"]
        {
            assert!(names.contains(name), "{name} is not looked at: {names:?}");
        }
        let url = &self.platform.ready.databases["notification"];
        let mut db = PgConnection::connect(url).await.expect("the database answers");
        let park = "insert into dead_letter_events
                        (consumer, topic, partition, event_id, key, event_type, payload, at, correlation, reason, state)
                    values ('notification', 'order.events', 0, gen_random_uuid(), 'k', 'x', '', now(), 'k', 'a test', 'PARKED')";
        sqlx::query(park).execute(&mut db).await.expect("parked");
        let args = ["doctor"];
        let ended = self.ended(&args).await;
        assert!(!ended.status.success(), "a dead letter, and all is in order");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("dead letters"));
        let checks = parsed(&args, &ended);
        let wrong = checks.as_array().expect("a list").iter().filter(|check| check["needed"] == true && check["ok"] == false);
        assert_eq!(wrong.map(|check| text(check, "check")).collect::<Vec<_>>(), ["dead letters"]);
        let away = "delete from dead_letter_events where reason = 'a test'";
        assert_eq!(sqlx::query(away).execute(&mut db).await.expect("deleted").rows_affected(), 1);
        self.told(&args).await;
    }

    /// Effects are idempotent: nobody is told anything twice.
    async fn a_group_hears_everything_again(&self) {
        let url = &self.platform.ready.databases["notification"];
        let mut db = PgConnection::connect(url).await.expect("the database answers");
        let count = "select count(*) from notifications";
        let before: i64 = sqlx::query_scalar(count).fetch_one(&mut db).await.expect("read");
        assert!(before > 0);

        let args = [&["outbox", "rejoin", "notification", "order.events"][..], &RESPONSIBLE].concat();
        let rejoined = self.told(&args).await;
        let rejoined = rejoined.as_array().expect("a list");
        assert!(rejoined.iter().all(|one| one["to_seq"] == 0 && one["log"] == "WHOLE"), "{rejoined:?}");
        let again: i64 = rejoined.iter().map(|one| int(one, "from_seq")).sum();
        assert!(again > 0, "there is something to hear again");
        self.all_read().await;
        let after: i64 = sqlx::query_scalar(count).fetch_one(&mut db).await.expect("read");
        assert_eq!(after, before, "somebody was told something twice");

        let history = self.told(&["outbox", "history"]).await;
        let mine = history.as_array().expect("a list").iter().filter(|one| one["operation"] == "rejoin");
        let mine: Vec<&Value> = mine.collect();
        assert_eq!(mine.len(), rejoined.len());
        assert!(mine.iter().all(|one| one["who"] == RESPONSIBLE[1] && one["why"] == RESPONSIBLE[3]), "{history:#}");
        self.refused(&["outbox", "rejoin", "payment", "order.events"], &["payment", "order.events"]).await;
        self.refused(&["outbox", "rejoin", "payment", "nothing"], &["there is no topic nothing"]).await;
    }

    async fn a_living_group_is_not_forgotten(&self) {
        let reported = local::until("a report", SETTLE_WITHIN, || async {
            let readers = self.told(&["outbox", "readers", "--group", "orchestrator"]).await;
            readers.as_array().expect("a list").iter().any(|reader| reader["reported_ago_s"].is_number()).then_some(())
        });
        reported.await.expect("the group reports");
        // Its youngest report may be older than a minute by now, if it had nothing to read.
        self.settled("").await;
        let young = local::until("a young report", SETTLE_WITHIN, || async {
            let readers = self.told(&["outbox", "readers", "--group", "orchestrator"]).await;
            let ago = readers.as_array().expect("a list").iter().filter_map(|reader| reader["reported_ago_s"].as_f64());
            ago.min_by(f64::total_cmp).is_some_and(|ago| ago < 20.0).then_some(())
        });
        young.await.expect("the group reports again");
        self.refused(&["outbox", "forget", "orchestrator"], &["orchestrator lives"]).await;
        self.refused(&["outbox", "forget", "nobody"], &["nobody"]).await;
    }

    async fn a_topic_is_published_again(&self, event_id: &str) {
        let args = [&["events", "republish", "--topic", "order.events"][..], &RESPONSIBLE].concat();
        let republished = self.told(&args).await;
        let again: i64 = republished.as_array().expect("a list").iter().map(|one| int(one, "again_records")).sum();
        assert!(again > 0, "{republished:#}");
        let args = ["events", "tail", "--topic", "order.events", "--type", "OrderCreated", "--from-start", "--limit", "10000"];
        let twice = local::until("the topic to have it twice", SETTLE_WITHIN, || async {
            let events = self.told(&args).await;
            let same = events.as_array().expect("a list").iter().filter(|event| event["event_id"] == event_id);
            (same.count() >= 2).then_some(())
        });
        twice.await.expect("it is published again");
        // Readers see through it.
        self.settled("").await;
        self.all_read().await;
        self.told(&["doctor"]).await;
    }
}

async fn place(orders: &mut OrderServiceClient<Channel>, token: &str) -> String {
    let request = CreateOrderRequest {
        customer_id: "reader".into(),
        currency: "USD".into(),
        items: vec![OrderItem { sku: "prod-A".into(), quantity: 1, unit_price: Some(1_500) }],
        payment_token: token.into(),
        ..Default::default()
    };
    let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
    let request = WatchOrderRequest { order_id: order_id.clone(), final_only: true };
    let mut outcome = orders.watch_order(request).await.expect("watched").into_inner();
    outcome.message().await.expect("told").expect("an outcome");
    order_id
}

/// The whole of standard output is one document.
fn parsed(args: &[&str], ended: &Output) -> Value {
    serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error} in {}", String::from_utf8_lossy(&ended.stdout)))
}

fn text(one: &Value, name: &str) -> String {
    one[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {one:#}")).to_owned()
}

fn int(one: &Value, name: &str) -> i64 {
    one[name].as_i64().unwrap_or_else(|| panic!("{name} is no number in {one:#}"))
}

fn partition(one: &Value) -> i32 {
    i32::try_from(int(one, "partition")).expect("a partition")
}
