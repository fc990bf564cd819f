//! One idempotency key is one order, whoever asks how often, over gRPC or REST, at one instance or two.

use std::{collections::BTreeSet, sync::Arc};

use contracts::{
    ids,
    order::v1::{CreateOrderRequest, OrderItem, OrderStatus, order_service_client::OrderServiceClient},
};
use futures::future::join_all;
use kit::Settings;
use serde_json::{Value, json};
use settle::{
    platform::{BusChoice, Listeners, Plan, Platform, Service},
    provider::Wiring,
};
use sqlx::Connection;
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{Bus, SETTLE_WITHIN, Stage, metrics, platform, run},
    placing::{Answer, Rest, answer, at_own_price, fresh, priced, reason_of, shown},
};

const CALLERS: usize = 64;

fn keyed() -> CreateOrderRequest {
    CreateOrderRequest { idempotency_key: fresh("key"), ..at_own_price("prod-A", "") }
}

/// The same request as REST takes it, the key in its header.
fn as_json(request: &CreateOrderRequest) -> Value {
    let items = request.items.iter().map(|item| match item.unit_price {
        Some(price) => json!({"sku": item.sku, "quantity": item.quantity, "unitPrice": price}),
        None => json!({"sku": item.sku, "quantity": item.quantity}),
    });
    json!({
        "customerId": request.customer_id,
        "currency": request.currency,
        "items": items.collect::<Vec<_>>(),
        "paymentToken": request.payment_token,
    })
}

async fn over_rest(rest: &Rest, key: &str, body: &Value) -> Answer {
    answer(rest.post("/api/v1/orders", body.to_string()).header("Idempotency-Key", key)).await
}

/// (order id, whether it is the first answer said again).
async fn over_grpc(mut orders: OrderServiceClient<Channel>, request: CreateOrderRequest) -> Result<(String, bool), Status> {
    let response = orders.create_order(request).await?;
    let replayed = response.metadata().get("idempotent-replayed").is_some_and(|value| value == "true");
    assert_eq!(response.get_ref().status(), OrderStatus::Pending, "the first answer said PENDING");
    Ok((response.into_inner().order_id, replayed))
}

/// How many orders and announcements are stored under this key.
async fn stored(stage: &Stage, key: &str) -> (i64, i64) {
    let sql = "select (select count(*) from orders where idempotency_key = $1 or id = $2),
                   (select count(*) from outbox where key = $2::text and type = 'settle.order.v1.OrderCreated')";
    let mut db = stage.database("order").await;
    sqlx::query_as(sql).bind(key).bind(ids::order_of_key(key)).fetch_one(&mut db).await.expect("read")
}

#[test]
fn many_callers_at_once_get_one_order() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let (rest, orders) = (Rest::of(stage), stage.orders().await);
        let request = keyed();
        let (key, body) = (request.idempotency_key.clone(), as_json(&request));
        let calls = (0..CALLERS).map(|n| {
            let (rest, orders, request, key, body) = (&rest, orders.clone(), request.clone(), &key, &body);
            async move {
                if n % 2 == 0 {
                    return over_grpc(orders, request).await.expect("accepted");
                }
                let told = over_rest(rest, key, body).await;
                assert_eq!((told.status, &told.body["status"]), (202, &json!("PENDING")), "{told:?}");
                let replayed = told.headers.get("idempotent-replayed").is_some_and(|value| value == "true");
                (told.body["orderId"].as_str().expect("an id").to_owned(), replayed)
            }
        });
        let told = join_all(calls).await;
        let ids: BTreeSet<&String> = told.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(told.iter().filter(|(_, replayed)| !replayed).count(), 1, "one of them made the order");
        assert_eq!(stored(stage, &key).await, (1, 1));

        let order = stage.outcome(&told[0].0).await;
        assert_eq!(order.status(), OrderStatus::Confirmed);
        let sql = "select count(*) from statement where kind = 'CHARGE' and amount = $1";
        let charges: i64 =
            sqlx::query_scalar(sql).bind(order.total).fetch_one(&mut stage.database("provider").await).await.expect("read");
        assert_eq!(charges, 1);
    });
}

#[test]
fn of_two_bodies_at_once_one_wins() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let orders = stage.orders().await;
        let one = keyed();
        let other = CreateOrderRequest { idempotency_key: one.idempotency_key.clone(), ..keyed() };
        let calls = (0..CALLERS).map(|n| over_grpc(orders.clone(), if n % 2 == 0 { one.clone() } else { other.clone() }));
        let told = join_all(calls).await;
        let accepted: BTreeSet<bool> = (0..CALLERS).filter(|n| told[*n].is_ok()).map(|n| n % 2 == 0).collect();
        assert_eq!(accepted.len(), 1, "both bodies were accepted");
        for refused in told.iter().filter_map(|told| told.as_ref().err()) {
            assert_eq!((refused.code(), reason_of(refused).as_str()), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"));
        }
        assert_eq!(told.iter().filter(|told| told.is_ok()).count(), CALLERS / 2);
        assert_eq!(stored(stage, &one.idempotency_key).await, (1, 1));
    });
}

#[test]
fn another_body_is_refused_before_its_prices_are_looked_up() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let (rest, orders) = (Rest::of(stage), stage.orders().await);
        let first = keyed();
        over_grpc(orders.clone(), first.clone()).await.expect("accepted");
        let unpriced = OrderItem { sku: "SKU-123".into(), quantity: 1, unit_price: None };
        let with = |change: &dyn Fn(&mut CreateOrderRequest)| {
            let mut request = first.clone();
            change(&mut request);
            request
        };
        for (what, other) in [
            ("customer", with(&|request| request.customer_id.push('x'))),
            ("currency", with(&|request| request.currency = "EUR".into())),
            ("quantity", with(&|request| request.items[0].quantity += 1)),
            ("price", with(&|request| request.items[0].unit_price = Some(1))),
            ("token", with(&|request| request.payment_token = "tok_declined".into())),
            ("another line", with(&|request| request.items.push(OrderItem { unit_price: Some(1), ..unpriced.clone() }))),
            ("an unknown price", with(&|request| request.items = vec![unpriced.clone()])),
        ] {
            let refused = over_grpc(orders.clone(), other.clone()).await.expect_err(what);
            assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"), "{what}");
            let refused = over_rest(&rest, &other.idempotency_key, &as_json(&other)).await;
            assert_eq!((refused.status, &refused.body["reason"]), (409, &json!("IDEMPOTENCY_KEY_REUSED")), "{what}");
        }
        assert_eq!(stored(stage, &first.idempotency_key).await, (1, 1));
    });
}

#[test]
fn the_first_answer_is_said_again_after_the_end() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let (rest, orders) = (Rest::of(stage), stage.orders().await);
        let request = keyed();
        let key = &request.idempotency_key;
        let (order_id, replayed) = over_grpc(orders.clone(), request.clone()).await.expect("accepted");
        assert!(!replayed);
        assert_eq!(order_id, ids::order_of_key(key).to_string(), "the id is derived from the key");
        let before = stage.outcome(&order_id).await;
        assert_eq!(before.status(), OrderStatus::Confirmed);

        assert_eq!(over_grpc(orders, request.clone()).await.expect("said again"), (order_id.clone(), true));
        // The other spellings of the fields are the same request.
        let item = &request.items[0];
        let aliases = json!({
            "userId": request.customer_id,
            "currency": request.currency,
            "items": [{"productId": item.sku, "qty": item.quantity, "price": item.unit_price.map(|price| price.to_string())}],
        });
        for body in [as_json(&request), aliases] {
            let told = over_rest(&rest, key, &body).await;
            assert_eq!(told.status, 202, "{told:?}");
            assert_eq!(told.headers["idempotent-replayed"], "true");
            assert_eq!(told.body, json!({"orderId": order_id, "status": "PENDING"}));
        }
        assert_eq!(shown(stage, &order_id).await, before, "a repeat changed the order");
    });
}

#[test]
fn a_refused_request_does_not_use_up_its_key() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        priced(stage, "prod-A").await;
        let orders = stage.orders().await;
        let mut request = CreateOrderRequest { currency: "USD".into(), ..keyed() };
        request.items = vec![OrderItem { sku: "SKU-123".into(), quantity: 1, unit_price: None }];
        let refused = over_grpc(orders.clone(), request.clone()).await.expect_err("it has no price");
        assert_eq!(reason_of(&refused), "PRICE_UNKNOWN");
        assert_eq!(stored(stage, &request.idempotency_key).await, (0, 0));
        request.items[0].sku = "prod-A".into();
        let (_, replayed) = over_grpc(orders, request).await.expect("now it has");
        assert!(!replayed);
    });
}

#[test]
fn without_a_key_every_call_is_an_order() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let orders = stage.orders().await;
        let request = at_own_price("prod-A", "tok_declined");
        let calls = (0..10).map(|_| over_grpc(orders.clone(), request.clone()));
        let told: BTreeSet<String> = join_all(calls).await.into_iter().map(|told| told.expect("accepted").0).collect();
        assert_eq!(told.len(), 10);
    });
}

/// The order service once more on the same database, as another `settle serve order` would be.
async fn another_instance(stage: &Stage) -> Platform {
    let any = "127.0.0.1:0";
    let database = |service: Service| Some((service, stage.databases.get(service.name())?.clone()));
    let settings = Settings::from_env().expect("settings");
    let plan = Plan {
        services: vec![Service::Order],
        databases: Service::ALL.into_iter().filter_map(database).collect(),
        provider_database: None,
        provider: Wiring::read(&settings).expect("a provider"),
        bus: BusChoice::Postgres,
        listeners: Listeners::bind(any, any, any).await.expect("free ports"),
        settings: Arc::new(settings),
        metrics: metrics(),
    };
    Platform::start(plan).await.expect("another instance starts")
}

#[test]
fn two_instances_asked_at_once_make_one_order() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let other = another_instance(stage).await;
        let elsewhere = settle::client::connect(&other.grpc.to_string()).await.expect("gRPC answers");
        let instances = [stage.orders().await, OrderServiceClient::new(elsewhere)];
        let requests: Vec<CreateOrderRequest> = (0..CALLERS).map(|_| keyed()).collect();

        // Somebody else holds a key, unseen, until both instances have found that there is no such order, and want to save theirs.
        let mut holder = stage.database("order").await;
        let mut held = holder.begin().await.expect("begun");
        let sql = "insert into orders (id, customer_id, status, currency, total, request_hash, version, created_at, updated_at,
                skus, quantities, unit_prices)
            values ($1, 'nobody', 'PENDING', 'USD', 1, '', 1, now(), now(), '{A}', '{1}', '{1}')";
        let id = ids::order_of_key(&requests[0].idempotency_key);
        sqlx::query(sql).bind(id).execute(&mut *held).await.expect("held");
        let at_both = |request: &CreateOrderRequest| instances.clone().map(|orders| over_grpc(orders, request.clone()));
        let calls = tokio::spawn(join_all(requests.iter().flat_map(at_both).collect::<Vec<_>>()));
        let both = local::until("both instances to run into the key", SETTLE_WITHIN, || async {
            let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'transactionid'";
            let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&mut stage.database("order").await).await.expect("read");
            (waiting == 2).then_some(())
        });
        both.await.expect("they race");
        held.rollback().await.expect("let go");

        let told: Vec<(String, bool)> = calls.await.expect("no panic").into_iter().map(|told| told.expect("accepted")).collect();
        for (request, answers) in requests.iter().zip(told.chunks(2)) {
            assert_eq!(answers[0].0, answers[1].0, "both are told the same order");
            assert_ne!(answers[0].1, answers[1].1, "one of them made it");
            assert_eq!(stored(stage, &request.idempotency_key).await, (1, 1));
        }
        assert_eq!(stage.outcome(&told[0].0).await.status(), OrderStatus::Confirmed);
        other.stop().await.expect("it ends");
    });
}
