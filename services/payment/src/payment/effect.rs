//! What a decision on a payment comes to, as data. It is carried out elsewhere.

use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Say(Said),
    /// Open the call that charges `amount`.
    CallCharge {
        token: String,
    },
    /// Open the call that refunds `amount`.
    CallRefund {
        refund_id: Uuid,
        amount: i64,
    },
    /// The open call is answered, or withdrawn before it was sent.
    EndCall,
    Refund(Refund),
    Transfer(Transfer),
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
    Failed { reason: String },
    Voided,
    Refunded { refund_id: Uuid, amount: i64, currency: String },
    RefundFailed { refund_id: Uuid, reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundState {
    InFlight,
    Succeeded,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    pub id: Uuid,
    pub payment_id: Uuid,
    pub amount: i64,
    pub currency: String,
    pub state: RefundState,
    pub reason: String,
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
