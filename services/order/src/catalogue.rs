//! The order service's copy of the catalogue's prices: what a product costs, and which news of it count. Pure.

use std::collections::HashMap;

use contracts::inventory::v1::Price;
use time::OffsetDateTime;

/// Prices by product.
#[derive(Debug, Default)]
pub(crate) struct Catalogue(HashMap<String, Vec<Price>>);

impl Catalogue {
    pub(crate) fn put(&mut self, sku: String, price: Price) {
        self.0.entry(sku).or_default().push(price);
    }

    /// What one piece costs; `None` if the catalogue names no price in this currency.
    pub(crate) fn price(&self, sku: &str, currency: &str) -> Option<i64> {
        self.0.get(sku)?.iter().find(|price| price.currency == currency).map(|price| price.unit_price)
    }
}

/// When something was said of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its place in the stream; 0 where it has none.
    pub(crate) seq: i64,
    pub(crate) at: OffsetDateTime,
}

impl Said {
    /// Whether it was said after `other`. News of one product are in one stream, so a later place is enough; after inventory was restored to
    /// an older copy the places begin again, and the clock tells.
    pub(crate) fn is_after(self, other: Self) -> bool {
        self.seq > other.seq || self.at > other.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seq: i64, at: i64) -> Said {
        Said { seq, at: OffsetDateTime::from_unix_timestamp(at).expect("a time") }
    }

    #[test]
    fn a_price_is_of_a_product_and_a_currency() {
        let mut catalogue = Catalogue::default();
        for (currency, unit_price) in [("USD", 5), ("JPY", 0)] {
            catalogue.put("a".to_owned(), Price { currency: currency.to_owned(), unit_price });
        }
        assert_eq!(["USD", "JPY", "EUR"].map(|currency| catalogue.price("a", currency)), [Some(5), Some(0), None]);
        assert_eq!(catalogue.price("b", "USD"), None);
    }

    #[test]
    fn what_was_said_later_counts() {
        let last = said(7, 100);
        assert!(said(8, 101).is_after(last));
        assert!(said(8, 40).is_after(last), "inventory's clock was set back");
        assert!(said(3, 200).is_after(last), "inventory was restored to an older copy");
        assert!(!last.is_after(last), "the same again");
        assert!(!said(6, 90).is_after(last) && !said(0, 90).is_after(last), "an older one again");
    }
}
