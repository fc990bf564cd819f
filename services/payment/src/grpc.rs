//! Questions about payments.

use contracts::{payment::v1 as proto, time::to_proto};
use proto::{
    GetPaymentRequest, GetPaymentResponse, ListPaymentsRequest, ListPaymentsResponse, payment_service_server::PaymentService,
};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::{
    payment::{Payment, State},
    store,
};

pub(crate) struct Service {
    pool: PgPool,
}

impl Service {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[tonic::async_trait]
impl PaymentService for Service {
    async fn get_payment(&self, request: Request<GetPaymentRequest>) -> Result<Response<GetPaymentResponse>, Status> {
        let order_id = kit::grpc::order_id(&request.get_ref().order_id)?;
        let payment = store::payment_of(&self.pool, order_id).await.map_err(kit::grpc::internal)?;
        let payment = payment.ok_or_else(|| kit::grpc::not_found("payment of order", &order_id.to_string()))?;
        Ok(Response::new(GetPaymentResponse { payment: Some(payment.into()) }))
    }

    async fn list_payments(&self, request: Request<ListPaymentsRequest>) -> Result<Response<ListPaymentsResponse>, Status> {
        let asked = request.into_inner();
        let page = kit::grpc::page(asked.page_size, &asked.page_token)?;
        let (at, id) = kit::grpc::place(&page)?;
        // One more than the page tells whether there is another.
        let mut payments = store::payments_before(&self.pool, at, id, page.size + 1).await.map_err(kit::grpc::internal)?;
        let size = usize::try_from(page.size).unwrap_or_default();
        let more = payments.len() > size;
        payments.truncate(size);
        let next_page_token = match payments.last() {
            Some(last) if more => kit::grpc::place_token(last.created_at, last.id),
            _ => String::new(),
        };
        Ok(Response::new(ListPaymentsResponse { payments: payments.into_iter().map(Into::into).collect(), next_page_token }))
    }
}

impl From<Payment> for proto::Payment {
    fn from(payment: Payment) -> Self {
        let state = match payment.state {
            State::InFlight => proto::PaymentState::InFlight,
            State::Captured => proto::PaymentState::Captured,
            State::Declined => proto::PaymentState::Declined,
            State::Voided => proto::PaymentState::Voided,
            State::Refunding => proto::PaymentState::Refunding,
            State::Refunded => proto::PaymentState::Refunded,
            State::RefundRefused => proto::PaymentState::RefundRefused,
        };
        Self {
            payment_id: payment.id.to_string(),
            order_id: payment.order_id.to_string(),
            state: state.into(),
            currency: payment.currency,
            amount: payment.amount,
            captured: payment.captured,
            refunded: payment.refunded,
            auth_code: payment.auth_code,
            reason: if payment.refund_reason.is_empty() { payment.decline_reason } else { payment.refund_reason },
            created_at: Some(to_proto(payment.created_at)),
        }
    }
}
