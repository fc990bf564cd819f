//! The rows that an order leaves in the databases of all services, without the services: SQL for the floors. One scratch database has them
//! all, a schema a service, made by the services' own migrations.
//!
//! Statements are written once for both floors. `@n` is the number of the order; for one order at a time it is pgbench's variable `:n` and the
//! other marks are empty, in a batch it runs over so many orders: see [`one_by_one`] and [`in_batches`]. Each client has a partition, products
//! and orders of its own, so that nobody waits for another's rows: without services nothing else is as fast.

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

/// Orders in a statement of the batched floor.
pub(super) const BATCH_ORDERS: u32 = 256;
/// Products of each client.
const PRODUCTS: i32 = 100;
/// Wider than any floor gets: the sequence numbers of a client are in four strips, a strip for each record of an order in a stream.
const RANGE: i64 = 10_000_000_000;

/// The schema of a service.
pub(super) fn schema(service: &str) -> String {
    format!("floor_{service}")
}

pub(super) async fn make_schema(db: &mut PgConnection, service: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(format!("create schema {}", schema(service)))).execute(db).await?;
    Ok(())
}

/// What writers find before the first order: ids by number, progress, products with stock.
pub(super) async fn prepare(db: &mut PgConnection, clients: u32) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "create function floor_id(what text, client int, n bigint) returns uuid language sql immutable parallel safe
             as $$ select md5(what || '/' || client::text || '/' || n::text)::uuid $$;
         -- In the order of their creation, as the service's own are.
         create function floor_order_id(client int, n bigint) returns uuid language sql immutable parallel safe
             as $$ select (lpad(to_hex(n), 12, '0') || substr(md5(client::text || '/' || n::text), 13))::uuid $$;",
    )
    .execute(&mut *db)
    .await?;
    for (group, topic) in HEARD {
        let sql = format!(
            "insert into {}.progress (grp, topic, partition) select $1, $2, client from generate_series(0, $3 - 1) as client",
            schema(group)
        );
        sqlx::query(AssertSqlSafe(sql)).bind(group).bind(topic).bind(number(clients)).execute(&mut *db).await?;
    }
    let sku = "'FLOOR-' || client || '-' || nth from generate_series(0, $1 - 1) as client, generate_series(0, $2 - 1) as nth";
    for sql in [
        format!("insert into floor_inventory.products (sku, name) select sku, 'For the floors' from (select {sku}) as p(sku)"),
        format!(
            "insert into floor_inventory.stock (sku, on_hand, reserved) select sku, 1000000000, 0 from (select {sku}) as p(sku)"
        ),
    ] {
        sqlx::query(AssertSqlSafe(sql)).bind(number(clients)).bind(PRODUCTS).execute(&mut *db).await?;
    }
    Ok(())
}

/// Room in the outbox of a service for all that a floor writes. On a connection whose search path is the schema of the service.
pub(super) async fn make_range(db: &mut PgConnection, topic: &str) -> sqlx::Result<()> {
    sqlx::query("select make_outbox_range($1, 0, $2)").bind(topic).bind(RANGE).execute(db).await?;
    Ok(())
}

fn number(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Who hears what, of what an order that goes well leads to.
const HEARD: [(&str, &str); 11] = [
    ("orchestrator", "order.events"),
    ("orchestrator", "payment.events"),
    ("orchestrator", "inventory.events"),
    ("orchestrator", "shipping.events"),
    ("order", "order.commands"),
    ("payment", "payment.commands"),
    ("inventory", "inventory.commands"),
    ("inventory", "order.events"),
    ("shipping", "shipping.commands"),
    ("shipping", "order.events"),
    ("notification", "order.events"),
];

const ORDER: &str = "floor_order_id(:client_id::int, @n)";
const SKU: &str = "'FLOOR-' || :client_id::int || '-' || @n % 100";

fn id(what: &str) -> String {
    format!("floor_id('{what}', :client_id::int, @n)")
}

/// The transactions of an order that goes well, the creation first: the rows that the services write, one transaction an event. What a
/// group hears and passes over is left out, so are all reads and locks.
pub(super) fn transactions() -> Vec<Vec<String>> {
    let (saga, payment, transfer) = (id("saga"), id("payment"), id("transfer"));
    let (charge, call) = (id("charge"), id("call"));
    let (reservation, reserve, shipment, schedule) = (id("reservation"), id("reserve"), id("shipment"), id("schedule"));
    let notification = id("notification");
    vec![
        vec![
            format!(
                "insert into floor_order.orders
                     (id, customer_id, status, currency, total, request_hash, version, created_at, updated_at,
                      skus, quantities, unit_prices)
                 select {ORDER}, 'bench-' || @n % 1000, 'PENDING', 'USD', 1000, sha256('x'), 1, now(), now(),
                     array[{SKU}], array[1], array[1000::bigint] @from"
            ),
            entries(&[(1, "OrderCreated")]),
            said("order", &[("order.events", 0, "order.v1.OrderCreated")]),
        ],
        vec![
            heard("orchestrator", "order.events"),
            format!(
                "insert into floor_orchestrator.sagas (order_id, saga_id, definition, definition_version, created, progress, state,
                     deadline_at, started_at, updated_at, version)
                 select {ORDER}, {saga}, 'checkout', 1, repeat('x', 90)::bytea, 'A1,W0,W0,W0 forward', 'RUNNING',
                     now() + interval '300 s', now(), now(), 1 @from"
            ),
            said(
                "orchestrator",
                &[("order.commands", 0, "order.v1.RecordProgress"), ("payment.commands", 0, "payment.v1.ChargePayment")],
            ),
        ],
        recorded("PROCESSING", &[(2, "SagaStarted")]),
        vec![
            heard("payment", "payment.commands"),
            format!(
                "insert into floor_payment.payments (id, order_id, command_id, state, provider, currency, amount, captured, refunded,
                     refund_pending, auth_code, decline_reason, refund_reason, created_at)
                 select {payment}, {ORDER}, {charge}, 'IN_FLIGHT', 'sandbox', 'USD', 1000, 0, 0, 0, '', '', '', now() @from"
            ),
            format!(
                "insert into floor_payment.provider_calls (payment_id, id, order_id, kind, key, token, amount, currency, due_at, correlation)
                 select {payment}, {call}, {ORDER}, 'CHARGE', {payment}, '', 1000, 'USD', now() + interval '6 s', {ORDER}::text @from"
            ),
        ],
        vec![format!(
            "update floor_payment.provider_calls t set attempts = 1, first_sent_at = now() @from where t.key = {payment}"
        )],
        vec![format!(
            "insert into floor_provider.statement (key, kind, token, amount, currency, outcome, reason, auth_code)
             select {payment}::text, 'CHARGE', '', 1000, 'USD', 'SUCCEEDED', '', 'A1B2C3' @from"
        )],
        vec![
            format!(
                "update floor_payment.payments t set state = 'CAPTURED', captured = t.amount, auth_code = 'A1B2C3' @from
                 where t.id = {payment}"
            ),
            format!(
                "insert into floor_payment.ledger_transfers (id, payment_id, debit, credit, amount, currency, at)
                 select {transfer}, {payment}, 'receivable sandbox', 'sales', 1000, 'USD', now() @from"
            ),
            format!("delete from floor_payment.provider_calls t @using where t.key = {payment}"),
            said("payment", &[("payment.events", 0, "payment.v1.PaymentSucceeded")]),
        ],
        advanced("payment.events", 2, "D1,A1,W0,W0 forward", &[
            ("order.commands", 1, "order.v1.RecordProgress"),
            ("inventory.commands", 0, "inventory.v1.ReserveStock"),
        ]),
        recorded("PAID", &[(3, "PaymentSucceeded")]),
        vec![
            heard("inventory", "inventory.commands"),
            format!("update floor_inventory.stock t set reserved = t.reserved + 1 @from where t.sku = {SKU}"),
            format!(
                "insert into floor_inventory.reservations (order_id, id, command_id, state, skus, quantities)
                 select {ORDER}, {reservation}, {reserve}, 'HELD', array[{SKU}], array[1] @from"
            ),
            said("inventory", &[("inventory.events", 0, "inventory.v1.InventoryReserved")]),
        ],
        advanced("inventory.events", 3, "D1,D1,A1,W0 forward", &[
            ("order.commands", 2, "order.v1.RecordProgress"),
            ("shipping.commands", 0, "shipping.v1.ScheduleShipment"),
        ]),
        recorded("PAID", &[(4, "InventoryReserved")]),
        vec![
            heard("shipping", "shipping.commands"),
            format!(
                "insert into floor_shipping.shipments (order_id, id, customer_id, command_id, state, skus, quantities)
                 select {ORDER}, {shipment}, 'bench-' || @n % 1000, {schedule}, 'HELD', array[{SKU}], array[1] @from"
            ),
            said("shipping", &[("shipping.events", 0, "shipping.v1.ShippingScheduled")]),
        ],
        advanced("shipping.events", 4, "D1,D1,D1,A1 forward", &[("order.commands", 3, "order.v1.ConfirmOrder")]),
        [
            recorded("CONFIRMED", &[(5, "ShippingScheduled"), (6, "OrderCompleted")]),
            vec![said("order", &[("order.events", 1, "order.v1.OrderCompleted")])],
        ]
        .concat(),
        vec![
            heard("orchestrator", "order.events"),
            format!(
                "update floor_orchestrator.sagas t set progress = 'D1,D1,D1,D1 forward', state = 'DONE', deadline_at = null,
                     updated_at = now(), version = 5 @from
                 where t.order_id = {ORDER}"
            ),
        ],
        vec![
            heard("inventory", "order.events"),
            format!(
                "update floor_inventory.stock t set reserved = t.reserved - 1, on_hand = t.on_hand - 1 @from where t.sku = {SKU}"
            ),
            format!(
                "update floor_inventory.reservations t set state = 'COMMITTED' @from where t.order_id = {ORDER} and t.id = {reservation}"
            ),
        ],
        vec![
            heard("shipping", "order.events"),
            format!("update floor_shipping.shipments t set state = 'RELEASED' @from where t.order_id = {ORDER} and t.id = {shipment}"),
        ],
        vec![
            heard("notification", "order.events"),
            format!(
                "insert into floor_notification.notifications (order_id, kind, id, customer_id, channel, text, sent_at)
                 select {ORDER}, 'ORDER_CONFIRMED', {notification}, 'bench-' || @n % 1000, 'log',
                     'Your order ' || {ORDER} || ' is confirmed. You paid 10.00 USD.', now() @from"
            ),
            said("notification", &[("notification.events", 0, "notification.v1.NotificationSent")]),
        ],
    ]
}

/// A group moves on in a stream.
fn heard(group: &str, topic: &str) -> String {
    format!(
        "update floor_{group}.progress set seq = seq + @rows, last_id = gen_random_uuid(), lease_until = now() + interval '3 s'
         where grp = '{group}' and topic = '{topic}' and partition = :client_id::int"
    )
}

/// A service says this of an order: topic, which record of the order in that topic it is, and type.
fn said(service: &str, news: &[(&str, u32, &str)]) -> String {
    // A stream's first record has no predecessor; none here is the first.
    let row = |(topic, nth, name): &(&str, u32, &str)| format!("('{topic}', {nth}000000002, 'settle.{name}')");
    let rows = news.iter().map(row).collect::<Vec<_>>().join(", ");
    format!(
        "insert into floor_{service}.outbox (topic, partition, seq, id, prev, key, type, payload, at, correlation, causation)
         select r.topic, :client_id::int, r.seq + @n, gen_random_uuid(), gen_random_uuid(), {ORDER}::text, r.type,
             repeat('x', 120)::bytea, now(), {ORDER}::text, gen_random_uuid()
         from @with (values {rows}) as r(topic, seq, type)"
    )
}

/// The order service writes down what one record brings: version and event of each entry.
fn recorded(status: &str, written: &[(i32, &str)]) -> Vec<String> {
    let version = written.iter().map(|(version, _)| *version).max().unwrap_or_default();
    vec![
        heard("order", "order.commands"),
        format!(
            "update floor_order.orders t set status = '{status}', version = {version}, updated_at = now() @from where t.id = {ORDER}"
        ),
        entries(written),
    ]
}

fn entries(written: &[(i32, &str)]) -> String {
    let row = |(version, event): &(i32, &str)| format!("({version}, '{event}')");
    let rows = written.iter().map(row).collect::<Vec<_>>().join(", ");
    format!(
        "insert into floor_order.timeline (order_id, cause, version, at, event)
         select {ORDER}, floor_id(e.event, :client_id::int, @n), e.version, now(), e.event
         from @with (values {rows}) as e(version, event)"
    )
}

/// A step of the saga is answered; the next is asked.
fn advanced(topic: &str, version: i32, progress: &str, news: &[(&str, u32, &str)]) -> Vec<String> {
    vec![
        heard("orchestrator", topic),
        format!(
            "update floor_orchestrator.sagas t set progress = '{progress}', payment_id = {}::text,
                 deadline_at = now() + interval '300 s', updated_at = now(), version = {version} @from
             where t.order_id = {ORDER}",
            id("payment")
        ),
        said("orchestrator", news),
    ]
}

/// The statement for the order `:n`.
pub(super) fn one_by_one(statement: &str) -> String {
    marked(statement, ["", "", "", "1", "(:n::bigint)"])
}

/// The statement for the nth batch of orders.
pub(super) fn in_batches(statement: &str) -> String {
    let rows = format!("generate_series(:n::bigint * {BATCH_ORDERS}, :n::bigint * {BATCH_ORDERS} + {}) as g(n)", BATCH_ORDERS - 1);
    let (from, using, with) = (format!("from {rows}"), format!("using {rows}"), format!("{rows} cross join"));
    marked(statement, [&from, &using, &with, &BATCH_ORDERS.to_string(), "g.n"])
}

fn marked(statement: &str, [from, using, with, rows, n]: [&str; 5]) -> String {
    statement.replace("@from", from).replace("@using", using).replace("@with", with).replace("@rows", rows).replace("@n", n)
}

/// A statement with parameters in place of pgbench's variables; whether it names the number of the order.
pub(super) struct Prepared {
    sql: String,
    names_n: bool,
}

impl Prepared {
    pub(super) fn of(statement: &str) -> Self {
        let names_n = statement.contains(":n::");
        Self { sql: statement.replace(":client_id::", "$1::").replace(":n::", "$2::"), names_n }
    }
}

/// One client's nth order, or batch of orders.
pub(super) async fn write(pool: &PgPool, transactions: &[Vec<Prepared>], client: i32, n: i64) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    for transaction in transactions {
        let mut tx = db.begin().await?;
        for Prepared { sql, names_n } in transaction {
            let query = sqlx::query(AssertSqlSafe(sql.clone())).bind(client);
            let query = if *names_n { query.bind(n) } else { query };
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}
