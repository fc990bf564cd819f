//! What the bench asks the platform's databases: the outcomes it waits for, the counts of its audit, and sizes.

use sqlx::{PgConnection, Row};

/// Rows of a stream in one look, at most.
const EVENTS_MAX: i64 = 2_000;

/// The last record of each partition of `order.events`; 0 where there is none.
pub(super) async fn order_event_ends(db: &mut PgConnection) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "select coalesce((
             select seq from outbox where topic = 'order.events' and partition = p order by seq desc limit 1
         ), 0)
         from generate_series(0, (select partitions from stream_settings) - 1) as p order by p",
    )
    .fetch_all(db)
    .await
}

/// What `order.events` has after these places, one a partition: key and type. The places move on.
pub(super) async fn order_events_after(db: &mut PgConnection, places: &mut [i64]) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query(
        "select o.partition, o.seq, o.key, o.type
         from unnest($1::bigint[]) with ordinality as s(seq, nth)
         cross join lateral (
             select partition, seq, key, type from outbox
             where topic = 'order.events' and partition = s.nth - 1 and seq > s.seq order by seq limit $2
         ) o",
    )
    .bind(&*places)
    .bind(EVENTS_MAX)
    .fetch_all(db)
    .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let partition = usize::try_from(row.try_get::<i32, _>(0)?).unwrap_or(usize::MAX);
        if let Some(place) = places.get_mut(partition) {
            *place = row.try_get(1)?;
        }
        events.push((row.try_get(2)?, row.try_get(3)?));
    }
    Ok(events)
}

/// How far the write-ahead log of the server is, in bytes.
pub(super) async fn wal_bytes(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").fetch_one(db).await
}

/// Bytes of each table with its indexes, the ranges of a table counted as that table.
pub(super) async fn table_bytes(db: &mut PgConnection) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as(
        "select whole.relname::text, sum(pg_total_relation_size(part.oid))::bigint
         from pg_class part
         join pg_class whole on whole.oid = coalesce(pg_partition_root(part.oid)::oid, part.oid)
         where part.relnamespace = current_schema()::regnamespace and part.relkind in ('r', 'p')
         group by whole.relname order by 2 desc, 1",
    )
    .fetch_all(db)
    .await
}

/// One row of counts, for the audit.
pub(super) async fn counts<const N: usize>(db: &mut PgConnection, sql: &'static str) -> sqlx::Result<[i64; N]> {
    let row = sqlx::query(sql).fetch_one(db).await?;
    let mut counts = [0; N];
    for (at, count) in counts.iter_mut().enumerate() {
        *count = row.try_get(at)?;
    }
    Ok(counts)
}

/// Orders, confirmed, cancelled, and what the confirmed come to.
pub(super) const ORDERS: &str =
    "select count(*), count(*) filter (where status = 'CONFIRMED'), count(*) filter (where status = 'CANCELLED'),
         coalesce(sum(total) filter (where status = 'CONFIRMED'), 0)::bigint
     from orders";

/// Sagas that ended well, and those that are not over.
pub(super) const SAGAS: &str = "select count(*) filter (where state = 'DONE'), count(*) filter (where open) from sagas";

/// Payments that keep the money, how much, what the ledger says it is, and calls under way.
pub(super) const PAYMENTS: &str =
    "select count(*) filter (where state = 'CAPTURED'), coalesce(sum(captured - refunded), 0)::bigint,
         (select coalesce(sum(case when debit = 'sales' then -amount else amount end), 0)::bigint from ledger_transfers),
         (select count(*) from provider_calls)
     from payments";

/// What the provider took and kept.
pub(super) const STATEMENT: &str = "select coalesce(sum(amount - refunded), 0)::bigint from statement
     where kind = 'CHARGE' and outcome = 'SUCCEEDED'";

/// Reservations carried out, those still held, and pieces that are set aside.
pub(super) const RESERVATIONS: &str = "select count(*) filter (where state = 'COMMITTED'), count(*) filter (where state = 'HELD'),
         (select coalesce(sum(reserved), 0)::bigint from stock)
     from reservations";

/// Shipments released, and those still held.
pub(super) const SHIPMENTS: &str =
    "select count(*) filter (where state = 'RELEASED'), count(*) filter (where state = 'HELD') from shipments";

/// Customers who were told that their order is confirmed, and that it is cancelled.
pub(super) const NOTIFICATIONS: &str = "select count(*) filter (where kind = 'ORDER_CONFIRMED'),
         count(*) filter (where kind = 'ORDER_CANCELLED')
     from notifications";

/// Records that a group holds back.
pub(super) const HELD_BACK: &str = "select count(*) from dead_letter_events where state <> 'DONE'";
