//! What befalls sagas from outside: answers that are lost (S2), refunds that fail for a while (S5), a thousand of them that this binary
//! does not know (S15), a participant that never comes back (S16). No money is held where an order says it is over, nobody is asked in vain
//! without end, and what waits says so.

use std::collections::BTreeMap;

use contracts::{
    Message,
    order::v1::{GetOrderRequest, Order, OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient},
};
use kit::settings::BusKind;
use local::{postgres, process::Signal};
use settle::{audit::audit, deployment::Deployment};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    harness::{SETTLE_WITHIN, data_dir, run},
    placing::{assert_happened, at_own_price, is_final},
    process::Process,
    served::{Ground, Served},
};

/// Those that a saga needs, each in a process of its own.
struct Services {
    ground: Ground,
    running: BTreeMap<&'static str, Served>,
}

impl Services {
    async fn start() -> Self {
        let ground = Ground::prepare(BusKind::Postgres, postgres::Options::for_tests(), &[]).await.expect("the ground is laid");
        let mut services = Self { ground, running: BTreeMap::new() };
        for service in ["order", "orchestrator", "payment", "inventory", "shipping"] {
            services.begin(service).await;
        }
        let inventory = settle::client::connect(&services.running["inventory"].grpc).await.expect("gRPC answers");
        settle::seed::run(inventory).await.expect("seeded");
        services
    }

    async fn begin(&mut self, service: &'static str) {
        let served = Served::start(&self.ground, service).await.expect("it starts");
        self.running.insert(service, served);
    }

    async fn end(&mut self, service: &str) {
        self.running.remove(service).expect("it runs").stop().await.expect("it ends well");
    }

    async fn stop(self) {
        for served in self.running.into_values() {
            served.stop().await.expect("it ends well");
        }
        self.ground.stop().await.expect("it ends");
    }

    async fn orders(&self) -> OrderServiceClient<tonic::transport::Channel> {
        OrderServiceClient::new(settle::client::connect(&self.running["order"].grpc).await.expect("gRPC answers"))
    }

    async fn place(&self, token: &str) -> Uuid {
        let created = self.orders().await.create_order(at_own_price("prod-A", token)).await.expect("accepted").into_inner();
        created.order_id.parse().expect("a UUID")
    }

    async fn shown(&self, order_id: Uuid) -> Order {
        let request = GetOrderRequest { order_id: order_id.to_string() };
        self.orders().await.get_order(request).await.expect("there").into_inner().order.expect("an order")
    }

    /// The order when it is like that.
    async fn comes_to(&self, what: &str, order_id: Uuid, is: impl Fn(&Order) -> bool) -> Order {
        let found = local::until(what, SETTLE_WITHIN, || async { Some(self.shown(order_id).await).filter(|order| is(order)) });
        match found.await {
            Ok(order) => order,
            Err(error) => panic!("{error}:\n{}", settle::orders::timeline(&self.shown(order_id).await)),
        }
    }

    async fn database(&self, service: &str) -> PgConnection {
        PgConnection::connect(&self.ground.databases[service]).await.expect("the database answers")
    }

    async fn count(&self, service: &str, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.database(service).await).await.expect("read")
    }

    /// The deadline of the order's saga is over, and so is all that is waited before. How many rows that were.
    async fn overdue(&self, order_id: Uuid, sql: &'static str) {
        let done = sqlx::query(sql).bind(order_id).execute(&mut self.database("orchestrator").await).await.expect("written");
        assert_eq!(done.rows_affected(), 1, "there is such a saga");
    }

    /// Ids of the messages with a command of this type to this order, and of the commands in them.
    async fn asked(&self, order_id: Uuid, type_name: &str) -> Vec<(Uuid, String)> {
        let sql = "select id, type, payload from outbox where key = $1 and type = $2 order by seq";
        let said: Vec<(Uuid, String, Vec<u8>)> = sqlx::query_as(sql)
            .bind(order_id.to_string())
            .bind(type_name)
            .fetch_all(&mut self.database("orchestrator").await)
            .await
            .expect("read");
        let command_id = |name: &str, payload: &[u8]| match Message::decode(name, payload) {
            Some(Ok(Message::ChargePayment(command))) => command.command_id,
            Some(Ok(Message::ReserveStock(command))) => command.command_id,
            other => panic!("{name} reads as {other:?}"),
        };
        said.into_iter().map(|(id, name, payload)| (id, command_id(&name, &payload))).collect()
    }

    /// Messages that all services have written.
    async fn messages(&self) -> i64 {
        let mut all = 0;
        for service in ["order", "orchestrator", "payment", "inventory", "shipping"] {
            all += self.count(service, "select count(*) from outbox").await;
        }
        all
    }

    /// Nothing is wrong, and nothing open but what needs a person.
    async fn audited(&self) {
        let deployment = Deployment::of(self.ground.databases.clone());
        let clean = local::until("a clean audit", SETTLE_WITHIN, || async {
            (audit(&deployment, true).await.expect("it is audited").violations() == 0).then_some(())
        });
        if let Err(error) = clean.await {
            panic!("{error}: {:#?}", audit(&deployment, true).await.expect("it is audited").lines());
        }
    }
}

#[test]
fn s02_a_lost_answer_is_asked_for_again_under_the_same_id() {
    run(async {
        let mut services = Services::start().await;
        // Answered after 2 s: by then nobody is there to hear it.
        let order_id = services.place("tok_slow").await;
        let asked = local::until("the charge to be asked", SETTLE_WITHIN, || async {
            (services.count("payment", "select count(*) from payments").await == 1).then_some(())
        });
        asked.await.expect("it is asked");
        services.end("orchestrator").await;
        let answered = local::until("the answer", SETTLE_WITHIN, || async {
            (services.count("payment", "select count(*) from outbox").await == 1).then_some(())
        });
        answered.await.expect("it is answered");
        services.lose_answers().await;
        services.begin("orchestrator").await;

        services.overdue(order_id, OVERDUE).await;
        let order = services.comes_to("its end", order_id, is_final).await;
        assert_eq!(order.status(), OrderStatus::Confirmed);
        let asked = services.asked(order_id, "settle.payment.v1.ChargePayment").await;
        assert_eq!(asked.len(), 2, "it was asked again");
        assert_ne!(asked[0].0, asked[1].0, "by another message");
        assert_eq!(asked[0].1, asked[1].1, "with the same command");
        assert_eq!(services.count("provider", "select count(*) from statement").await, 1, "it is charged once");
        assert_eq!(services.running["payment"].counted("payments_succeeded_total", "").await.expect("it answers"), 1);
        services.audited().await;
        services.stop().await;
    });
}

/// The time has come to ask again.
const OVERDUE: &str = "update sagas set started_at = now() - interval '1 day', deadline_at = now() - interval '1 second'
     where order_id = $1 and deadline_at is not null";
/// The same, an hour after it asked, with one repeat left.
const LONG_OVERDUE: &str = "update sagas set started_at = now() - interval '1 day', updated_at = now() - interval '2 hours',
         deadline_at = now() - interval '1 second', progress = progress || ' resent=9'
     where order_id = $1 and deadline_at is not null and progress not like '%resent%'";
const LAST_OVERDUE: &str = "update sagas set updated_at = now() - interval '2 hours', deadline_at = now() - interval '1 second'
     where order_id = $1 and progress like '%resent=10%'";

impl Services {
    /// The orchestrator's group takes what the payment service has said so far for heard.
    async fn lose_answers(&self) {
        let sql = "select partition, seq, id from outbox where topic = 'payment.events'";
        let said: Vec<(i32, i64, Uuid)> = sqlx::query_as(sql).fetch_all(&mut self.database("payment").await).await.expect("read");
        assert_eq!(said.len(), 1);
        let mut db = self.database("orchestrator").await;
        for (partition, seq, id) in said {
            let sql = "update progress set seq = $2, last_id = $3
                       where grp = 'orchestrator' and topic = 'payment.events' and partition = $1 and seq = $2 - 1";
            let lost = sqlx::query(sql).bind(partition).bind(seq).bind(id).execute(&mut db).await.expect("written");
            assert_eq!(lost.rows_affected(), 1, "nothing was lost");
        }
    }

    /// Waits until the orchestrator has looked at the deadline of this order.
    async fn looked_at(&self, order_id: Uuid) {
        let looked_at = local::until("a look at the deadline", SETTLE_WITHIN, || async {
            let sql = "select deadline_at is null or deadline_at > now() from sagas where order_id = $1";
            let mut db = self.database("orchestrator").await;
            let put_off: bool = sqlx::query_scalar(sql).bind(order_id).fetch_one(&mut db).await.expect("read");
            put_off.then_some(())
        });
        looked_at.await.expect("it is due");
    }
}

#[test]
fn s05_refunds_that_fail_for_a_while_never_end_with_money_held() {
    const BATCH: usize = 6;
    const BATCHES_MAX: usize = 8;
    run(async {
        let dir = data_dir().expect("a directory");
        let env = [
            ("SETTLE_SANDBOX_CHAOS", "refund_error=1,spoiled_calls=4".to_owned()),
            ("SETTLE_PROVIDER_RETRY_MS_MAX", "400".to_owned()),
        ];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        let orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"));
        let mut spoiled = 0;
        // A refund fails before it is made or after it was, by its key: until one of the first kind was among them.
        for _ in 0..BATCHES_MAX {
            let batch = (0..BATCH).map(|_| given_back(orders.clone()));
            futures::future::join_all(batch).await;
            let mut db = PgConnection::connect(&platform.ready.databases["provider"]).await.expect("the database answers");
            let sql = "select coalesce(max(times), 0) from failed_calls";
            spoiled = sqlx::query_scalar::<_, i32>(sql).fetch_one(&mut db).await.expect("read");
            if spoiled > 0 {
                break;
            }
        }
        assert_eq!(spoiled, 4, "the fault did not happen");
        let deployment = Deployment::of(platform.ready.databases.clone());
        let report = audit(&deployment, false).await.expect("it is audited");
        assert_eq!(report.lines(), Vec::<String>::new());
        assert_eq!(report.attention.count, 0, "a failure that passes is nobody's work");
        platform.stop().await.expect("it ends well");
    });
}

/// Of an order that is out of stock: while its refund fails it says that it is being undone, and when it says that it is over, it is.
async fn given_back(mut orders: OrderServiceClient<tonic::transport::Channel>) {
    let request = at_own_price("SKU-EMPTY", "");
    let order_id = orders.create_order(request).await.expect("accepted").into_inner().order_id;
    let request = WatchOrderRequest { order_id, final_only: false };
    let mut watch = orders.watch_order(request).await.expect("watched").into_inner();
    let over = async {
        loop {
            let order = watch.message().await.expect("told").expect("it is not over").order.expect("an order");
            if is_final(&order) {
                return order;
            }
        }
    };
    let order = tokio::time::timeout(SETTLE_WITHIN, over).await.expect("it ends");
    assert_eq!((order.status(), order.refunded_amount), (OrderStatus::Failed, order.total));
    assert_happened(&order, &["PaymentSucceeded", "InventoryFailed", "SagaCompensating", "PaymentRefunded", "OrderFailed"]);
    assert!(!order.timeline.iter().any(|entry| entry.event == "PaymentRefundFailed"), "an error is no answer");
}

#[test]
fn s16_a_participant_that_never_comes_back_is_waited_for_in_so_many_words() {
    const ORDERS: usize = 4;
    run(async {
        let mut services = Services::start().await;
        // From here on it is known how far it has read.
        let reported = local::until("a report", SETTLE_WITHIN, || async {
            let sql = "select count(*) from readers where grp = 'inventory' and topic = 'inventory.commands'";
            (services.count("orchestrator", sql).await > 0).then_some(())
        });
        reported.await.expect("it reports");
        services.running["inventory"].signal(Signal::Stop).expect("it stands still");
        services.running.get_mut("inventory").expect("it runs").kill().await.expect("it is gone");
        let mut waiting = Vec::new();
        for _ in 0..ORDERS {
            waiting.push(services.place("").await);
        }
        for order_id in &waiting {
            services.comes_to("its payment", *order_id, |order| order.status() == OrderStatus::Paid).await;
        }
        // Deadlines pass again and again: what was not read yet is not asked again.
        let written = services.messages().await;
        for _ in 0..2 {
            for order_id in &waiting {
                services.overdue(*order_id, OVERDUE).await;
            }
            for order_id in &waiting {
                services.looked_at(*order_id).await;
            }
        }
        assert_eq!(services.messages().await, written, "somebody spoke without an end");
        let [listed, others @ ..] = &waiting[..] else { panic!("there are orders") };

        // After an hour it is asked all the same, a few times, and then it is listed.
        services.overdue(*listed, LONG_OVERDUE).await;
        services.looked_at(*listed).await;
        services.overdue(*listed, LAST_OVERDUE).await;
        let order = services.comes_to("a person to be needed", *listed, |order| order.needs_attention).await;
        assert_eq!(order.status(), OrderStatus::Paid, "it waits, and says so");
        let asked = services.asked(*listed, "settle.inventory.v1.ReserveStock").await;
        assert_eq!(asked.len(), 2, "one repeat was left");
        assert_eq!(asked[0].1, asked[1].1);
        assert!(services.messages().await <= written + 6, "a repeat and what is told of it");
        for order_id in others {
            assert!(!services.shown(*order_id).await.needs_attention, "the others have time");
        }

        // It comes back after all.
        services.running.remove("inventory");
        services.begin("inventory").await;
        for order_id in &waiting {
            let order = services.comes_to("its end", *order_id, is_final).await;
            assert_eq!((order.status(), order.needs_attention), (OrderStatus::Confirmed, false));
        }
        services.audited().await;
        services.stop().await;
    });
}

#[test]
fn s15_a_thousand_sagas_of_an_unknown_version_do_not_hold_up_a_younger_one() {
    /// More than are looked at in one go.
    const STRANGERS: i32 = 1_001;
    run(async {
        let mut services = Services::start().await;
        services.end("inventory").await;
        let strangers =
            "insert into sagas (order_id, saga_id, definition, definition_version, created, progress, state, deadline_at,
                 started_at, updated_at, version)
             select gen_random_uuid(), gen_random_uuid(), 'checkout', 99, '', 'A1,W0,W0,W0 forward', 'RUNNING',
                 now() - interval '1 second', now() - interval '2 days', now(), 1
             from generate_series(1, $1)";
        let mut db = services.database("orchestrator").await;
        sqlx::query(strangers).bind(STRANGERS).execute(&mut db).await.expect("written");
        let order_id = services.place("").await;
        services.comes_to("its payment", order_id, |order| order.status() == OrderStatus::Paid).await;
        services.overdue(order_id, OVERDUE).await;
        services.looked_at(order_id).await;
        let due = "select count(*) from sagas where definition_version = 99 and version = 1 and deadline_at < now()
             and started_at < (select min(started_at) from sagas where definition_version = 1)";
        assert_eq!(services.count("orchestrator", due).await, i64::from(STRANGERS), "they are older, due, and nobody's here");

        services.begin("inventory").await;
        services.comes_to("its end", order_id, |order| order.status() == OrderStatus::Confirmed).await;
        services.stop().await;
    });
}
