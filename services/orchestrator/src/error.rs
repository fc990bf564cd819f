//! What a saga cannot be told.

use messaging::{Refused, Verdict};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no saga of this order yet")]
    NotStarted,
    /// Of a newer version, perhaps: it waits for a binary that knows it.
    #[error("the saga's definition or progress is not known here")]
    UnknownDefinition,
    #[error("the OrderCreated kept with the saga: {0}")]
    Unreadable(#[from] prost::DecodeError),
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotStarted => Verdict::Early,
            Self::UnknownDefinition => Verdict::Unknown,
            Self::Unreadable(_) => Verdict::Poison,
        }
    }
}
