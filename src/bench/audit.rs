//! Whether the databases of the bench's own platform agree about its orders: money, goods and words follow what was confirmed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection};

use super::store;

/// How long what follows a confirmation (goods leave, the customer is told) may take after the last outcome.
const AGREE_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Those that hear something, and so may hold a record back.
const LISTENERS: [&str; 6] = ["order", "orchestrator", "payment", "inventory", "shipping", "notification"];

/// A connection to the database of each service, `provider` included.
pub(super) struct Books(BTreeMap<String, PgConnection>);

impl Books {
    pub(super) async fn open(databases: &BTreeMap<String, String>) -> Result<Self> {
        let mut books = BTreeMap::new();
        for (service, url) in databases {
            books.insert(service.clone(), PgConnection::connect(url).await?);
        }
        Ok(Self(books))
    }

    pub(super) fn of(&mut self, service: &str) -> Result<&mut PgConnection> {
        self.0.get_mut(service).with_context(|| format!("the platform does not say where the database of {service} is"))
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = (&str, &mut PgConnection)> {
        self.0.iter_mut().map(|(service, db)| (service.as_str(), db))
    }
}

/// What does not agree once everything had time to follow; `placed` orders were accepted since the platform began.
pub(super) async fn disagreements(books: &mut Books, placed: u64) -> Result<Vec<String>> {
    let deadline = Instant::now() + AGREE_WITHIN;
    loop {
        let found = Counts::read(books).await?.disagreements(placed);
        if found.is_empty() || Instant::now() >= deadline {
            return Ok(found);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    orders: i64,
    confirmed: i64,
    cancelled: i64,
    /// Minor units of the confirmed orders; the bench has one currency.
    confirmed_amount: i64,
    sagas_done: i64,
    sagas_open: i64,
    captured: i64,
    captured_amount: i64,
    ledger_amount: i64,
    calls_open: i64,
    provider_amount: i64,
    committed: i64,
    reserved: i64,
    pieces_reserved: i64,
    released: i64,
    shipments_held: i64,
    told_confirmed: i64,
    told_cancelled: i64,
    held_back: i64,
}

impl Counts {
    async fn read(books: &mut Books) -> Result<Self> {
        let [orders, confirmed, cancelled, confirmed_amount] = store::counts(books.of("order")?, store::ORDERS).await?;
        let [sagas_done, sagas_open] = store::counts(books.of("orchestrator")?, store::SAGAS).await?;
        let [captured, captured_amount, ledger_amount, calls_open] = store::counts(books.of("payment")?, store::PAYMENTS).await?;
        let [provider_amount] = store::counts(books.of("provider")?, store::STATEMENT).await?;
        let [committed, reserved, pieces_reserved] = store::counts(books.of("inventory")?, store::RESERVATIONS).await?;
        let [released, shipments_held] = store::counts(books.of("shipping")?, store::SHIPMENTS).await?;
        let [told_confirmed, told_cancelled] = store::counts(books.of("notification")?, store::NOTIFICATIONS).await?;
        let mut held_back = 0;
        for service in LISTENERS {
            let [of_service] = store::counts(books.of(service)?, store::HELD_BACK).await?;
            held_back += of_service;
        }
        Ok(Self {
            orders,
            confirmed,
            cancelled,
            confirmed_amount,
            sagas_done,
            sagas_open,
            captured,
            captured_amount,
            ledger_amount,
            calls_open,
            provider_amount,
            committed,
            reserved,
            pieces_reserved,
            released,
            shipments_held,
            told_confirmed,
            told_cancelled,
            held_back,
        })
    }

    fn disagreements(&self, placed: u64) -> Vec<String> {
        let placed = i64::try_from(placed).unwrap_or(i64::MAX);
        let must_be = [
            ("orders that were accepted", self.orders, placed),
            ("orders that are confirmed or cancelled", self.confirmed + self.cancelled, self.orders),
            ("sagas that ended well", self.sagas_done, self.confirmed),
            ("sagas that are not over", self.sagas_open, 0),
            ("payments captured", self.captured, self.confirmed),
            ("minor units kept by payments", self.captured_amount, self.confirmed_amount),
            ("minor units in the ledger", self.ledger_amount, self.confirmed_amount),
            ("minor units kept by the provider", self.provider_amount, self.confirmed_amount),
            ("calls to the provider under way", self.calls_open, 0),
            ("reservations carried out", self.committed, self.confirmed),
            ("reservations still held", self.reserved, 0),
            ("pieces still reserved", self.pieces_reserved, 0),
            ("shipments released", self.released, self.confirmed),
            ("shipments still held", self.shipments_held, 0),
            ("customers told of a confirmation", self.told_confirmed, self.confirmed),
            ("customers told of a cancellation", self.told_cancelled, self.cancelled),
            ("records held back", self.held_back, 0),
        ];
        let wrong = must_be.into_iter().filter(|(_, found, expected)| found != expected);
        wrong.map(|(what, found, expected)| format!("{what}: {found}, must be {expected}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Counts {
        Counts {
            orders: 10,
            confirmed: 9,
            cancelled: 1,
            confirmed_amount: 9_000,
            sagas_done: 9,
            captured: 9,
            captured_amount: 9_000,
            ledger_amount: 9_000,
            provider_amount: 9_000,
            committed: 9,
            released: 9,
            told_confirmed: 9,
            told_cancelled: 1,
            ..Counts::default()
        }
    }

    #[test]
    fn books_that_agree_are_left_alone() {
        assert_eq!(sound().disagreements(10), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_disagreement_is_seen() {
        assert_eq!(sound().disagreements(11), ["orders that were accepted: 10, must be 11"]);
        for (what, counts) in [
            ("confirmed or cancelled", Counts { cancelled: 0, told_cancelled: 0, ..sound() }),
            ("sagas that ended well", Counts { sagas_done: 8, ..sound() }),
            ("sagas that are not over", Counts { sagas_open: 1, ..sound() }),
            ("payments captured", Counts { captured: 10, ..sound() }),
            ("kept by payments", Counts { captured_amount: 10_000, ..sound() }),
            ("in the ledger", Counts { ledger_amount: 0, ..sound() }),
            ("kept by the provider", Counts { provider_amount: 10_000, ..sound() }),
            ("under way", Counts { calls_open: 1, ..sound() }),
            ("reservations carried out", Counts { committed: 8, ..sound() }),
            ("reservations still held", Counts { reserved: 1, ..sound() }),
            ("pieces still reserved", Counts { pieces_reserved: -1, ..sound() }),
            ("shipments released", Counts { released: 0, ..sound() }),
            ("shipments still held", Counts { shipments_held: 1, ..sound() }),
            ("told of a confirmation", Counts { told_confirmed: 10, ..sound() }),
            ("told of a cancellation", Counts { told_cancelled: 2, ..sound() }),
            ("held back", Counts { held_back: 1, ..sound() }),
        ] {
            let found = counts.disagreements(10);
            assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
        }
    }
}
