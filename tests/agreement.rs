//! Whether the databases of all services tell the same story of every order. For platforms at rest, whatever happened to them before.

mod facts;
mod goods;
mod money;
mod rows;
mod streams;

use std::{collections::BTreeMap, time::Duration};

use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;

use facts::Facts;

/// A connection to the database of each service.
pub(crate) struct Books(BTreeMap<String, PgConnection>);

impl Books {
    /// `databases` are URLs by service, `provider` included.
    pub(crate) async fn open(databases: &BTreeMap<String, String>) -> Self {
        let mut books = BTreeMap::new();
        for (service, url) in databases {
            books.insert(service.clone(), PgConnection::connect(url).await.expect("the database answers"));
        }
        Self(books)
    }

    pub(crate) fn of(&mut self, service: &str) -> &mut PgConnection {
        self.0.get_mut(service).unwrap_or_else(|| panic!("{service} has a database"))
    }
}

/// Everything in the books that must not be so.
pub(crate) async fn check(books: &mut Books) -> Vec<String> {
    let facts = Facts::read(books).await;
    let mut found = rows::check(&facts);
    found.extend(money::check(&facts));
    found.extend(goods::check(&facts));
    found.extend(streams::check(books).await);
    found
}

/// The same, of databases that are not open yet.
pub(crate) async fn violations(databases: &BTreeMap<String, String>) -> Vec<String> {
    check(&mut Books::open(databases).await).await
}

/// Waits until nothing is under way, for so long. What still moves then is told by [`violations`].
pub(crate) async fn at_rest(databases: &BTreeMap<String, String>, patience: Duration) {
    let books = Mutex::new(Books::open(databases).await);
    let rest = local::until("rest", patience, || async {
        let mut books = books.lock().await;
        let heads = streams::heads(&mut books).await;
        unsettled(&mut books, &heads).await.is_empty().then_some(())
    });
    if let Err(error) = rest.await {
        println!("{error}");
    }
}

/// Waits for rest, then compares; and again if something moved meanwhile, for other tests place orders on the same platform.
pub(crate) async fn agree(databases: &BTreeMap<String, String>, patience: Duration) -> Vec<String> {
    let books = Mutex::new(Books::open(databases).await);
    let restless = Mutex::new(Vec::new());
    let found = local::until("books that stand still", patience, || async {
        let mut books = books.lock().await;
        let heads = streams::heads(&mut books).await;
        let moving = unsettled(&mut books, &heads).await;
        if !moving.is_empty() {
            *restless.lock().await = moving;
            return None;
        }
        let found = check(&mut books).await;
        (streams::heads(&mut books).await == heads).then_some(found)
    });
    let found = found.await;
    match found {
        Ok(found) => found,
        Err(error) => [vec![error.to_string()], restless.into_inner()].concat(),
    }
}

/// What is still under way.
async fn unsettled(books: &mut Books, heads: &streams::Heads) -> Vec<String> {
    let mut found = Vec::new();
    for (service, sql) in [
        (
            "order",
            "select 'order ' || id || ' is ' || status from orders
             where status not in ('CONFIRMED', 'FAILED', 'CANCELLED') and not needs_attention limit 20",
        ),
        (
            "orchestrator",
            "select 'the saga of ' || order_id || ' is ' || state from sagas where open and state <> 'NEEDS_ATTENTION' limit 20",
        ),
        ("payment", "select 'the provider is asked about ' || order_id from provider_calls limit 20"),
    ] {
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(books.of(service)).await.expect("read");
        found.extend(rows);
    }
    found.extend(streams::behind(books, heads).await);
    found.extend(streams::unpublished(books).await);
    found
}
