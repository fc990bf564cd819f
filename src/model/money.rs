//! The payment of the order with its refunds, the call that is open, and what the provider really did.

use std::collections::{BTreeMap, BTreeSet};

use payment::payment::{
    self as payments, Answer, Call, Effect, Input, Kind, Known, Made, Opening, Payment, Refund, Said, State, Undecided, VOIDED,
};
use saga::Command;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Model, SAGA,
    messages::{Message, Move, What},
    rows::{Heard, Participant},
};

pub(super) const AMOUNT: i64 = 1_000;
const CURRENCY: &str = "USD";

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Money {
    payment: Option<Payment>,
    refunds: BTreeMap<Uuid, Refund>,
    open: Option<Open>,
    /// Keys of what the provider did, each once.
    done: BTreeSet<Uuid>,
    /// At the provider, in minor units.
    set_aside: i64,
    pub(super) taken: i64,
    pub(super) given: i64,
    /// By our ledger.
    sales: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    kind: Kind,
    key: Uuid,
    amount: i64,
    sent: bool,
    withdrawn: bool,
    /// It was said that nobody knows.
    unknown: bool,
}

impl Open {
    fn made(&self) -> Made {
        Made { kind: self.kind, key: self.key, amount: self.amount, currency: CURRENCY.to_owned() }
    }
}

impl Money {
    pub(super) fn state(&self) -> Option<State> {
        self.payment.as_ref().map(|payment| payment.state)
    }

    /// The provider did what is open, and nobody heard of it.
    pub(super) fn is_lost(&self) -> bool {
        self.open.as_ref().is_some_and(|open| self.done.contains(&open.key))
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.unknown)
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.withdrawn)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.payment.as_ref().is_some_and(Payment::needs_attention)
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.open.is_none() && self.set_aside == 0 && self.taken == self.given
    }

    pub(super) fn is_taken(&self) -> bool {
        self.state() == Some(State::Captured)
            && self.open.is_none()
            && self.set_aside == 0
            && (self.taken, self.given) == (AMOUNT, 0)
    }

    /// What we have written down is what the ledger says, and what was done unless its answer is still to come.
    pub(super) fn is_balanced(&self) -> bool {
        let (captured, refunded) = self.payment.as_ref().map_or((0, 0), |payment| (payment.captured, payment.refunded));
        self.sales == captured - refunded && (self.is_lost() || (captured, refunded) == (self.taken, self.given))
    }

    fn command(&self, model: &Model, command: Command) -> Heard<Self> {
        let command_id = model.id(command);
        let ask = || payments::Ask { command_id, amount: AMOUNT, currency: CURRENCY.to_owned(), token: String::new() };
        let input = match (command.name(&model.definition), model.undone_by(command)) {
            (_, Some(undoes)) => Input::Undo { command_id, undoes },
            ("AuthorizePayment", None) => Input::Authorize(ask()),
            ("CapturePayment", None) => Input::Capture { command_id },
            (_, None) => Input::Charge(ask()),
        };
        self.clone().decided(model, &input)
    }

    /// What becomes of the call that is open.
    fn moved(&self, model: &Model, by: Move) -> Option<Heard<Self>> {
        let open = self.open.clone()?;
        let out = open.sent && !open.withdrawn;
        let with = |open| Self { open: Some(open), ..self.clone() };
        let answered = |money: Self, known| Some(money.decided(model, &Input::Answered { call: open.made(), known }));
        match by {
            Move::Send if !open.sent && !open.withdrawn => Some(Heard::says(with(Open { sent: true, ..open }), [])),
            Move::Yes if out => answered(self.with_effect(&open), Known::Succeeded { auth_code: "A1".to_owned() }),
            Move::Lost if out => Some(Heard::says(self.with_effect(&open), [])),
            Move::No if out && !self.is_lost() => answered(self.clone(), Known::Declined { reason: "NO".to_owned() }),
            Move::Absent if open.withdrawn => answered(self.clone(), Known::Declined { reason: VOIDED.to_owned() }),
            Move::Unknown if out && !open.unknown => {
                let call = open.made();
                Some(with(Open { unknown: true, ..open }).decided(model, &Input::Unknown { call }))
            }
            _ => None,
        }
    }

    fn with_effect(&self, open: &Open) -> Self {
        let mut after = self.clone();
        if after.done.insert(open.key) {
            match open.kind {
                Kind::Charge => after.taken += open.amount,
                Kind::Authorize => after.set_aside += open.amount,
                Kind::Capture => {
                    after.set_aside -= open.amount;
                    after.taken += open.amount;
                }
                Kind::Void => after.set_aside -= open.amount,
                Kind::Refund => after.given += open.amount,
            }
        }
        after
    }

    fn decided(mut self, model: &Model, input: &Input) -> Heard<Self> {
        let opening = Opening { order_id: SAGA, provider: "provider", at: OffsetDateTime::UNIX_EPOCH };
        // As the handler loads it.
        if let Some(payment) = &mut self.payment {
            let open = self.open.as_ref().filter(|open| payment.open_key() == Some(open.key));
            payment.sent = open.is_none_or(|open| open.sent);
        }
        let refund = input.refund_id().and_then(|id| self.refunds.get(&id));
        let decided = (model.rules.payment)(&opening, self.payment.as_ref(), refund, input);
        let effects = match decided {
            Ok(step) => {
                self.payment = step.payment;
                step.effects
            }
            // It waits, and is tried again.
            Err(Undecided::NotKnownYet) => Vec::new(),
            Err(_) => return Heard::says(self, []).with_flaw(Some("payment is never told what cannot be")),
        };
        let mut heard = Heard::says(self, []);
        for effect in effects {
            heard = heard.carried_out(model, effect);
        }
        if let Some(payment) = &mut heard.after.payment {
            payment.sent = true;
        }
        heard
    }
}

impl Heard<Money> {
    fn carried_out(mut self, model: &Model, effect: Effect) -> Self {
        let money = &mut self.after;
        match effect {
            Effect::Say(Said { command_id, answer, .. }) => {
                let command = command_id.and_then(|id| model.named(id));
                self.says.extend(command.map(|command| said(&answer, command)));
            }
            Effect::Call(Call { kind, key, amount, .. }) => {
                let open = Open { kind, key, amount, sent: false, withdrawn: false, unknown: false };
                if money.open.replace(open).is_some() {
                    return self.with_flaw(Some("a payment has one open call at a time"));
                }
            }
            Effect::EndCall { key } => money.open = money.open.take().filter(|open| open.key != key),
            Effect::Withdraw { key } => {
                if let Some(open) = money.open.as_mut().filter(|open| open.key == key) {
                    open.withdrawn = true;
                }
            }
            Effect::Refund(refund) => drop(money.refunds.insert(refund.id, refund)),
            Effect::Transfer(transfer) if transfer.credit == "sales" => money.sales += transfer.amount,
            Effect::Transfer(transfer) => money.sales -= transfer.amount,
            // A person asks the provider what became of it: an answer may come all the same.
            Effect::SetAside { .. } => {}
        }
        self
    }
}

fn said(answer: &Answer, command: Command) -> Message {
    match answer {
        Answer::Succeeded { .. } | Answer::Authorized { .. } | Answer::Captured { .. } => Message::Done(command),
        Answer::Voided | Answer::Refunded { .. } => Message::Done(command),
        Answer::Failed { .. } | Answer::RefundFailed { .. } => Message::Refused(command),
        Answer::Unknown { .. } => Message::Unknown(command),
    }
}

impl Participant for Money {
    fn hear(&self, model: &Model, what: What) -> Heard<Self> {
        match what {
            What::Message(Message::Ask(command)) => self.command(model, command),
            What::Move(by) => self.moved(model, by).unwrap_or_else(|| Heard::says(self.clone(), [])),
            What::Message(_) => Heard::says(self.clone(), []),
        }
    }

    fn told(&self) -> String {
        let state = self.state().map_or("nothing", State::name);
        let call = self.open.as_ref().map_or(String::new(), |open| format!(", {} is open", open.kind.name()));
        format!("{state}{call}, taken {}, given {}", self.taken, self.given)
    }
}
