//! A payment: the money of one order, from the ask until the last of it is back. Pure.
//!
//! There is one payment an order, whatever number of commands ask for it. That is what makes an undo before its command, a command
//! asked again and an answer that comes late safe: all of them meet the same row.

use contracts::{ids, money::Currency};
use time::OffsetDateTime;
use uuid::Uuid;

mod effect;
mod given_up;
#[cfg(test)]
mod tests;

pub use effect::{Answer, Effect, Refund, RefundState, Said, Transfer};

/// Why a charge failed that was undone before it was made.
pub const VOIDED: &str = "VOIDED";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Asked of the provider, not answered yet.
    InFlight,
    Captured,
    Declined,
    /// Undone before money moved; refuses the charge for ever.
    Voided,
    Refunding,
    Refunded,
    /// The provider refuses the refund: a person must act.
    RefundRefused,
}

impl State {
    const NAMES: [(Self, &str); 7] = [
        (Self::InFlight, "IN_FLIGHT"),
        (Self::Captured, "CAPTURED"),
        (Self::Declined, "DECLINED"),
        (Self::Voided, "VOIDED"),
        (Self::Refunding, "REFUNDING"),
        (Self::Refunded, "REFUNDED"),
        (Self::RefundRefused, "REFUND_REFUSED"),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

/// All amounts are minor units of `currency`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Also the provider's key of the charge.
    pub id: Uuid,
    pub order_id: Uuid,
    /// The command that is answered when the charge is known: the latest that asked.
    pub command_id: Uuid,
    /// The undo that is answered when it is known what became of the money: the latest that asked.
    pub undo_command_id: Option<Uuid>,
    pub state: State,
    pub provider: String,
    /// Empty where an undo came before its charge: nobody has named a sum.
    pub currency: String,
    pub amount: i64,
    pub captured: i64,
    pub refunded: i64,
    /// Reserved by the refund in flight, so that two refunds never share the same money.
    pub refund_pending: i64,
    pub auth_code: String,
    /// Why the charge command was answered with PaymentFailed; empty if it was not.
    pub decline_reason: String,
    /// Why the provider refuses the refund.
    pub refund_reason: String,
    pub created_at: OffsetDateTime,
    /// Whether the charge may have reached the provider. Known of a row the batch undoes, else true.
    pub charge_sent: bool,
}

impl Payment {
    /// The refund of what remains, asked for by an undo. Also the provider's key of it: however often it is asked for, it is paid
    /// once.
    #[must_use]
    pub fn refund_id(&self) -> Uuid {
        ids::derive(self.id, "undo")
    }
}

/// What the provider said for good. A third outcome, unknown, never comes here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Succeeded { auth_code: String },
    Declined { reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Charge {
        command_id: Uuid,
        amount: i64,
        currency: String,
        token: String,
    },
    Undo {
        command_id: Uuid,
        undoes: Uuid,
    },
    /// A person gave the Charge up.
    RefuseCharge {
        command_id: Uuid,
    },
    /// A person gave the Undo up.
    RefuseUndo {
        command_id: Uuid,
        undoes: Uuid,
    },
    ChargeAnswered {
        amount: i64,
        currency: String,
        known: Known,
    },
    RefundAnswered {
        known: Known,
    },
}

/// What a new payment takes over from where it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    pub order_id: Uuid,
    pub provider: &'a str,
    pub at: OffsetDateTime,
}

/// The payment after an input (none if there is still none), and what else is to be done in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub payment: Option<Payment>,
    pub effects: Vec<Effect>,
}

/// An outcome of a payment that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no payment of this order")]
pub struct NoPayment;

/// Decides an input.
pub fn step(opening: &Opening<'_>, payment: Option<&Payment>, input: &Input) -> Result<Step, NoPayment> {
    use Input::{Charge, ChargeAnswered, RefundAnswered, RefuseCharge, RefuseUndo, Undo};
    use State::{Captured, Declined, InFlight, RefundRefused, Refunded, Refunding, Voided};

    let Some(payment) = payment else { return begin(opening, input) };
    let mut next = Draft { payment: payment.clone(), effects: Vec::new() };
    match (payment.state, input) {
        (InFlight, Charge { command_id, .. }) => next.payment.command_id = *command_id,
        (InFlight, RefuseCharge { .. }) => {} // it was asked before, and its outcome is the answer
        (_, Charge { command_id, .. } | RefuseCharge { command_id }) => next.answer_charge(*command_id),

        (InFlight, Undo { command_id, .. }) if !payment.charge_sent => next.void(*command_id),
        (InFlight | Refunding, Undo { command_id, .. }) => next.payment.undo_command_id = Some(*command_id),
        (Captured, Undo { command_id, .. }) => next.refund(Some(*command_id)),
        // The same undo hears the same; another one is an operator's retry.
        (RefundRefused, Undo { command_id, .. }) if payment.undo_command_id != Some(*command_id) => next.refund(Some(*command_id)),
        (Declined | Voided | Refunded | RefundRefused, Undo { command_id, .. } | RefuseUndo { command_id, .. }) => {
            next.answer_undo(*command_id);
        }
        (InFlight, RefuseUndo { .. }) if payment.undo_command_id.is_some() => {} // it was asked before, as above
        (Refunding, RefuseUndo { .. }) => {}
        (InFlight | Captured, RefuseUndo { command_id, .. }) => next.give_up_refund(*command_id),

        (InFlight, ChargeAnswered { known: Known::Succeeded { auth_code }, .. }) => next.captured(auth_code),
        (InFlight, ChargeAnswered { known: Known::Declined { reason }, .. }) => next.declined(reason),
        (Declined | Voided, ChargeAnswered { amount, currency, known: Known::Succeeded { auth_code } }) => {
            next.captured_late(*amount, currency, auth_code);
        }
        (_, ChargeAnswered { .. }) => {} // known already

        // Money that is back is back, even after a refusal.
        (Refunding | RefundRefused, RefundAnswered { known: Known::Succeeded { .. } }) => next.refunded(),
        (Refunding, RefundAnswered { known: Known::Declined { reason } }) => next.refund_refused(reason),
        (_, RefundAnswered { .. }) => {} // known already
    }
    Ok(Step { payment: Some(next.payment), effects: next.effects })
}

/// The first input of an order's payment.
fn begin(opening: &Opening<'_>, input: &Input) -> Result<Step, NoPayment> {
    match input {
        Input::Charge { command_id, amount, currency, token } => {
            let id = ids::derive(*command_id, "payment");
            let wrong = match (*amount > 0, Currency::parse(currency)) {
                (false, _) => Some("INVALID_AMOUNT"),
                (true, None) => Some("INVALID_CURRENCY"),
                (true, Some(_)) => None,
            };
            if let Some(reason) = wrong {
                // No row: there is no sum to keep, and the same command is refused the same way each time.
                let answer = Answer::Failed { reason: reason.to_owned() };
                let said = Said { command_id: Some(*command_id), payment_id: id, answer };
                return Ok(Step { payment: None, effects: vec![Effect::Say(said)] });
            }
            let mut payment = blank(opening, id, *command_id, State::InFlight);
            payment.amount = *amount;
            payment.currency.clone_from(currency);
            Ok(Step { payment: Some(payment), effects: vec![Effect::CallCharge { token: token.clone() }] })
        }
        // The mark that refuses the charge, should it still come.
        Input::Undo { command_id, undoes } => {
            let id = ids::derive(*undoes, "payment");
            let mut payment = blank(opening, id, *undoes, State::Voided);
            payment.undo_command_id = Some(*command_id);
            payment.decline_reason = VOIDED.to_owned();
            let said = Said { command_id: Some(*command_id), payment_id: id, answer: Answer::Voided };
            Ok(Step { payment: Some(payment), effects: vec![Effect::Say(said)] })
        }
        Input::RefuseCharge { command_id } => Ok(given_up::charge(opening, *command_id)),
        Input::RefuseUndo { command_id, undoes } => Ok(given_up::undo(*command_id, *undoes)),
        Input::ChargeAnswered { .. } | Input::RefundAnswered { .. } => Err(NoPayment),
    }
}

fn blank(opening: &Opening<'_>, id: Uuid, command_id: Uuid, state: State) -> Payment {
    Payment {
        id,
        order_id: opening.order_id,
        command_id,
        undo_command_id: None,
        state,
        provider: opening.provider.to_owned(),
        currency: String::new(),
        amount: 0,
        captured: 0,
        refunded: 0,
        refund_pending: 0,
        auth_code: String::new(),
        decline_reason: String::new(),
        refund_reason: String::new(),
        created_at: opening.at,
        // Its call is saved with it and sent after the commit.
        charge_sent: false,
    }
}

/// The next payment in the making.
struct Draft {
    payment: Payment,
    effects: Vec<Effect>,
}

impl Draft {
    fn say(&mut self, command_id: Option<Uuid>, answer: Answer) {
        self.effects.push(Effect::Say(Said { command_id, payment_id: self.payment.id, answer }));
    }

    /// What the charge command was told; a refund that came later does not change it.
    fn answer_charge(&mut self, command_id: Uuid) {
        let payment = &self.payment;
        let answer = if payment.decline_reason.is_empty() {
            Answer::Succeeded {
                amount: payment.captured,
                currency: payment.currency.clone(),
                provider: payment.provider.clone(),
                auth_code: payment.auth_code.clone(),
            }
        } else {
            Answer::Failed { reason: payment.decline_reason.clone() }
        };
        self.say(Some(command_id), answer);
    }

    /// What an undo is told when there is nothing left to wait for.
    fn answer_undo(&mut self, command_id: Uuid) {
        self.payment.undo_command_id = Some(command_id);
        self.say_undone();
    }

    fn say_undone(&mut self) {
        let payment = &self.payment;
        let answer = match payment.state {
            State::Refunded => {
                Answer::Refunded { refund_id: payment.refund_id(), amount: payment.refunded, currency: payment.currency.clone() }
            }
            State::RefundRefused => Answer::RefundFailed { refund_id: payment.refund_id(), reason: payment.refund_reason.clone() },
            State::InFlight | State::Captured | State::Declined | State::Voided | State::Refunding => Answer::Voided,
        };
        self.say(self.payment.undo_command_id, answer);
    }

    fn void(&mut self, command_id: Uuid) {
        self.effects.push(Effect::EndCall);
        self.payment.state = State::Voided;
        self.payment.decline_reason = VOIDED.to_owned();
        self.answer_undo(command_id);
    }

    fn declined(&mut self, reason: &str) {
        self.effects.push(Effect::EndCall);
        self.payment.state = State::Declined;
        self.payment.decline_reason = or(reason, "DECLINED");
        self.answer_charge(self.payment.command_id);
        if self.payment.undo_command_id.is_some() {
            self.say_undone();
        }
    }

    fn captured(&mut self, auth_code: &str) {
        self.take(auth_code);
        self.answer_charge(self.payment.command_id);
        if self.payment.undo_command_id.is_some() {
            self.refund(None);
        }
    }

    /// Money that moved although the charge counts as failed: it goes straight back. Nobody waits for it, so nothing is said yet.
    fn captured_late(&mut self, amount: i64, currency: &str, auth_code: &str) {
        self.payment.amount = amount;
        currency.clone_into(&mut self.payment.currency);
        self.take(auth_code);
        self.refund(None);
    }

    fn take(&mut self, auth_code: &str) {
        let payment = &mut self.payment;
        payment.state = State::Captured;
        payment.captured = payment.amount;
        auth_code.clone_into(&mut payment.auth_code);
        self.effects.push(Effect::EndCall);
        let (debit, credit) = (receivable(&self.payment), SALES.to_owned());
        self.transfer(ids::derive(self.payment.id, "capture"), debit, credit, self.payment.captured);
    }

    /// Reserves what remains and asks for it back.
    fn refund(&mut self, command_id: Option<Uuid>) {
        let payment = &mut self.payment;
        payment.undo_command_id = command_id.or(payment.undo_command_id);
        payment.state = State::Refunding;
        payment.refund_pending = payment.captured - payment.refunded;
        payment.refund_reason.clear();
        let (refund_id, amount) = (payment.refund_id(), payment.refund_pending);
        self.note_refund(amount, RefundState::InFlight);
        self.effects.push(Effect::CallRefund { refund_id, amount });
    }

    fn refunded(&mut self) {
        let amount = self.payment.captured - self.payment.refunded;
        self.payment.state = State::Refunded;
        self.payment.refunded += amount;
        self.payment.refund_pending = 0;
        self.payment.refund_reason.clear();
        self.effects.push(Effect::EndCall);
        self.note_refund(amount, RefundState::Succeeded);
        let (debit, credit) = (SALES.to_owned(), receivable(&self.payment));
        self.transfer(ids::derive(self.payment.refund_id(), "transfer"), debit, credit, amount);
        self.say_undone();
    }

    fn refund_refused(&mut self, reason: &str) {
        let amount = self.payment.refund_pending;
        self.payment.state = State::RefundRefused;
        self.payment.refund_pending = 0;
        self.payment.refund_reason = or(reason, "REFUND_REFUSED");
        self.effects.push(Effect::EndCall);
        self.note_refund(amount, RefundState::Refused);
        self.say_undone();
    }

    fn note_refund(&mut self, amount: i64, state: RefundState) {
        let payment = &self.payment;
        self.effects.push(Effect::Refund(Refund {
            id: payment.refund_id(),
            payment_id: payment.id,
            amount,
            currency: payment.currency.clone(),
            state,
            reason: payment.refund_reason.clone(),
        }));
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

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}
