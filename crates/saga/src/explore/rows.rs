//! What participants keep: the row of an effect, in which the answer is kept with it, and the row of the order.

use super::{
    Bug,
    wires::{Code, Wire},
};
use crate::Command;

/// What comes of a message or a call: a word for it, the row then, and what is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaction<R> {
    pub(super) then: &'static str,
    pub(super) row: R,
    pub(super) says: [Option<Wire>; 2],
    /// It needs something to go wrong, or a person.
    pub(super) fault: bool,
}

impl<R> Reaction<R> {
    pub(super) fn new(then: &'static str, row: R, says: [Option<Wire>; 2]) -> Self {
        Self { then, row, says, fault: false }
    }

    pub(super) fn faulty(self) -> Self {
        Self { fault: true, ..self }
    }
}

/// The row of an effect that is simply there or not: pieces set aside, a shipment, something written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) kept: Kept,
    /// The command that was refused: another one is a retry.
    refused: Option<Code>,
    /// How often the effect was made and taken back. More than 1 is once too often.
    pub(super) taken: u8,
    pub(super) given: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kept {
    #[default]
    Nothing,
    Held,
    Refused,
    /// Undone before it was asked: a mark that refuses what comes later.
    Voided,
    Undone,
    /// Still held.
    UndoRefused,
}

impl Row {
    /// In 20 bits, to hash.
    pub(super) fn packed(self) -> u64 {
        let refused = self.refused.map_or(0, |code| u64::from(code) + 1);
        self.kept as u64 | u64::from(self.taken) << 4 | u64::from(self.given) << 8 | refused << 12
    }

    pub(super) fn is_held(self) -> bool {
        self.taken > self.given
    }

    /// A retriable step is the same in every attempt, and its refusal is decided anew. Any other has a row for each command: an undo
    /// takes back that of the first attempt, and there should be no second.
    pub(super) fn asked(self, code: Code, attempt: u8, retriable: bool, bug: Option<Bug>) -> Vec<Reaction<Self>> {
        let taken = Self { kept: Kept::Held, refused: None, taken: (self.taken + 1).min(2), ..self };
        let done = [Some(Wire::Done(code)), None];
        let refused = [Some(Wire::Refused(code)), None];
        match self.kept {
            Kept::Held | Kept::Undone if attempt > Command::FIRST_ATTEMPT && !retriable => {
                vec![Reaction::new("accepted once more, for another command", taken, done)]
            }
            Kept::Refused if !retriable || self.refused == Some(code) => vec![Reaction::new("said again", self, refused)],
            Kept::Nothing | Kept::Refused => {
                let no = Self { kept: Kept::Refused, refused: retriable.then_some(code), ..self };
                vec![Reaction::new("accepted", taken, done), Reaction::new("refused", no, refused)]
            }
            Kept::Held if bug == Some(Bug::FreshIdInHandler) => {
                vec![Reaction::new("accepted once more, under a fresh id", taken, done)]
            }
            Kept::Held | Kept::Undone | Kept::UndoRefused => vec![Reaction::new("said again", self, done)],
            Kept::Voided => vec![Reaction::new("refused: it is marked", self, refused)],
        }
    }

    /// The refusal of an undo is decided anew when a new attempt asks.
    pub(super) fn undo_asked(self, code: Code, can_refuse: bool, bug: Option<Bug>) -> Vec<Reaction<Self>> {
        let done = [Some(Wire::Done(code)), None];
        let refused = [Some(Wire::Refused(code)), None];
        match self.kept {
            Kept::Nothing if bug == Some(Bug::NoMark) => vec![Reaction::new("nothing to undo, no mark left", self, done)],
            Kept::Nothing => vec![Reaction::new("nothing to undo, leaves a mark", Self { kept: Kept::Voided, ..self }, done)],
            Kept::UndoRefused if self.refused == Some(code) => vec![Reaction::new("said again", self, refused)],
            Kept::Held | Kept::UndoRefused => {
                let undone = Self { kept: Kept::Undone, refused: None, given: (self.given + 1).min(2), ..self };
                let no = Self { kept: Kept::UndoRefused, refused: Some(code), ..self };
                let mut all = vec![Reaction::new("undone", undone, done)];
                all.extend(can_refuse.then(|| Reaction::new("refused", no, refused)));
                all
            }
            Kept::Refused | Kept::Voided | Kept::Undone => vec![Reaction::new("nothing is held", self, done)],
        }
    }
}

/// The row of the order: the only arbiter between confirm, cancel and close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Pending, in work or paid: it can still be confirmed and cancelled.
    #[default]
    Open,
    Compensating,
    Cancelling,
    Confirmed,
    Failed,
    Cancelled,
}

impl Order {
    pub(super) fn is_closed(self) -> bool {
        matches!(self, Self::Failed | Self::Cancelled)
    }

    /// What may follow what; nothing follows an end.
    pub(super) fn may_become(self, after: Self) -> bool {
        self == after
            || matches!(
                (self, after),
                (Self::Open, Self::Compensating | Self::Cancelling | Self::Confirmed | Self::Failed)
                    | (Self::Compensating, Self::Failed)
                    | (Self::Cancelling, Self::Cancelled)
            )
    }

    pub(super) fn cancelled(self) -> Option<Self> {
        (self == Self::Open).then_some(Self::Cancelling)
    }

    pub(super) fn turned(self) -> Reaction<Self> {
        match self {
            Self::Open => Reaction::new("compensating", Self::Compensating, [None, None]),
            _ => Reaction::new("noted", self, [None, None]),
        }
    }

    pub(super) fn confirm(self, code: Code) -> Reaction<Self> {
        match self {
            Self::Open | Self::Confirmed => Reaction::new("confirmed", Self::Confirmed, [Some(Wire::Done(code)), None]),
            Self::Compensating | Self::Cancelling | Self::Failed | Self::Cancelled => {
                Reaction::new("refused", self, [Some(Wire::Refused(code)), None])
            }
        }
    }

    pub(super) fn close(self, code: Code) -> Reaction<Self> {
        let done = [Some(Wire::Done(code)), None];
        match self {
            Self::Open | Self::Compensating | Self::Failed => Reaction::new("failed", Self::Failed, done),
            Self::Cancelling | Self::Cancelled => Reaction::new("cancelled", Self::Cancelled, done),
            Self::Confirmed => {
                Reaction::new("refused: confirmed orders are closed by nothing", self, [Some(Wire::Refused(code)), None])
            }
        }
    }
}
