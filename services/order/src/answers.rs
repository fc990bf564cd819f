//! What the order service says to the commands of a saga.

use contracts::order::v1 as proto;
use kit::news;
use messaging::News;

use crate::order::Order;

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
