//! Payments, calls and differences as callers see them.

use contracts::{payment::v1 as proto, time::to_proto};
use proto::{get_trial_balance_response as balance, reconcile_response as reconciled};

use super::store::OpenCall;
use crate::{
    ledger::Account,
    payment::{Payment, State},
    reconcile::{Difference, DifferenceKind, Report},
    store::RefundRow,
};

impl From<Payment> for proto::Payment {
    fn from(payment: Payment) -> Self {
        let state = match payment.state {
            State::InFlight => proto::PaymentState::InFlight,
            State::Authorized => proto::PaymentState::Authorized,
            State::Capturing => proto::PaymentState::Capturing,
            State::Captured => proto::PaymentState::Captured,
            State::Declined => proto::PaymentState::Declined,
            State::Voiding => proto::PaymentState::Voiding,
            State::Voided => proto::PaymentState::Voided,
            State::Refunding => proto::PaymentState::Refunding,
            State::Refunded => proto::PaymentState::Refunded,
            State::RefundRefused => proto::PaymentState::RefundRefused,
        };
        let authorized = payment.authorized();
        let reasons = [payment.refund_reason, payment.capture_reason, payment.decline_reason];
        Self {
            payment_id: payment.id.to_string(),
            order_id: payment.order_id.to_string(),
            state: state.into(),
            currency: payment.currency,
            amount: payment.amount,
            captured: payment.captured,
            refunded: payment.refunded,
            auth_code: payment.auth_code,
            reason: reasons.into_iter().find(|reason| !reason.is_empty()).unwrap_or_default(),
            created_at: Some(to_proto(payment.created_at)),
            authorized,
            refund_pending: payment.refund_pending,
            refunds: Vec::new(),
            needs_attention: false,
        }
    }
}

impl From<RefundRow> for proto::Refund {
    fn from(RefundRow { refund, created_at }: RefundRow) -> Self {
        Self {
            refund_id: refund.id.to_string(),
            amount: refund.amount,
            currency: refund.currency,
            state: refund.state.name().to_owned(),
            reason: refund.reason,
            created_at: Some(to_proto(created_at)),
        }
    }
}

impl From<OpenCall> for proto::ProviderCall {
    fn from(call: OpenCall) -> Self {
        Self {
            key: call.key.to_string(),
            order_id: call.order_id.to_string(),
            kind: call.kind.name().to_owned(),
            amount: call.amount,
            currency: call.currency,
            attempts: call.attempts,
            first_sent_at: call.first_sent_at.map(to_proto),
            due_at: call.due_at.map(to_proto),
            attention: call.attention,
        }
    }
}

impl From<Account> for balance::Account {
    fn from(Account { account, currency, debit, credit }: Account) -> Self {
        Self { account, currency, debit, credit }
    }
}

impl From<Report> for proto::ReconcileResponse {
    fn from(Report { entries, open, differences, truncated }: Report) -> Self {
        Self { entries, open, differences: differences.into_iter().map(Into::into).collect(), truncated }
    }
}

impl From<Difference> for reconciled::Difference {
    fn from(Difference { key, order_id, kind, ours, theirs }: Difference) -> Self {
        let kind = match kind {
            DifferenceKind::MissingHere => "MISSING_HERE",
            DifferenceKind::MissingThere => "MISSING_THERE",
            DifferenceKind::Amount => "AMOUNT",
            DifferenceKind::Outcome => "OUTCOME",
        };
        let order_id = order_id.map(|id| id.to_string()).unwrap_or_default();
        Self { key, order_id, kind: kind.to_owned(), ours, theirs }
    }
}
