//! Points for what customers buy: hears what a shop has sold, keeps points, lets them be spent. Both use one database, to be short.
//! `DATABASE_URL=postgres://… cargo run -p messaging --example loyalty`, and once more: the same comes of it.
use std::{collections::BTreeMap, error::Error, fmt, time::Duration};

use messaging::{Bus, CallError, Decision, Envelope, Handler, Heard, Record, Refused, Subscription, Tasks, Trace, Verdict};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;
#[path = "loyalty/shop.rs"]
mod shop;

const SOLD: &str = "shop.sold";
const TABLES: &str = "create table if not exists accounts (customer text primary key, points bigint not null check (points >= 0));
    create table if not exists entries (id uuid primary key, customer text not null, points bigint not null)";

/// The rows of a batch: points by customer, ids of entries that are there, and entries to be written.
struct Book(BTreeMap<String, i64>, Vec<Uuid>, Vec<(Uuid, (String, i64))>);

struct Ledger;
impl Handler for Ledger {
    type Input = i64; // above 0 earned, below spent
    type Answer = i64; // points that are left
    type Refusal = TooFew;
    type State = Book;

    fn hear(&self, sold: &Record) -> Heard<i64> {
        let points = std::str::from_utf8(&sold.payload).ok().and_then(|text| text.parse().ok());
        points.map_or_else(|| Heard::Undecodable("this is no number of points".to_owned()), Heard::Input)
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<i64>]) -> sqlx::Result<Book> {
        let (customers, ids): (Vec<&str>, Vec<Uuid>) = batch.iter().map(|asked| (asked.key.as_str(), asked.id)).unzip();
        let open = "insert into accounts select distinct c, 0 from unnest($1::text[]) as c order by c on conflict do nothing";
        sqlx::query(open).bind(&customers).execute(&mut *db).await?;
        let lock = "select customer, points from accounts where customer = any($1) order by customer for no key update";
        let accounts: Vec<(String, i64)> = sqlx::query_as(lock).bind(customers).fetch_all(&mut *db).await?;
        let known: Vec<Uuid> = sqlx::query_scalar("select id from entries where id = any($1)").bind(ids).fetch_all(db).await?;
        Ok(Book(accounts.into_iter().collect(), known, Vec::new()))
    }

    fn decide(&self, Book(accounts, known, entries): &mut Book, asked: &Envelope<i64>) -> Result<Decision<i64>, TooFew> {
        let points = accounts.entry(asked.key.clone()).or_default();
        if !known.contains(&asked.id) {
            *points = points.checked_add(asked.input).filter(|left| *left >= 0).ok_or(TooFew(*points))?;
            known.push(asked.id);
            entries.push((asked.id, (asked.key.clone(), asked.input)));
        }
        Ok(Decision::quiet(*points))
    }

    async fn save(&self, db: &mut PgConnection, Book(_, _, entries): Book) -> sqlx::Result<()> {
        let (ids, (customers, points)): (Vec<Uuid>, (Vec<String>, Vec<i64>)) = entries.into_iter().unzip();
        let write = "with new as (insert into entries select * from unnest($1::uuid[], $2::text[], $3::bigint[]) returning *)
            update accounts a set points = a.points + n.points
            from (select customer, sum(points) as points from new group by customer) n where n.customer = a.customer";
        sqlx::query(write).bind(ids).bind(customers).bind(points).execute(db).await.map(drop)
    }
}

#[derive(Debug)]
pub(crate) struct TooFew(i64);
impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are only {} points", self.0)
    }
}
impl Error for TooFew {}
impl Refused for TooFew {
    fn verdict(&self) -> Verdict {
        Verdict::Skip // a record has no effect then; who calls is told
    }
}

/// Sells a book and a lamp, the lamp by mistake twice, and spends 80 of the 100 points; gives back what is left.
pub(crate) async fn run(database_url: &str) -> Result<i64, Box<dyn Error>> {
    let pool = PgPool::connect(database_url).await?;
    messaging::migrate(&mut *pool.acquire().await?).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let tasks = Tasks::new();
    let bus = Bus::postgres(4, vec![shop::publisher(pool.clone())]);
    let shop = messaging::start(shop::Shop, Subscription { group: "shop", topics: &[] }, pool.clone(), &bus, &tasks).await?;
    let ledger = messaging::start(Ledger, Subscription { group: "loyalty", topics: &[SOLD] }, pool.clone(), &bus, &tasks).await?;
    let id = |of: &str| Uuid::new_v5(&Uuid::NAMESPACE_OID, of.as_bytes());
    for sale in ["a book", "a lamp", "a lamp"] {
        shop.call(id(sale), "ada".to_owned(), Trace::default(), 50).await?;
    }
    let spend = || ledger.call(id("a voucher"), "ada".to_owned(), Trace::default(), -80);
    while let Err(CallError::Refused(TooFew(_))) = spend().await {
        tokio::time::sleep(Duration::from_millis(20)).await; // what was sold is still on its way
    }
    let left = spend().await?; // the same id: the same answer, and nothing spent again
    tasks.drain(Duration::from_secs(5)).await;
    Ok(left)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{} points are left", run(&std::env::var("DATABASE_URL")?).await?);
    Ok(())
}
