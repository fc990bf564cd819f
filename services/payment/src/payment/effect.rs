//! What a decision on a payment comes to, as data. It is carried out elsewhere. Pure.

use uuid::Uuid;

/// What can be asked of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Charge,
    Authorize,
    Capture,
    Void,
    Refund,
}

impl Kind {
    const NAMES: [(Self, &str); 5] = [
        (Self::Charge, "CHARGE"),
        (Self::Authorize, "AUTHORIZE"),
        (Self::Capture, "CAPTURE"),
        (Self::Void, "VOID"),
        (Self::Refund, "REFUND"),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Say(Said),
    /// Open this call.
    Call(Call),
    /// The open call of this key is answered.
    EndCall {
        key: Uuid,
    },
    /// The open call of this key, never sent, never will be: the provider is only asked whether it knows the key.
    Withdraw {
        key: Uuid,
    },
    /// The open call of this key waits for a person.
    SetAside {
        key: Uuid,
        why: Aside,
    },
    /// The refund stands like this now.
    Refund(Refund),
    Transfer(Transfer),
}

/// Why a call waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The provider does not know the key, and has had time to forget it.
    Forgotten,
    /// Money is held that nobody here has named a sum of.
    NoSum,
}

/// A call to be made, in the currency of the payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub kind: Kind,
    pub key: Uuid,
    pub amount: i64,
    /// Empty where only an earlier call needs it.
    pub token: String,
}

/// An answer to a command, kept in the payment and said again to whoever asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `None` where no command caused it: money of a late charge, given back unasked.
    pub command_id: Option<Uuid>,
    pub payment_id: Uuid,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Succeeded { amount: i64, currency: String, provider: String, auth_code: String },
    Authorized { amount: i64, currency: String, provider: String, auth_code: String },
    Captured { amount: i64, currency: String },
    Failed { reason: String },
    Voided,
    Refunded { refund_id: Uuid, amount: i64, currency: String },
    RefundFailed { refund_id: Uuid, reason: String },
    Unknown { reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefundState {
    InFlight,
    Succeeded,
    Refused,
}

impl RefundState {
    const NAMES: [(Self, &str); 3] = [(Self::InFlight, "IN_FLIGHT"), (Self::Succeeded, "SUCCEEDED"), (Self::Refused, "REFUSED")];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refund {
    /// Also the provider's key of it.
    pub id: Uuid,
    pub payment_id: Uuid,
    /// The RefundCapture that is answered when it is known: the latest that asked. `None` if an undo asks for it.
    pub command_id: Option<Uuid>,
    pub amount: i64,
    pub currency: String,
    pub state: RefundState,
    pub reason: String,
    /// PaymentUnknown was said of it.
    pub unknown_said: bool,
}

/// A row of the ledger: `amount` goes from `credit` to `debit`, so every row is balanced by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub id: Uuid,
    pub payment_id: Uuid,
    pub debit: String,
    pub credit: String,
    pub amount: i64,
    pub currency: String,
}
