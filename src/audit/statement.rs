//! The provider's statement: read from its database, or page by page over HTTP, as `PaymentService/Reconcile` reads it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    iter::Peekable,
};

use anyhow::{Context, Result, ensure};
use payment::provider::{Known, Provider, StatementEntry, StatementKind, http::Http};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{
    charge::Entry,
    store::{self, Rows},
};
use crate::deployment::Deployment;

/// Entries of one page: as many as the provider gives at most, so that a page which is not full is the last.
const PAGE_ENTRIES: u32 = 1_000;
/// Charges whose sums are in memory, some 300 bytes each. A larger statement is read from its database.
const CHARGES_MAX: usize = 2_000_000;
/// An entry may be seen so much later than its time says: what is younger is read again.
const SEEN_LATE_MS_MAX: i64 = 60_000;

pub(super) enum Statement {
    Database(PgConnection),
    Http(Box<Pages>),
}

/// A provider behind HTTP, and what of its statement is read.
pub(super) struct Pages {
    provider: Http,
    read: Read,
    /// What was made later than our books were opened is not in them, and is not read the first time either. Where the two clocks differ,
    /// some charges are looked at twice.
    until: OffsetDateTime,
}

impl Statement {
    pub(super) async fn open(deployment: &Deployment) -> Result<Self> {
        const NO_STATEMENT: &str = "without the provider's statement nobody can tell what was taken: set \
             SETTLE_PROVIDER_DATABASE_URL, or SETTLE_PROVIDER_URL to have it read as PaymentService/Reconcile reads it";
        match deployment.provider_url() {
            None => Ok(Self::Database(deployment.connect("provider").await.context(NO_STATEMENT)?)),
            Some(url) => {
                let provider = Http::new(url, 1).context("SETTLE_PROVIDER_URL")?;
                Ok(Self::Http(Box::new(Pages { provider, read: Read::default(), until: OffsetDateTime::UNIX_EPOCH })))
            }
        }
    }

    /// What can be read before the databases are held still.
    pub(super) async fn prepare(&mut self) -> Result<()> {
        match self {
            Self::Database(_) => Ok(()),
            Self::Http(pages) => pages.read_on(Some(OffsetDateTime::now_utc())).await,
        }
    }

    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        match self {
            Self::Database(db) => store::begin(db).await,
            Self::Http(pages) => {
                pages.until = OffsetDateTime::now_utc();
                Ok(())
            }
        }
    }

    pub(super) async fn end(&mut self) -> sqlx::Result<()> {
        match self {
            Self::Database(db) => store::end(db).await,
            Self::Http(_) => Ok(()),
        }
    }

    /// All of it as it was when the books were opened.
    pub(super) async fn charges(&mut self) -> Result<Charges<'_>> {
        match self {
            Self::Database(db) => {
                let rows = Rows::open(db, store::STATEMENT, |entry: &Entry| entry.key.clone()).await?;
                Ok(Charges::Rows(rows))
            }
            Self::Http(pages) => {
                let until = pages.until;
                pages.read_on(Some(until)).await?;
                Ok(Charges::Sums(pages.read.sums.iter().peekable()))
            }
        }
    }

    /// What it has under these keys by now.
    pub(super) async fn charges_of(&mut self, keys: &[String]) -> Result<Vec<Entry>> {
        match self {
            Self::Database(db) => Ok(store::statement_of(db, keys).await?),
            Self::Http(pages) => {
                pages.read_on(None).await?;
                Ok(keys.iter().filter_map(|key| Some(pages.read.sums.get(key)?.entry(key))).collect())
            }
        }
    }
}

impl Pages {
    /// Reads what is new, up to a moment or to the end.
    async fn read_on(&mut self, until: Option<OffsetDateTime>) -> Result<()> {
        let since = self.read.since();
        let mut after: Option<(OffsetDateTime, String)> = None;
        loop {
            let page = self.provider.statement(since, after.clone(), PAGE_ENTRIES).await.context("the provider's statement")?;
            for entry in &page {
                if until.is_some_and(|until| entry.at > until) {
                    return Ok(());
                }
                self.read.take(entry);
            }
            let many = self.read.sums.len();
            ensure!(many <= CHARGES_MAX, "the statement has more than {CHARGES_MAX} charges: set SETTLE_PROVIDER_DATABASE_URL");
            let place = page.last().map(|last| (last.at, last.key.clone()));
            if place.is_none() || page.len() < PAGE_ENTRIES as usize {
                return Ok(());
            }
            after = place;
        }
    }
}

/// What was read of a statement, summed up by charge, and the entries that would come once more if its end were read again.
#[derive(Default)]
struct Read {
    sums: BTreeMap<String, Sum>,
    newest: Option<OffsetDateTime>,
    /// By time and key: a key that is there at two times was booked twice.
    young: BTreeSet<(OffsetDateTime, String)>,
}

impl Read {
    /// From where on there may be something new.
    fn since(&self) -> Option<OffsetDateTime> {
        self.newest.map(|newest| newest - Duration::milliseconds(SEEN_LATE_MS_MAX))
    }

    /// Counts an entry, once.
    fn take(&mut self, entry: &StatementEntry) {
        self.newest = self.newest.max(Some(entry.at));
        if !self.young.insert((entry.at, entry.key.clone())) {
            return;
        }
        while let Some(since) = self.since()
            && self.young.first().is_some_and(|(at, _)| *at < since)
        {
            self.young.pop_first();
        }
        if matches!(entry.known, Known::Succeeded { .. }) {
            self.sums.entry(entry.of.as_ref().unwrap_or(&entry.key).clone()).or_default().add(entry);
        }
    }
}

/// What succeeded under one charge or authorization.
#[derive(Default)]
pub(super) struct Sum {
    takes: i64,
    taken: i64,
    back: i64,
    currencies: Vec<String>,
    is_set_aside: bool,
    /// Taken, or given free.
    is_settled: bool,
}

impl Sum {
    fn add(&mut self, entry: &StatementEntry) {
        match entry.kind {
            StatementKind::Charge | StatementKind::Capture => {
                self.takes += 1;
                self.taken = self.taken.saturating_add(entry.amount);
            }
            StatementKind::Refund => self.back = self.back.saturating_add(entry.amount),
            StatementKind::Authorize | StatementKind::Void => {}
        }
        match entry.kind {
            StatementKind::Authorize => self.is_set_aside = true,
            StatementKind::Capture | StatementKind::Void => self.is_settled = true,
            StatementKind::Charge | StatementKind::Refund => {}
        }
        let moved = matches!(entry.kind, StatementKind::Charge | StatementKind::Capture | StatementKind::Refund);
        if moved && !self.currencies.contains(&entry.currency) {
            self.currencies.push(entry.currency.clone());
            self.currencies.sort_unstable();
        }
    }

    fn entry(&self, key: &str) -> Entry {
        let Self { takes, taken, back, ref currencies, is_set_aside, is_settled } = *self;
        let is_held = is_set_aside && !is_settled;
        Entry { key: key.to_owned(), takes, taken, back, currencies: currencies.clone(), is_held }
    }
}

/// The charges of a statement in the order of their keys.
pub(super) enum Charges<'a> {
    Rows(Rows<'a, Entry, String>),
    Sums(Peekable<btree_map::Iter<'a, String, Sum>>),
}

impl Charges<'_> {
    /// Of the next charge; `None` at the end.
    pub(super) async fn key(&mut self) -> sqlx::Result<Option<String>> {
        match self {
            Self::Rows(rows) => rows.key().await,
            Self::Sums(sums) => Ok(sums.peek().map(|(key, _)| (*key).clone())),
        }
    }

    /// The charge with this key, if it is the next.
    pub(super) async fn take(&mut self, key: &String) -> sqlx::Result<Option<Entry>> {
        match self {
            Self::Rows(rows) => Ok(rows.take(key).await?.pop()),
            Self::Sums(sums) => Ok(sums.next_if(|(next, _)| *next == key).map(|(key, sum)| sum.entry(key))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, kind: StatementKind, of: Option<&str>, at_s: i64) -> StatementEntry {
        StatementEntry {
            key: key.to_owned(),
            kind,
            of: of.map(str::to_owned),
            amount: 100,
            currency: "USD".to_owned(),
            known: Known::Succeeded { auth_code: "A".to_owned() },
            at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(at_s),
        }
    }

    fn read(entries: &[StatementEntry]) -> Read {
        let mut read = Read::default();
        entries.iter().for_each(|entry| read.take(entry));
        read
    }

    fn told(read: &Read, key: &str) -> (i64, i64, i64, bool) {
        let Entry { takes, taken, back, is_held, .. } = read.sums[key].entry(key);
        (takes, taken, back, is_held)
    }

    #[test]
    fn entries_are_summed_up_by_charge() {
        use StatementKind::{Authorize, Capture, Charge, Refund, Void};
        let declined = Known::Declined { reason: "NO".to_owned() };
        let all = [
            entry("a", Charge, None, 1),
            entry("b", Authorize, None, 2),
            entry("c", Authorize, None, 3),
            entry("d", Authorize, None, 4),
            StatementEntry { known: declined.clone(), ..entry("e", Charge, None, 5) },
            entry("b1", Capture, Some("b"), 6),
            entry("c1", Void, Some("c"), 7),
            StatementEntry { amount: 30, ..entry("a1", Refund, Some("a"), 8) },
            StatementEntry { amount: 20, currency: "EUR".to_owned(), ..entry("a2", Refund, Some("a"), 9) },
            StatementEntry { known: declined, ..entry("a3", Refund, Some("a"), 10) },
        ];
        let read = read(&all);
        assert_eq!(read.sums.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(told(&read, "a"), (1, 100, 50, false));
        assert_eq!(told(&read, "b"), (1, 100, 0, false));
        assert_eq!(told(&read, "c"), (0, 0, 0, false));
        assert_eq!(told(&read, "d"), (0, 0, 0, true));
        assert_eq!(read.sums["a"].currencies, ["EUR", "USD"]);
        assert!(read.sums["d"].currencies.is_empty(), "nothing was moved");
    }

    #[test]
    fn what_is_read_again_counts_once_and_what_was_booked_again_twice() {
        let charge = |key, at_s| entry(key, StatementKind::Charge, None, at_s);
        let mut read = read(&[charge("old", 0), charge("a", 100), charge("b", 130)]);
        let since = read.since().expect("there are entries");
        assert_eq!(since, OffsetDateTime::UNIX_EPOCH + Duration::seconds(70));
        assert_eq!(read.young.len(), 2, "what does not come again is not kept");
        // One of them was seen late.
        for again in [charge("a", 100), charge("late", 120), charge("b", 130), charge("b", 131)] {
            read.take(&again);
        }
        assert_eq!(["old", "a", "late", "b"].map(|key| told(&read, key).0), [1, 1, 1, 2]);
    }

    #[test]
    fn charges_come_in_the_order_of_keys() {
        let read = read(&["c", "a", "b"].map(|key| entry(key, StatementKind::Charge, None, 1)));
        assert_eq!(read.sums.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
