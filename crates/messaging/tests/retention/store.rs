//! What the tests of retention look at, hold up or break in a publisher's database.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction, pool::PoolConnection};

/// The ranges of a topic that are part of the outbox: where each begins.
pub(crate) async fn ranges(db: &PgPool, topic: &str) -> Vec<i64> {
    sqlx::query_scalar(
        "select r.first_seq from outbox_ranges r join pg_inherits i on i.inhrelid = to_regclass(r.relation)
         where r.topic = $1 and not i.inhdetachpending order by r.first_seq",
    )
    .bind(topic)
    .fetch_all(db)
    .await
    .unwrap()
}

/// The table of the range that begins there.
pub(crate) async fn table(db: &PgPool, topic: &str, first_seq: i64) -> String {
    sqlx::query_scalar("select relation from outbox_ranges where topic = $1 and first_seq = $2")
        .bind(topic)
        .bind(first_seq)
        .fetch_one(db)
        .await
        .unwrap()
}

pub(crate) async fn is_there(db: &PgPool, table: &str) -> bool {
    sqlx::query_scalar("select to_regclass($1) is not null").bind(table).fetch_one(db).await.unwrap()
}

/// Ranges that somebody began to detach.
pub(crate) async fn half_detached(db: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from pg_inherits where inhdetachpending").fetch_one(db).await.unwrap()
}

/// How far a group has said it is.
pub(crate) async fn reported(db: &PgPool, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let rows: Vec<(i32, i64)> = sqlx::query_as("select partition, seq from readers where grp = $1 and topic = $2")
        .bind(group)
        .bind(topic)
        .fetch_all(db)
        .await
        .unwrap();
    rows.into_iter().collect()
}

/// A transaction that has looked into the outbox and stays open.
pub(crate) async fn hold_outbox(db: &PgPool) -> Transaction<'static, Postgres> {
    let mut holder = db.begin().await.unwrap();
    sqlx::query("select count(*) from outbox").execute(&mut *holder).await.unwrap();
    holder
}

/// What an instance does that dies after it has given a range up.
pub(crate) async fn give_up(db: &PgPool, table: &str) {
    sqlx::query("update outbox_ranges set dropping = true where relation = $1").bind(table).execute(db).await.unwrap();
}

pub(crate) async fn detach(db: &PgPool, table: &str) {
    sqlx::raw_sql(AssertSqlSafe(format!("alter table outbox detach partition {table}"))).execute(db).await.unwrap();
}

/// What an instance does that dies while it waits for an open transaction.
pub(crate) async fn begin_to_detach(db: &PgPool, table: &str) {
    let holder = hold_outbox(db).await;
    let mut dying = db.acquire().await.unwrap();
    sqlx::raw_sql("set lock_timeout = '200ms'").execute(&mut *dying).await.unwrap();
    let sql = format!("alter table outbox detach partition {table} concurrently");
    let waited = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *dying).await;
    assert!(waited.is_err(), "it waits for the transaction");
    sqlx::raw_sql("reset lock_timeout").execute(&mut *dying).await.unwrap();
    holder.rollback().await.unwrap();
}

/// Foreign records that were applied so many days ago.
pub(crate) async fn apply_foreign(db: &PgPool, rows: i32, days_ago: i32) {
    sqlx::query(
        "insert into processed_events (consumer, event_id, payload_hash, processed_at)
         select 'somebody', gen_random_uuid(), '', now() - $2 * interval '1 day' from generate_series(1, $1)",
    )
    .bind(rows)
    .bind(days_ago)
    .execute(db)
    .await
    .unwrap();
}

pub(crate) async fn applied_foreign(db: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from processed_events").fetch_one(db).await.unwrap()
}

/// Dead letters in this state that were held back so many days ago.
pub(crate) async fn hold_back(db: &PgPool, rows: i32, state: &str, days_ago: i32) {
    sqlx::query(
        "insert into dead_letter_events (consumer, topic, partition, event_id, key, event_type, payload, at, correlation, reason, state,
             failed_at)
         select 'somebody', 'elsewhere', 0, gen_random_uuid(), 'key-' || n, 'test.Note', '', now(), '', 'a test wants it', $2,
             now() - $3 * interval '1 day'
         from generate_series(1, $1) as n",
    )
    .bind(rows)
    .bind(state)
    .bind(days_ago)
    .execute(db)
    .await
    .unwrap();
}

pub(crate) async fn held_back(db: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from dead_letter_events").fetch_one(db).await.unwrap()
}

/// Makes all tables of the crate large, with rows of others; and lets the planner know.
pub(crate) async fn fill(db: &PgPool) {
    sqlx::raw_sql(
        "select make_outbox_range('filler', n * 65536, (n + 1) * 65536) from generate_series(0, 5) as n;
         insert into outbox (topic, partition, seq, id, prev, key, type, payload, at, correlation)
         select 'filler', p, seq, gen_random_uuid(), case when seq > 1 then gen_random_uuid() end, 'key', 'test.Note', '\\x00', now(), 'key'
         from generate_series(0, 3) as p, generate_series(1, 5000) as seq;
         insert into progress (grp, topic, partition, seq, last_id)
         select 'filler-' || g, 'topic-' || t, p, 1, gen_random_uuid()
         from generate_series(1, 50) as g, generate_series(1, 5) as t, generate_series(0, 3) as p;
         insert into readers (grp, topic, partition, seq, at)
         select 'filler-' || g, 'filler', p, 5000, now() from generate_series(1, 50) as g, generate_series(0, 3) as p;
         insert into relay (topic, partition, seq) select 'topic-' || t, p, 1 from generate_series(1, 50) as t, generate_series(0, 3) as p;
         insert into members (grp, instance, lease_until) select 'filler-' || g, gen_random_uuid(), now() from generate_series(1, 200) as g",
    )
    .execute(db)
    .await
    .unwrap();
    apply_foreign(db, 5_000, 0).await;
    hold_back(db, 5_000, "DONE", 0).await;
    sqlx::raw_sql("analyze outbox; analyze progress; analyze readers; analyze relay; analyze members; analyze processed_events")
        .execute(db)
        .await
        .unwrap();
    sqlx::raw_sql("analyze dead_letter_events").execute(db).await.unwrap();
}

/// Every statement that a service has prepared on this connection, with the plan it has now.
pub(crate) async fn plans(db: &mut PoolConnection<Postgres>) -> Vec<(String, String)> {
    let prepared: Vec<(String, String, i32)> =
        sqlx::query_as("select name, statement, cardinality(parameter_types) from pg_prepared_statements where not from_sql")
            .fetch_all(&mut **db)
            .await
            .unwrap();
    let mut plans = Vec::new();
    for (name, statement, parameters) in prepared {
        let verb = statement.split_whitespace().next().unwrap_or_default();
        if !["select", "insert", "update", "delete", "with"].contains(&verb) || statement.contains("pg_prepared_statements") {
            continue;
        }
        let nulls = vec!["null"; usize::try_from(parameters).unwrap()].join(", ");
        let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        let sql = format!("explain (costs off) execute \"{name}\" {arguments}");
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut **db).await.unwrap();
        plans.push((statement, lines.join("\n")));
    }
    plans
}

/// Whether any group has reported, without a look into the table.
pub(crate) async fn is_reported(db: &PgPool) -> bool {
    sqlx::query_scalar("select pg_relation_size('readers') > 0").fetch_one(db).await.unwrap()
}

/// Tables of which rows were read without an index, and those that were read by one.
pub(crate) async fn scans(db: &PgPool) -> (Vec<String>, Vec<String>) {
    let whole: Vec<String> =
        sqlx::query_scalar("select relname::text from pg_stat_user_tables where seq_tup_read > 0").fetch_all(db).await.unwrap();
    let by_index: Vec<String> =
        sqlx::query_scalar("select relname::text from pg_stat_user_tables where idx_scan > 0").fetch_all(db).await.unwrap();
    (whole, by_index)
}
