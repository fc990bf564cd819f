//! The order: its states and what moves it. Pure.

use time::OffsetDateTime;
use uuid::Uuid;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Pending,
    Processing,
    Paid,
    Confirmed,
    Compensating,
    Cancelling,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Processing,
        Self::Paid,
        Self::Confirmed,
        Self::Compensating,
        Self::Cancelling,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Nothing changes the status any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Confirmed | Self::Failed | Self::Cancelled)
    }

    /// As it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Processing => "PROCESSING",
            Self::Paid => "PAID",
            Self::Confirmed => "CONFIRMED",
            Self::Compensating => "COMPENSATING",
            Self::Cancelling => "CANCELLING",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// What comes to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something happened elsewhere.
    Fact(Fact),
    /// All steps before the pivot are done.
    Confirm,
    /// A person gave the confirmation up.
    Refuse,
    /// The customer wants out.
    Cancel,
    /// Everything is undone.
    Close,
}

/// Facts that move the status or the flag; all others only make a timeline entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    SagaStarted,
    Paid,
    Compensating,
    NeedsAttention,
    Resumed,
    Other,
}

impl Fact {
    #[must_use]
    pub fn named(event: &str) -> Self {
        match event {
            "SagaStarted" => Self::SagaStarted,
            "PaymentSucceeded" | "PaymentCaptured" => Self::Paid,
            "SagaCompensating" => Self::Compensating,
            "SagaNeedsAttention" => Self::NeedsAttention,
            "SagaResumed" => Self::Resumed,
            _ => Self::Other,
        }
    }
}

/// What the order says of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing: a timeline entry is all.
    Nothing,
    /// Nothing, not even an entry: the same was asked before.
    SameAgain,
    CancelRequested,
    Completed,
    ConfirmRefused,
    Failed,
    Cancelled,
}

/// A cancel came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCancellable;

/// The state machine of an order. A command that is too late is answered by news; only a caller's cancel can be refused.
pub fn next(status: Status, input: Input) -> Result<(Status, Said), NotCancellable> {
    use Status::{Cancelled, Cancelling, Compensating, Confirmed, Failed, Paid, Pending, Processing};
    Ok(match (status, input) {
        (Pending, Input::Fact(Fact::SagaStarted)) => (Processing, Said::Nothing),
        (Processing, Input::Fact(Fact::Paid)) => (Paid, Said::Nothing),
        (Pending | Processing | Paid, Input::Fact(Fact::Compensating)) => (Compensating, Said::Nothing),
        (_, Input::Fact(_)) => (status, Said::Nothing),

        (Processing | Paid | Confirmed, Input::Confirm) => (Confirmed, Said::Completed),
        (Pending | Compensating | Cancelling | Failed | Cancelled, Input::Confirm) => (status, Said::ConfirmRefused),

        // From here on the same command is refused, should it come again.
        (Pending | Processing | Paid, Input::Refuse) => (Compensating, Said::ConfirmRefused),
        (Compensating | Cancelling | Failed | Cancelled, Input::Refuse) => (status, Said::ConfirmRefused),
        (Confirmed, Input::Refuse) => (Confirmed, Said::Completed),

        (Pending | Processing | Paid, Input::Cancel) => (Cancelling, Said::CancelRequested),
        (Cancelling | Cancelled, Input::Cancel) => (status, Said::SameAgain),
        (Compensating | Failed | Confirmed, Input::Cancel) => return Err(NotCancellable),

        (Cancelling | Cancelled, Input::Close) => (Cancelled, Said::Cancelled),
        (Pending | Processing | Paid | Compensating | Failed, Input::Close) => (Failed, Said::Failed),
        // A confirmed order is not closed by anything: say what it is, so that a confused saga ends.
        (Confirmed, Input::Close) => (Confirmed, Said::Completed),
    })
}

/// An order as it is decided on. Its lines and timeline are not needed for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: Uuid,
    pub customer_id: String,
    pub status: Status,
    pub currency: String,
    pub total: i64,
    pub reason: String,
    pub refunded_amount: i64,
    /// Set aside for refunds that are under way.
    pub refund_pending: i64,
    pub needs_attention: bool,
    pub idempotency_key: Option<String>,
    pub request_hash: Vec<u8>,
    /// Number of its timeline entries.
    pub version: i32,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// An order of 10.00 USD with its first entry, for tests.
#[cfg(test)]
pub(crate) fn sample(id: Uuid, status: Status) -> Order {
    let at = OffsetDateTime::UNIX_EPOCH;
    Order {
        id,
        customer_id: "c-1".to_owned(),
        status,
        currency: "USD".to_owned(),
        total: 1_000,
        reason: String::new(),
        refunded_amount: 0,
        refund_pending: 0,
        needs_attention: false,
        idempotency_key: None,
        request_hash: Vec::new(),
        version: 1,
        created_at: at,
        updated_at: at,
    }
}

/// A line with its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub sku: String,
    pub quantity: i32,
    pub unit_price: i64,
}

/// One line of an order's story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub order_id: Uuid,
    pub cause: Uuid,
    pub version: i32,
    pub at: OffsetDateTime,
    pub event: String,
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: [Fact; 6] = [Fact::SagaStarted, Fact::Paid, Fact::Compensating, Fact::NeedsAttention, Fact::Resumed, Fact::Other];

    fn all_inputs() -> impl Iterator<Item = Input> {
        FACTS.into_iter().map(Input::Fact).chain([Input::Confirm, Input::Refuse, Input::Cancel, Input::Close])
    }

    #[test]
    fn no_status_changes_after_a_final_one() {
        for status in Status::ALL.into_iter().filter(|status| status.is_final()) {
            for input in all_inputs() {
                if let Ok((after, _)) = next(status, input) {
                    assert_eq!(after, status, "{input:?}");
                }
            }
        }
    }

    #[test]
    fn the_happy_path() {
        let mut status = Status::Pending;
        for (input, expected) in [
            (Input::Fact(Fact::SagaStarted), Status::Processing),
            (Input::Fact(Fact::Paid), Status::Paid),
            (Input::Fact(Fact::Other), Status::Paid),
            (Input::Confirm, Status::Confirmed),
        ] {
            status = next(status, input).expect("not a cancel").0;
            assert_eq!(status, expected);
        }
    }

    #[test]
    fn confirm_and_cancel_have_one_winner() {
        for status in [Status::Processing, Status::Paid] {
            let (cancelled, said) = next(status, Input::Cancel).expect("in time");
            assert_eq!((cancelled, said), (Status::Cancelling, Said::CancelRequested));
            assert_eq!(next(cancelled, Input::Confirm), Ok((Status::Cancelling, Said::ConfirmRefused)));

            let (confirmed, said) = next(status, Input::Confirm).expect("not a cancel");
            assert_eq!((confirmed, said), (Status::Confirmed, Said::Completed));
            assert_eq!(next(confirmed, Input::Cancel), Err(NotCancellable));
        }
    }

    #[test]
    fn a_confirmation_that_was_given_up_is_refused_ever_after() {
        for status in [Status::Pending, Status::Processing, Status::Paid] {
            let (after, said) = next(status, Input::Refuse).expect("not a cancel");
            assert_eq!((after, said), (Status::Compensating, Said::ConfirmRefused));
            assert_eq!(next(after, Input::Confirm), Ok((Status::Compensating, Said::ConfirmRefused)));
            assert_eq!(next(after, Input::Close), Ok((Status::Failed, Said::Failed)));
        }
        assert_eq!(next(Status::Confirmed, Input::Refuse), Ok((Status::Confirmed, Said::Completed)), "too late");
        assert_eq!(next(Status::Cancelling, Input::Refuse), Ok((Status::Cancelling, Said::ConfirmRefused)));
    }

    #[test]
    fn a_repeated_command_is_answered_the_same() {
        assert_eq!(next(Status::Confirmed, Input::Confirm), Ok((Status::Confirmed, Said::Completed)));
        assert_eq!(next(Status::Failed, Input::Close), Ok((Status::Failed, Said::Failed)));
        assert_eq!(next(Status::Cancelled, Input::Close), Ok((Status::Cancelled, Said::Cancelled)));
        assert_eq!(next(Status::Cancelled, Input::Cancel), Ok((Status::Cancelled, Said::SameAgain)));
    }

    #[test]
    fn facts_of_a_cancelled_order_do_not_revive_it() {
        for fact in FACTS {
            assert_eq!(next(Status::Cancelling, Input::Fact(fact)), Ok((Status::Cancelling, Said::Nothing)), "{fact:?}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::named(status.name()), Some(status));
        }
    }
}
