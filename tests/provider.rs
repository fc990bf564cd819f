//! The payment provider: the sandbox's books, the sandbox as a process of its own, its webhooks, and what the platform makes of a provider
//! that nobody can rely on.

mod books;
pub(crate) mod http;
mod never_made;
mod unknown;
mod webhooks;

use std::time::Duration;

use kit::database::{self, Plans};
use payment::{
    provider::{Capture, Charge, Known, Outcome, Provider, Refund, StatementEntry, Void},
    sandbox::{Options, Sandbox},
};
use uuid::Uuid;

/// More than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

/// A statement of its own, empty.
async fn database() -> String {
    let url = local::postgres::shared_for_tests().await.fresh_database("provider").await.expect("a database");
    settle::platform::migrate_provider(&url).await.expect("migrated");
    url
}

/// A sandbox in this process with this chaos profile.
fn sandbox(database: &str, profile: &str) -> Sandbox {
    let pool = database::pool(database, Plans::Pinned, 4).expect("a URL");
    let chaos = profile.parse().expect("a profile");
    Sandbox::start(pool, Options { chaos, ..Options::default() }).expect("it starts")
}

fn charge(key: Uuid, token: &str, amount: i64) -> Charge {
    Charge { key, token: token.to_owned(), amount, currency: "USD".to_owned() }
}

fn capture(of: Uuid, amount: i64) -> Capture {
    Capture { key: kit::fresh_id(), authorization_key: of, amount, currency: "USD".to_owned() }
}

fn void(of: Uuid) -> Void {
    Void { key: kit::fresh_id(), authorization_key: of }
}

fn refund(of: Uuid, amount: i64) -> Refund {
    Refund { key: kit::fresh_id(), charge_key: of, amount, currency: "USD".to_owned() }
}

fn succeeded(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Known(Known::Succeeded { .. }))
}

fn unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown(_))
}

/// Why it was declined.
fn declined(outcome: Outcome) -> String {
    match outcome {
        Outcome::Known(Known::Declined { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The whole statement, in pages.
async fn statement(provider: &impl Provider) -> Vec<StatementEntry> {
    const PAGE: u32 = 10;
    let mut all: Vec<StatementEntry> = Vec::new();
    loop {
        let after = all.last().map(|last| (last.at, last.key.clone()));
        let page = provider.statement(None, after, PAGE).await.expect("it answers");
        let full = page.len() == 10;
        all.extend(page);
        if !full {
            return all;
        }
    }
}
