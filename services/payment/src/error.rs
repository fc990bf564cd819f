//! Why an input is refused. A declined charge is no refusal: it is news.

use messaging::{Refused, Verdict};

use crate::payment::NoPayment;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is not a UUID")]
    Unreadable(&'static str),
    #[error(transparent)]
    NoPayment(#[from] NoPayment),
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unreadable(_) => Verdict::Poison,
            Self::NoPayment(_) => Verdict::Skip,
        }
    }
}
