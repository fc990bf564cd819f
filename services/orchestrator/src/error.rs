//! What a saga cannot be told.

use messaging::{Refused, Verdict};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no saga of this order yet")]
    NotStarted,
    /// Of a newer version, perhaps: it waits for a binary that knows it.
    #[error("the saga's definition or progress is not known here")]
    UnknownDefinition,
    #[error("the message kept with the saga: {0}")]
    Unreadable(#[from] prost::DecodeError),
    /// An operator decided on what is not so any more.
    #[error("the saga has moved on to version {0}")]
    MovedOn(i64),
    #[error("that would change nothing: the saga is {0}")]
    MakesNoSense(String),
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotStarted => Verdict::Early,
            Self::UnknownDefinition => Verdict::Unknown,
            // No record meets the last two, only operators do.
            Self::Unreadable(_) | Self::MovedOn(_) | Self::MakesNoSense(_) => Verdict::Poison,
        }
    }
}
