//! The example of the README runs, and says the same when it runs again.

use tokio::time::timeout;

use crate::fixture::{SOON, run, store};

#[path = "../examples/loyalty.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod loyalty;

const SOURCE: &str = include_str!("../examples/loyalty.rs");

#[test]
fn it_runs_and_runs_again() {
    run(async {
        let postgres = local::postgres::shared_for_tests().await;
        let url = postgres.fresh_database("loyalty").await.unwrap();
        for time in ["the first time", "the second"] {
            let left = timeout(SOON, loyalty::run(&url)).await.expect("it ends").expect("it runs");
            assert_eq!(left, 20, "{time}: 50 for the book, 50 for the lamp, 80 spent");
        }
        store::drop_database(&postgres.url("postgres"), &url).await;
    });
}

#[test]
fn the_readme_shows_it_as_it_is() {
    let shown = format!("```rust,ignore\n{SOURCE}```\n");
    assert!(include_str!("../README.md").contains(&shown), "the README shows another examples/loyalty.rs");
    assert!(SOURCE.lines().count() < 100, "it is short enough to be read");
}
