//! Refunds: parts of what was taken, and the rest of it that an undo asks for. What a refund gives back is reserved before it is asked
//! for, so all of them together never come to more than was taken. Pure.

use uuid::Uuid;

use super::{Answer, Call, Draft, Effect, Kind, Known, REFUND, Refund, RefundState, State, Undecided, or, unknown};

/// Why a refund is refused that asks for more than is left.
pub const REFUND_EXCEEDS_CAPTURE: &str = "REFUND_EXCEEDS_CAPTURE";
/// Why a refund is refused where nothing was taken.
pub const NOT_CAPTURED: &str = "NOT_CAPTURED";
const INVALID_AMOUNT: &str = "INVALID_AMOUNT";
/// The id is that of a refund of another payment, or of an undo.
const REFUND_ID_TAKEN: &str = "REFUND_ID_TAKEN";

impl Draft {
    /// A RefundCapture.
    pub(super) fn refund(
        &mut self,
        command_id: Uuid,
        refund_id: Uuid,
        amount: i64,
        refund: Option<&Refund>,
    ) -> Result<(), Undecided> {
        if let Some(refund) = refund {
            self.refund_again(command_id, refund);
            return Ok(());
        }
        let payment = &self.payment;
        let refusal = match payment.state {
            _ if amount <= 0 => {
                // No row: there is no sum to keep, and the same command is refused the same way each time.
                self.say_refused(command_id, refund_id, INVALID_AMOUNT);
                return Ok(());
            }
            State::InFlight | State::Capturing => return Err(Undecided::NotKnownYet),
            State::Captured if amount <= payment.rest() => None,
            _ if payment.captured == 0 => Some(NOT_CAPTURED),
            // An undo has all the rest.
            _ => Some(REFUND_EXCEEDS_CAPTURE),
        };
        match refusal {
            Some(reason) => self.bar_refund(command_id, refund_id, amount, reason),
            None => {
                self.payment.refund_pending += amount;
                self.note_refund(refund_id, Some(command_id), amount, RefundState::InFlight, "");
                self.effects.push(Effect::Call(Call { kind: Kind::Refund, key: refund_id, amount, token: String::new() }));
            }
        }
        Ok(())
    }

    /// What a refund that there is already says to its command.
    pub(super) fn refund_again(&mut self, command_id: Uuid, refund: &Refund) {
        if refund.payment_id != self.payment.id || refund.command_id.is_none() {
            return self.say_refused(command_id, refund.id, REFUND_ID_TAKEN);
        }
        if refund.state != RefundState::InFlight {
            return self.answer_refund(Some(command_id), refund);
        }
        if refund.command_id != Some(command_id) {
            self.effects.push(Effect::Refund(Refund { command_id: Some(command_id), ..refund.clone() }));
        }
        if refund.unknown_said {
            self.say(Some(command_id), unknown::answer());
        }
    }

    /// Refused, and refused the same way ever after.
    pub(super) fn bar_refund(&mut self, command_id: Uuid, refund_id: Uuid, amount: i64, reason: &str) {
        self.note_refund(refund_id, Some(command_id), amount, RefundState::Refused, reason);
        self.say_refused(command_id, refund_id, reason);
    }

    pub(super) fn say_refused(&mut self, command_id: Uuid, refund_id: Uuid, reason: &str) {
        self.say(Some(command_id), Answer::RefundFailed { refund_id, reason: reason.to_owned() });
    }

    fn answer_refund(&mut self, command_id: Option<Uuid>, refund: &Refund) {
        let refund_id = refund.id;
        let answer = match refund.state {
            RefundState::Refused => Answer::RefundFailed { refund_id, reason: refund.reason.clone() },
            RefundState::Succeeded | RefundState::InFlight => {
                Answer::Refunded { refund_id, amount: refund.amount, currency: refund.currency.clone() }
            }
        };
        self.say(command_id, answer);
    }

    pub(super) fn refund_answered(&mut self, refund: &Refund, known: &Known) {
        let mut after = Refund { unknown_said: false, ..refund.clone() };
        match (refund.state, known) {
            // Money that is back is back, even after a refusal.
            (RefundState::InFlight | RefundState::Refused, Known::Succeeded { .. }) => {
                after.state = RefundState::Succeeded;
                after.reason.clear();
                self.payment.refunded += refund.amount;
                self.give_back(refund.id, refund.amount);
            }
            (RefundState::InFlight, Known::Declined { reason }) => {
                after.state = RefundState::Refused;
                after.reason = or(reason, "REFUND_REFUSED");
            }
            (RefundState::Refused, Known::Declined { .. }) | (RefundState::Succeeded, _) => return, // known already
        }
        if refund.unknown_said {
            // Who said so may have been a process of before, which did not count.
            self.payment.refunds_unknown = (self.payment.refunds_unknown - 1).max(0);
        }
        if refund.state == RefundState::InFlight {
            self.payment.refund_pending = (self.payment.refund_pending - refund.amount).max(0);
        }
        // What came back after a refusal may leave less than is asked for: the provider will refuse that.
        self.payment.refund_pending = self.payment.refund_pending.min(self.payment.captured - self.payment.refunded);
        self.effects.push(Effect::Refund(after.clone()));
        self.settle(&after);
    }

    /// What the payment makes of a refund that is known now.
    fn settle(&mut self, refund: &Refund) {
        let rest = refund.command_id.is_none();
        if !rest {
            self.answer_refund(refund.command_id, refund);
        } else if refund.state == RefundState::Succeeded {
            self.is_done_by(refund.id, REFUND);
        }
        let payment = &mut self.payment;
        match payment.state {
            State::Refunded => {}
            _ if payment.refunded == payment.captured => {
                let told = rest || payment.state != State::Captured;
                payment.state = State::Refunded;
                payment.refund_reason.clear();
                if told {
                    self.say_undone();
                }
            }
            State::Refunding if rest => self.rest_refused(refund),
            State::Refunding => self.refund_rest(),
            _ => {}
        }
    }

    fn rest_refused(&mut self, refund: &Refund) {
        let asked_by = self.payment.uncapture_command_id.or(self.payment.undo_command_id);
        if self.try_latest(asked_by, REFUND, refund.id) {
            return self.refund_rest();
        }
        self.payment.state = State::RefundRefused;
        self.payment.refund_reason.clone_from(&refund.reason);
        self.say_undone();
    }

    pub(super) fn note_refund(&mut self, id: Uuid, command_id: Option<Uuid>, amount: i64, state: RefundState, reason: &str) {
        let (payment_id, currency) = (self.payment.id, self.payment.currency.clone());
        let reason = reason.to_owned();
        self.effects.push(Effect::Refund(Refund {
            id,
            payment_id,
            command_id,
            amount,
            currency,
            state,
            reason,
            unknown_said: false,
        }));
    }
}
