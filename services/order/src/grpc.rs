//! The gRPC side: decode, one call, encode.

use std::{sync::Arc, time::Duration};

use contracts::{
    order::v1::{self as proto, order_service_server::OrderService},
    time::to_proto,
};
use kit::grpc::{
    already_exists, call_error, internal, invalid, not_found, order_id, overloaded, page, place, place_token, refused,
    refused_field, text, trace_of,
};
use messaging::{Runner, Tasks, Trace};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status as Code};
use uuid::Uuid;

use crate::{
    draft::{Draft, Invalid, PriceChanged, REASON_CHARS_MAX},
    error::Refusal,
    events::{Answer, Input, Orders},
    lookup::{Failed, Lookup},
    order::{Entry, Status},
    refund::{Ask, NoRefund},
    said::item,
    store::{self, Filter, Shown},
    watch::Watchers,
};

/// How often a watcher looks by itself: another process may have changed the order.
const WATCH_POLL_MS: u64 = 1_000;
/// When to look again for an order while too many look.
const LOOKUP_RETRY_MS: u64 = 100;

pub(crate) struct Service {
    pub(crate) runner: Runner<Orders>,
    pub(crate) lookup: Lookup,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) pool: PgPool,
    pub(crate) tasks: Tasks,
}

impl Service {
    async fn call(&self, id: Uuid, order_id: Uuid, trace: Trace, input: Input) -> Result<Answer, Code> {
        self.runner.call(id, order_id.to_string(), trace, input).await.map_err(call_error)
    }

    async fn shown(&self, id: Uuid) -> Result<Shown, Code> {
        read(&self.lookup, id).await
    }
}

async fn read(lookup: &Lookup, id: Uuid) -> Result<Shown, Code> {
    match lookup.order(id).await {
        Ok(Some(shown)) => Ok(shown),
        Ok(None) => Err(not_found("order", &id.to_string())),
        Err(Failed::Busy) => Err(overloaded(Duration::from_millis(LOOKUP_RETRY_MS))),
        Err(Failed::Database(error)) => Err(internal(error.as_ref())),
    }
}

#[tonic::async_trait]
impl OrderService for Service {
    async fn create_order(
        &self,
        request: Request<proto::CreateOrderRequest>,
    ) -> Result<Response<proto::CreateOrderResponse>, Code> {
        let trace = trace_of(&request);
        let draft = Draft::check(request.into_inner(), kit::fresh_id).map_err(Refusal::Invalid)?;
        let id = draft.id;
        let input = Input::Create(Box::new(draft));
        let answer = self.runner.admit(id, id.to_string(), trace, input).await.map_err(call_error)?;
        let mut response = Response::new(proto::CreateOrderResponse {
            order_id: answer.order_id.to_string(),
            status: status(answer.status).into(),
        });
        tell_replay(&mut response, answer.replayed);
        Ok(response)
    }

    async fn get_order(&self, request: Request<proto::GetOrderRequest>) -> Result<Response<proto::GetOrderResponse>, Code> {
        let id = order_id(&request.get_ref().order_id)?;
        let shown = self.shown(id).await?;
        Ok(Response::new(proto::GetOrderResponse { order: Some(order(&shown)) }))
    }

    async fn list_orders(&self, request: Request<proto::ListOrdersRequest>) -> Result<Response<proto::ListOrdersResponse>, Code> {
        let request = request.into_inner();
        let page = page(request.page_size, &request.page_token)?;
        text("customer_id", &request.customer_id, 0..=128)?;
        let filter = Filter {
            customer_id: Some(request.customer_id.as_str()).filter(|id| !id.is_empty()),
            status: wanted_status(request.status)?,
            before: place(&page)?,
        };
        let mut shown = store::list(&self.pool, &filter, page.rows()).await.map_err(internal)?;
        let next_page_token = page.cut(&mut shown, |last| place_token(last.order.created_at, last.order.id));
        Ok(Response::new(proto::ListOrdersResponse { orders: shown.iter().map(order).collect(), next_page_token }))
    }

    async fn cancel_order(
        &self,
        request: Request<proto::CancelOrderRequest>,
    ) -> Result<Response<proto::CancelOrderResponse>, Code> {
        let trace = trace_of(&request);
        let request = request.into_inner();
        let id = order_id(&request.order_id)?;
        text("reason", &request.reason, 0..=REASON_CHARS_MAX)?;
        let answer = self.call(kit::fresh_id(), id, trace, Input::Cancel { order_id: id, reason: request.reason }).await?;
        Ok(Response::new(proto::CancelOrderResponse {
            order_id: answer.order_id.to_string(),
            status: status(answer.status).into(),
        }))
    }

    async fn refund_order(
        &self,
        request: Request<proto::RefundOrderRequest>,
    ) -> Result<Response<proto::RefundOrderResponse>, Code> {
        let trace = trace_of(&request);
        let order_id = order_id(&request.get_ref().order_id)?;
        let ask = Ask::check(order_id, request.into_inner(), kit::fresh_id).map_err(Refusal::Invalid)?;
        // New work, unlike a cancel: a saga begins with it.
        let admit = |id| self.runner.admit(id, order_id.to_string(), trace.clone(), Input::Refund(ask.clone()));
        let mut answer = admit(ask.id).await.map_err(call_error)?;
        if let Some(call) = answer.say_again {
            answer = admit(call).await.map_err(call_error)?;
        }
        let (refund_id, amount, currency) = answer.refund.unwrap_or_default();
        let (order_id, refund_id) = (order_id.to_string(), refund_id.to_string());
        let mut response = Response::new(proto::RefundOrderResponse { order_id, refund_id, amount, currency });
        tell_replay(&mut response, answer.replayed);
        Ok(response)
    }

    type WatchOrderStream = ReceiverStream<Result<proto::WatchOrderResponse, Code>>;

    async fn watch_order(&self, request: Request<proto::WatchOrderRequest>) -> Result<Response<Self::WatchOrderStream>, Code> {
        let request = request.into_inner();
        let id = order_id(&request.order_id)?;
        // Watch before looking: what changes in between is then seen twice, never missed.
        let changes = self.watchers.watch(id);
        let shown = match self.shown(id).await {
            Ok(shown) => shown,
            Err(error) => {
                drop(changes);
                self.watchers.leave(id);
                return Err(error);
            }
        };
        let (sender, receiver) = mpsc::channel(4);
        let (lookup, watchers, tasks) = (self.lookup.clone(), self.watchers.clone(), self.tasks.clone());
        self.tasks.spawn("watch", async move {
            let watch = Watch { changes, lookup, sender, final_only: request.final_only };
            tokio::select! {
                () = watch.run(shown) => {}
                () = tasks.stopping() => {}
            }
            watchers.leave(id);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The same request was answered before.
fn tell_replay<T>(response: &mut Response<T>, replayed: bool) {
    if replayed {
        response.metadata_mut().insert("idempotent-replayed", tonic::metadata::MetadataValue::from_static("true"));
    }
}

struct Watch {
    changes: mpsc::Receiver<(crate::order::Order, Vec<Entry>)>,
    lookup: Lookup,
    sender: mpsc::Sender<Result<proto::WatchOrderResponse, Code>>,
    final_only: bool,
}

impl Watch {
    /// Tells the order as it is and whenever it has changed, until it is final or the caller is gone.
    async fn run(mut self, mut shown: Shown) {
        let mut told = 0;
        loop {
            let is_final = shown.order.status.is_final();
            if shown.order.version > told && (is_final || !self.final_only) {
                let response = proto::WatchOrderResponse { order: Some(order(&shown)) };
                if self.sender.send(Ok(response)).await.is_err() {
                    return;
                }
                told = shown.order.version;
            }
            if is_final {
                return;
            }
            let change = tokio::select! {
                change = tokio::time::timeout(Duration::from_millis(WATCH_POLL_MS), self.changes.recv()) => change.ok().flatten(),
                () = self.sender.closed() => return,
            };
            match change {
                Some((order, _)) if order.version <= shown.order.version => {}
                Some((order, entries)) if shown.order.version + i32::try_from(entries.len()).unwrap_or(0) == order.version => {
                    shown.timeline.extend(entries);
                    shown.order = order;
                }
                // Nothing was heard, or something was missed: look.
                _ => match read(&self.lookup, shown.order.id).await {
                    Ok(now) => shown = now,
                    Err(error) => {
                        let _ = self.sender.send(Err(error)).await;
                        return;
                    }
                },
            }
        }
    }
}

fn wanted_status(value: i32) -> Result<Option<Status>, Code> {
    let name = match proto::OrderStatus::try_from(value) {
        Ok(proto::OrderStatus::Unspecified) => return Ok(None),
        Ok(status) => status.as_str_name().trim_start_matches("ORDER_STATUS_"),
        Err(_) => "",
    };
    Status::named(name).map(Some).ok_or_else(|| invalid("status", "is not a known status", "UNKNOWN_STATUS"))
}

pub(crate) fn status(status: Status) -> proto::OrderStatus {
    match status {
        Status::Pending => proto::OrderStatus::Pending,
        Status::Processing => proto::OrderStatus::Processing,
        Status::Paid => proto::OrderStatus::Paid,
        Status::Confirmed => proto::OrderStatus::Confirmed,
        Status::Compensating => proto::OrderStatus::Compensating,
        Status::Cancelling => proto::OrderStatus::Cancelling,
        Status::Failed => proto::OrderStatus::Failed,
        Status::Cancelled => proto::OrderStatus::Cancelled,
    }
}

fn order(shown: &Shown) -> proto::Order {
    let order = &shown.order;
    proto::Order {
        order_id: order.id.to_string(),
        customer_id: order.customer_id.clone(),
        status: status(order.status).into(),
        currency: order.currency.clone(),
        total: order.total,
        items: shown.lines.iter().map(item).collect(),
        timeline: shown
            .timeline
            .iter()
            .map(|entry| proto::TimelineEntry {
                at: Some(to_proto(entry.at)),
                event: entry.event.clone(),
                detail: entry.detail.clone(),
            })
            .collect(),
        reason: order.reason.clone(),
        refunded_amount: order.refunded_amount,
        refund_pending: order.refund_pending,
        needs_attention: order.needs_attention,
        created_at: Some(to_proto(order.created_at)),
        updated_at: Some(to_proto(order.updated_at)),
        version: order.version,
    }
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(id) => not_found("order", &id.to_string()),
            Refusal::UnknownRefund { refund, .. } => not_found("refund", &refund.to_string()),
            Refusal::NotCancellable(_) => refused("ORDER_NOT_CANCELLABLE", refusal),
            Refusal::NoRefund(NoRefund::NotConfirmed(_)) => refused("NOT_REFUNDABLE", refusal),
            Refusal::NoRefund(NoRefund::TooMany) => refused("TOO_MANY_REFUNDS", refusal),
            Refusal::NoRefund(NoRefund::Exceeds { left, ref currency, .. }) => {
                let facts = [("left", left.to_string()), ("currency", currency.clone())];
                refused_field("amount", &refusal.to_string(), "REFUND_EXCEEDS_TOTAL", facts)
            }
            Refusal::KeyReused => already_exists("IDEMPOTENCY_KEY_REUSED", refusal),
            Refusal::Invalid(Invalid { field, description, reason }) => invalid(&field, &description, reason),
            Refusal::PriceChanged(PriceChanged { field, sku, currency, asked, catalogue }) => {
                let description = format!("is {asked}, and the catalogue's price of {sku:?} in {currency} is {catalogue}");
                let facts = [
                    ("sku", sku),
                    ("currency", currency),
                    ("unit_price", asked.to_string()),
                    ("catalogue_price", catalogue.to_string()),
                ];
                refused_field(&field, &description, "PRICE_CHANGED", facts)
            }
        }
    }
}
