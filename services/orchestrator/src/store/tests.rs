//! What the statements promise, on a real Postgres.

use std::sync::OnceLock;

use kit::database::{self, Plans};
use sqlx::AssertSqlSafe;
use tokio::runtime::Runtime;

use super::*;
use crate::definitions::DEFINITIONS;

/// On one runtime for all tests: the server's tasks are those of its runtime.
pub(crate) fn run(test: impl Future<Output = ()>) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime")).block_on(test);
}

/// A database of its own, with connections as the service has them.
pub(crate) async fn migrated() -> PgPool {
    let url = local::postgres::shared_for_tests().await.fresh_database("orchestrator").await.expect("a database");
    database::migrate(&url, &crate::MIGRATIONS).await.expect("migrated");
    database::pool(&url, Plans::Pinned, 4).expect("a pool")
}

/// So many sagas of this version that asked their first step long ago, each a day younger than those of the version before.
async fn overdue(pool: &PgPool, definition: &str, version: i32, sagas: i32) -> Vec<Uuid> {
    let sql =
        "insert into sagas (order_id, saga_id, definition, definition_version, created, progress, state, deadline_at, started_at,
             updated_at, version)
         select gen_random_uuid(), gen_random_uuid(), $1, $2, '', 'A1,W0,W0,W0 forward', 'RUNNING', now() - interval '1 second',
             now() - make_interval(days => $2, secs => nth), now(), 1
         from generate_series(1, $3) as nth returning order_id";
    sqlx::query_scalar(sql).bind(definition).bind(version).bind(sagas).fetch_all(pool).await.expect("written")
}

pub(crate) const START: (OffsetDateTime, Uuid) = (OffsetDateTime::UNIX_EPOCH, Uuid::nil());

#[test]
fn s15_of_the_sagas_that_are_due_those_of_unknown_versions_are_in_nobodys_way() {
    run(async {
        let (pool, known) = (migrated().await, Known::new(&DEFINITIONS, &[]));
        overdue(&pool, "checkout", 99, 1_001).await;
        overdue(&pool, "checkin", 2, 10).await;
        let younger = overdue(&pool, "checkout", 1, 3).await;
        let all: i64 = sqlx::query_scalar("select count(*) from sagas where deadline_at < now() and definition_version > 1")
            .fetch_one(&pool)
            .await
            .expect("read");
        assert_eq!(all, 1_011, "they are older, and due");
        let found = due(&pool, &known, 1, START, 1_000).await.expect("read");
        // The first that was written is the youngest.
        let order_ids: Vec<Uuid> = found.iter().rev().map(|due| due.order_id).collect();
        assert_eq!(order_ids, younger);
        let behind = (found[0].started_at, found[0].saga_id);
        let rest = due(&pool, &known, 1, behind, 1).await.expect("read");
        assert_eq!(rest.iter().map(|due| due.order_id).collect::<Vec<_>>(), [younger[1]], "one at a time, from behind the first");
    });
}

#[test]
fn what_is_due_is_found_by_an_index_whatever_the_table_holds() {
    run(async {
        let pool = migrated().await;
        for rows in [0, 20_000] {
            overdue(&pool, "checkout", 99, rows).await;
            if rows > 0 {
                sqlx::query("analyze sagas").execute(&pool).await.expect("analyzed");
            }
            let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("explain {DUE}")))
                .bind(1.0_f64)
                .bind(START.0)
                .bind(START.1)
                .bind(vec!["checkout", "refund"])
                .bind(vec![1, 1])
                .bind(1_000_i64)
                .fetch_all(&pool)
                .await
                .expect("explained");
            let plan = plan.join("\n");
            assert!(plan.contains("Index Scan using sagas_open") && !plan.contains("Sort"), "{rows} rows:\n{plan}");
        }
    });
}

#[test]
fn a_migrated_database_remembers_what_the_binaries_before_it_had() {
    run(async {
        let pool = migrated().await;
        let mut db = pool.acquire().await.expect("a connection");
        let remembered: i64 = sqlx::query_scalar("select count(*) from saga_definitions").fetch_one(&mut *db).await.expect("read");
        assert_eq!(remembered, 3);
        assert!(known(&mut db, &DEFINITIONS).await.expect("read").changed().is_empty());
        // Of a database that is not migrated nothing can be said, and everything is taken for what it was.
        sqlx::query("drop table saga_definitions").execute(&mut *db).await.expect("dropped");
        assert!(known(&mut db, &DEFINITIONS).await.expect("read").changed().is_empty());
    });
}
