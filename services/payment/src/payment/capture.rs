//! Taking what is set aside, and giving it free. Pure.

use uuid::Uuid;

use super::{Answer, Draft, Kind, Known, Made, NOT_AUTHORIZED, State, VOID, VOIDED, failed, or, unknown};

impl Draft {
    pub(super) fn capture(&mut self, command_id: Uuid) {
        if let Some(reason) = self.capture_refusal() {
            return self.say(Some(command_id), failed(&reason));
        }
        match self.payment.state {
            State::InFlight if self.payment.wants_capture() || !self.is_undone() => {
                self.payment.capture_command_id = Some(command_id);
            }
            State::Capturing => {
                self.payment.capture_command_id = Some(command_id);
                if self.payment.unknown_said {
                    self.say(Some(command_id), unknown::answer());
                }
            }
            State::Authorized if !self.is_undone() => {
                self.payment.capture_command_id = Some(command_id);
                self.begin_capture();
            }
            // What is undone is not taken any more.
            State::InFlight | State::Authorized | State::Voiding | State::Voided | State::Declined => {
                self.bar_capture(command_id, VOIDED);
                self.say(Some(command_id), failed(VOIDED));
            }
            State::Captured | State::Refunding | State::Refunded | State::RefundRefused => {
                let (amount, currency) = (self.payment.captured, self.payment.currency.clone());
                self.say(Some(command_id), Answer::Captured { amount, currency });
            }
        }
    }

    pub(super) fn is_undone(&self) -> bool {
        self.payment.undo_command_id.is_some()
    }

    /// Why a capture is refused, once that is so for good.
    fn capture_refusal(&self) -> Option<String> {
        let payment = &self.payment;
        let reasons = [&payment.decline_reason, &payment.capture_reason];
        let known = reasons.into_iter().find(|reason| !reason.is_empty()).cloned();
        known.or_else(|| (!payment.two_step).then(|| NOT_AUTHORIZED.to_owned()))
    }

    /// The mark that refuses the capture from now on.
    pub(super) fn bar_capture(&mut self, command_id: Uuid, reason: &str) {
        if self.payment.capture_reason.is_empty() {
            self.payment.capture_command_id = Some(command_id);
            reason.clone_into(&mut self.payment.capture_reason);
        }
    }

    pub(super) fn begin_capture(&mut self) {
        self.call(Kind::Capture, self.payment.capture_key(), State::Capturing);
    }

    pub(super) fn capture_answered(&mut self, call: &Made, known: &Known) {
        match (self.payment.state, known) {
            (State::Capturing, Known::Succeeded { .. }) => {
                self.take(call);
                let (amount, currency) = (self.payment.captured, self.payment.currency.clone());
                self.say(self.payment.capture_command_id, Answer::Captured { amount, currency });
                if self.is_undone() || self.payment.uncapture_command_id.is_some() {
                    self.refund_rest();
                }
            }
            (State::Capturing, Known::Declined { reason }) => {
                self.payment.state = State::Authorized;
                self.payment.capture_reason = or(reason, "DECLINED");
                if !self.is_withdrawn(reason) {
                    self.say(self.payment.capture_command_id, failed(&self.payment.capture_reason));
                }
                self.tell_uncapture(Answer::Voided);
                if self.is_undone() {
                    self.begin_void();
                }
            }
            // Taken although it counts as refused: it goes straight back.
            (State::Authorized | State::Voiding | State::Voided | State::Declined, Known::Succeeded { .. }) => {
                self.payment.two_step = true;
                self.payment.unknown_said = false;
                self.take(call);
                self.refund_rest();
            }
            _ => {} // known already
        }
    }

    pub(super) fn begin_void(&mut self) {
        self.payment.refund_reason.clear();
        self.call(Kind::Void, self.payment.void_key(), State::Voiding);
    }

    pub(super) fn void_answered(&mut self, call: &Made, known: &Known) {
        let refused_before = !self.payment.refund_reason.is_empty();
        match (self.payment.state, known) {
            // What is free is free, even after a refusal.
            (State::Authorized, Known::Succeeded { .. }) if !refused_before => return, // nobody asked
            (State::Voiding | State::Authorized, Known::Succeeded { .. }) => {
                self.payment.state = State::Voided;
                self.payment.refund_reason.clear();
                self.payment.unknown_said = false;
                self.is_done_by(call.key, VOID);
            }
            (State::Voiding, Known::Declined { reason }) if call.key == self.payment.void_key() => {
                if self.try_latest(self.payment.undo_command_id, VOID, call.key) {
                    return self.begin_void();
                }
                self.payment.state = State::Authorized;
                self.payment.refund_reason = or(reason, "VOID_REFUSED");
            }
            _ => return, // known already
        }
        let answer = self.answer_to_undo();
        self.say(self.payment.undo_command_id, answer);
    }
}
