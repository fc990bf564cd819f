//! What comes after a charge or an authorization: captures, voids and refunds, judged against it. Pure.

use uuid::Uuid;

use super::{
    script::refuses_refunds,
    store::{Entry, Parent},
};
use crate::provider::{Capture, Known, Refund, StatementKind, Void};

#[derive(Clone, Debug)]
pub(super) enum Claim {
    Capture(Capture),
    Void(Void),
    Refund(Refund),
}

impl Claim {
    pub(super) fn kind(&self) -> StatementKind {
        match self {
            Self::Capture(_) => StatementKind::Capture,
            Self::Void(_) => StatementKind::Void,
            Self::Refund(_) => StatementKind::Refund,
        }
    }

    pub(super) fn key(&self) -> Uuid {
        match self {
            Self::Capture(ask) => ask.key,
            Self::Void(ask) => ask.key,
            Self::Refund(ask) => ask.key,
        }
    }

    /// The charge or the authorization it is about.
    pub(super) fn of(&self) -> Uuid {
        match self {
            Self::Capture(ask) => ask.authorization_key,
            Self::Void(ask) => ask.authorization_key,
            Self::Refund(ask) => ask.charge_key,
        }
    }

    /// What is booked; what is granted counts against `parent` from here on.
    pub(super) fn judge(&self, decline: Option<&'static str>, parent: Option<&mut Parent>) -> Verdict {
        match self {
            Self::Capture(ask) => {
                Verdict { refused: decline.or_else(|| capture(ask, parent)), amount: ask.amount, currency: ask.currency.clone() }
            }
            Self::Void(_) => void(parent),
            Self::Refund(ask) => {
                Verdict { refused: decline.or_else(|| refund(ask, parent)), amount: ask.amount, currency: ask.currency.clone() }
            }
        }
    }
}

/// What a claim comes to.
#[derive(Debug)]
pub(super) struct Verdict {
    refused: Option<&'static str>,
    amount: i64,
    currency: String,
}

impl Verdict {
    pub(super) fn known(&self, auth_code: String) -> Known {
        match self.refused {
            None => Known::Succeeded { auth_code },
            Some(reason) => Known::Declined { reason: reason.to_owned() },
        }
    }

    pub(super) fn entry(self, claim: &Claim, known: Known, lands_after_ms: u64) -> Entry {
        Entry {
            key: claim.key().to_string(),
            kind: claim.kind(),
            of: Some(claim.of().to_string()),
            token: String::new(),
            amount: self.amount,
            currency: self.currency,
            known,
            lands_after_ms,
        }
    }
}

/// Why a capture is refused.
fn capture(ask: &Capture, parent: Option<&mut Parent>) -> Option<&'static str> {
    let Some(parent) = parent.filter(|parent| parent.kind == StatementKind::Authorize) else {
        return Some("NO_SUCH_AUTHORIZATION");
    };
    if parent.voided {
        return Some("AUTHORIZATION_VOIDED");
    }
    if !parent.succeeded || parent.currency != ask.currency {
        return Some("NO_SUCH_AUTHORIZATION");
    }
    if parent.captured > 0 {
        return Some("ALREADY_CAPTURED");
    }
    if ask.amount > parent.amount {
        return Some("CAPTURE_EXCEEDS_AUTHORIZATION");
    }
    parent.captured = ask.amount;
    None
}

/// Where nothing is held there is nothing to give free, and that is what was asked for.
fn void(parent: Option<&mut Parent>) -> Verdict {
    let verdict = |refused, amount, currency| Verdict { refused, amount, currency };
    let Some(parent) = parent else { return verdict(None, 0, String::new()) };
    if parent.kind != StatementKind::Authorize {
        return verdict(Some("NOT_AN_AUTHORIZATION"), 0, String::new());
    }
    if parent.captured > 0 {
        return verdict(Some("ALREADY_CAPTURED"), 0, String::new());
    }
    if parent.voided || !parent.succeeded {
        return verdict(None, 0, String::new());
    }
    parent.voided = true;
    verdict(None, parent.amount, parent.currency.clone())
}

/// Why a refund is refused.
fn refund(ask: &Refund, parent: Option<&mut Parent>) -> Option<&'static str> {
    let taken = |parent: &Parent| match parent.kind {
        StatementKind::Charge if parent.succeeded => parent.amount,
        _ => parent.captured,
    };
    let Some(parent) = parent.filter(|parent| taken(parent) > 0 && parent.currency == ask.currency) else {
        return Some("NO_SUCH_CHARGE");
    };
    if refuses_refunds(&parent.token) {
        return Some("REFUND_REFUSED");
    }
    if ask.amount > taken(parent) - parent.refunded {
        return Some("REFUND_EXCEEDS_CHARGE");
    }
    parent.refunded += ask.amount;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Uuid = Uuid::from_u128(1);

    fn parent(kind: StatementKind) -> Parent {
        Parent {
            kind,
            succeeded: true,
            amount: 100,
            captured: 0,
            refunded: 0,
            voided: false,
            currency: "USD".into(),
            token: String::new(),
        }
    }

    fn charge() -> Parent {
        parent(StatementKind::Charge)
    }

    fn authorization() -> Parent {
        parent(StatementKind::Authorize)
    }

    fn refused(claim: &Claim, parent: Option<&mut Parent>) -> Option<&'static str> {
        claim.judge(None, parent).refused
    }

    fn capture(amount: i64) -> Claim {
        Claim::Capture(Capture { key: Uuid::from_u128(2), authorization_key: OF, amount, currency: "USD".into() })
    }

    fn void() -> Claim {
        Claim::Void(Void { key: Uuid::from_u128(3), authorization_key: OF })
    }

    fn refund(amount: i64) -> Claim {
        Claim::Refund(Refund { key: Uuid::from_u128(4), charge_key: OF, amount, currency: "USD".into() })
    }

    #[test]
    fn an_authorization_is_captured_once_and_not_above_its_sum() {
        let mut held = authorization();
        assert_eq!(refused(&capture(101), Some(&mut held)), Some("CAPTURE_EXCEEDS_AUTHORIZATION"));
        assert_eq!(refused(&capture(80), Some(&mut held)), None);
        assert_eq!(refused(&capture(20), Some(&mut held)), Some("ALREADY_CAPTURED"));
        assert_eq!(held.captured, 80);
        for mut nothing in
            [charge(), Parent { succeeded: false, ..authorization() }, Parent { currency: "EUR".into(), ..authorization() }]
        {
            assert_eq!(refused(&capture(1), Some(&mut nothing)), Some("NO_SUCH_AUTHORIZATION"));
        }
        assert_eq!(refused(&capture(1), None), Some("NO_SUCH_AUTHORIZATION"));
    }

    #[test]
    fn what_is_voided_cannot_be_captured_and_what_is_captured_cannot_be_voided() {
        let mut held = authorization();
        let freed = void().judge(None, Some(&mut held));
        assert_eq!((freed.refused, freed.amount, freed.currency.as_str()), (None, 100, "USD"));
        assert_eq!(refused(&capture(1), Some(&mut held)), Some("AUTHORIZATION_VOIDED"));
        let again = void().judge(None, Some(&mut held));
        assert_eq!((again.refused, again.amount), (None, 0), "nothing is held any more");

        let mut taken = authorization();
        assert_eq!(refused(&capture(100), Some(&mut taken)), None);
        assert_eq!(refused(&void(), Some(&mut taken)), Some("ALREADY_CAPTURED"));
        assert_eq!(refused(&void(), Some(&mut charge())), Some("NOT_AN_AUTHORIZATION"));
    }

    #[test]
    fn a_void_of_nothing_gives_nothing_free() {
        let tombstone = Parent { succeeded: false, amount: 0, voided: true, currency: String::new(), ..authorization() };
        for nothing in [Some(tombstone), Some(Parent { succeeded: false, ..authorization() }), None] {
            let verdict = void().judge(None, nothing.clone().as_mut());
            assert_eq!((verdict.refused, verdict.amount, verdict.currency.as_str()), (None, 0, ""), "{nothing:?}");
        }
    }

    #[test]
    fn no_more_is_given_back_than_was_taken() {
        let mut captured = Parent { captured: 70, ..authorization() };
        for (mut parent, taken) in [(charge(), 100), (captured.clone(), 70)] {
            assert_eq!(refused(&refund(60), Some(&mut parent)), None);
            assert_eq!(refused(&refund(60), Some(&mut parent)), Some("REFUND_EXCEEDS_CHARGE"));
            assert_eq!(refused(&refund(taken - 60), Some(&mut parent)), None);
            assert_eq!(parent.refunded, taken);
        }
        captured.token = "tok_refund_refused".into();
        assert_eq!(refused(&refund(1), Some(&mut captured)), Some("REFUND_REFUSED"));
    }

    #[test]
    fn a_refund_needs_money_that_was_taken() {
        assert_eq!(refused(&refund(1), None), Some("NO_SUCH_CHARGE"));
        for mut nothing in [authorization(), Parent { succeeded: false, ..charge() }, Parent { currency: "EUR".into(), ..charge() }]
        {
            assert_eq!(refused(&refund(1), Some(&mut nothing)), Some("NO_SUCH_CHARGE"));
        }
    }

    #[test]
    fn what_the_profile_declines_moves_nothing() {
        let mut parent = charge();
        assert_eq!(refund(10).judge(Some("REFUND_REFUSED"), Some(&mut parent)).refused, Some("REFUND_REFUSED"));
        assert_eq!(parent.refunded, 0);
    }
}
