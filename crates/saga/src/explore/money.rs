//! The payment of an order and the provider behind it. The row is what the payment knows; `taken`, `given` and `authorized` are
//! what really happened at the provider, which knows a call by its key and does it once.

use super::{
    Bug,
    rows::Reaction,
    wires::{Code, Wire},
};
use Row::{
    Authorized, Authorizing, CaptureRefused, Captured, Capturing, Charging, Declined, GiveRefused, Given, Giving, Nothing,
    RefundRefused, Refunded, Refunding, Released, Voided, Voiding,
};

/// What a money step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Charge,
    Authorize,
    Capture,
    GiveBack,
    Undo,
}

/// In flight are those that end in `ing`: the call is written down before it is made, and made again until its outcome is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Row {
    #[default]
    Nothing,
    Charging,
    Authorizing,
    Authorized,
    Capturing,
    CaptureRefused,
    Captured,
    Declined,
    /// Undone before it was asked: a mark that refuses what comes later.
    Voided,
    Voiding,
    Released,
    Refunding,
    Refunded,
    RefundRefused,
    Giving,
    Given,
    GiveRefused,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Money {
    pub(super) row: Row,
    /// The latest command that asked for what is in flight; it is answered when that is known.
    doing: Option<Code>,
    /// The latest undo.
    pub(super) undo: Option<Code>,
    /// It was said that the outcome of a call is not known: once an order, which keeps the model small.
    pub(super) told_unknown: bool,
    pub(super) authorized: bool,
    /// Calls that took or gave the money: more than 1 is more than the money.
    pub(super) taken: u8,
    pub(super) given: u8,
    /// The ledger: each transfer debits one account and credits the other.
    pub(super) receivable: i8,
    pub(super) sales: i8,
}

impl Money {
    /// Of an order that was paid for long ago.
    pub(super) fn captured_before() -> Self {
        Self { row: Captured, taken: 1, receivable: 1, sales: -1, ..Self::default() }
    }

    /// To hash.
    pub(super) fn packed(self) -> u64 {
        let code = |code: Option<Code>| code.unwrap_or(u8::MAX);
        let flags = u8::from(self.told_unknown) | u8::from(self.authorized) << 1;
        u64::from_le_bytes([
            self.row as u8,
            code(self.doing),
            code(self.undo),
            flags,
            self.taken,
            self.given,
            self.receivable.unsigned_abs(),
            self.sales.unsigned_abs(),
        ])
    }

    pub(super) fn is_in_flight(self) -> bool {
        matches!(self.row, Charging | Authorizing | Capturing | Voiding | Refunding | Giving)
    }

    /// The call has reached the provider and was done, but its answer has not come back.
    pub(super) fn has_landed(self) -> bool {
        match self.row {
            Charging | Capturing => self.taken > 0,
            Authorizing => self.authorized,
            Voiding => !self.authorized,
            Refunding | Giving => self.given > 0,
            _ => false,
        }
    }

    /// A command arrives.
    pub(super) fn arrives(self, deed: Deed, code: Code, bug: Option<Bug>) -> Reaction<Self> {
        let reaction = match deed {
            Deed::Charge => self.charge(code, bug),
            Deed::Authorize => self.authorize(code),
            Deed::Capture => self.capture(code, bug),
            Deed::GiveBack => self.give_back(code, bug),
            Deed::Undo => self.undo(code, bug),
        };
        Reaction { row: reaction.row.tidied(), ..reaction }
    }

    fn charge(self, code: Code, bug: Option<Bug>) -> Reaction<Self> {
        match self.row {
            Nothing => self.call(Charging, code),
            Charging => self.wait(code),
            Captured if bug == Some(Bug::FreshIdInHandler) => self.taken_again(code),
            Captured | Refunding | Refunded | RefundRefused => self.say("said again", Wire::Done(code)),
            _ => self.say("refused", Wire::Refused(code)),
        }
    }

    fn authorize(self, code: Code) -> Reaction<Self> {
        match self.row {
            Nothing => self.call(Authorizing, code),
            Authorizing => self.wait(code),
            Declined | Voided => self.say("refused", Wire::Refused(code)),
            _ => self.say("said again", Wire::Done(code)),
        }
    }

    fn capture(self, code: Code, bug: Option<Bug>) -> Reaction<Self> {
        match self.row {
            Authorized => self.call(Capturing, code),
            Capturing => self.wait(code),
            Captured if bug == Some(Bug::FreshIdInHandler) => self.taken_again(code),
            Captured | Refunding | Refunded | RefundRefused => self.say("said again", Wire::Done(code)),
            _ => self.say("refused", Wire::Refused(code)),
        }
    }

    fn give_back(self, code: Code, bug: Option<Bug>) -> Reaction<Self> {
        match self.row {
            Captured => self.call(Giving, code),
            Giving => self.wait(code),
            Given if bug == Some(Bug::FreshIdInHandler) => {
                let again = Self { given: (self.given + 1).min(2), ..self };
                Reaction::new("given once more, under a fresh id", again, [Some(Wire::Done(code)), None])
            }
            Given => self.say("said again", Wire::Done(code)),
            _ => self.say("refused", Wire::Refused(code)),
        }
    }

    fn undo(self, code: Code, bug: Option<Bug>) -> Reaction<Self> {
        let noted = Self { undo: Some(code), ..self };
        match self.row {
            Nothing if bug == Some(Bug::NoMark) => self.say("nothing to undo, no mark left", Wire::Done(code)),
            Nothing => Self { row: Voided, ..noted }.say("nothing to undo, leaves a mark", Wire::Done(code)),
            Authorized | CaptureRefused => noted.calls(Voiding, "voids: the call is written down"),
            Captured => noted.calls(Refunding, "refunds: the call is written down"),
            // The same undo hears the same; another one is an operator's retry.
            RefundRefused if self.undo == Some(code) => self.say("said again", Wire::Refused(code)),
            RefundRefused => noted.calls(Refunding, "refunds again: the call is written down"),
            Charging | Authorizing | Capturing | Voiding | Refunding | Giving => {
                Reaction::new("noted: answered when the call is known", noted, [None, None])
            }
            Declined | Voided | Released | Refunded | Given | GiveRefused => self.say("nothing is held", Wire::Done(code)),
        }
    }

    /// Without what nothing depends on any more.
    fn tidied(self) -> Self {
        let asks = matches!(self.row, Charging | Authorizing | Capturing | Giving);
        let undoes = self.is_in_flight() || matches!(self.row, Authorized | CaptureRefused | Captured | RefundRefused);
        Self { doing: self.doing.filter(|_| asks), undo: self.undo.filter(|_| undoes), ..self }
    }

    /// What may become of the call in flight.
    pub(super) fn outcomes(self, bug: Option<Bug>) -> Vec<(&'static str, Reaction<Self>)> {
        let mut all = Vec::new();
        if self.row == RefundRefused {
            all.push(("the refund was made after all", self.refunded().faulty()));
        }
        if self.is_in_flight() {
            self.call_outcomes(bug, &mut all);
        }
        for (_, reaction) in &mut all {
            reaction.row = reaction.row.tidied();
        }
        all
    }

    fn call_outcomes(self, bug: Option<Bug>, all: &mut Vec<(&'static str, Reaction<Self>)>) {
        all.push(("yes", self.succeeded()));
        let landed = self.has_landed();
        if !landed {
            // A crash before the answer is written down comes to the same: the call is made again, with the same key.
            let lost = Reaction::new("the answer is lost: the call stays open", self.with_effect(), [None, None]);
            all.push(("yes", lost.faulty()));
            all.extend(self.refused().map(|refused| ("no", refused)));
        }
        if landed && bug == Some(Bug::FreshProviderKey) {
            let mut again = self;
            match self.row {
                Charging | Capturing => again.taken = 2,
                Refunding | Giving => again.given = 2,
                _ => {}
            }
            all.push(("yes, to a fresh key", again.succeeded().faulty()));
        }
        if let Some(asked) = self.asked().filter(|_| !self.told_unknown) {
            let told = Self { told_unknown: true, ..self };
            let unknown = Reaction::new("the key is too old to ask with: unknown", told, [Some(Wire::Unknown(asked)), None]);
            all.push(("nothing", unknown.faulty()));
        }
    }

    /// The command whose call is in flight.
    fn asked(self) -> Option<Code> {
        if matches!(self.row, Voiding | Refunding) { self.undo } else { self.doing }
    }

    fn with_effect(self) -> Self {
        match self.row {
            Charging => Self { taken: self.taken.max(1), ..self },
            Capturing => Self { taken: self.taken.max(1), authorized: false, ..self },
            Authorizing => Self { authorized: true, ..self },
            Voiding => Self { authorized: false, ..self },
            Refunding | Giving => Self { given: self.given.max(1), ..self },
            _ => self,
        }
    }

    fn succeeded(self) -> Reaction<Self> {
        let known = self.with_effect();
        match self.row {
            Charging | Capturing => Self { row: Captured, ..known }.booked(1).did("captured", self.undo.map(|_| Refunding)),
            Authorizing => Self { row: Authorized, ..known }.did("authorized", self.undo.map(|_| Voiding)),
            Giving => Self { row: Given, ..known }.booked(-1).did("given back", None),
            Voiding => Reaction::new("written down: released", Self { row: Released, ..known }, [self.undo.map(Wire::Done), None]),
            _ => self.refunded(),
        }
    }

    fn refunded(self) -> Reaction<Self> {
        let known = Self { row: Refunded, given: self.given.max(1), ..self }.booked(-1);
        Reaction::new("written down: refunded", known, [self.undo.map(Wire::Done), None])
    }

    /// What was asked is done, and answered; what an undo waits for follows.
    fn did(self, then: &'static str, follows: Option<Row>) -> Reaction<Self> {
        let says = [self.doing.map(Wire::Done), None];
        match follows {
            Some(row) => Reaction::new("written down; its undo is waiting", Self { row, ..self }, says),
            None => Reaction::new(then, self, says),
        }
    }

    /// `None` of what is never refused.
    fn refused(self) -> Option<Reaction<Self>> {
        let (doing, undo) = (self.doing.map(Wire::Refused), self.undo.map(Wire::Done));
        let row = match self.row {
            Charging | Authorizing => Declined,
            Capturing if self.undo.is_some() => Voiding,
            Capturing => CaptureRefused,
            Giving => GiveRefused,
            Refunding => RefundRefused,
            _ => return None,
        };
        let known = Self { row, ..self };
        Some(match row {
            Declined => Reaction::new("written down: declined", known, [doing, undo]),
            RefundRefused => Reaction::new("written down: refused", known, [self.undo.map(Wire::Refused), None]),
            _ => Reaction::new("written down: refused", known, [doing, None]),
        })
    }

    fn booked(self, sign: i8) -> Self {
        Self { receivable: self.receivable + sign, sales: self.sales - sign, ..self }
    }

    fn taken_again(self, code: Code) -> Reaction<Self> {
        let again = Self { taken: (self.taken + 1).min(2), ..self };
        Reaction::new("taken once more, under a fresh id", again, [Some(Wire::Done(code)), None])
    }

    fn call(self, row: Row, code: Code) -> Reaction<Self> {
        Self { doing: Some(code), ..self }.calls(row, "the call is written down")
    }

    fn calls(self, row: Row, then: &'static str) -> Reaction<Self> {
        Reaction::new(then, Self { row, ..self }, [None, None])
    }

    fn wait(self, code: Code) -> Reaction<Self> {
        Reaction::new("the call is open", Self { doing: Some(code), ..self }, [None, None])
    }

    fn say(self, then: &'static str, wire: Wire) -> Reaction<Self> {
        Reaction::new(then, self, [Some(wire), None])
    }
}
