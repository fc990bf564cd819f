//! The undo of a payment: of the whole, or of the capture alone. Whatever became of the money, in the end it is not held. Pure.

use contracts::{DISCARDED, ids};
use uuid::Uuid;

use super::{Answer, Call, Draft, Effect, Kind, REFUND, RefundState, State, VOID, VOIDED, unknown};

/// What an undo undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// The charge, or the authorization with all that came of it.
    Opening,
    /// The capture; the authorization stays.
    Capture,
}

impl Draft {
    pub(super) fn undo(&mut self, command_id: Uuid, undoes: Uuid) {
        match self.undone_by(undoes) {
            undone if self.payment.earlier_undos.contains(&command_id) => self.hear_again(undone, command_id),
            Undone::Opening => self.undo_opening(command_id),
            Undone::Capture => self.undo_capture(command_id, undoes),
        }
    }

    pub(super) fn undone_by(&self, undoes: Uuid) -> Undone {
        let payment = &self.payment;
        let opening = !payment.two_step || undoes == payment.command_id || ids::derive(undoes, "payment") == payment.id;
        // Behind the undo of the whole it is a part of that.
        let behind = payment.undo_command_id.is_some() && payment.uncapture_command_id.is_none();
        if opening || behind { Undone::Opening } else { Undone::Capture }
    }

    fn undo_opening(&mut self, command_id: Uuid) {
        let same = self.payment.undo_command_id == Some(command_id);
        match self.payment.state {
            State::InFlight | State::Capturing => {
                self.withdraw();
                self.wait(Undone::Opening, command_id);
            }
            State::Voiding | State::Refunding => self.wait(Undone::Opening, command_id),
            // The same undo hears the same; another one is an operator's retry.
            State::Authorized if same && !self.payment.refund_reason.is_empty() => self.answer_undo(Undone::Opening, command_id),
            State::Authorized => {
                self.renew_key(command_id, VOID);
                self.note_undo(Undone::Opening, command_id);
                self.begin_void();
            }
            State::Captured => self.ask_back(Undone::Opening, command_id),
            State::RefundRefused if !same && self.payment.uncapture_command_id.is_none() => {
                self.ask_back(Undone::Opening, command_id);
            }
            State::Declined | State::Voided | State::Refunded | State::RefundRefused => {
                self.answer_undo(Undone::Opening, command_id);
            }
        }
    }

    fn undo_capture(&mut self, command_id: Uuid, undoes: Uuid) {
        let same = self.payment.uncapture_command_id == Some(command_id);
        match self.payment.state {
            State::InFlight if self.payment.wants_capture() => self.wait(Undone::Capture, command_id),
            State::Capturing => {
                self.withdraw();
                self.wait(Undone::Capture, command_id);
            }
            State::Refunding => self.wait(Undone::Capture, command_id),
            // Nothing was taken, and now never will be.
            State::InFlight | State::Authorized | State::Voiding | State::Voided | State::Declined => {
                self.bar_capture(undoes, VOIDED);
                self.answer_undo(Undone::Capture, command_id);
            }
            State::Captured => self.ask_back(Undone::Capture, command_id),
            State::RefundRefused if !same => self.ask_back(Undone::Capture, command_id),
            State::Refunded | State::RefundRefused => self.answer_undo(Undone::Capture, command_id),
        }
    }

    /// What was not sent yet is not sent any more. It may have been made all the same, in a history that a restore has lost: so the
    /// provider is asked before the undo is answered.
    fn withdraw(&mut self) {
        if let Some(key) = self.payment.open_key().filter(|_| !self.payment.sent) {
            self.effects.push(Effect::Withdraw { key });
        }
    }

    /// Whether the open call was withdrawn, by what is said of it: then nobody refused it, and only its undos are answered.
    pub(super) fn is_withdrawn(&self, reason: &str) -> bool {
        reason == VOIDED && (self.is_undone() || self.payment.uncapture_command_id.is_some())
    }

    fn note_undo(&mut self, undone: Undone, command_id: Uuid) {
        let noted = match undone {
            Undone::Opening => &mut self.payment.undo_command_id,
            Undone::Capture => &mut self.payment.uncapture_command_id,
        };
        if let Some(earlier) = noted.replace(command_id).filter(|earlier| *earlier != command_id) {
            self.payment.earlier_undos.push(earlier);
        }
    }

    /// It is answered when the outcome is known.
    pub(super) fn wait(&mut self, undone: Undone, command_id: Uuid) {
        self.note_undo(undone, command_id);
        self.warn_if_unknown(command_id);
    }

    fn ask_back(&mut self, undone: Undone, command_id: Uuid) {
        self.renew_key(command_id, REFUND);
        self.note_undo(undone, command_id);
        self.refund_rest();
        self.warn_if_unknown(command_id);
    }

    /// Who waits for what nobody knows hears so at once: its own outcome, or that of a refund before it.
    fn warn_if_unknown(&mut self, command_id: Uuid) {
        if self.payment.unknown_said || self.payment.refunds_unknown > 0 {
            self.say(Some(command_id), unknown::answer());
        }
    }

    /// Another one has followed it: it had its try, and nothing is asked for it any more.
    pub(super) fn hear_again(&mut self, undone: Undone, command_id: Uuid) {
        if !matches!(self.payment.state, State::InFlight | State::Capturing | State::Voiding | State::Refunding) {
            let answer = self.answer_to(undone);
            self.say(Some(command_id), answer);
        }
    }

    /// What the provider has refused is asked for under a key of its own: to the old one it would say again what it said. What a person
    /// gave up was never asked for.
    fn renew_key(&mut self, command_id: Uuid, name: &str) {
        let reason = &self.payment.refund_reason;
        if !reason.is_empty() && reason != DISCARDED {
            self.payment.undo_key = Some(ids::derive(command_id, name));
        }
    }

    /// Whether the latest undo has its try now that the provider has refused `asked`. As after a restore, undos may come faster than the
    /// provider answers; nobody asks again before he is refused, so all before the latest were.
    pub(super) fn try_latest(&mut self, latest: Option<Uuid>, name: &str, asked: Uuid) -> bool {
        let behind = latest.filter(|_| !self.payment.earlier_undos.is_empty());
        let own_key = behind.map(|command_id| ids::derive(command_id, name)).filter(|key| *key != asked);
        self.payment.undo_key = own_key.or(self.payment.undo_key);
        own_key.is_some()
    }

    /// It was done under this key, perhaps one that was refused at first.
    pub(super) fn is_done_by(&mut self, key: Uuid, name: &str) {
        self.payment.undo_key = Some(key).filter(|key| *key != ids::derive(self.payment.id, name));
    }

    /// What an undo is told when there is nothing left to wait for.
    pub(super) fn answer_undo(&mut self, undone: Undone, command_id: Uuid) {
        self.note_undo(undone, command_id);
        let answer = self.answer_to(undone);
        self.say(Some(command_id), answer);
    }

    pub(super) fn tell_uncapture(&mut self, answer: Answer) {
        if let Some(command_id) = self.payment.uncapture_command_id {
            self.say(Some(command_id), answer);
        }
    }

    pub(super) fn answer_to_undo(&self) -> Answer {
        self.answer_to(Undone::Opening)
    }

    fn answer_to(&self, undone: Undone) -> Answer {
        let payment = &self.payment;
        let apart = undone == Undone::Opening && payment.uncapture_command_id.is_some();
        match payment.state {
            // What the capture took is answered to the undo of the capture: said twice, it would be counted twice.
            State::Refunded | State::RefundRefused if apart => Answer::Voided,
            State::Refunded => {
                Answer::Refunded { refund_id: payment.refund_id(), amount: payment.refunded, currency: payment.currency.clone() }
            }
            State::RefundRefused => Answer::RefundFailed { refund_id: payment.refund_id(), reason: payment.refund_reason.clone() },
            State::Authorized if undone == Undone::Opening && !payment.refund_reason.is_empty() => {
                Answer::RefundFailed { refund_id: payment.void_key(), reason: payment.refund_reason.clone() }
            }
            _ => Answer::Voided,
        }
    }

    /// The undos that wait hear what became of the money that was taken. It is said even where nobody asked.
    pub(super) fn say_undone(&mut self) {
        if self.payment.uncapture_command_id.is_some() {
            let answer = self.answer_to(Undone::Capture);
            self.tell_uncapture(answer);
            if self.payment.undo_command_id.is_none() {
                return;
            }
        }
        let answer = self.answer_to(Undone::Opening);
        self.say(self.payment.undo_command_id, answer);
    }

    /// Reserves what remains and asks for it back, as soon as all refunds in flight are known: one that is refused then remains too.
    pub(super) fn refund_rest(&mut self) {
        self.payment.state = State::Refunding;
        self.payment.refund_reason.clear();
        if self.payment.refund_pending > 0 {
            return;
        }
        let (refund_id, amount) = (self.payment.refund_id(), self.payment.rest());
        self.payment.refund_pending = amount;
        self.note_refund(refund_id, None, amount, RefundState::InFlight, "");
        self.effects.push(Effect::Call(Call { kind: Kind::Refund, key: refund_id, amount, token: String::new() }));
    }
}
