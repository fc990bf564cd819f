//! A refund of a confirmed order: what may be given back, and what becomes of it. Pure.

use contracts::{ids, order::v1::RefundOrderRequest};
use prost::Message;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    draft::{self, Invalid},
    order::{Order, Status},
};

/// Where a refund stands. Only PENDING changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its amount is set aside.
    Pending,
    /// The customer has the money.
    Refunded {
        /// Minor units of the order that were back by then, this refund included.
        in_all: i64,
    },
    /// What was set aside is free again.
    Refused { reason: String },
}

impl State {
    /// As it is stored.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Refunded { .. } => "REFUNDED",
            Self::Refused { .. } => "REFUSED",
        }
    }

    pub(crate) fn in_all(&self) -> Option<i64> {
        match self {
            Self::Refunded { in_all } => Some(*in_all),
            Self::Pending | Self::Refused { .. } => None,
        }
    }

    pub(crate) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { reason } => Some(reason),
            Self::Pending | Self::Refunded { .. } => None,
        }
    }

    pub(crate) fn stored(name: &str, in_all: Option<i64>, refusal: Option<String>) -> Option<Self> {
        match (name, in_all, refusal) {
            ("PENDING", None, None) => Some(Self::Pending),
            ("REFUNDED", Some(in_all), None) => Some(Self::Refunded { in_all }),
            ("REFUSED", None, Some(reason)) => Some(Self::Refused { reason }),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refund {
    pub(crate) order_id: Uuid,
    pub(crate) id: Uuid,
    /// Minor units.
    pub(crate) amount: i64,
    pub(crate) state: State,
    pub(crate) reason: String,
    pub(crate) request_hash: Vec<u8>,
    pub(crate) created_at: OffsetDateTime,
    /// While it is PENDING, when `OrderRefundRequested` was said last.
    pub(crate) updated_at: OffsetDateTime,
}

/// A refund that has been PENDING for so long when its caller asks again is said again: whoever was to settle it may have passed it over, as
/// an orchestrator does that does not know refunds yet. Said too often it does no harm: a refund begins once.
const SAY_AGAIN_MS: i64 = 60_000;

impl Refund {
    /// The id of the call that says again that it is asked for; `None` if that is not due. What was said under it is not said twice: then
    /// the id is another one.
    pub(crate) fn said_again_by(&self, at: OffsetDateTime) -> Option<Uuid> {
        let is_due = self.state == State::Pending && at - self.updated_at >= Duration::milliseconds(SAY_AGAIN_MS);
        is_due.then(|| ids::derive(self.id, &format!("again/{}", self.updated_at.unix_timestamp_nanos())))
    }
}

/// A refund as a caller asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) order_id: Uuid,
    pub(crate) id: Uuid,
    /// Absent: all that is left.
    pub(crate) amount: Option<i64>,
    pub(crate) reason: String,
    /// Of the whole request without its key: tells the same request from another one.
    pub(crate) request_hash: Vec<u8>,
}

impl Ask {
    /// Checks a request. `fresh` is the refund's id where the request has no idempotency key.
    pub(crate) fn check(order_id: Uuid, mut request: RefundOrderRequest, fresh: impl FnOnce() -> Uuid) -> Result<Self, Invalid> {
        let key = draft::take_key(&mut request.idempotency_key)?;
        if request.amount.is_some_and(|amount| amount <= 0) {
            return Err(Invalid::new("amount", "must be more than 0, or absent for all that is left", "BAD_AMOUNT"));
        }
        draft::text("reason", &request.reason, 0, draft::REASON_CHARS_MAX)?;
        // However its id was written, it is the same order.
        request.order_id = order_id.to_string();
        Ok(Self {
            order_id,
            id: key.map_or_else(fresh, |key| ids::derive(order_id, &format!("refund/{key}"))),
            amount: request.amount,
            request_hash: Sha256::digest(request.encode_to_vec()).to_vec(),
            reason: request.reason,
        })
    }
}

/// Entries an order's timeline may have when one more refund is asked for: each adds about four, and all of them are shown together.
const ENTRIES_MAX: i32 = 400;

/// Why nothing is given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRefund {
    #[error("the order is {}: only money of a confirmed order is given back", .0.name())]
    NotConfirmed(Status),
    #[error("{left} of {total} minor units ({currency}) are left to give back")]
    Exceeds { left: i64, total: i64, currency: String },
    #[error("there were about a hundred refunds of this order, and no more are taken")]
    TooMany,
}

/// The order with the refund's amount set aside, and the refund.
pub(crate) fn begin(order: &Order, ask: &Ask, at: OffsetDateTime) -> Result<(Order, Refund), NoRefund> {
    if order.status != Status::Confirmed {
        return Err(NoRefund::NotConfirmed(order.status));
    }
    if order.version >= ENTRIES_MAX {
        return Err(NoRefund::TooMany);
    }
    let left = order.total - order.refunded_amount - order.refund_pending;
    let amount = ask.amount.unwrap_or(left);
    if !(1..=left).contains(&amount) {
        return Err(NoRefund::Exceeds { left, total: order.total, currency: order.currency.clone() });
    }
    let refund = Refund {
        order_id: order.id,
        id: ask.id,
        amount,
        state: State::Pending,
        reason: ask.reason.clone(),
        request_hash: ask.request_hash.clone(),
        created_at: at,
        updated_at: at,
    };
    Ok((Order { refund_pending: order.refund_pending + amount, ..order.clone() }, refund))
}

/// What the saga says became of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Settled,
    Refused { reason: String },
}

/// Order and refund afterwards. `None` if it was over before: what it came to is said again, whatever is asked now.
pub(crate) fn close(order: &Order, refund: &Refund, how: &Closing, at: OffsetDateTime) -> Option<(Order, Refund)> {
    if refund.state != State::Pending {
        return None;
    }
    let mut order = Order { refund_pending: order.refund_pending - refund.amount, ..order.clone() };
    let state = match how {
        Closing::Settled => {
            order.refunded_amount += refund.amount;
            State::Refunded { in_all: order.refunded_amount }
        }
        Closing::Refused { reason } => State::Refused { reason: reason.clone() },
    };
    Some((order, Refund { state, updated_at: at, ..refund.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::sample;

    const ORDER: Uuid = Uuid::from_u128(1);
    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn request(key: &str, amount: Option<i64>) -> RefundOrderRequest {
        RefundOrderRequest { order_id: ORDER.to_string(), idempotency_key: key.to_owned(), amount, reason: "late".to_owned() }
    }

    fn check(request: RefundOrderRequest) -> Result<Ask, Invalid> {
        Ask::check(ORDER, request, || Uuid::from_u128(99))
    }

    fn ask(amount: Option<i64>) -> Ask {
        check(request("", amount)).expect("good")
    }

    fn money(order: &Order) -> (i64, i64) {
        (order.refunded_amount, order.refund_pending)
    }

    #[test]
    fn the_same_key_is_the_same_refund_of_its_order_alone() {
        let (first, again) = (check(request("k", Some(1))).expect("good"), check(request("k", Some(1))).expect("good"));
        assert_eq!((first.id, &first.request_hash), (again.id, &again.request_hash));
        let other = check(request("k", Some(2))).expect("good");
        assert_eq!(other.id, first.id);
        assert_ne!(other.request_hash, first.request_hash);
        let of_another_order = Ask::check(Uuid::from_u128(2), request("k", Some(1)), Uuid::nil).expect("good");
        assert_ne!(of_another_order.id, first.id);
        assert_eq!(ask(None).id, Uuid::from_u128(99), "without a key it has a fresh id");
        let shouted = RefundOrderRequest { order_id: ORDER.to_string().to_uppercase(), ..request("k", Some(1)) };
        assert_eq!(check(shouted).expect("good").request_hash, first.request_hash);
    }

    #[test]
    fn each_bad_field_is_named() {
        let long = RefundOrderRequest { reason: "r".repeat(257), ..request("", None) };
        let broken = RefundOrderRequest { reason: "a\nb".to_owned(), ..request("", None) };
        for (bad, field, reason) in [
            (request("", Some(0)), "amount", "BAD_AMOUNT"),
            (request("", Some(-1)), "amount", "BAD_AMOUNT"),
            (request("", Some(i64::MIN)), "amount", "BAD_AMOUNT"),
            (request("ä", None), "idempotency_key", "BAD_IDEMPOTENCY_KEY"),
            (request(&"k".repeat(256), None), "idempotency_key", "BAD_IDEMPOTENCY_KEY"),
            (long, "reason", "BAD_LENGTH"),
            (broken, "reason", "CONTROL_CHARACTER"),
        ] {
            let invalid = check(bad).expect_err("bad");
            assert_eq!((invalid.field.as_str(), invalid.reason), (field, reason));
        }
    }

    #[test]
    fn only_a_confirmed_order_is_refunded() {
        for status in Status::ALL {
            let begun = begin(&sample(ORDER, status), &ask(Some(1)), AT);
            match status {
                Status::Confirmed => assert!(begun.is_ok()),
                _ => assert_eq!(begun, Err(NoRefund::NotConfirmed(status))),
            }
        }
    }

    #[test]
    fn refunds_together_stay_within_the_total() {
        let mut order = sample(ORDER, Status::Confirmed);
        for amount in [400, 400] {
            order = begin(&order, &ask(Some(amount)), AT).expect("there is enough").0;
        }
        assert_eq!(money(&order), (0, 800));
        let exceeds = Err(NoRefund::Exceeds { left: 200, total: 1_000, currency: "USD".to_owned() });
        assert_eq!(begin(&order, &ask(Some(400)), AT), exceeds);
        assert_eq!(begin(&order, &ask(Some(i64::MAX)), AT), exceeds);
        let (all, rest) = begin(&order, &ask(None), AT).expect("200 are left");
        assert_eq!((money(&all), rest.amount), ((0, 1_000), 200));
        assert!(matches!(begin(&all, &ask(None), AT), Err(NoRefund::Exceeds { left: 0, .. })), "nothing is left");
        let long = Order { version: ENTRIES_MAX, ..all };
        assert_eq!(begin(&long, &ask(None), AT), Err(NoRefund::TooMany), "whatever is left");
    }

    #[test]
    fn a_refund_is_settled_or_refused_once() {
        let (begun, refund) = begin(&sample(ORDER, Status::Confirmed), &ask(Some(400)), AT).expect("good");
        let (settled, refunded) = close(&begun, &refund, &Closing::Settled, AT).expect("it was open");
        assert_eq!((money(&settled), &refunded.state), ((400, 0), &State::Refunded { in_all: 400 }));
        let no = Closing::Refused { reason: "REFUND_REFUSED".to_owned() };
        let (free, refused) = close(&begun, &refund, &no, AT).expect("it was open");
        assert_eq!((money(&free), refused.state.refusal()), ((0, 0), Some("REFUND_REFUSED")));
        for over in [&refunded, &refused] {
            assert_eq!((close(&settled, over, &no, AT), close(&settled, over, &Closing::Settled, AT)), (None, None));
        }
        for order in [&settled, &free] {
            assert_eq!(order.status, Status::Confirmed);
        }
    }

    #[test]
    fn a_refund_that_stays_pending_is_said_again_each_time_under_another_id() {
        let (order, refund) = begin(&sample(ORDER, Status::Confirmed), &ask(Some(400)), AT).expect("good");
        let due = |at: OffsetDateTime| at + Duration::milliseconds(SAY_AGAIN_MS);
        assert_eq!(refund.said_again_by(due(AT) - Duration::microseconds(1)), None);
        assert_eq!(refund.said_again_by(AT - Duration::HOUR), None, "a clock that was set back");
        let first = refund.said_again_by(due(AT)).expect("it is due");
        assert_eq!(refund.said_again_by(due(AT) + Duration::HOUR), Some(first), "whoever asks, until it is said");
        let said = Refund { updated_at: due(AT), ..refund.clone() };
        assert_eq!(said.said_again_by(due(AT)), None);
        assert!(said.said_again_by(due(due(AT))).is_some_and(|second| second != first && first != refund.id));
        for how in [Closing::Settled, Closing::Refused { reason: "no".to_owned() }] {
            let (_, over) = close(&order, &refund, &how, AT).expect("it was open");
            assert_eq!(over.said_again_by(due(AT) + Duration::WEEK), None, "{how:?}");
        }
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in [State::Pending, State::Refunded { in_all: 7 }, State::Refused { reason: "no".to_owned() }] {
            assert_eq!(State::stored(state.name(), state.in_all(), state.refusal().map(str::to_owned)), Some(state));
        }
        assert_eq!(State::stored("REFUNDED", None, None), None);
    }
}
