//! A charge: what our books have of it, and what the provider's statement has. The statement is the truth: money that moved is there.

use uuid::Uuid;

use super::found::{
    Found,
    Invariant::{I1, I2, I7},
};

/// A payment with what the ledger has of it and what is still open at the provider. Amounts are minor units.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Payment {
    pub(super) order_id: Uuid,
    /// Of the charge or the authorization, at the provider.
    pub(super) key: String,
    pub(super) state: String,
    pub(super) currency: String,
    pub(super) captured: i64,
    pub(super) refunded: i64,
    pub(super) refund_pending: i64,
    pub(super) ledger_taken: i64,
    pub(super) ledger_back: i64,
    /// Transfers between other accounts, or in another currency.
    pub(super) ledger_strange: i64,
    pub(super) calls_open: i64,
    /// What open calls may have taken, and given back.
    pub(super) taking: i64,
    pub(super) giving: i64,
    /// Why a person must look at a call.
    pub(super) attention: String,
}

/// What the statement has under one charge or authorization.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Entry {
    pub(super) key: String,
    /// How often money was taken.
    pub(super) takes: i64,
    pub(super) taken: i64,
    pub(super) back: i64,
    pub(super) currencies: Vec<String>,
    /// Set aside, neither taken nor given free.
    pub(super) is_held: bool,
}

/// One of the two is there at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) key: String,
    pub(super) payment: Option<Payment>,
    pub(super) entry: Option<Entry>,
}

impl Charge {
    pub(super) fn check(&self) -> Found {
        let mut found = Found::default();
        if let Some(entry) = &self.entry {
            entry.check(&mut found);
        }
        match (&self.payment, &self.entry) {
            (Some(payment), entry) => {
                payment.is_in_the_ledger(&mut found);
                payment.is_in_the_statement(entry.as_ref(), &mut found);
            }
            (None, Some(entry)) if entry.takes > 0 => {
                found.wrong(I1, format!("the provider took {} {}, and we know of no such payment", entry.taken, entry.currency()));
            }
            (None, Some(entry)) if entry.is_held => found.wrong(I1, "the provider sets money aside for no payment that we know of"),
            (None, _) => {}
        }
        found
    }
}

impl Entry {
    fn check(&self, found: &mut Found) {
        let Self { takes, taken, back, .. } = self;
        if *takes > 1 {
            found.wrong(I1, format!("the provider took money {takes} times, {taken} in all"));
        }
        if back > taken {
            found.wrong(I2, format!("the provider took {taken} and gave {back} back"));
        }
        if self.currencies.len() > 1 {
            found.wrong(I7, format!("the statement has it in {}", self.currencies.join(" and ")));
        }
    }

    fn currency(&self) -> &str {
        self.currencies.first().map_or("", String::as_str)
    }
}

impl Payment {
    /// Both are written in one transaction.
    fn is_in_the_ledger(&self, found: &mut Found) {
        let Self { captured, refunded, ledger_taken, ledger_back, .. } = self;
        if (captured, refunded) != (ledger_taken, ledger_back) {
            found.wrong(I7, format!("{captured} taken and {refunded} given back, the ledger has {ledger_taken} and {ledger_back}"));
        }
        if self.ledger_strange != 0 {
            found.wrong(I7, format!("{} transfers between strange accounts or in another currency", self.ledger_strange));
        }
    }

    /// The provider may be ahead of us by what is open, and by nothing else.
    fn is_in_the_statement(&self, entry: Option<&Entry>, found: &mut Found) {
        let (taken, back) = entry.map_or((0, 0), |entry| (entry.taken, entry.back));
        let Self { captured, refunded, .. } = self;
        if (*captured, *refunded) != (taken, back) {
            let ahead = (0..=self.taking).contains(&(taken - captured)) && (0..=self.giving).contains(&(back - refunded));
            let says = format!("{captured} taken and {refunded} given back, the statement has {taken} and {back}");
            match ahead {
                true if self.attention.is_empty() => found.open(I7, says),
                true => found.attention(says),
                false => found.wrong(I7, says),
            }
        } else if self.calls_open > 0 && self.attention.is_empty() {
            found.open(I7, format!("{} calls to the provider are open", self.calls_open));
        }
        if !self.attention.is_empty() {
            found.attention(format!("a call to the provider: {}", self.attention));
        }
        if let Some(entry) = entry.filter(|entry| entry.takes > 0)
            && entry.currency() != self.currency
        {
            found.wrong(I7, format!("it is in {}, the statement has it in {}", self.currency, entry.currency()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::found::Invariant;

    fn payment() -> Payment {
        Payment {
            order_id: Uuid::from_u128(1),
            key: "k".into(),
            state: "CAPTURED".into(),
            currency: "USD".into(),
            captured: 100,
            refunded: 0,
            refund_pending: 0,
            ledger_taken: 100,
            ledger_back: 0,
            ledger_strange: 0,
            calls_open: 0,
            taking: 0,
            giving: 0,
            attention: String::new(),
        }
    }

    fn entry() -> Entry {
        Entry { key: "k".into(), takes: 1, taken: 100, back: 0, currencies: vec!["USD".into()], is_held: false }
    }

    fn found(payment: impl Into<Option<Payment>>, entry: impl Into<Option<Entry>>) -> Found {
        Charge { key: "k".into(), payment: payment.into(), entry: entry.into() }.check()
    }

    fn wrong(payment: impl Into<Option<Payment>>, entry: impl Into<Option<Entry>>) -> Vec<Invariant> {
        found(payment, entry).wrong.into_iter().map(|(invariant, _)| invariant).collect()
    }

    #[test]
    fn books_that_agree_are_left_alone() {
        assert_eq!(found(payment(), entry()), Found::default());
        let refunded = Payment { refunded: 100, ledger_back: 100, state: "REFUNDED".into(), ..payment() };
        assert_eq!(found(refunded, Entry { back: 100, ..entry() }), Found::default());
        let declined = Payment { captured: 0, ledger_taken: 0, state: "DECLINED".into(), ..payment() };
        assert_eq!(found(declined, None), Found::default());
        assert_eq!(found(None, Entry { takes: 0, taken: 0, currencies: Vec::new(), ..entry() }), Found::default(), "a void");
    }

    #[test]
    fn money_taken_twice_or_for_nothing_is_seen() {
        assert_eq!(wrong(payment(), Entry { takes: 2, taken: 200, ..entry() }), [I1, I7]);
        assert_eq!(wrong(None, entry()), [I1]);
        assert_eq!(wrong(None, Entry { takes: 0, taken: 0, is_held: true, ..entry() }), [I1]);
        assert_eq!(wrong(payment(), Entry { back: 101, ..entry() }), [I2, I7]);
    }

    #[test]
    fn books_that_differ_are_seen() {
        assert_eq!(wrong(payment(), None), [I7]);
        assert_eq!(wrong(payment(), Entry { taken: 99, ..entry() }), [I7]);
        assert_eq!(wrong(payment(), Entry { back: 1, ..entry() }), [I7]);
        assert_eq!(wrong(payment(), Entry { currencies: vec!["EUR".into()], ..entry() }), [I7]);
        assert_eq!(wrong(payment(), Entry { currencies: vec!["EUR".into(), "USD".into()], ..entry() }), [I7, I7]);
        assert_eq!(wrong(Payment { ledger_taken: 99, ..payment() }, entry()), [I7]);
        assert_eq!(wrong(Payment { ledger_strange: 1, ..payment() }, entry()), [I7]);
    }

    #[test]
    fn the_provider_may_be_ahead_by_what_is_open_alone() {
        let charging = Payment { captured: 0, ledger_taken: 0, state: "IN_FLIGHT".into(), calls_open: 1, taking: 100, ..payment() };
        for entry in [None, Some(entry())] {
            let found = found(charging.clone(), entry);
            assert_eq!((found.wrong.len(), found.open.len()), (0, 1));
            assert!(found.is_suspect(true) && !found.is_suspect(false));
        }
        assert_eq!(wrong(charging.clone(), Entry { back: 1, ..entry() }), [I7], "nobody asked for it back");
        assert_eq!(wrong(charging.clone(), Entry { taken: 101, ..entry() }), [I7]);
        let refunding = Payment { calls_open: 1, giving: 60, refund_pending: 60, ..payment() };
        assert!(wrong(refunding.clone(), Entry { back: 60, ..entry() }).is_empty());
        assert_eq!(wrong(refunding, Entry { back: 61, ..entry() }), [I7]);

        let unknown = Payment { attention: "nobody knows".into(), ..charging };
        for (entry, times) in [(None, 1), (Some(entry()), 2)] {
            let found = found(unknown.clone(), entry);
            assert!(!found.is_suspect(true), "it waits for a person");
            assert_eq!(found.attention.len(), times);
        }
    }
}
