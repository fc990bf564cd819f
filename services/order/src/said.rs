//! What the order service says of an order.

use contracts::order::v1 as proto;
use kit::news;
use messaging::News;

use crate::{
    draft::Draft,
    order::{Line, Order},
    refund::{Refund, State},
};

/// Which definition settles a refund.
const REFUND_DEFINITION: &str = "refund";

pub(crate) fn item(line: &Line) -> proto::OrderItem {
    proto::OrderItem { sku: line.sku.clone(), quantity: line.quantity, unit_price: Some(line.unit_price) }
}

pub(crate) fn created(order: &Order, draft: &Draft, lines: &[Line], definition: &str) -> News {
    news(
        order.id,
        proto::OrderCreated {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            currency: order.currency.clone(),
            total: order.total,
            items: lines.iter().map(item).collect(),
            payment_token: draft.payment_token.clone(),
            definition: definition.to_owned(),
        },
    )
}

pub(crate) fn cancel_requested(order: &Order) -> News {
    news(
        order.id,
        proto::OrderCancelRequested {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            reason: order.reason.clone(),
        },
    )
}

pub(crate) fn completed(order: &Order, command_id: &str, reservation_id: &str, shipment_id: &str) -> News {
    news(
        order.id,
        proto::OrderCompleted {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            currency: order.currency.clone(),
            total: order.total,
            reservation_id: reservation_id.to_owned(),
            shipment_id: shipment_id.to_owned(),
        },
    )
}

pub(crate) fn confirm_refused(order: &Order, command_id: &str) -> News {
    let status = crate::grpc::status(order.status);
    news(
        order.id,
        proto::OrderConfirmRefused {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            status: status.into(),
        },
    )
}

pub(crate) fn failed(order: &Order, command_id: &str) -> News {
    news(
        order.id,
        proto::OrderFailed {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            reason: order.reason.clone(),
            refunded_amount: order.refunded_amount,
            currency: order.currency.clone(),
        },
    )
}

pub(crate) fn cancelled(order: &Order, command_id: &str) -> News {
    news(
        order.id,
        proto::OrderCancelled {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            reason: order.reason.clone(),
            refunded_amount: order.refunded_amount,
            currency: order.currency.clone(),
        },
    )
}

pub(crate) fn refund_requested(order: &Order, refund: &Refund) -> News {
    news(
        order.id,
        proto::OrderRefundRequested {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            refund_id: refund.id.to_string(),
            amount: refund.amount,
            currency: order.currency.clone(),
            reason: refund.reason.clone(),
            definition: REFUND_DEFINITION.to_owned(),
        },
    )
}

/// What became of a refund, from its row: the same command is always answered the same. `None` while it is under way.
pub(crate) fn refund_closed(order: &Order, refund: &Refund, command_id: &str) -> Option<News> {
    let (order_id, customer_id) = (order.id.to_string(), order.customer_id.clone());
    let (command_id, refund_id, amount) = (command_id.to_owned(), refund.id.to_string(), refund.amount);
    let currency = order.currency.clone();
    match &refund.state {
        State::Pending => None,
        State::Refunded { in_all } => {
            let refunded_amount = *in_all;
            Some(news(
                order.id,
                proto::OrderRefunded { order_id, customer_id, command_id, refund_id, amount, currency, refunded_amount },
            ))
        }
        State::Refused { reason } => {
            let reason = reason.clone();
            Some(news(
                order.id,
                proto::OrderRefundRefused { order_id, customer_id, command_id, refund_id, amount, currency, reason },
            ))
        }
    }
}
