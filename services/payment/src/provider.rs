//! What a payment provider must do for us. Adapters implement [`Provider`]; the dispatcher alone sends, reconciliation reads.

use std::future::Future;

use time::OffsetDateTime;
use uuid::Uuid;

pub mod http;
pub(crate) mod wire;

pub use crate::payment::Known;

/// Money to be taken, or to be set aside. The key is the payment id: the same key never charges twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub key: Uuid,
    pub token: String,
    /// Minor units.
    pub amount: i64,
    pub currency: String,
}

/// What is set aside, to be taken: once, all of it or less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    pub key: Uuid,
    pub authorization_key: Uuid,
    /// Minor units.
    pub amount: i64,
    pub currency: String,
}

/// What is set aside, to be given free. An authorization that has not come yet is refused when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    pub key: Uuid,
    pub authorization_key: Uuid,
}

/// Money to be given back. The key is the refund id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    pub key: Uuid,
    /// Key of the charge this gives back, or of the authorization whose capture it gives back: the payment id.
    pub charge_key: Uuid,
    /// Minor units.
    pub amount: i64,
    pub currency: String,
}

/// What a call came to. An error, a timeout and a lost reply are all *unknown*: the money may have moved, so unknown is never an
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Known(Known),
    Unknown(String),
}

/// The provider could not be asked, or did not say.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatementKind {
    Charge,
    Authorize,
    Capture,
    Void,
    Refund,
}

impl StatementKind {
    /// As in the provider's statement.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "CHARGE",
            Self::Authorize => "AUTHORIZE",
            Self::Capture => "CAPTURE",
            Self::Void => "VOID",
            Self::Refund => "REFUND",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Charge, Self::Authorize, Self::Capture, Self::Void, Self::Refund].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What the provider has booked, or refused to book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementEntry {
    /// As we gave it.
    pub key: String,
    pub kind: StatementKind,
    /// Key of the charge or the authorization that this one captures, voids or refunds.
    pub of: Option<String>,
    /// Minor units; of a void what it gives free, 0 where there was nothing.
    pub amount: i64,
    /// Empty where a void gives nothing free.
    pub currency: String,
    pub known: Known,
    pub at: OffsetDateTime,
}

pub trait Provider: Send + Sync + 'static {
    /// As in `PaymentSucceeded.provider`.
    fn name(&self) -> &'static str;

    /// Charges, or says again what became of this key.
    fn charge(&self, ask: &Charge) -> impl Future<Output = Outcome> + Send;

    /// Sets money aside, or says again what became of this key.
    fn authorize(&self, ask: &Charge) -> impl Future<Output = Outcome> + Send;

    /// Takes what is set aside, or says again what became of this key.
    fn capture(&self, ask: &Capture) -> impl Future<Output = Outcome> + Send;

    /// Gives free what is set aside, or says again what became of this key.
    fn void(&self, ask: &Void) -> impl Future<Output = Outcome> + Send;

    /// Refunds, or says again what became of this key.
    fn refund(&self, ask: &Refund) -> impl Future<Output = Outcome> + Send;

    /// What became of a key; `None` if the provider has not seen it, which does not mean that it never will.
    fn query(&self, key: Uuid) -> impl Future<Output = Result<Option<Known>, Unreachable>> + Send;

    /// Entries made at or after `since`, in the order (at, key), after the place `after`; at most `limit`.
    fn statement(
        &self,
        since: Option<OffsetDateTime>,
        after: Option<(OffsetDateTime, String)>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<StatementEntry>, Unreachable>> + Send;
}
