//! What each command means to a payment, and what refuses one that a person gave up.

use std::convert::Infallible;

use contracts::{
    Message, ids,
    payment::v1::{AuthorizePayment, CapturePayment, ChargePayment, RefundCapture, RefundPayment},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Input;
use crate::payment::{self, Ask};

/// The order, and what is asked of its payment; or the field that is not what it must be.
type Read = Result<(Uuid, payment::Input), &'static str>;

/// `None` if payments don't listen to it.
pub(super) fn heard(message: Message, asked_at: OffsetDateTime) -> Option<Result<Input, Infallible>> {
    let read = match message {
        Message::ChargePayment(told) => charge(told),
        Message::AuthorizePayment(told) => authorize(told),
        Message::CapturePayment(told) => capture(&told),
        Message::RefundCapture(told) => refund(&told),
        Message::RefundPayment(told) => undo(&told),
        _ => return None,
    };
    Some(Ok(read.map_or_else(Input::Unreadable, |(order_id, input)| Input::Change { order_id, input, asked_at })))
}

/// `None` if it cannot be refused: it does not even say whom to answer.
pub(super) fn given_up(message: Message, asked_at: OffsetDateTime) -> Option<Input> {
    let Some(Ok(Input::Change { order_id, input, asked_at })) = heard(message, asked_at) else { return None };
    let input = match input {
        payment::Input::Charge(ask) | payment::Input::Authorize(ask) => {
            payment::Input::RefuseOpening { command_id: ask.command_id }
        }
        payment::Input::Capture { command_id } => payment::Input::RefuseCapture { command_id },
        payment::Input::Refund { command_id, refund_id, amount } => payment::Input::RefuseRefund { command_id, refund_id, amount },
        payment::Input::Undo { command_id, undoes } => payment::Input::RefuseUndo { command_id, undoes },
        _ => return None,
    };
    Some(Input::Change { order_id, input, asked_at })
}

fn charge(told: ChargePayment) -> Read {
    let ChargePayment { order_id, command_id, amount, currency, payment_token: token } = told;
    let command_id = id("command_id", &command_id)?;
    change(&order_id, payment::Input::Charge(Ask { command_id, amount, currency, token }))
}

fn authorize(told: AuthorizePayment) -> Read {
    let AuthorizePayment { order_id, command_id, amount, currency, payment_token: token } = told;
    let command_id = id("command_id", &command_id)?;
    change(&order_id, payment::Input::Authorize(Ask { command_id, amount, currency, token }))
}

fn capture(told: &CapturePayment) -> Read {
    change(&told.order_id, payment::Input::Capture { command_id: id("command_id", &told.command_id)? })
}

fn refund(told: &RefundCapture) -> Read {
    let (command_id, refund_id) = (id("command_id", &told.command_id)?, id("refund_id", &told.refund_id)?);
    change(&told.order_id, payment::Input::Refund { command_id, refund_id, amount: told.amount })
}

fn undo(told: &RefundPayment) -> Read {
    let (command_id, undoes) = (id("command_id", &told.command_id)?, id("undoes", &told.undoes)?);
    change(&told.order_id, payment::Input::Undo { command_id, undoes })
}

fn change(order_id: &str, input: payment::Input) -> Read {
    Ok((id("order_id", order_id)?, input))
}

fn id(field: &'static str, text: &str) -> Result<Uuid, &'static str> {
    ids::parse(text).map_err(|_| field)
}
