//! The gRPC door of shipping: decode, one call or look, encode.

use contracts::shipping::v1::{
    GetShipmentRequest, GetShipmentResponse, ListShipmentsRequest, ListShipmentsResponse, MarkDeliveredRequest,
    MarkDeliveredResponse, MarkDispatchedRequest, MarkDispatchedResponse, Shipment, ShipmentState,
    shipping_service_server::{ShippingService, ShippingServiceServer},
};
use messaging::{Runner, Trace};
use sqlx::PgPool;
pub(crate) use tonic::service::Routes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    error::Refusal,
    events::{Input, Shipping},
    shipment::{Mark, State},
    store::{self, Seen},
};

const TRACKING_NUMBER_CHARS_MAX: usize = 64;

pub(crate) fn routes(runner: Runner<Shipping>, pool: PgPool) -> Routes {
    Routes::new(ShippingServiceServer::new(Door { runner, pool }))
}

struct Door {
    runner: Runner<Shipping>,
    pool: PgPool,
}

impl Door {
    /// Says it of the order's shipment, and looks how that stands then. The id is fresh: said again it changes nothing.
    async fn mark(&self, order: Uuid, trace: Trace, mark: Mark) -> Result<Option<Shipment>, Status> {
        let input = Input::Marked { order, mark };
        let called = self.runner.call(kit::fresh_id(), order.to_string(), trace, input).await;
        let Some(id) = called.map_err(kit::grpc::call_error)? else { return Ok(None) };
        let seen = store::one(&self.pool, order, id).await.map_err(kit::grpc::internal)?;
        Ok(seen.map(Shipment::from))
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ShippingService for Door {
    async fn get_shipment(&self, request: Request<GetShipmentRequest>) -> Reply<GetShipmentResponse> {
        let GetShipmentRequest { order_id } = request.into_inner();
        let order = kit::grpc::order_id(&order_id)?;
        match store::of_order(&self.pool, order).await.map_err(kit::grpc::internal)? {
            Some(seen) => Ok(Response::new(GetShipmentResponse { shipment: Some(seen.into()) })),
            None => Err(kit::grpc::not_found("shipment of order", &order_id)),
        }
    }

    async fn list_shipments(&self, request: Request<ListShipmentsRequest>) -> Reply<ListShipmentsResponse> {
        let ListShipmentsRequest { page_size, page_token } = request.into_inner();
        let page = kit::grpc::page(page_size, &page_token)?;
        let before = kit::grpc::number(&page)?.unwrap_or(i64::MAX);
        let mut seen = store::list(&self.pool, before, page.rows()).await.map_err(kit::grpc::internal)?;
        let next_page_token = page.cut(&mut seen, |last| kit::grpc::number_token(last.no));
        let shipments = seen.into_iter().map(Shipment::from).collect();
        Ok(Response::new(ListShipmentsResponse { shipments, next_page_token }))
    }

    async fn mark_dispatched(&self, request: Request<MarkDispatchedRequest>) -> Reply<MarkDispatchedResponse> {
        let trace = kit::grpc::trace_of(&request);
        let MarkDispatchedRequest { order_id, tracking_number } = request.into_inner();
        let order = kit::grpc::order_id(&order_id)?;
        kit::grpc::text("tracking_number", &tracking_number, 0..=TRACKING_NUMBER_CHARS_MAX)?;
        let shipment = self.mark(order, trace, Mark::Dispatched { tracking_number }).await?;
        Ok(Response::new(MarkDispatchedResponse { shipment }))
    }

    async fn mark_delivered(&self, request: Request<MarkDeliveredRequest>) -> Reply<MarkDeliveredResponse> {
        let trace = kit::grpc::trace_of(&request);
        let order = kit::grpc::order_id(&request.get_ref().order_id)?;
        let shipment = self.mark(order, trace, Mark::Delivered).await?;
        Ok(Response::new(MarkDeliveredResponse { shipment }))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Unknown(order) => kit::grpc::not_found("shipment of order", &order.to_string()),
            Refusal::NotReleased { .. } => kit::grpc::refused("SHIPMENT_NOT_RELEASED", &refusal),
            Refusal::NotDispatched => kit::grpc::refused("SHIPMENT_NOT_DISPATCHED", &refusal),
            Refusal::DispatchedOtherwise { .. } => kit::grpc::refused("SHIPMENT_DISPATCHED", &refusal),
            // Said to records only.
            Refusal::NotYet | Refusal::Undone | Refusal::Released => Self::internal(refusal.to_string()),
        }
    }
}

impl From<Seen> for Shipment {
    fn from(seen: Seen) -> Self {
        Self {
            shipment_id: seen.id.to_string(),
            order_id: seen.order.to_string(),
            customer_id: seen.customer,
            state: ShipmentState::from(&seen.state).into(),
            lines: seen.lines,
            created_at: Some(contracts::time::to_proto(seen.created_at)),
            tracking_number: seen.tracking_number,
        }
    }
}

impl From<&State> for ShipmentState {
    fn from(state: &State) -> Self {
        match state {
            State::Held => Self::Held,
            State::Released => Self::Released,
            State::Dispatched => Self::Dispatched,
            State::Delivered => Self::Delivered,
            State::Cancelled => Self::Cancelled,
            State::Refused(_) => Self::Refused,
            State::Voided => Self::Voided,
        }
    }
}
