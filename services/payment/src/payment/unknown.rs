//! An outcome that nobody knows. It is said once to all who wait for it, and again to who asks again; whatever the provider says later
//! still counts. Pure.

use uuid::Uuid;

use super::{Answer, Aside, Draft, Effect, Kind, Made, Refund, RefundState, State};

/// Why an outcome is not known: the provider may have forgotten the key by now.
const KEY_WINDOW_PASSED: &str = "KEY_WINDOW_PASSED";

pub(super) fn answer() -> Answer {
    Answer::Unknown { reason: KEY_WINDOW_PASSED.to_owned() }
}

impl Draft {
    pub(super) fn unknown(&mut self, call: &Made, refund: Option<&Refund>) {
        // Taken up again by a person, it may come to this again.
        self.effects.push(Effect::SetAside { key: call.key, why: Aside::Forgotten });
        self.overdue(call, refund);
    }

    pub(super) fn overdue(&mut self, call: &Made, refund: Option<&Refund>) {
        if call.kind == Kind::Refund {
            if let Some(refund) = refund.filter(|refund| refund.state == RefundState::InFlight && !refund.unknown_said) {
                self.effects.push(Effect::Refund(Refund { unknown_said: true, ..refund.clone() }));
                let is_first = self.payment.refunds_unknown == 0;
                self.payment.refunds_unknown += 1;
                self.say_unknown([refund.command_id]);
                // An undo waits for its own refund, and for those before it; it hears of those once.
                if self.payment.state == State::Refunding && (is_first || refund.command_id.is_none()) {
                    self.say_unknown([self.payment.uncapture_command_id, self.payment.undo_command_id]);
                }
            }
        } else if self.payment.open_key() == Some(call.key) && !self.payment.unknown_said {
            self.payment.unknown_said = true;
            let payment = &self.payment;
            let captures = payment.wants_capture() || payment.state == State::Capturing;
            let opening = Some(payment.command_id).filter(|_| payment.state == State::InFlight);
            let capture = payment.capture_command_id.filter(|_| captures);
            let (uncapture, undo) = (payment.uncapture_command_id.filter(|_| captures), payment.undo_command_id);
            self.say_unknown([opening, capture, uncapture, undo]);
        }
    }

    fn say_unknown<const N: usize>(&mut self, commands: [Option<Uuid>; N]) {
        for command_id in commands.into_iter().flatten() {
            self.say(Some(command_id), answer());
        }
    }
}
