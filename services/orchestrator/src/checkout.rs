//! The saga of an order: its definition, what each message means to it, and what each command says.

use bytes::Bytes;
use contracts::{
    Message,
    common::v1::Line,
    ids::{self, NotAnId},
    inventory::v1::{ReleaseStock, ReserveStock},
    order::v1::{CloseOrder, ConfirmOrder, OrderItem},
    payment::v1::{ChargePayment, RefundPayment},
    shipping::v1::{CancelShipment, ScheduleShipment},
};
use saga::{Command, Definition, step};
use uuid::Uuid;

use crate::{error::Refusal, instance::Instance};

pub const CHECKOUT: Definition = Definition {
    name: "checkout",
    version: 1,
    steps: &[
        step("charge", "ChargePayment").undo("RefundPayment"),
        step("reserve", "ReserveStock").undo("ReleaseStock"),
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("confirm", "ConfirmOrder").pivot(), // the order row decides: confirmed, or cancelled a moment before
    ],
    close: "CloseOrder",
    resends_max: 10,
};
const _: () = assert!(CHECKOUT.check().is_ok());

const CHARGE: usize = 0;
const RESERVE: usize = 1;
const SCHEDULE: usize = 2;
const CONFIRM: usize = 3;

/// Every version a running saga may still be of.
static DEFINITIONS: [Definition; 1] = [CHECKOUT];

pub(crate) fn definition(name: &str, version: i32) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|known| known.name == name && known.version == version)
}

/// The newest version, for a saga that begins.
pub(crate) fn newest(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().filter(|known| known.name == name).max_by_key(|known| known.version)
}

/// What a message means to the saga of its order.
#[derive(Debug)]
pub(crate) enum Means {
    Created {
        definition: String,
        /// The message as it came.
        payload: Bytes,
    },
    CancelRequested {
        reason: String,
    },
    Answered(Answered),
}

#[derive(Debug)]
pub(crate) struct Answered {
    /// The command it answers, in some attempt: the id says which.
    pub(crate) like: Command,
    pub(crate) command_id: String,
    pub(crate) said: Said,
    /// What the order's timeline is told. The order's own answers are there already.
    pub(crate) fact: Option<Fact>,
}

#[derive(Debug)]
pub(crate) enum Said {
    Done,
    Refused { reason: String },
}

#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) event: &'static str,
    pub(crate) detail: String,
    pub(crate) keeps: Keeps,
}

/// What a later command or the customer needs of an answer.
#[derive(Debug)]
pub(crate) enum Keeps {
    Nothing,
    Payment(String),
    Reservation(String),
    Shipment(String),
    Refunded(i64),
}

/// What the message means, and to which order; `None` if sagas don't listen to it.
pub(crate) fn hear(message: Message, payload: &Bytes) -> Option<Result<(Uuid, Means), NotAnId>> {
    let (order_id, means) = match message {
        Message::OrderCreated(told) => (told.order_id, Means::Created { definition: told.definition, payload: payload.clone() }),
        Message::OrderCancelRequested(told) => (told.order_id, Means::CancelRequested { reason: told.reason }),
        Message::OrderCompleted(told) => (told.order_id, answer(doing(CONFIRM), told.command_id, Said::Done, None)),
        Message::OrderConfirmRefused(told) => {
            let said = Said::Refused { reason: "CONFIRM_REFUSED".to_owned() };
            (told.order_id, answer(doing(CONFIRM), told.command_id, said, None))
        }
        Message::OrderFailed(told) => (told.order_id, answer(Command::Close, told.command_id, Said::Done, None)),
        Message::OrderCancelled(told) => (told.order_id, answer(Command::Close, told.command_id, Said::Done, None)),

        Message::PaymentSucceeded(told) => {
            let fact = fact("PaymentSucceeded", money(told.amount, &told.currency), Keeps::Payment(told.payment_id));
            (told.order_id, answer(doing(CHARGE), told.command_id, Said::Done, fact))
        }
        Message::PaymentFailed(told) => {
            let fact = fact("PaymentFailed", told.reason.clone(), Keeps::Nothing);
            (told.order_id, answer(doing(CHARGE), told.command_id, Said::Refused { reason: told.reason }, fact))
        }
        Message::PaymentRefunded(told) => {
            let fact = fact("PaymentRefunded", money(told.amount, &told.currency), Keeps::Refunded(told.amount));
            (told.order_id, answer(undoing(CHARGE), told.command_id, Said::Done, fact))
        }
        Message::PaymentVoided(told) => {
            let fact = fact("PaymentVoided", String::new(), Keeps::Nothing);
            (told.order_id, answer(undoing(CHARGE), told.command_id, Said::Done, fact))
        }
        Message::PaymentRefundFailed(told) => {
            let fact = fact("PaymentRefundFailed", told.reason.clone(), Keeps::Nothing);
            (told.order_id, answer(undoing(CHARGE), told.command_id, Said::Refused { reason: told.reason }, fact))
        }

        Message::InventoryReserved(told) => {
            let fact = fact("InventoryReserved", told.reservation_id.clone(), Keeps::Reservation(told.reservation_id));
            (told.order_id, answer(doing(RESERVE), told.command_id, Said::Done, fact))
        }
        Message::InventoryFailed(told) => {
            let fact = fact("InventoryFailed", with_sku(&told.reason, &told.sku), Keeps::Nothing);
            (told.order_id, answer(doing(RESERVE), told.command_id, Said::Refused { reason: told.reason }, fact))
        }
        Message::InventoryReleased(told) => {
            let fact = fact("InventoryReleased", told.reservation_id, Keeps::Nothing);
            (told.order_id, answer(undoing(RESERVE), told.command_id, Said::Done, fact))
        }

        Message::ShippingScheduled(told) => {
            let fact = fact("ShippingScheduled", told.shipment_id.clone(), Keeps::Shipment(told.shipment_id));
            (told.order_id, answer(doing(SCHEDULE), told.command_id, Said::Done, fact))
        }
        Message::ShippingFailed(told) => {
            let fact = fact("ShippingFailed", told.reason.clone(), Keeps::Nothing);
            (told.order_id, answer(doing(SCHEDULE), told.command_id, Said::Refused { reason: told.reason }, fact))
        }
        Message::ShippingCancelled(told) => {
            let fact = fact("ShippingCancelled", told.shipment_id, Keeps::Nothing);
            (told.order_id, answer(undoing(SCHEDULE), told.command_id, Said::Done, fact))
        }
        _ => return None,
    };
    Some(ids::parse(&order_id).map(|order_id| (order_id, means)))
}

/// The message that carries a command, without the facts of a turn.
pub(crate) fn tell(saga: &Instance, command: Command) -> Result<Message, Refusal> {
    let id_of = |command: Command| command.id(saga.definition, saga.saga_id).to_string();
    let (order_id, command_id) = (saga.order_id.to_string(), id_of(command));
    Ok(match command {
        Command::Do { step: CHARGE, .. } => {
            let created = saga.created()?;
            let (amount, currency, payment_token) = (created.total, created.currency, created.payment_token);
            ChargePayment { order_id, command_id, amount, currency, payment_token }.into()
        }
        Command::Do { step: RESERVE, .. } => ReserveStock { order_id, command_id, lines: lines(saga.created()?.items) }.into(),
        Command::Do { step: SCHEDULE, .. } => {
            let created = saga.created()?;
            ScheduleShipment { order_id, customer_id: created.customer_id, command_id, lines: lines(created.items) }.into()
        }
        Command::Do { step: CONFIRM, .. } => {
            let (reservation_id, shipment_id) = (saga.kept.reservation_id.clone(), saga.kept.shipment_id.clone());
            ConfirmOrder { order_id, command_id, reservation_id, shipment_id, facts: Vec::new() }.into()
        }
        Command::Undo { step: CHARGE, .. } => RefundPayment { order_id, command_id, undoes: id_of(doing(CHARGE)) }.into(),
        Command::Undo { step: RESERVE, .. } => ReleaseStock { order_id, command_id, undoes: id_of(doing(RESERVE)) }.into(),
        Command::Undo { step: SCHEDULE, .. } => {
            let customer_id = saga.created()?.customer_id;
            CancelShipment { order_id, customer_id, command_id, undoes: id_of(doing(SCHEDULE)) }.into()
        }
        Command::Close => {
            let (reason, refunded_amount) = (saga.reason.clone(), saga.kept.refunded_amount);
            CloseOrder { order_id, command_id, reason, refunded_amount, facts: Vec::new() }.into()
        }
        Command::Do { .. } | Command::Undo { .. } => return Err(Refusal::UnknownDefinition),
    })
}

const fn doing(step: usize) -> Command {
    Command::Do { step, attempt: Command::FIRST_ATTEMPT }
}

const fn undoing(step: usize) -> Command {
    Command::Undo { step, attempt: Command::FIRST_ATTEMPT }
}

fn answer(like: Command, command_id: String, said: Said, fact: Option<Fact>) -> Means {
    Means::Answered(Answered { like, command_id, said, fact })
}

fn fact(event: &'static str, detail: String, keeps: Keeps) -> Option<Fact> {
    Some(Fact { event, detail, keeps })
}

fn lines(items: Vec<OrderItem>) -> Vec<Line> {
    items.into_iter().map(|item| Line { sku: item.sku, quantity: item.quantity }).collect()
}

/// For people: how many minor units make one is the currency's business.
fn money(amount: i64, currency: &str) -> String {
    format!("{amount} {currency} (minor units)")
}

fn with_sku(reason: &str, sku: &str) -> String {
    if sku.is_empty() { reason.to_owned() } else { format!("{reason}: {sku}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_the_steps_are_those_of_the_definition() {
        for (step, name) in [(CHARGE, "charge"), (RESERVE, "reserve"), (SCHEDULE, "schedule"), (CONFIRM, "confirm")] {
            assert_eq!(CHECKOUT.steps[step].name, name);
        }
        assert_eq!((CHECKOUT.steps.len(), CHECKOUT.pivot()), (4, Some(CONFIRM)));
    }

    #[test]
    fn a_definition_is_found_by_name_and_version() {
        assert_eq!(definition("checkout", 1), Some(&CHECKOUT));
        assert_eq!(definition("checkout", 2), None);
        assert_eq!(newest("checkout"), Some(&CHECKOUT));
        assert_eq!(newest("checkin"), None);
    }

    #[test]
    fn the_model_of_this_very_definition_settles() {
        let model = saga::explore::Model::new(Definition { resends_max: 2, ..CHECKOUT });
        saga::explore::explore(&model).unwrap_or_else(|counterexample| panic!("{counterexample}"));
    }
}
