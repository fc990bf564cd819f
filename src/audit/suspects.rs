//! What looks wrong is looked at again: the databases were read one after the other, and what moved meanwhile does not fit together. What
//! stays as it was, and wrong, is.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use uuid::Uuid;

use super::{
    books::Books,
    charge::Charge,
    found::{
        Found,
        Invariant::{self, I1, I2, I3, I6, I7},
    },
    read,
    report::{Name, Report},
    shelf::Shelf,
    store,
    story::Story,
};

/// Suspects of one kind that are kept for another look. Where there are more, the run says so and is not in order.
const KEPT_MAX: usize = 10_000;
const READ_AT_ONCE_MAX: usize = 1_000;
const PAUSE_MS: u64 = 1_000;
/// What still changes after so many looks, and looked wrong each time, is taken for wrong.
const LOOKS_MAX: u32 = 15;

/// What is looked at as one.
pub(super) trait Subject: PartialEq + Sized {
    type Key: Clone + Ord;

    fn key(&self) -> Self::Key;

    fn check(&self) -> Found;

    /// What a look at it counts for.
    fn counts(&self) -> Vec<(Invariant, usize)>;

    fn name(&self) -> Name;

    /// These, as they are now.
    async fn again(books: &mut Books, keys: &[Self::Key]) -> Result<Vec<Self>>;
}

pub(super) struct Suspects<S: Subject> {
    at_rest: bool,
    kept: BTreeMap<S::Key, S>,
    /// How many there are besides.
    beyond: usize,
}

impl<S: Subject> Suspects<S> {
    pub(super) fn new(at_rest: bool) -> Self {
        Self { at_rest, kept: BTreeMap::new(), beyond: 0 }
    }

    /// Whether nothing looked wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(super) fn look(&mut self, subject: S, report: &mut Report) {
        report.count(&subject.counts());
        let found = subject.check();
        if !found.is_suspect(self.at_rest) {
            report.pass(|| subject.name(), found);
        } else if self.kept.len() < KEPT_MAX {
            self.kept.insert(subject.key(), subject);
        } else {
            self.beyond += 1;
        }
    }

    /// Looks again until each is cleared or convicted.
    pub(super) async fn settle(mut self, books: &mut Books, report: &mut Report) -> Result<()> {
        for look in 1..=LOOKS_MAX {
            if self.kept.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
            let keys: Vec<S::Key> = self.kept.keys().cloned().collect();
            for keys in keys.chunks(READ_AT_ONCE_MAX) {
                let read = S::again(books, keys).await?;
                let mut read: BTreeMap<_, _> = read.into_iter().map(|subject| (subject.key(), subject)).collect();
                for key in keys {
                    if let (Some(before), Some(now)) = (self.kept.remove(key), read.remove(key)) {
                        self.judge(&before, now, look == LOOKS_MAX, report);
                    }
                }
            }
        }
        report.add_unread(self.beyond);
        Ok(())
    }

    fn judge(&mut self, before: &S, now: S, last_look: bool, report: &mut Report) {
        let found = now.check();
        if !found.is_suspect(self.at_rest) {
            report.pass(|| now.name(), found);
        } else if last_look || *before == now {
            report.convict(&now.name(), found);
        } else {
            self.kept.insert(now.key(), now);
        }
    }
}

impl Subject for Story {
    type Key = Uuid;

    fn key(&self) -> Uuid {
        self.id
    }

    fn check(&self) -> Found {
        self.check()
    }

    fn counts(&self) -> Vec<(Invariant, usize)> {
        let orders = usize::from(self.order.is_some());
        vec![(I2, orders), (I3, self.reservations.len()), (I6, orders)]
    }

    fn name(&self) -> Name {
        (format!("order {}", self.id), Some(self.id))
    }

    async fn again(books: &mut Books, keys: &[Uuid]) -> Result<Vec<Self>> {
        Ok(read::stories_of(books, keys).await?)
    }
}

impl Subject for Charge {
    type Key = String;

    fn key(&self) -> String {
        self.key.clone()
    }

    fn check(&self) -> Found {
        self.check()
    }

    fn counts(&self) -> Vec<(Invariant, usize)> {
        let is_taken = self.entry.as_ref().is_some_and(|entry| entry.takes > 0);
        vec![(I1, usize::from(is_taken)), (I7, usize::from(self.payment.is_some()))]
    }

    fn name(&self) -> Name {
        match &self.payment {
            Some(payment) => (format!("charge {} of order {}", self.key, payment.order_id), Some(payment.order_id)),
            None => (format!("charge {}", self.key), None),
        }
    }

    async fn again(books: &mut Books, keys: &[String]) -> Result<Vec<Self>> {
        read::charges_of(books, keys).await
    }
}

impl Subject for Shelf {
    type Key = String;

    fn key(&self) -> String {
        self.sku.clone()
    }

    fn check(&self) -> Found {
        self.check()
    }

    fn counts(&self) -> Vec<(Invariant, usize)> {
        vec![(I3, 1)]
    }

    fn name(&self) -> Name {
        (format!("product {}", self.sku), None)
    }

    async fn again(books: &mut Books, keys: &[String]) -> Result<Vec<Self>> {
        Ok(store::shelves_of(&mut books.inventory, keys).await?)
    }
}
