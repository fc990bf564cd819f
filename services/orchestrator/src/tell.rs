//! What each command says. Pure.

use contracts::{
    Message,
    common::v1::Line,
    inventory::v1::{ReleaseStock, ReserveStock},
    order::v1::{CloseOrder, ConfirmOrder, OrderItem, RefuseRefund, SettleRefund},
    payment::v1::{AuthorizePayment, CapturePayment, ChargePayment, RefundCapture, RefundPayment},
    shipping::v1::{CancelShipment, ScheduleShipment},
};
use saga::Command;

use crate::{error::Refusal, instance::Instance};

/// The message that carries a command, without the facts of a turn.
pub(crate) fn tell(saga: &Instance, command: Command) -> Result<Message, Refusal> {
    let id_of = |command: Command| command.id(saga.definition, saga.saga_id).to_string();
    let (order_id, command_id) = (saga.order_id.to_string(), id_of(command));
    // What an undo takes back is named by its first attempt: the one that every participant has met, or will.
    let undoes = match command {
        Command::Undo { step, .. } => id_of(Command::Do { step, attempt: Command::FIRST_ATTEMPT }),
        Command::Do { .. } | Command::Close { .. } => String::new(),
    };
    Ok(match command.name(saga.definition) {
        "ChargePayment" => {
            let created = saga.created()?;
            let (amount, currency, payment_token) = (created.total, created.currency, created.payment_token);
            ChargePayment { order_id, command_id, amount, currency, payment_token }.into()
        }
        "AuthorizePayment" => {
            let created = saga.created()?;
            let (amount, currency, payment_token) = (created.total, created.currency, created.payment_token);
            AuthorizePayment { order_id, command_id, amount, currency, payment_token }.into()
        }
        "CapturePayment" => CapturePayment { order_id, command_id }.into(),
        "RefundPayment" => RefundPayment { order_id, command_id, undoes }.into(),

        "ReserveStock" => ReserveStock { order_id, command_id, lines: lines(saga.created()?.items) }.into(),
        "ReleaseStock" => ReleaseStock { order_id, command_id, undoes }.into(),

        "ScheduleShipment" => {
            let created = saga.created()?;
            ScheduleShipment { order_id, customer_id: created.customer_id, command_id, lines: lines(created.items) }.into()
        }
        "CancelShipment" => {
            let customer_id = saga.created()?.customer_id;
            CancelShipment { order_id, customer_id, command_id, undoes }.into()
        }

        "ConfirmOrder" => {
            let (reservation_id, shipment_id) = (saga.kept.reservation_id.clone(), saga.kept.shipment_id.clone());
            ConfirmOrder { order_id, command_id, reservation_id, shipment_id, facts: Vec::new() }.into()
        }
        "CloseOrder" => {
            let (reason, refunded_amount) = (saga.reason.clone(), saga.kept.refunded_amount);
            CloseOrder { order_id, command_id, reason, refunded_amount, facts: Vec::new() }.into()
        }

        "RefundCapture" => {
            let asked = saga.refund_requested()?;
            RefundCapture { order_id, command_id, refund_id: asked.refund_id, amount: asked.amount }.into()
        }
        "SettleRefund" => SettleRefund { order_id, command_id, refund_id: saga.refund_requested()?.refund_id }.into(),
        "RefuseRefund" => {
            let (refund_id, reason) = (saga.refund_requested()?.refund_id, saga.reason.clone());
            RefuseRefund { order_id, command_id, refund_id, reason }.into()
        }
        _ => return Err(Refusal::UnknownDefinition),
    })
}

fn lines(items: Vec<OrderItem>) -> Vec<Line> {
    items.into_iter().map(|item| Line { sku: item.sku, quantity: item.quantity }).collect()
}
