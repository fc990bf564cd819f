//! The message that carries an answer.

use contracts::payment::v1::{
    PaymentAuthorized, PaymentCaptured, PaymentFailed, PaymentRefundFailed, PaymentRefunded, PaymentSucceeded, PaymentUnknown,
    PaymentVoided,
};
use messaging::News;
use uuid::Uuid;

use crate::payment::{Answer, Said};

pub(super) fn of(order: Uuid, said: Said) -> News {
    let order_id = order.to_string();
    let command_id = said.command_id.map(|id| id.to_string()).unwrap_or_default();
    let payment_id = said.payment_id.to_string();
    match said.answer {
        Answer::Succeeded { amount, currency, provider, auth_code } => {
            kit::news(order, PaymentSucceeded { order_id, command_id, payment_id, amount, currency, provider, auth_code })
        }
        Answer::Authorized { amount, currency, provider, auth_code } => {
            kit::news(order, PaymentAuthorized { order_id, command_id, payment_id, amount, currency, provider, auth_code })
        }
        Answer::Captured { amount, currency } => {
            kit::news(order, PaymentCaptured { order_id, command_id, payment_id, amount, currency })
        }
        Answer::Failed { reason } => kit::news(order, PaymentFailed { order_id, command_id, payment_id, reason }),
        Answer::Voided => kit::news(order, PaymentVoided { order_id, command_id, payment_id }),
        Answer::Refunded { refund_id, amount, currency } => {
            let refund_id = refund_id.to_string();
            kit::news(order, PaymentRefunded { order_id, command_id, payment_id, refund_id, amount, currency })
        }
        Answer::RefundFailed { refund_id, reason } => {
            let refund_id = refund_id.to_string();
            kit::news(order, PaymentRefundFailed { order_id, command_id, payment_id, refund_id, reason })
        }
        Answer::Unknown { reason } => kit::news(order, PaymentUnknown { order_id, command_id, payment_id, reason }),
    }
}
