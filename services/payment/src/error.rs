//! Why an input is refused. A declined charge is no refusal: it is news.

use messaging::{Refused, Verdict};

use crate::payment::Undecided;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is not a UUID")]
    Unreadable(&'static str),
    #[error(transparent)]
    Undecided(#[from] Undecided),
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unreadable(_) => Verdict::Poison,
            Self::Undecided(Undecided::NotKnownYet) => Verdict::Early,
            Self::Undecided(Undecided::NoPayment | Undecided::NoRefund) => Verdict::Skip,
        }
    }
}
