//! The statements of the hot path find their rows by an index, in small tables and in large ones. A plan that reads a table as a whole is
//! fast while the table is small, and stays when it is not.

use crate::{
    fixture::{On, Pair, Stage, keys_everywhere, store, wait},
    retention::store::{fill, is_reported, plans, scans},
};

/// The tables that grow, and those of which a batch wants only a few rows. All of `readers` is wanted by who looks at it.
fn is_hot(table: &str) -> bool {
    let ranges = table.starts_with("outbox") && table != "outbox_ranges";
    ranges || ["progress", "processed_events", "dead_letter_events", "members"].contains(&table)
}

on_buses!(hot_statements_find_their_rows_by_an_index: postgres, shuffle);

async fn hot_statements_find_their_rows_by_an_index(on: On) {
    let Stage { pair, publisher, consumer } = Stage::start(on).await;
    let keys = keys_everywhere(2);
    pair.say_all(&publisher.runner, &keys, 1..=5).await;
    // One waits for its turn, so that what looks after such records has its plans too.
    pair.say(&publisher.runner, &keys[0], 6, "early").await;
    wait("the early note to be tried again", || async { pair.mind.refused() > 1 }).await;
    pair.say_all(&publisher.runner, &keys[1..], 6..=10).await;
    wait("the others", || async { store::seen(&pair.consumer).await == 75 }).await;
    wait("the group to report", || async { is_reported(&pair.publisher).await }).await;
    consumer.stop().await;
    publisher.stop().await;

    by_index(&pair, "small tables").await;
    let databases = [&pair.publisher, &pair.consumer];
    for db in databases {
        fill(db).await;
    }
    by_index(&pair, "large tables").await;

    // What a function does is in no plan of ours, but it is counted, at the latest when its connection ends. Nobody else has looked into
    // these tables.
    for pool in pair.pools() {
        pool.close().await;
    }
    for db in databases {
        wait("looks to be counted", || async { scans(db).await.1.iter().any(|table| table.starts_with("outbox_")) }).await;
        let whole = scans(db).await.0;
        assert!(!whole.iter().any(|table| is_hot(table)), "read as a whole: {whole:?}");
    }
    pair.close().await;
}

/// Looks at the plans of everything that the instances have prepared.
async fn by_index(pair: &Pair, what: &str) {
    let mut statements = Vec::new();
    for pool in pair.pools() {
        wait("its connections to come back", || async { pool.num_idle() == usize::try_from(pool.size()).unwrap() }).await;
        let mut connections = Vec::new();
        while let Some(db) = pool.try_acquire() {
            connections.push(db);
        }
        for db in &mut connections {
            for (statement, plan) in plans(db).await {
                let tables = plan.lines().filter_map(|line| line.split("Seq Scan on ").nth(1)?.split_whitespace().next());
                let whole: Vec<&str> = tables.filter(|table| is_hot(table)).collect();
                assert!(whole.is_empty(), "{what}: {whole:?} is read as a whole by\n{statement}\n{plan}");
                statements.push(statement);
            }
        }
    }
    for hot in
        ["lock_streams", "update progress", "from dead_letter_events", "from outbox where", "insert into readers", "from members"]
    {
        assert!(
            statements.iter().any(|statement| statement.contains(hot)),
            "{what}: no statement with {hot} among {statements:#?}"
        );
    }
}
