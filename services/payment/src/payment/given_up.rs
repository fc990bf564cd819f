//! A command that a person gave up: it is answered with a no, and stays refused. Pure.

use contracts::{DISCARDED, ids};
use uuid::Uuid;

use super::{Answer, Draft, Effect, Opening, Refund, Said, State, Step, blank, failed, say_alone, undo::Undone};

/// A charge that nobody has made: the mark that refuses it, should it still come.
pub(super) fn opening(opening: &Opening<'_>, command_id: Uuid) -> Step {
    let mut payment = blank(opening, ids::derive(command_id, "payment"), command_id, State::Voided);
    payment.decline_reason = DISCARDED.to_owned();
    let said = Said { command_id: Some(command_id), payment_id: payment.id, answer: failed(DISCARDED) };
    Step { payment: Some(payment), effects: vec![Effect::Say(said)] }
}

/// The capture of an authorization that nobody has heard of.
pub(super) fn capture(command_id: Uuid) -> Step {
    say_alone(command_id, command_id, failed(DISCARDED))
}

pub(super) fn refund(command_id: Uuid, refund_id: Uuid) -> Step {
    say_alone(command_id, command_id, Answer::RefundFailed { refund_id, reason: DISCARDED.to_owned() })
}

/// The undo of a charge that nobody has heard of.
pub(super) fn undo(command_id: Uuid, undoes: Uuid) -> Step {
    let refund_id = ids::derive(ids::derive(undoes, "payment"), "undo");
    say_alone(command_id, undoes, Answer::RefundFailed { refund_id, reason: DISCARDED.to_owned() })
}

impl Draft {
    pub(super) fn refuse_opening(&mut self, command_id: Uuid) {
        // In flight it was asked before, and its outcome is the answer.
        if self.payment.state != State::InFlight {
            self.answer_opening(command_id);
        }
    }

    pub(super) fn refuse_capture(&mut self, command_id: Uuid) {
        let asked = self.payment.wants_capture() || self.payment.state == State::Capturing;
        if asked {
            return; // its outcome is the answer
        }
        if matches!(self.payment.state, State::InFlight | State::Authorized) && self.payment.two_step {
            self.bar_capture(command_id, DISCARDED);
        }
        self.capture(command_id);
    }

    pub(super) fn refuse_refund(&mut self, command_id: Uuid, refund_id: Uuid, amount: i64, refund: Option<&Refund>) {
        match refund {
            Some(refund) => self.refund_again(command_id, refund),
            None if amount > 0 => self.bar_refund(command_id, refund_id, amount, DISCARDED),
            None => self.say_refused(command_id, refund_id, DISCARDED),
        }
    }

    /// The money stays where it is, as if the provider had refused: only another undo asks again.
    pub(super) fn refuse_undo(&mut self, command_id: Uuid, undoes: Uuid) {
        let undone = self.undone_by(undoes);
        if self.payment.earlier_undos.contains(&command_id) {
            return self.hear_again(undone, command_id);
        }
        let asked = match undone {
            Undone::Opening => self.payment.undo_command_id.is_some(),
            Undone::Capture => self.payment.uncapture_command_id.is_some(),
        };
        match (self.payment.state, undone) {
            (State::InFlight | State::Capturing, _) if asked => {} // it is answered when the outcome is known
            (State::Voiding, Undone::Opening) | (State::Refunding, _) => self.wait(undone, command_id),
            (State::InFlight | State::Capturing, _) => self.say_refused(command_id, self.payment.refund_id(), DISCARDED),
            (State::Captured, _) => {
                self.payment.state = State::RefundRefused;
                DISCARDED.clone_into(&mut self.payment.refund_reason);
                self.answer_undo(undone, command_id);
            }
            (State::Authorized, Undone::Opening) => {
                if self.payment.refund_reason.is_empty() {
                    DISCARDED.clone_into(&mut self.payment.refund_reason);
                }
                self.answer_undo(undone, command_id);
            }
            (State::Authorized | State::Voiding, Undone::Capture)
            | (State::Declined | State::Voided | State::Refunded | State::RefundRefused, _) => {
                self.answer_undo(undone, command_id);
            }
        }
    }
}
