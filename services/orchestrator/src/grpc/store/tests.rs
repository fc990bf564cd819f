//! Which sagas a filter finds, on a real Postgres.

use super::*;
use crate::store::tests::{migrated, run};

/// Its definition, that one's version, and its place.
type Step = (&'static str, i32, i32);

#[test]
fn a_step_finds_the_sagas_that_it_holds_up() {
    const SAGAS: [(&str, &str); 7] = [
        ("checkout", "A1,W0,W0,W0 forward"),
        ("checkout", "U1,R1,S0,S0 unwinding refused=1"),
        ("checkout", "X1,R1,S0,S0 unwinding refused=1 stuck"),
        ("checkout", "D1,A1,W0,W0 forward"),
        ("checkout", "R1,S0,S0,S0 closing refused=0"),
        ("refund", "D1,R1 forward stuck"),
        ("refund", "R1,S0 closing refused=0"),
    ];
    const HELD_UP: [(Step, &[u128]); 4] =
        [(("checkout", 1, 1), &[2, 1, 0]), (("checkout", 1, 2), &[3]), (("refund", 1, 1), &[]), (("refund", 1, 2), &[5])];
    run(async {
        let pool = migrated().await;
        let sql = "insert into sagas (order_id, saga_id, definition, definition_version, created, progress, state, started_at, updated_at,
                 version)
             values ($1, $1, $2, 1, '', $3, 'RUNNING', 'epoch', 'epoch', 1)";
        for (nth, (definition, progress)) in (0..).zip(SAGAS) {
            let insert = sqlx::query(sql).bind(Uuid::from_u128(nth)).bind(definition).bind(progress);
            insert.execute(&pool).await.expect("written");
        }
        let before = (OffsetDateTime::UNIX_EPOCH + time::Duration::DAY, Uuid::max());
        for (step, held_up) in HELD_UP {
            let filter = Filter { held_up_by: Some(vec![step]), open: true, ..Filter::default() };
            let (rows, _) = list(&pool, &filter, before, 10).await.expect("read");
            let found: Vec<u128> = rows.iter().map(|row| row.order_id.as_u128()).collect();
            assert_eq!(found, held_up, "{step:?}");
        }
    });
}
