//! Questions about payments, what operators do with calls to the provider, and the provider's webhooks.

mod shown;
mod store;

use std::{ops::RangeInclusive, sync::Arc};

use contracts::{
    ids,
    payment::v1::{
        self as proto, GetPaymentRequest, GetPaymentResponse, GetTrialBalanceRequest, GetTrialBalanceResponse, ListPaymentsRequest,
        ListPaymentsResponse, ListProviderCallsRequest, ListProviderCallsResponse, ReceiveWebhookRequest, ReceiveWebhookResponse,
        ReconcileRequest, ReconcileResponse, RetryProviderCallRequest, RetryProviderCallResponse,
        payment_service_server::PaymentService,
    },
    time::from_proto,
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use self::store as calls;
use crate::{
    ledger,
    provider::Provider,
    reconcile,
    store::{payment_of, payments_before, refunds_of},
    webhook::{Refused, Unbelieved, Webhooks},
};

/// Refunds shown with a payment.
const REFUNDS_MAX: i64 = 1_000;
const WHO_CHARS_MAX: usize = 256;
const REASON_CHARS_MAX: usize = 256;
const DIFFERENCES: usize = 100;
const DIFFERENCES_MAX: i32 = 1_000;
/// Those that a database of ours can have.
const YEARS: RangeInclusive<i32> = 1970..=9999;

pub(crate) struct Service<P> {
    pool: PgPool,
    provider: Arc<P>,
    webhooks: Webhooks,
}

impl<P> Service<P> {
    pub(crate) fn new(pool: PgPool, provider: Arc<P>, webhooks: Webhooks) -> Self {
        Self { pool, provider, webhooks }
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl<P: Provider> PaymentService for Service<P> {
    async fn get_payment(&self, request: Request<GetPaymentRequest>) -> Reply<GetPaymentResponse> {
        let order_id = kit::grpc::order_id(&request.get_ref().order_id)?;
        let payment = payment_of(&self.pool, order_id).await.map_err(kit::grpc::internal)?;
        let payment = payment.ok_or_else(|| kit::grpc::not_found("payment of order", &order_id.to_string()))?;
        let refunds = refunds_of(&self.pool, payment.id, REFUNDS_MAX).await.map_err(kit::grpc::internal)?;
        let attention = calls::needing_attention(&self.pool, &[order_id]).await.map_err(kit::grpc::internal)?;
        let payment = proto::Payment {
            refunds: refunds.into_iter().map(Into::into).collect(),
            needs_attention: payment.needs_attention() || !attention.is_empty(),
            ..payment.into()
        };
        Ok(Response::new(GetPaymentResponse { payment: Some(payment) }))
    }

    async fn list_payments(&self, request: Request<ListPaymentsRequest>) -> Reply<ListPaymentsResponse> {
        let asked = request.into_inner();
        let page = kit::grpc::page(asked.page_size, &asked.page_token)?;
        let (at, id) = kit::grpc::place(&page)?;
        let mut payments = payments_before(&self.pool, at, id, page.rows()).await.map_err(kit::grpc::internal)?;
        let next_page_token = page.cut(&mut payments, |last| kit::grpc::place_token(last.created_at, last.id));
        let order_ids: Vec<Uuid> = payments.iter().map(|payment| payment.order_id).collect();
        let attention = calls::needing_attention(&self.pool, &order_ids).await.map_err(kit::grpc::internal)?;
        let shown = payments.into_iter().map(|payment| {
            let needs_attention = payment.needs_attention() || attention.contains(&payment.order_id);
            proto::Payment { needs_attention, ..payment.into() }
        });
        Ok(Response::new(ListPaymentsResponse { payments: shown.collect(), next_page_token }))
    }

    async fn list_provider_calls(&self, request: Request<ListProviderCallsRequest>) -> Reply<ListProviderCallsResponse> {
        let asked = request.into_inner();
        let page = kit::grpc::page(asked.page_size, &asked.page_token)?;
        let after = match page.after {
            None => (OffsetDateTime::UNIX_EPOCH, Uuid::nil()),
            Some(_) => kit::grpc::place(&page)?,
        };
        let open = calls::open_calls(&self.pool, after, asked.needs_attention, page.rows()).await;
        let mut open = open.map_err(kit::grpc::internal)?;
        let next_page_token = page.cut(&mut open, |last| kit::grpc::place_token(last.place, last.key));
        Ok(Response::new(ListProviderCallsResponse { calls: open.into_iter().map(Into::into).collect(), next_page_token }))
    }

    async fn retry_provider_call(&self, request: Request<RetryProviderCallRequest>) -> Reply<RetryProviderCallResponse> {
        let RetryProviderCallRequest { key: asked, who, reason, never_made } = request.into_inner();
        let key = ids::parse(&asked).map_err(|_| kit::grpc::invalid("key", "must be the UUID of an open call", "MALFORMED_ID"))?;
        kit::grpc::text("who", &who, 1..=WHO_CHARS_MAX)?;
        kit::grpc::text("reason", &reason, 1..=REASON_CHARS_MAX)?;
        let retry = calls::Retry { key, who: &who, reason: &reason, never_made };
        if let Some(call) = calls::retry(&self.pool, retry).await.map_err(kit::grpc::internal)? {
            let order_id = call.order_id;
            tracing::info!(r#type = "CALL_RETRIED", orderId = %order_id, %key, who, reason, neverMade = never_made, "a call is taken up again");
            return Ok(Response::new(RetryProviderCallResponse { call: Some(call.into()) }));
        }
        match calls::attention_of(&self.pool, key).await.map_err(kit::grpc::internal)? {
            Some(why) if never_made && !why.is_empty() => {
                let text = format!("the call {key} does not wait because the provider may have forgotten it, but: {why}");
                Err(kit::grpc::refused("NOT_FORGOTTEN", text))
            }
            Some(_) => Err(kit::grpc::refused("NOT_WAITING", format!("the call {key} does not wait for a person"))),
            None => Err(kit::grpc::not_found("open call with key", &asked)),
        }
    }

    async fn get_trial_balance(&self, _: Request<GetTrialBalanceRequest>) -> Reply<GetTrialBalanceResponse> {
        let moved = ledger::store::moved(&self.pool).await.map_err(kit::grpc::internal)?;
        let accounts = ledger::trial_balance(moved).ok_or_else(|| kit::grpc::refused("OVERFLOW", "a sum does not fit"))?;
        Ok(Response::new(GetTrialBalanceResponse { accounts: accounts.into_iter().map(Into::into).collect() }))
    }

    async fn reconcile(&self, request: Request<ReconcileRequest>) -> Reply<ReconcileResponse> {
        let asked = request.into_inner();
        let differences_max = match asked.differences_max {
            0 => DIFFERENCES,
            n @ 1..=DIFFERENCES_MAX => usize::try_from(n).unwrap_or(DIFFERENCES),
            _ => return Err(kit::grpc::invalid("differences_max", "must be 1 to 1000, or 0 for 100", "BAD_DIFFERENCES_MAX")),
        };
        let read = |since| from_proto(&since).filter(|since| YEARS.contains(&since.year()));
        let bad = || kit::grpc::invalid("since", "must be a time from 1970 to 9999", "BAD_TIME");
        let since = asked.since.map(|since| read(since).ok_or_else(bad)).transpose()?;
        let report =
            reconcile::compare(&self.pool, &*self.provider, since, differences_max).await.map_err(|error| match error {
                reconcile::Error::Database(error) => kit::grpc::internal(error),
                reconcile::Error::Provider(error) => kit::grpc::unavailable("PROVIDER_AWAY", format!("the provider: {error}")),
            })?;
        Ok(Response::new(report.into()))
    }

    async fn receive_webhook(&self, request: Request<ReceiveWebhookRequest>) -> Reply<ReceiveWebhookResponse> {
        let ReceiveWebhookRequest { body, signature } = request.into_inner();
        let now_s = OffsetDateTime::now_utc().unix_timestamp();
        match self.webhooks.receive(&body, &signature, now_s).await {
            Ok(_) => Ok(Response::new(ReceiveWebhookResponse {})),
            Err(Refused::Unbelieved(why @ Unbelieved::Signature)) => Err(kit::grpc::unauthenticated("BAD_SIGNATURE", why)),
            Err(Refused::Unbelieved(why @ Unbelieved::Time)) => {
                Err(kit::grpc::invalid("signature", &why.to_string(), "SIGNATURE_TOO_OLD"))
            }
            Err(Refused::Malformed { field, problem }) => Err(kit::grpc::invalid(field, problem, "MALFORMED_WEBHOOK")),
            Err(why @ Refused::UnderWay) => Err(kit::grpc::unavailable("UNDER_WAY", why)),
            Err(Refused::Database(error)) => Err(kit::grpc::internal(error)),
        }
    }
}
