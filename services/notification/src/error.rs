//! Nothing is refused here: whoever is told already is not told again, and that is all.

use std::{error::Error, fmt};

use messaging::{Refused, Verdict};

/// There is none.
#[derive(Debug)]
pub(crate) enum Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl Error for Refusal {}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match *self {}
    }
}
