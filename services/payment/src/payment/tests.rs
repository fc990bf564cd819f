use std::collections::{BTreeMap, BTreeSet};

use super::*;

mod charge;
mod explore;
mod refunds;
mod two_steps;
mod undone_again;
mod unknown;

const ORDER: Uuid = Uuid::from_u128(1);
const DO: Uuid = Uuid::from_u128(2);
const UNDO: Uuid = Uuid::from_u128(3);
const UNDO_AGAIN: Uuid = Uuid::from_u128(4);
const CAPTURE: Uuid = Uuid::from_u128(5);
const UNCAPTURE: Uuid = Uuid::from_u128(6);

fn opening() -> Opening<'static> {
    Opening { order_id: ORDER, provider: "sandbox", at: OffsetDateTime::UNIX_EPOCH }
}

fn ask() -> Ask {
    Ask { command_id: DO, amount: 2_400, currency: "USD".into(), token: "tok".into() }
}

fn charge() -> Input {
    Input::Charge(ask())
}

fn authorize() -> Input {
    Input::Authorize(ask())
}

fn capture() -> Input {
    Input::Capture { command_id: CAPTURE }
}

fn undo(command_id: Uuid) -> Input {
    Input::Undo { command_id, undoes: DO }
}

fn uncapture() -> Input {
    Input::Undo { command_id: UNCAPTURE, undoes: CAPTURE }
}

/// A RefundCapture of its own command and id.
fn refund(number: u128, amount: i64) -> Input {
    Input::Refund { command_id: Uuid::from_u128(100 + number), refund_id: refund_id(number), amount }
}

fn refund_id(number: u128) -> Uuid {
    Uuid::from_u128(200 + number)
}

fn payment_id() -> Uuid {
    ids::derive(DO, "payment")
}

fn yes() -> Known {
    Known::Succeeded { auth_code: "A1".into() }
}

fn no(reason: &str) -> Known {
    Known::Declined { reason: reason.into() }
}

fn made(kind: Kind, amount: i64) -> Made {
    let id = payment_id();
    let key = match kind {
        Kind::Charge | Kind::Authorize => id,
        Kind::Capture => ids::derive(id, "capture"),
        Kind::Void => ids::derive(id, "void"),
        Kind::Refund => ids::derive(id, "undo"),
    };
    Made { kind, key, amount, currency: "USD".into() }
}

/// The provider's answer to the charge, the authorization, the capture, the void, or the refund of all.
fn answered(kind: Kind, known: Known) -> Input {
    Input::Answered { call: made(kind, 2_400), known }
}

/// The provider's answer to the void or the refund that this undo has a key of its own for.
fn answered_to(command_id: Uuid, kind: Kind, known: Known) -> Input {
    Input::Answered { call: Made { key: own_key(command_id, kind), ..made(kind, 2_400) }, known }
}

fn own_key(command_id: Uuid, kind: Kind) -> Uuid {
    ids::derive(command_id, if kind == Kind::Void { "void" } else { "undo" })
}

/// The provider does not know the key of a call that was withdrawn.
fn absent(kind: Kind) -> Input {
    answered(kind, no(VOIDED))
}

/// The provider's answer to a RefundCapture.
fn refund_answered(number: u128, known: Known) -> Input {
    Input::Answered { call: Made { key: refund_id(number), ..made(Kind::Refund, 1) }, known }
}

/// A payment with its refunds, and the effects of the last input.
#[derive(Clone, Default)]
struct Told {
    payment: Option<Payment>,
    refunds: BTreeMap<Uuid, Refund>,
    effects: Vec<Effect>,
}

impl Told {
    fn then(mut self, input: Input) -> Self {
        let refund = input.refund_id().and_then(|id| self.refunds.get(&id));
        let step = step(&opening(), self.payment.as_ref(), refund, &input).expect("decided");
        for effect in &step.effects {
            if let Effect::Refund(refund) = effect {
                self.refunds.insert(refund.id, refund.clone());
            }
        }
        if let Some(payment) = &step.payment {
            promised(payment, self.refunds.values());
        }
        Self { payment: step.payment, refunds: self.refunds, effects: step.effects }
    }

    /// The open call has reached the provider, as its row says when it is loaded.
    fn sent(mut self) -> Self {
        self.payment.as_mut().expect("a payment").sent = true;
        self
    }

    fn row(&self) -> &Payment {
        self.payment.as_ref().expect("a payment")
    }

    fn state(&self) -> State {
        self.row().state
    }

    fn said(&self) -> Vec<(Option<Uuid>, Answer)> {
        let said = self.effects.iter().filter_map(|effect| match effect {
            Effect::Say(said) => Some((said.command_id, said.answer.clone())),
            _ => None,
        });
        said.collect()
    }

    fn transfers(&self) -> Vec<(&str, &str, i64)> {
        let transfers = self.effects.iter().filter_map(|effect| match effect {
            Effect::Transfer(transfer) => Some((transfer.debit.as_str(), transfer.credit.as_str(), transfer.amount)),
            _ => None,
        });
        transfers.collect()
    }

    /// The calls that were opened.
    fn calls(&self) -> Vec<(Kind, i64)> {
        let calls = self.effects.iter().filter_map(|effect| match effect {
            Effect::Call(call) => Some((call.kind, call.amount)),
            _ => None,
        });
        calls.collect()
    }
}

/// What the migrations promise of a row, and what its refunds add up to.
fn promised<'a>(payment: &Payment, refunds: impl Iterator<Item = &'a Refund>) {
    use State::{Authorized, Captured, Capturing, Declined, InFlight, RefundRefused, Refunded, Refunding, Voided, Voiding};
    let state = payment.state;
    let holds = |promise: bool, what: &str| assert!(promise, "{what}: {payment:?}");
    holds(payment.refunded + payment.refund_pending <= payment.captured, "more is given back than was taken");
    holds(payment.refunded >= 0 && payment.refund_pending >= 0, "never less than nothing");
    holds((payment.amount > 0) != payment.currency.is_empty(), "a sum with its currency");
    holds(payment.amount > 0 || state == Voided, "only a mark has no sum");
    holds([0, payment.amount].contains(&payment.captured), "captured whole or not");
    let counts = matches!(state, Captured | Refunding | Refunded | RefundRefused);
    holds((payment.captured > 0) == counts, "captured if it counts");
    holds(state != Refunding || payment.refund_pending > 0, "refunding is under way");
    holds(payment.refund_pending == 0 || matches!(state, Captured | Refunding | RefundRefused), "refunds of what was captured");
    holds(state != Refunded || payment.refunded == payment.captured, "refunded is all of it");
    holds(payment.two_step || !matches!(state, Authorized | Capturing | Voiding), "two steps");
    let declined = state == Declined || (state == Voided && !payment.two_step);
    holds(!declined || !payment.decline_reason.is_empty(), "declined with reason");
    holds(state != RefundRefused || !payment.refund_reason.is_empty(), "refused with reason");
    holds(payment.refund_reason.is_empty() || matches!(state, RefundRefused | Authorized), "no reason without refusal");
    holds(payment.capture_reason.is_empty() || payment.capture_command_id.is_some(), "a capture that was refused");
    holds(!payment.unknown_said || matches!(state, InFlight | Capturing | Voiding), "unknown while it is open");
    let undos: Vec<Uuid> = [payment.undo_command_id, payment.uncapture_command_id].into_iter().flatten().collect();
    holds(payment.undo_key.is_none() || !undos.is_empty(), "a key of an undo");
    holds(payment.earlier_undos.is_empty() || !undos.is_empty(), "earlier than the latest");
    holds(payment.earlier_undos.iter().all(|earlier| !undos.contains(earlier)), "the latest is not earlier");
    holds(payment.earlier_undos.iter().collect::<BTreeSet<_>>().len() == payment.earlier_undos.len(), "each undo once");
    holds(payment.refunds_unknown == 0 || payment.captured > 0, "refunds of what was captured");
    let (mut succeeded, mut in_flight, mut unknown, mut of_undos) = (0, 0, 0, 0);
    for refund in refunds {
        match refund.state {
            RefundState::Succeeded => succeeded += refund.amount,
            RefundState::InFlight => {
                in_flight += refund.amount;
                unknown += i32::from(refund.unknown_said);
                of_undos += i32::from(refund.command_id.is_none());
            }
            RefundState::Refused => {}
        }
    }
    holds(payment.refunds_unknown == unknown, "refunds that nobody knows of are counted");
    holds(of_undos <= 1, "of undos one refund at a time");
    holds(payment.refunded == succeeded, "what came back is the sum of the refunds");
    // Less where money came back after a refusal, so that not all of them can be made.
    holds(payment.refund_pending <= in_flight, "what is reserved is asked for");
}

fn succeeded() -> (Option<Uuid>, Answer) {
    let answer = Answer::Succeeded { amount: 2_400, currency: "USD".into(), provider: "sandbox".into(), auth_code: "A1".into() };
    (Some(DO), answer)
}

fn was_captured() -> (Option<Uuid>, Answer) {
    (Some(CAPTURE), Answer::Captured { amount: 2_400, currency: "USD".into() })
}

fn failed_of(command_id: Uuid, reason: &str) -> (Option<Uuid>, Answer) {
    (Some(command_id), failed(reason))
}

fn voided(command_id: Uuid) -> (Option<Uuid>, Answer) {
    (Some(command_id), Answer::Voided)
}

fn refunded(told: &Told, command_id: Option<Uuid>) -> (Option<Uuid>, Answer) {
    (command_id, Answer::Refunded { refund_id: told.row().refund_id(), amount: 2_400, currency: "USD".into() })
}

fn refund_failed(told: &Told, command_id: Uuid, reason: &str) -> (Option<Uuid>, Answer) {
    (Some(command_id), Answer::RefundFailed { refund_id: told.row().refund_id(), reason: reason.into() })
}

#[test]
fn names_are_read_back() {
    for (state, name) in State::NAMES {
        assert_eq!((state.name(), State::parse(name)), (name, Some(state)));
    }
    for kind in [Kind::Charge, Kind::Authorize, Kind::Capture, Kind::Void, Kind::Refund] {
        assert_eq!(Kind::parse(kind.name()), Some(kind));
    }
    for state in [RefundState::InFlight, RefundState::Succeeded, RefundState::Refused] {
        assert_eq!(RefundState::parse(state.name()), Some(state));
    }
    assert_eq!((State::parse("PAID"), Kind::parse("PAY"), RefundState::parse("PAID")), (None, None, None));
}
