//! What a database has of an older build is there afterwards, where a migration moves it.

use sqlx::{Connection, PgConnection};

use crate::harness::run;

/// Before it the lines of an order were rows of a table.
const LINES_IN_THE_ROW: i64 = 3;

type Lines = (String, Vec<String>, Vec<i32>, Vec<i64>);

#[test]
fn the_lines_of_an_order_are_carried_into_its_row() {
    run(async {
        let postgres = local::postgres::shared_for_tests().await;
        let url = postgres.fresh_database("carried_over").await.expect("made");
        let mut db = PgConnection::connect(&url).await.expect("the database answers");
        for older in order::MIGRATIONS.iter().filter(|migration| migration.version < LINES_IN_THE_ROW) {
            sqlx::raw_sql(older.sql.clone()).execute(&mut db).await.expect("as it was");
        }
        let orders = "
            insert into orders (id, customer_id, status, currency, total, request_hash, version, created_at, updated_at)
            select md5(name)::uuid, name, 'PAID', 'USD', 100, '', 1, now(), now() from unnest(array['one', 'three']) as o(name);
            insert into order_items (order_id, line, sku, quantity, unit_price) values
                (md5('three')::uuid, 2, 'b', 10000, 0),
                (md5('three')::uuid, 0, 'c', 1, 9223372036854775807),
                (md5('one')::uuid, 0, 'a', 7, 3),
                (md5('three')::uuid, 1, 'a, {\"x\"}', 2, 5);";
        sqlx::raw_sql(orders).execute(&mut db).await.expect("orders of an older build");
        for newer in order::MIGRATIONS.iter().filter(|migration| migration.version >= LINES_IN_THE_ROW) {
            sqlx::raw_sql(newer.sql.clone()).execute(&mut db).await.expect("migrated");
        }

        let sql = "select customer_id, skus, quantities, unit_prices from orders order by customer_id";
        let carried: Vec<Lines> = sqlx::query_as(sql).fetch_all(&mut db).await.expect("read");
        let three = ["c", "a, {\"x\"}", "b"].map(str::to_owned).to_vec();
        let expected: [Lines; 2] = [
            ("one".to_owned(), vec!["a".to_owned()], vec![7], vec![3]),
            ("three".to_owned(), three, vec![1, 2, 10_000], vec![i64::MAX, 5, 0]),
        ];
        assert_eq!(carried, expected);
        for (bad, constraint) in [
            ("skus = '{}', quantities = '{}', unit_prices = '{}'", "orders_lines"),
            ("quantities = '{1, 1}'", "orders_lines"),
            ("quantities = '{0}'", "orders_quantities"),
            ("unit_prices = '{-1}'", "orders_unit_prices"),
        ] {
            let sql = sqlx::AssertSqlSafe(format!("update orders set {bad} where customer_id = 'one'"));
            let refused = sqlx::raw_sql(sql).execute(&mut db).await.expect_err(bad);
            let said = refused.as_database_error().and_then(|error| error.constraint());
            assert_eq!(said, Some(constraint), "{bad}");
        }
    });
}
