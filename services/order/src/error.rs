//! Why the order service says no.

use messaging::{Refused, Verdict};
use uuid::Uuid;

use crate::{
    draft::{Invalid, PriceChanged},
    order::Status,
    refund::NoRefund,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no order {0}")]
    Unknown(Uuid),
    #[error("order {order} has no refund {refund}")]
    UnknownRefund { order: Uuid, refund: Uuid },
    #[error("the order is {}", .0.name())]
    NotCancellable(Status),
    #[error(transparent)]
    NoRefund(NoRefund),
    #[error("this idempotency key was used with another request")]
    KeyReused,
    #[error("{}: {}", .0.field, .0.description)]
    Invalid(Invalid),
    #[error("{}: is {}, the catalogue says {} for {:?} ({})", .0.field, .0.asked, .0.catalogue, .0.sku, .0.currency)]
    PriceChanged(PriceChanged),
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl Refused for Refusal {
    /// Records only meet the unknown: it may come yet, when this database is an older copy that catches up.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unknown(_) | Self::UnknownRefund { .. } => Verdict::Early,
            Self::NotCancellable(_) | Self::NoRefund(_) | Self::KeyReused | Self::Invalid(_) | Self::PriceChanged(_) => {
                Verdict::Poison
            }
        }
    }
}
