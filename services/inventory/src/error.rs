//! Why something is not done here. Out of stock is not among them: that is news.

use contracts::ids::NotAnId;
use messaging::{Refused, Verdict};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the reservation is not here yet")]
    NotYet,
    #[error("the order completed, but its reservation was undone or never made")]
    Undone,
    #[error("the order completed: its stock has left and cannot be released")]
    Committed,
    #[error("the stock of {sku} does not hold what was set aside of it")]
    Unbalanced { sku: String },
    #[error("there is no product {sku}")]
    UnknownSku { sku: String },
    #[error("{reserved} pieces of {sku} are reserved, so {on_hand} on hand are too few")]
    BelowReserved { sku: String, on_hand: i64, reserved: i64 },
    #[error("{on_hand} pieces of {sku} are more than can be counted")]
    TooMany { sku: String, on_hand: i64 },
    #[error("{sku} is not counted")]
    Unstocked { sku: String },
    #[error("this idempotency key was used with another request")]
    KeyReused,
}

impl Refused for Refusal {
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotYet => Verdict::Early,
            Self::Undone | Self::Committed | Self::Unbalanced { .. } => Verdict::Poison,
            // Only callers meet these; they are told.
            Self::UnknownSku { .. }
            | Self::BelowReserved { .. }
            | Self::TooMany { .. }
            | Self::Unstocked { .. }
            | Self::KeyReused => Verdict::Skip,
        }
    }
}

/// Why a message cannot be what its type says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Id(#[from] NotAnId),
    #[error("a line of {quantity} x {sku:?}")]
    Line { sku: String, quantity: i32 },
}
