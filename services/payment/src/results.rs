//! What the provider said of payments, for the log and the counters: told once it is committed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kit::counts::{PAYMENTS_FAILED, PAYMENTS_SUCCEEDED};
use messaging::Trace;
use uuid::Uuid;

use crate::payment::{Input, Kind, Known, State, VOIDED};

/// The provider's answer to a charge, or to an authorization and its capture together: taken, or not.
pub(crate) struct Charged {
    order_id: Uuid,
    /// Why not, if it declined.
    declined: Option<String>,
    /// Kept only for a line that somebody reads.
    trace: Option<Trace>,
}

impl Charged {
    /// What this input says of a payment that stood so. A charge is answered once: what comes later says nothing new.
    pub(crate) fn of(order_id: Uuid, before: Option<State>, input: &Input, trace: &Trace) -> Option<Self> {
        let Input::Answered { call, known } = input else { return None };
        let declined = match (before?, call.kind, known) {
            // Nobody asked for it: it was withdrawn.
            (_, _, Known::Declined { reason }) if reason == VOIDED => return None,
            (State::InFlight, Kind::Charge, Known::Succeeded { .. })
            | (State::Capturing, Kind::Capture, Known::Succeeded { .. }) => None,
            (State::InFlight, Kind::Charge | Kind::Authorize, Known::Declined { reason })
            | (State::Capturing, Kind::Capture, Known::Declined { reason }) => Some(reason.clone()),
            _ => return None,
        };
        Some(Self { order_id, declined, trace: tracing::enabled!(tracing::Level::DEBUG).then(|| trace.clone()) })
    }

    fn tell(&self) {
        let (count, status) = match self.declined {
            None => (&PAYMENTS_SUCCEEDED, "SUCCESS"),
            Some(_) => (&PAYMENTS_FAILED, "FAILED"),
        };
        count.add(1);
        if let Some(trace) = &self.trace {
            tracing::debug!(
                r#type = "PAYMENT_RESULT",
                service = "payment",
                orderId = %self.order_id,
                status,
                reason = self.declined,
                correlationId = %self.order_id,
                traceId = trace.id(),
                "the provider answered"
            );
        }
    }
}

/// The handler's end. It is used by the one worker of the runner, a batch after the other.
#[derive(Default)]
pub(crate) struct Results {
    /// What the batch in progress has saved: each save replaces what an undone one left.
    staged: Mutex<Vec<Charged>>,
}

impl Results {
    pub(crate) fn stage(&self, results: Vec<Charged>) {
        *self.staged() = results;
    }

    pub(crate) fn committed(&self) {
        for charged in self.staged().drain(..) {
            charged.tell();
        }
    }

    fn staged(&self) -> MutexGuard<'_, Vec<Charged>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::Made;

    #[test]
    fn a_charge_is_answered_once_and_nothing_else_answers_it() {
        let answered =
            |kind, known| Input::Answered { call: Made { kind, key: Uuid::nil(), amount: 1, currency: "USD".into() }, known };
        let yes = |kind| answered(kind, Known::Succeeded { auth_code: "A1".into() });
        let no = |kind| answered(kind, Known::Declined { reason: "CARD_DECLINED".into() });
        let of = |before, input: &Input| Charged::of(Uuid::nil(), before, input, &Trace::default()).map(|charged| charged.declined);
        let (taken, declined) = (Some(None), Some(Some("CARD_DECLINED".to_owned())));
        assert_eq!(of(Some(State::InFlight), &no(Kind::Charge)), declined);
        assert_eq!(of(Some(State::InFlight), &yes(Kind::Charge)), taken);
        assert_eq!(of(Some(State::InFlight), &no(Kind::Authorize)), declined);
        assert_eq!(of(Some(State::InFlight), &yes(Kind::Authorize)), None, "nothing is taken yet");
        assert_eq!(of(Some(State::Capturing), &yes(Kind::Capture)), taken);
        assert_eq!(of(Some(State::Capturing), &no(Kind::Capture)), declined);
        assert_eq!(of(Some(State::InFlight), &yes(Kind::Refund)), None);
        let withdrawn = answered(Kind::Charge, Known::Declined { reason: VOIDED.into() });
        assert_eq!(of(Some(State::InFlight), &withdrawn), None, "it was never asked for");
        for before in [None, Some(State::Captured), Some(State::Declined), Some(State::Voided), Some(State::Refunding)] {
            assert_eq!(of(before, &yes(Kind::Charge)), None, "{before:?}");
        }
    }
}
