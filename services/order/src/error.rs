//! Why the order service says no.

use messaging::{Refused, Verdict};
use uuid::Uuid;

use crate::{draft::Invalid, order::Status};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no order {0}")]
    Unknown(Uuid),
    #[error("the order is {}", .0.name())]
    NotCancellable(Status),
    #[error("this idempotency key was used with another request")]
    KeyReused,
    #[error("{}: {}", .0.field, .0.description)]
    Invalid(Invalid),
}

impl Refused for Refusal {
    /// Records only meet `Unknown`: the order may come yet, when this database is an older copy that catches up.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unknown(_) => Verdict::Early,
            Self::NotCancellable(_) | Self::KeyReused | Self::Invalid(_) => Verdict::Poison,
        }
    }
}
