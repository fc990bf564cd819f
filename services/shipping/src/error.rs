//! Why something is not done here. What cannot be shipped is not among them: that is news.

use messaging::{Refused, Verdict};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the shipment is not here yet")]
    NotYet,
    #[error("the order completed, but its shipment was cancelled or never booked")]
    Undone,
    #[error("the order completed: its shipment is released and cannot be cancelled")]
    Released,
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotYet => Verdict::Early,
            Self::Undone | Self::Released => Verdict::Poison,
        }
    }
}
