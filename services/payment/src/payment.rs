//! A payment: the money of one order, from the ask until the last of it is back. Pure.
//!
//! There is one payment an order, whatever number of commands ask for it. That is what makes an undo before its command, a command
//! asked again and an answer that comes late safe: all of them meet the same row.

use contracts::{ids, money::Currency};
use time::OffsetDateTime;
use uuid::Uuid;

mod capture;
mod draft;
mod effect;
mod given_up;
mod opening;
mod refund;
mod state;
#[cfg(test)]
mod tests;
mod undo;
mod unknown;

use draft::Draft;
pub use effect::{Answer, Aside, Call, Effect, Kind, Refund, RefundState, Said, Transfer};
pub use refund::{NOT_CAPTURED, REFUND_EXCEEDS_CAPTURE};
pub use state::State;

/// Why a charge, an authorization or a capture failed that was undone before it was made. Said of a call that was withdrawn, and of which
/// the provider knows nothing.
pub const VOIDED: &str = "VOIDED";
/// Why a capture is refused where nothing is set aside.
pub const NOT_AUTHORIZED: &str = "NOT_AUTHORIZED";

/// What the keys of an undo are derived by.
const VOID: &str = "void";
const REFUND: &str = "undo";

/// All amounts are minor units of `currency`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payment {
    /// Also the provider's key of the charge or the authorization.
    pub id: Uuid,
    pub order_id: Uuid,
    /// Whether the money is set aside first and taken later.
    pub two_step: bool,
    /// The command that is answered when the charge or the authorization is known: the latest that asked.
    pub command_id: Uuid,
    /// The same for the capture.
    pub capture_command_id: Option<Uuid>,
    /// The undo of the whole that is answered when it is known what became of the money: the latest that asked.
    pub undo_command_id: Option<Uuid>,
    /// The undo of the capture alone: the latest that asked.
    pub uncapture_command_id: Option<Uuid>,
    /// Undos that came before the latest. Each has had its try: heard again, it has no other.
    pub earlier_undos: Vec<Uuid>,
    /// The key of the undo that was asked for last, where the provider refused one before: of the void, and once money is taken of the
    /// refund.
    pub undo_key: Option<Uuid>,
    pub state: State,
    pub provider: String,
    /// Empty where an undo came before its charge: nobody has named a sum.
    pub currency: String,
    pub amount: i64,
    pub captured: i64,
    pub refunded: i64,
    /// Reserved by the refunds in flight, so that no two of them share the same money.
    pub refund_pending: i64,
    /// Refunds in flight of which PaymentUnknown was said.
    pub refunds_unknown: i32,
    pub auth_code: String,
    /// Why the charge or the authorization was answered with PaymentFailed; empty if it was not.
    pub decline_reason: String,
    /// Why the capture was answered with PaymentFailed; empty if it was not.
    pub capture_reason: String,
    /// Why the provider refuses to give the money back or free.
    pub refund_reason: String,
    /// PaymentUnknown was said of the call that is open.
    pub unknown_said: bool,
    pub created_at: OffsetDateTime,
    /// Whether the open call may have reached the provider. Known of a row the batch undoes, else true.
    pub sent: bool,
}

impl Payment {
    /// The refund of what remains, asked for by an undo. Also the provider's key of it: however often it is asked for, it is paid
    /// once. What the provider has refused is another refund when it is asked for again.
    #[must_use]
    pub fn refund_id(&self) -> Uuid {
        self.undo_key.filter(|_| self.captured > 0).unwrap_or_else(|| ids::derive(self.id, REFUND))
    }

    /// The provider's key of the capture.
    #[must_use]
    pub fn capture_key(&self) -> Uuid {
        ids::derive(self.id, "capture")
    }

    /// The provider's key of giving free what is set aside: of the latest try.
    #[must_use]
    pub fn void_key(&self) -> Uuid {
        self.undo_key.filter(|_| self.captured == 0).unwrap_or_else(|| ids::derive(self.id, VOID))
    }

    /// Whether it is the key of any try to give free what is set aside.
    #[must_use]
    pub fn was_void_key(&self, key: Uuid) -> bool {
        let mut causes = [Some(self.id), self.undo_command_id].into_iter().flatten().chain(self.earlier_undos.iter().copied());
        causes.any(|cause| ids::derive(cause, VOID) == key)
    }

    /// The provider refuses to give back what is to go back. Where no saga asked for it, or asks any more, nobody else says so.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        !self.refund_reason.is_empty()
    }

    /// Key of the call whose outcome the state waits for. Refunds have keys of their own.
    #[must_use]
    pub fn open_key(&self) -> Option<Uuid> {
        match self.state {
            State::InFlight => Some(self.id),
            State::Capturing => Some(self.capture_key()),
            State::Voiding => Some(self.void_key()),
            _ => None,
        }
    }

    /// Minor units set aside at the provider now.
    #[must_use]
    pub fn authorized(&self) -> i64 {
        match self.state {
            State::Authorized | State::Capturing | State::Voiding => self.amount,
            _ => 0,
        }
    }

    /// A capture was asked for while the authorization is not known: it is made as soon as that is.
    fn wants_capture(&self) -> bool {
        self.state == State::InFlight && self.capture_command_id.is_some() && self.capture_reason.is_empty()
    }

    /// What may still be given back.
    fn rest(&self) -> i64 {
        self.captured - self.refunded - self.refund_pending
    }
}

/// What the provider said for good. A third outcome, unknown, never comes here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Succeeded { auth_code: String },
    Declined { reason: String },
}

/// Money asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub command_id: Uuid,
    pub amount: i64,
    pub currency: String,
    pub token: String,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub kind: Kind,
    pub key: Uuid,
    pub amount: i64,
    pub currency: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Charge(Ask),
    Authorize(Ask),
    Capture {
        command_id: Uuid,
    },
    /// A part of what was taken, or all of it, goes back.
    Refund {
        command_id: Uuid,
        refund_id: Uuid,
        amount: i64,
    },
    Undo {
        command_id: Uuid,
        undoes: Uuid,
    },
    /// A person gave the Charge or the Authorize up.
    RefuseOpening {
        command_id: Uuid,
    },
    RefuseCapture {
        command_id: Uuid,
    },
    RefuseRefund {
        command_id: Uuid,
        refund_id: Uuid,
        amount: i64,
    },
    RefuseUndo {
        command_id: Uuid,
        undoes: Uuid,
    },
    /// What became of a call.
    Answered {
        call: Made,
        known: Known,
    },
    /// Nobody knows what became of a call, and it cannot be made again.
    Unknown {
        call: Made,
    },
    /// Nobody has known for so long that a person must; the provider is asked all the same.
    Overdue {
        call: Made,
    },
}

impl Input {
    /// The refund it is about, which a decision must see.
    #[must_use]
    pub fn refund_id(&self) -> Option<Uuid> {
        match self {
            Self::Refund { refund_id, .. } | Self::RefuseRefund { refund_id, .. } => Some(*refund_id),
            Self::Answered { call, .. } | Self::Unknown { call } | Self::Overdue { call } => {
                (call.kind == Kind::Refund).then_some(call.key)
            }
            _ => None,
        }
    }
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

/// Why an input is not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    #[error("there is no payment of this order")]
    NoPayment,
    #[error("there is no such refund")]
    NoRefund,
    /// As after a restore, where commands come again faster than the provider answers.
    #[error("it is not known yet whether there is money")]
    NotKnownYet,
}

/// Decides an input. `refund` is the row that the input names ([`Input::refund_id`]), if there is one.
pub fn step(opening: &Opening<'_>, payment: Option<&Payment>, refund: Option<&Refund>, input: &Input) -> Result<Step, Undecided> {
    let Some(payment) = payment else { return begin(opening, input) };
    let mut next = Draft { payment: payment.clone(), effects: Vec::new() };
    match input {
        Input::Charge(ask) | Input::Authorize(ask) => next.open_again(ask.command_id),
        Input::Capture { command_id } => next.capture(*command_id),
        Input::Refund { command_id, refund_id, amount } => next.refund(*command_id, *refund_id, *amount, refund)?,
        Input::Undo { command_id, undoes } => next.undo(*command_id, *undoes),
        Input::RefuseOpening { command_id } => next.refuse_opening(*command_id),
        Input::RefuseCapture { command_id } => next.refuse_capture(*command_id),
        Input::RefuseRefund { command_id, refund_id, amount } => next.refuse_refund(*command_id, *refund_id, *amount, refund),
        Input::RefuseUndo { command_id, undoes } => next.refuse_undo(*command_id, *undoes),
        Input::Answered { call, known } => next.answered(call, known, refund)?,
        Input::Unknown { call } => next.unknown(call, refund),
        Input::Overdue { call } => next.overdue(call, refund),
    }
    Ok(Step { payment: Some(next.payment), effects: next.effects })
}

/// The first input of an order's payment.
fn begin(opening: &Opening<'_>, input: &Input) -> Result<Step, Undecided> {
    match input {
        Input::Charge(ask) => Ok(ask_first(opening, ask, false)),
        Input::Authorize(ask) => Ok(ask_first(opening, ask, true)),
        // Refused without a row, they could be granted when they are asked for again.
        Input::Capture { .. } | Input::Refund { .. } => Err(Undecided::NotKnownYet),
        // The mark that refuses the charge, should it still come.
        Input::Undo { command_id, undoes } => {
            let id = ids::derive(*undoes, "payment");
            let mut payment = blank(opening, id, *undoes, State::Voided);
            payment.undo_command_id = Some(*command_id);
            payment.decline_reason = VOIDED.to_owned();
            let said = Said { command_id: Some(*command_id), payment_id: id, answer: Answer::Voided };
            Ok(Step { payment: Some(payment), effects: vec![Effect::Say(said)] })
        }
        Input::RefuseOpening { command_id } => Ok(given_up::opening(opening, *command_id)),
        Input::RefuseCapture { command_id } => Ok(given_up::capture(*command_id)),
        Input::RefuseRefund { command_id, refund_id, .. } => Ok(given_up::refund(*command_id, *refund_id)),
        Input::RefuseUndo { command_id, undoes } => Ok(given_up::undo(*command_id, *undoes)),
        Input::Answered { .. } | Input::Unknown { .. } | Input::Overdue { .. } => Err(Undecided::NoPayment),
    }
}

fn ask_first(opening: &Opening<'_>, ask: &Ask, two_step: bool) -> Step {
    let id = ids::derive(ask.command_id, "payment");
    let wrong = match (ask.amount > 0, Currency::parse(&ask.currency)) {
        (false, _) => Some("INVALID_AMOUNT"),
        (true, None) => Some("INVALID_CURRENCY"),
        (true, Some(_)) => None,
    };
    if let Some(reason) = wrong {
        // No row: there is no sum to keep, and the same command is refused the same way each time.
        return say_alone(ask.command_id, ask.command_id, failed(reason));
    }
    let mut payment = blank(opening, id, ask.command_id, State::InFlight);
    payment.two_step = two_step;
    payment.amount = ask.amount;
    payment.currency.clone_from(&ask.currency);
    let kind = if two_step { Kind::Authorize } else { Kind::Charge };
    let call = Call { kind, key: id, amount: ask.amount, token: ask.token.clone() };
    Step { payment: Some(payment), effects: vec![Effect::Call(call)] }
}

/// An answer where there is no row and none is left behind. `opens` is the command whose payment it would be.
fn say_alone(command_id: Uuid, opens: Uuid, answer: Answer) -> Step {
    let said = Said { command_id: Some(command_id), payment_id: ids::derive(opens, "payment"), answer };
    Step { payment: None, effects: vec![Effect::Say(said)] }
}

fn failed(reason: &str) -> Answer {
    Answer::Failed { reason: reason.to_owned() }
}

fn blank(opening: &Opening<'_>, id: Uuid, command_id: Uuid, state: State) -> Payment {
    Payment {
        id,
        order_id: opening.order_id,
        two_step: false,
        command_id,
        capture_command_id: None,
        undo_command_id: None,
        uncapture_command_id: None,
        earlier_undos: Vec::new(),
        undo_key: None,
        state,
        provider: opening.provider.to_owned(),
        currency: String::new(),
        amount: 0,
        captured: 0,
        refunded: 0,
        refund_pending: 0,
        refunds_unknown: 0,
        auth_code: String::new(),
        decline_reason: String::new(),
        capture_reason: String::new(),
        refund_reason: String::new(),
        unknown_said: false,
        created_at: opening.at,
        // Its call is saved with it and sent after the commit.
        sent: false,
    }
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}
