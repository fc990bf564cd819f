//! A command that a person gave up: it is answered with a no, and stays refused. Pure.

use contracts::{DISCARDED, ids};
use uuid::Uuid;

use super::{Answer, Draft, Effect, Opening, Said, State, Step, blank};

/// A charge that nobody has made: the mark that refuses it, should it still come.
pub(super) fn charge(opening: &Opening<'_>, command_id: Uuid) -> Step {
    let mut payment = blank(opening, ids::derive(command_id, "payment"), command_id, State::Voided);
    payment.decline_reason = DISCARDED.to_owned();
    let answer = Answer::Failed { reason: DISCARDED.to_owned() };
    let said = Said { command_id: Some(command_id), payment_id: payment.id, answer };
    Step { payment: Some(payment), effects: vec![Effect::Say(said)] }
}

/// The undo of a charge that nobody has heard of.
pub(super) fn undo(command_id: Uuid, undoes: Uuid) -> Step {
    let payment_id = ids::derive(undoes, "payment");
    let answer = Answer::RefundFailed { refund_id: ids::derive(payment_id, "undo"), reason: DISCARDED.to_owned() };
    Step { payment: None, effects: vec![Effect::Say(Said { command_id: Some(command_id), payment_id, answer })] }
}

impl Draft {
    /// The money stays where it is, as if the provider had refused: only another undo asks again.
    pub(super) fn give_up_refund(&mut self, command_id: Uuid) {
        let payment = &mut self.payment;
        if payment.state == State::Captured {
            payment.state = State::RefundRefused;
            payment.undo_command_id = Some(command_id);
            payment.refund_reason = DISCARDED.to_owned();
        }
        let answer = Answer::RefundFailed { refund_id: payment.refund_id(), reason: DISCARDED.to_owned() };
        self.say(Some(command_id), answer);
    }
}
