//! An order as a caller asks for it: checked, not priced yet. Pure.

use std::collections::HashSet;

use contracts::{
    ids,
    money::{self, Currency},
    order::v1::CreateOrderRequest,
};
use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{catalogue::Catalogue, error::Refusal, order::Line};

pub(crate) const LINES_MAX: usize = 100;
pub(crate) const QUANTITY_MAX: i32 = 10_000;
const CUSTOMER_CHARS_MAX: usize = 128;
const SKU_CHARS_MAX: usize = 64;
const TOKEN_CHARS_MAX: usize = 128;
pub(crate) const REASON_CHARS_MAX: usize = 256;

/// What is wrong with a request, by field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) field: String,
    pub(crate) description: String,
    pub(crate) reason: &'static str,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, description: impl Into<String>, reason: &'static str) -> Self {
        Self { field: field.into(), description: description.into(), reason }
    }
}

/// A line's price is not what the catalogue says by now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PriceChanged {
    pub(crate) field: String,
    pub(crate) sku: String,
    pub(crate) currency: String,
    pub(crate) asked: i64,
    pub(crate) catalogue: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: Uuid,
    pub(crate) idempotency_key: Option<String>,
    /// Of the whole request without its key: tells the same request from another one.
    pub(crate) request_hash: Vec<u8>,
    pub(crate) customer_id: String,
    pub(crate) currency: String,
    pub(crate) lines: Vec<DraftLine>,
    pub(crate) payment_token: String,
}

#[derive(Clone, Debug)]
pub(crate) struct DraftLine {
    pub(crate) sku: String,
    pub(crate) quantity: i32,
    /// Absent: the catalogue's.
    pub(crate) unit_price: Option<i64>,
}

impl Draft {
    /// Checks a request. `fresh` is the order's id where the request has no idempotency key.
    pub(crate) fn check(mut request: CreateOrderRequest, fresh: impl FnOnce() -> Uuid) -> Result<Self, Invalid> {
        let idempotency_key = take_key(&mut request.idempotency_key)?;
        let request_hash = Sha256::digest(request.encode_to_vec()).to_vec();
        text("customer_id", &request.customer_id, 1, CUSTOMER_CHARS_MAX)?;
        text("payment_token", &request.payment_token, 0, TOKEN_CHARS_MAX)?;
        if Currency::parse(&request.currency).is_none() {
            return Err(Invalid::new("currency", "must be an ISO 4217 code in upper case, such as USD", "UNKNOWN_CURRENCY"));
        }
        if request.items.is_empty() || request.items.len() > LINES_MAX {
            return Err(Invalid::new("items", format!("must have 1 to {LINES_MAX} lines"), "BAD_LINES"));
        }
        let mut skus = HashSet::new();
        for (i, item) in request.items.iter().enumerate() {
            text(&format!("items[{i}].sku"), &item.sku, 1, SKU_CHARS_MAX)?;
            if !skus.insert(item.sku.as_str()) {
                return Err(Invalid::new(
                    format!("items[{i}].sku"),
                    "is in the order already: add up its quantities",
                    "DUPLICATE_SKU",
                ));
            }
            if !(1..=QUANTITY_MAX).contains(&item.quantity) {
                return Err(Invalid::new(format!("items[{i}].quantity"), format!("must be 1 to {QUANTITY_MAX}"), "BAD_QUANTITY"));
            }
            if item.unit_price.is_some_and(|price| price < 0) {
                return Err(Invalid::new(format!("items[{i}].unit_price"), "must not be negative", "NEGATIVE_PRICE"));
            }
        }
        let lines: Vec<DraftLine> = request
            .items
            .into_iter()
            .map(|item| DraftLine { sku: item.sku, quantity: item.quantity, unit_price: item.unit_price })
            .collect();
        let draft = Self {
            id: idempotency_key.as_deref().map_or_else(fresh, ids::order_of_key),
            idempotency_key,
            request_hash,
            customer_id: request.customer_id,
            currency: request.currency,
            lines,
            payment_token: request.payment_token,
        };
        // What is known of the total already: a price from the catalogue can only add to it.
        total(draft.lines.iter().map(|line| (line.quantity, line.unit_price.unwrap_or(0))))?;
        Ok(draft)
    }

    /// The lines with their prices, and what they come to. The catalogue's price counts; a caller names one only to be told when it is
    /// another by now, or where the catalogue has none.
    pub(crate) fn price(&self, catalogue: &Catalogue) -> Result<(Vec<Line>, i64), Refusal> {
        let mut lines = Vec::with_capacity(self.lines.len());
        for (i, line) in self.lines.iter().enumerate() {
            let field = || format!("items[{i}].unit_price");
            let unit_price = match (line.unit_price, catalogue.price(&line.sku, &self.currency)) {
                (Some(asked), Some(known)) if asked != known => {
                    let (sku, currency) = (line.sku.clone(), self.currency.clone());
                    return Err(Refusal::PriceChanged(PriceChanged { field: field(), sku, currency, asked, catalogue: known }));
                }
                (Some(price), _) | (None, Some(price)) => price,
                (None, None) => {
                    let description = format!("is missing, and the catalogue has no price of {:?} in {}", line.sku, self.currency);
                    return Err(Invalid::new(field(), description, "PRICE_UNKNOWN").into());
                }
            };
            lines.push(Line { sku: line.sku.clone(), quantity: line.quantity, unit_price });
        }
        let total = total(lines.iter().map(|line| (line.quantity, line.unit_price)))?;
        if total == 0 {
            return Err(Invalid::new("items", "must come to more than 0: there would be nothing to charge", "TOTAL_IS_ZERO").into());
        }
        Ok((lines, total))
    }
}

/// The idempotency key of a request, which is no part of what is asked for; `None` without one.
pub(crate) fn take_key(key: &mut String) -> Result<Option<String>, Invalid> {
    let key = std::mem::take(key);
    if !ids::is_key(&key) {
        return Err(Invalid::new("idempotency_key", "must have 1 to 255 printable ASCII characters", "BAD_IDEMPOTENCY_KEY"));
    }
    Ok(Some(key).filter(|key| !key.is_empty()))
}

fn total(lines: impl Iterator<Item = (i32, i64)>) -> Result<i64, Invalid> {
    money::total(lines).ok_or_else(|| Invalid::new("items", "come to more than 9223372036854775807 minor units", "TOTAL_TOO_LARGE"))
}

pub(crate) fn text(field: &str, value: &str, min: usize, max: usize) -> Result<(), Invalid> {
    let chars = value.chars().count();
    if chars < min || chars > max {
        return Err(Invalid::new(field, format!("must have {min} to {max} characters"), "BAD_LENGTH"));
    }
    if value.chars().any(char::is_control) {
        return Err(Invalid::new(field, "must not have control characters", "CONTROL_CHARACTER"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use contracts::{inventory::v1::Price, order::v1::OrderItem};

    use super::*;

    fn good() -> CreateOrderRequest {
        CreateOrderRequest {
            idempotency_key: "k1".into(),
            customer_id: "usr_001".into(),
            currency: "LKR".into(),
            items: vec![item("SKU-123", 2, Some(1200))],
            payment_token: String::new(),
        }
    }

    fn item(sku: &str, quantity: i32, unit_price: Option<i64>) -> OrderItem {
        OrderItem { sku: sku.into(), quantity, unit_price }
    }

    fn check(request: CreateOrderRequest) -> Result<Draft, Invalid> {
        Draft::check(request, || Uuid::from_u128(1))
    }

    #[test]
    fn the_same_key_is_the_same_order_and_the_body_tells_requests_apart() {
        let (first, again) = (check(good()).expect("good"), check(good()).expect("good"));
        assert_eq!((first.id, &first.request_hash), (again.id, &again.request_hash));
        let other = check(CreateOrderRequest { currency: "USD".into(), ..good() }).expect("good");
        assert_eq!(other.id, first.id);
        assert_ne!(other.request_hash, first.request_hash);
        let keyless = check(CreateOrderRequest { idempotency_key: String::new(), ..good() }).expect("good");
        assert_eq!(keyless.id, Uuid::from_u128(1));
    }

    #[test]
    fn each_bad_field_is_named() {
        let bad = |change: fn(&mut CreateOrderRequest)| {
            let mut request = good();
            change(&mut request);
            check(request).expect_err("bad")
        };
        for (invalid, field, reason) in [
            (bad(|r| r.items.clear()), "items", "BAD_LINES"),
            (bad(|r| r.items = vec![item("S", 1, Some(1)); 101]), "items", "BAD_LINES"),
            (bad(|r| r.items[0].quantity = 0), "items[0].quantity", "BAD_QUANTITY"),
            (bad(|r| r.items[0].quantity = -1), "items[0].quantity", "BAD_QUANTITY"),
            (bad(|r| r.items[0].quantity = 10_001), "items[0].quantity", "BAD_QUANTITY"),
            (bad(|r| r.items[0].unit_price = Some(-1)), "items[0].unit_price", "NEGATIVE_PRICE"),
            (bad(|r| r.items[0].unit_price = Some(i64::MAX)), "items", "TOTAL_TOO_LARGE"),
            (bad(|r| r.items.push(item("SKU-123", 1, None))), "items[1].sku", "DUPLICATE_SKU"),
            (bad(|r| r.items[0].sku = String::new()), "items[0].sku", "BAD_LENGTH"),
            (bad(|r| r.currency = "lkr".into()), "currency", "UNKNOWN_CURRENCY"),
            (bad(|r| r.customer_id = String::new()), "customer_id", "BAD_LENGTH"),
            (bad(|r| r.customer_id = "a\0b".into()), "customer_id", "CONTROL_CHARACTER"),
            (bad(|r| r.idempotency_key = "ä".into()), "idempotency_key", "BAD_IDEMPOTENCY_KEY"),
            (bad(|r| r.idempotency_key = "k".repeat(256)), "idempotency_key", "BAD_IDEMPOTENCY_KEY"),
        ] {
            assert_eq!((invalid.field.as_str(), invalid.reason), (field, reason));
        }
    }

    /// Prices in LKR.
    fn catalogue(prices: &[(&str, i64)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (sku, unit_price) in prices {
            catalogue.put((*sku).to_owned(), Price { currency: "LKR".to_owned(), unit_price: *unit_price });
        }
        catalogue
    }

    fn invalid(refused: Result<(Vec<Line>, i64), Refusal>) -> &'static str {
        match refused {
            Err(Refusal::Invalid(invalid)) => invalid.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_price_comes_from_the_catalogue() {
        let draft = check(CreateOrderRequest { items: vec![item("a", 2, None), item("b", 1, Some(5))], ..good() }).expect("good");
        let (lines, total) = draft.price(&catalogue(&[("a", 100)])).expect("priced");
        assert_eq!((lines[0].unit_price, total), (100, 205));
        assert_eq!(draft.price(&catalogue(&[("a", 0)])).expect("priced").1, 5);
        let free = check(CreateOrderRequest { items: vec![item("a", 2, Some(0))], ..good() }).expect("good");
        assert_eq!(invalid(free.price(&catalogue(&[]))), "TOTAL_IS_ZERO", "nothing to charge");
        assert_eq!(invalid(draft.price(&catalogue(&[]))), "PRICE_UNKNOWN");
        assert_eq!(invalid(draft.price(&catalogue(&[("a", i64::MAX)]))), "TOTAL_TOO_LARGE");
        let elsewhere = check(CreateOrderRequest { currency: "USD".into(), ..good() }).expect("good");
        assert!(elsewhere.price(&catalogue(&[("SKU-123", 1)])).is_ok(), "a price in another currency is no price");
    }

    #[test]
    fn a_price_that_is_not_the_catalogues_is_refused_with_both() {
        let draft =
            check(CreateOrderRequest { items: vec![item("a", 2, Some(7)), item("b", 1, Some(5))], ..good() }).expect("good");
        assert!(draft.price(&catalogue(&[("a", 7), ("b", 5)])).is_ok());
        let Err(Refusal::PriceChanged(changed)) = draft.price(&catalogue(&[("a", 7), ("b", 6)])) else { panic!("it has changed") };
        assert_eq!((changed.field.as_str(), changed.sku.as_str()), ("items[1].unit_price", "b"));
        assert_eq!((changed.asked, changed.catalogue, changed.currency.as_str()), (5, 6, "LKR"));
    }
}
