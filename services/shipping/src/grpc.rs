//! The gRPC door of shipping: decode, one look, encode.

use contracts::shipping::v1::{
    GetShipmentRequest, GetShipmentResponse, ListShipmentsRequest, ListShipmentsResponse, Shipment, ShipmentState,
    shipping_service_server::{ShippingService, ShippingServiceServer},
};
use sqlx::PgPool;
pub(crate) use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::{
    shipment::State,
    store::{self, Seen},
};

pub(crate) fn routes(pool: PgPool) -> Routes {
    Routes::new(ShippingServiceServer::new(Door { pool }))
}

struct Door {
    pool: PgPool,
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
        let before = match &page.after {
            Some(no) => {
                no.parse::<i64>().map_err(|_| kit::grpc::invalid("page_token", "is not a token of this list", "BAD_PAGE_TOKEN"))?
            }
            None => i64::MAX,
        };
        // One more than is shown tells whether there is another page.
        let seen = store::list(&self.pool, before, page.size + 1).await.map_err(kit::grpc::internal)?;
        let shown = usize::try_from(page.size).unwrap_or(usize::MAX);
        let next_page_token = match seen.len() > shown {
            true => seen.get(shown - 1).map(|last| kit::grpc::page_token(&last.no.to_string())).unwrap_or_default(),
            false => String::new(),
        };
        let shipments = seen.into_iter().take(shown).map(Shipment::from).collect();
        Ok(Response::new(ListShipmentsResponse { shipments, next_page_token }))
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
        }
    }
}

impl From<&State> for ShipmentState {
    fn from(state: &State) -> Self {
        match state {
            State::Held => Self::Held,
            State::Released => Self::Released,
            State::Cancelled => Self::Cancelled,
            State::Refused(_) => Self::Refused,
            State::Voided => Self::Voided,
        }
    }
}
