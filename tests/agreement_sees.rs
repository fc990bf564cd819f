//! The agreement check can fail: each kind of damage done to the books of a good order, in a transaction that is rolled back, is seen.

use contracts::{
    order::v1::OrderStatus,
    payment::v1::{GetPaymentRequest, payment_service_client::PaymentServiceClient},
};
use uuid::Uuid;

use crate::{
    agreement::{Books, check},
    harness::{Bus, SETTLE_WITHIN, platform, run},
    placing::{at_own_price, ended, fresh, place, product},
};

/// What `$1` is.
#[derive(Clone, Copy)]
enum By {
    Order,
    Payment,
}

struct Damage {
    service: &'static str,
    by: By,
    sql: &'static str,
    /// Said of it, in one violation.
    seen: &'static str,
}

const fn damage(service: &'static str, by: By, sql: &'static str, seen: &'static str) -> Damage {
    Damage { service, by, sql, seen }
}

const DAMAGES: &[Damage] = &[
    damage("order", By::Order, "update orders set status = 'PAID' where id = $1", "is PAID: it has not ended"),
    damage("order", By::Order, "update orders set needs_attention = true where id = $1", "is CONFIRMED and needs attention"),
    damage("order", By::Order, "update orders set status = 'FAILED' where id = $1", "leads to CONFIRMED"),
    damage("order", By::Order, "delete from timeline where order_id = $1 and version = 3", "has a hole"),
    damage("order", By::Order, "update timeline set event = 'OrderFailed' where order_id = $1 and version = 2", "is illegal"),
    damage(
        "order",
        By::Order,
        "update outbox set prev = id where key = $1::text and type = 'settle.order.v1.OrderCompleted'",
        "another prev",
    ),
    damage(
        "order",
        By::Order,
        "insert into outbox select topic, partition, seq + 100000, gen_random_uuid(), id, key, type, payload, at, correlation
         from outbox where key = $1::text and type = 'settle.order.v1.OrderCompleted'",
        "has holes",
    ),
    damage(
        "order",
        By::Order,
        "update outbox set key = gen_random_uuid()::text where key = $1::text and type = 'settle.order.v1.OrderCreated'",
        "has 0 OrderCreated",
    ),
    damage("order", By::Order, "update orders set refunded_amount = 1 where id = $1", "its refunds come to 0"),
    damage(
        "order",
        By::Order,
        "insert into order_refunds (order_id, refund_id, amount, state, reason, request_hash, refunded_in_all, created_at, updated_at)
         values ($1, gen_random_uuid(), 1, 'REFUNDED', '', '', 1, now(), now())",
        "its saga is missing",
    ),
    damage(
        "orchestrator",
        By::Order,
        "update sagas set state = 'RUNNING' where order_id = $1",
        "its saga is RUNNING",
    ),
    damage("provider", By::Payment, "update statement set refunded = amount where key = $1::text", "has given back"),
    damage(
        "provider",
        By::Payment,
        "insert into statement (key, kind, token, amount, currency, outcome, reason, auth_code)
         select 'charged again', kind, token, amount, currency, outcome, reason, auth_code from statement where key = $1::text",
        "charged again",
    ),
    damage("provider", By::Payment, "delete from statement where key = $1::text", "the statement says 0 and 0"),
    damage(
        "payment",
        By::Payment,
        "update payments set state = 'REFUNDED', refunded = captured where id = $1",
        "and the order CONFIRMED",
    ),
    damage("payment", By::Payment, "delete from ledger_transfers where payment_id = $1", "the ledger has 0 and 0"),
    damage("payment", By::Payment, "update ledger_transfers set amount = amount + 1 where payment_id = $1", "the provider owes"),
    damage(
        "inventory",
        By::Order,
        "update stock set on_hand = on_hand + 1 where sku = (select skus[1] from reservations where order_id = $1)",
        "are on hand",
    ),
    damage(
        "inventory",
        By::Order,
        "update stock set reserved = 1 where sku = (select skus[1] from reservations where order_id = $1)",
        "are reserved, reservations hold 0",
    ),
    damage(
        "inventory",
        By::Order,
        "insert into stock_changes (id, sku, at, cause, delta)
         select gen_random_uuid(), skus[1], now(), 'ADJUST', 1 from reservations where order_id = $1",
        "the journal comes to",
    ),
    damage("inventory", By::Order, "update reservations set state = 'HELD' where order_id = $1", "is still HELD"),
    damage("inventory", By::Order, "update reservations set quantities = array[7] where order_id = $1", "ordered was"),
    damage("shipping", By::Order, "update shipments set state = 'HELD' where order_id = $1", "no shipment that is RELEASED"),
    damage(
        "shipping",
        By::Order,
        "insert into shipments (order_id, id, customer_id, command_id, state, skus, quantities)
         select order_id, gen_random_uuid(), customer_id, command_id, state, skus, quantities from shipments where order_id = $1",
        "is RELEASED twice",
    ),
    damage("shipping", By::Order, "update shipments set state = 'DISPATCHED' where order_id = $1", "was told"),
    damage("notification", By::Order, "delete from notifications where order_id = $1", "was told []"),
    damage("notification", By::Order, "update notifications set kind = 'ORDER_FAILED' where order_id = $1", "ORDER_FAILED"),
    damage(
        "notification",
        By::Order,
        "update progress set seq = seq + 1 where grp = 'notification' and last_id is not null and $1 is not null",
        "notification is at",
    ),
    damage(
        "shipping",
        By::Order,
        "insert into dead_letter_events (consumer, topic, partition, event_id, key, event_type, payload, at, correlation, reason, state)
         values ('shipping', 'order.events', 0, $1, $1::text, 'x', '', now(), 'x', 'a test', 'PARKED')",
        "dead letter",
    ),
];

#[test]
fn every_damage() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        // A product of its own: what others order leaves its stock alone.
        let sku = fresh("agreement");
        product(stage, &sku, None, 10).await;
        let order = ended(stage, &place(stage, at_own_price(&sku, "")).await).await;
        assert_eq!(order.status(), OrderStatus::Confirmed);
        let request = GetPaymentRequest { order_id: order.order_id.clone() };
        let paid = PaymentServiceClient::new(stage.channel().await).get_payment(request).await.expect("paid");
        let payment_id = paid.into_inner().payment.expect("a payment").payment_id;

        let books = tokio::sync::Mutex::new(Books::open(&stage.databases).await);
        // Of all that others do meanwhile only this order counts.
        let ours = |violation: &&String| [&order.order_id, &payment_id, &sku].iter().any(|name| violation.contains(name.as_str()));
        let agreed = local::until("agreement on the order", SETTLE_WITHIN, || async {
            let mut books = books.lock().await;
            let found = check(&mut books).await;
            (found.iter().filter(ours).count() == 0).then_some(())
        });
        agreed.await.expect("the books agree before they are damaged");

        let mut books = books.into_inner();
        for Damage { service, by, sql, seen } in DAMAGES {
            let id: Uuid = match by {
                By::Order => &order.order_id,
                By::Payment => &payment_id,
            }
            .parse()
            .expect("an id");
            sqlx::query("begin").execute(books.of(service)).await.expect("begun");
            let done =
                sqlx::query(*sql).bind(id).execute(books.of(service)).await.unwrap_or_else(|error| panic!("{error} in {sql}"));
            assert!(done.rows_affected() > 0, "nothing was damaged: {sql}");
            let found = check(&mut books).await;
            sqlx::query("rollback").execute(books.of(service)).await.expect("rolled back");
            assert!(found.iter().any(|violation| violation.contains(*seen)), "not seen: {sql}\nbut {found:#?}");
        }
        let found = check(&mut books).await;
        assert_eq!(found.iter().filter(ours).count(), 0, "left behind: {found:#?}");
    });
}
