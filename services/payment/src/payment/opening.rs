//! How a payment opens: a charge, or an authorization. Pure.

use uuid::Uuid;

use super::{Answer, Draft, Kind, Known, Made, State, failed, or, unknown};

impl Draft {
    /// The charge or the authorization is asked for once more.
    pub(super) fn open_again(&mut self, command_id: Uuid) {
        match self.payment.state {
            State::InFlight => {
                self.payment.command_id = command_id;
                if self.payment.unknown_said {
                    self.say(Some(command_id), unknown::answer());
                }
            }
            _ => self.answer_opening(command_id),
        }
    }

    /// What its command was told; a refund that came later does not change it.
    pub(super) fn answer_opening(&mut self, command_id: Uuid) {
        let payment = &self.payment;
        let (currency, provider, auth_code) = (payment.currency.clone(), payment.provider.clone(), payment.auth_code.clone());
        let answer = match (payment.decline_reason.as_str(), payment.two_step) {
            ("", true) => Answer::Authorized { amount: payment.amount, currency, provider, auth_code },
            ("", false) => Answer::Succeeded { amount: payment.captured, currency, provider, auth_code },
            (reason, _) => failed(reason),
        };
        self.say(Some(command_id), answer);
    }

    pub(super) fn opening_answered(&mut self, call: &Made, known: &Known) {
        match (self.payment.state, known) {
            (State::InFlight, Known::Succeeded { auth_code }) if self.payment.two_step => self.authorized(auth_code),
            (State::InFlight, Known::Succeeded { auth_code }) => self.charged(call, auth_code),
            (State::InFlight, Known::Declined { reason }) => self.declined(reason),
            (State::Declined | State::Voided, Known::Succeeded { auth_code }) => self.opened_late(call, auth_code),
            _ => {} // known already
        }
    }

    fn charged(&mut self, call: &Made, auth_code: &str) {
        auth_code.clone_into(&mut self.payment.auth_code);
        self.take(call);
        self.answer_opening(self.payment.command_id);
        if self.payment.undo_command_id.is_some() {
            self.refund_rest();
        }
    }

    fn authorized(&mut self, auth_code: &str) {
        let capture = self.payment.wants_capture();
        auth_code.clone_into(&mut self.payment.auth_code);
        self.payment.state = State::Authorized;
        self.answer_opening(self.payment.command_id);
        if capture {
            self.begin_capture();
        } else if self.payment.undo_command_id.is_some() {
            self.begin_void();
        }
    }

    fn declined(&mut self, reason: &str) {
        let capture = self.payment.capture_command_id.filter(|_| self.payment.wants_capture());
        let withdrawn = self.is_undone() && self.is_withdrawn(reason);
        self.payment.state = if withdrawn { State::Voided } else { State::Declined };
        self.payment.decline_reason = or(reason, "DECLINED");
        if !withdrawn {
            self.answer_opening(self.payment.command_id);
        }
        if let Some(command_id) = capture {
            if !withdrawn {
                self.say(Some(command_id), failed(&self.payment.decline_reason));
            }
            self.tell_uncapture(Answer::Voided);
        }
        if self.is_undone() {
            self.say(self.payment.undo_command_id, Answer::Voided);
        }
    }

    /// Money that moved, or was set aside, although the command counts as failed: it goes straight back. Nobody waits for it, so
    /// nothing is said yet.
    fn opened_late(&mut self, call: &Made, auth_code: &str) {
        if call.kind == Kind::Charge {
            auth_code.clone_into(&mut self.payment.auth_code);
            self.take(call);
            self.refund_rest();
        } else if self.payment.auth_code.is_empty() {
            let payment = &mut self.payment;
            payment.two_step = true;
            payment.amount = call.amount;
            payment.currency.clone_from(&call.currency);
            auth_code.clone_into(&mut payment.auth_code);
            self.begin_void();
        }
    }
}
