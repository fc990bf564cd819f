//! What a payment provider must do for us. Adapters implement [`Provider`]; the dispatcher alone calls it.

use std::future::Future;

use uuid::Uuid;

pub use crate::payment::Known;

/// A charge to be made. The key is the payment id: the same key never charges twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub key: Uuid,
    pub token: String,
    /// Minor units.
    pub amount: i64,
    pub currency: String,
}

/// Money to be given back. The key is the refund id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    pub key: Uuid,
    /// Key of the charge this gives back.
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

pub trait Provider: Send + Sync + 'static {
    /// As in `PaymentSucceeded.provider`.
    fn name(&self) -> &'static str;

    /// Charges, or says again what became of this key.
    fn charge(&self, ask: &Charge) -> impl Future<Output = Outcome> + Send;

    /// Refunds, or says again what became of this key.
    fn refund(&self, ask: &Refund) -> impl Future<Output = Outcome> + Send;

    /// What became of a key; `None` if the provider has not seen it, which does not mean that it never will.
    fn query(&self, key: Uuid) -> impl Future<Output = Result<Option<Known>, Unreachable>> + Send;
}
