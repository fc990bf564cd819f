//! Why something is not done here. What cannot be shipped is not among them: that is news.

use messaging::{Refused, Verdict};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the shipment is not here yet")]
    NotYet,
    #[error("the order completed, but its shipment was cancelled or never booked")]
    Undone,
    #[error("the order completed: its shipment is released and cannot be cancelled")]
    Released,
    #[error("there is no shipment of order {0}")]
    Unknown(Uuid),
    #[error("the shipment is {state}: it is not released")]
    NotReleased { state: &'static str },
    #[error("the shipment is RELEASED: it has not been dispatched")]
    NotDispatched,
    #[error("the shipment was dispatched with the tracking number {tracking_number:?}")]
    DispatchedOtherwise { tracking_number: String },
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotYet => Verdict::Early,
            Self::Undone | Self::Released => Verdict::Poison,
            // Only callers meet these; they are told.
            Self::Unknown(_) | Self::NotReleased { .. } | Self::NotDispatched | Self::DispatchedOtherwise { .. } => Verdict::Skip,
        }
    }
}
