//! Why somebody is not told. Whoever is told already is not told again by a record, and that is no refusal.

use messaging::{Refused, Verdict};
use uuid::Uuid;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no notification {0}")]
    Unknown(Uuid),
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            // Only callers meet it; they are told.
            Self::Unknown(_) => Verdict::Skip,
        }
    }
}
