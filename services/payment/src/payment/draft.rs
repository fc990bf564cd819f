//! The next payment in the making, with what all decisions share. Pure.

use contracts::ids;
use uuid::Uuid;

use super::{Answer, Aside, Call, Effect, Kind, Known, Made, Payment, Refund, Said, State, Transfer, Undecided};

pub(super) struct Draft {
    pub(super) payment: Payment,
    pub(super) effects: Vec<Effect>,
}

impl Draft {
    /// What the provider said. Its call is over, even where the answer says nothing new; but what is held of a payment that has no sum
    /// cannot be booked, nor asked back.
    pub(super) fn answered(&mut self, call: &Made, known: &Known, refund: Option<&Refund>) -> Result<(), Undecided> {
        if call.amount == 0 && matches!(known, Known::Succeeded { .. }) {
            self.effects.push(Effect::SetAside { key: call.key, why: Aside::NoSum });
            return Ok(());
        }
        if self.payment.open_key() == Some(call.key) {
            self.payment.unknown_said = false;
        }
        self.end_call(call.key);
        match call.kind {
            Kind::Charge | Kind::Authorize => self.opening_answered(call, known),
            Kind::Capture => self.capture_answered(call, known),
            Kind::Void => self.void_answered(call, known),
            Kind::Refund => self.refund_answered(refund.ok_or(Undecided::NoRefund)?, known),
        }
        Ok(())
    }

    pub(super) fn say(&mut self, command_id: Option<Uuid>, answer: Answer) {
        self.effects.push(Effect::Say(Said { command_id, payment_id: self.payment.id, answer }));
    }

    /// Opens a call whose outcome the payment's state waits for.
    pub(super) fn call(&mut self, kind: Kind, key: Uuid, state: State) {
        self.payment.state = state;
        self.payment.sent = false;
        self.effects.push(Effect::Call(Call { kind, key, amount: self.payment.amount, token: String::new() }));
    }

    fn end_call(&mut self, key: Uuid) {
        self.effects.push(Effect::EndCall { key });
    }

    /// The money is ours: the provider owes it to us.
    pub(super) fn take(&mut self, call: &Made) {
        let payment = &mut self.payment;
        // Only where nobody had named a sum, these say something new.
        payment.amount = call.amount;
        payment.currency.clone_from(&call.currency);
        payment.state = State::Captured;
        payment.captured = payment.amount;
        // It was the void's.
        payment.undo_key = None;
        let (debit, credit) = (receivable(&self.payment), SALES.to_owned());
        self.transfer(ids::derive(self.payment.id, "capture"), debit, credit, self.payment.captured);
    }

    /// This refund is out: the provider owes us that much less.
    pub(super) fn give_back(&mut self, refund_id: Uuid, amount: i64) {
        let (debit, credit) = (SALES.to_owned(), receivable(&self.payment));
        self.transfer(ids::derive(refund_id, "transfer"), debit, credit, amount);
    }

    fn transfer(&mut self, id: Uuid, debit: String, credit: String, amount: i64) {
        let (payment_id, currency) = (self.payment.id, self.payment.currency.clone());
        self.effects.push(Effect::Transfer(Transfer { id, payment_id, debit, credit, amount, currency }));
    }
}

const SALES: &str = "sales";

/// What the provider owes us.
fn receivable(payment: &Payment) -> String {
    format!("receivable:{}", payment.provider)
}
