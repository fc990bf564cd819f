//! The gRPC door of notification: decode, one call or look, encode.

use contracts::{
    ids,
    notification::v1::{
        ListNotificationsRequest, ListNotificationsResponse, Notification, ResendNotificationRequest, ResendNotificationResponse,
        notification_service_server::{NotificationService, NotificationServiceServer},
    },
};
use messaging::Runner;
use sqlx::PgPool;
pub(crate) use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::{
    error::Refusal,
    events::{Input, Notifications},
    store::{self, Seen},
};

pub(crate) fn routes(runner: Runner<Notifications>, pool: PgPool) -> Routes {
    Routes::new(NotificationServiceServer::new(Door { runner, pool }))
}

struct Door {
    runner: Runner<Notifications>,
    pool: PgPool,
}

#[tonic::async_trait]
impl NotificationService for Door {
    async fn list_notifications(
        &self,
        request: Request<ListNotificationsRequest>,
    ) -> Result<Response<ListNotificationsResponse>, Status> {
        let ListNotificationsRequest { page_size, page_token, order_id } = request.into_inner();
        let page = kit::grpc::page(page_size, &page_token)?;
        let (before, limit) = (kit::grpc::number(&page)?.unwrap_or(i64::MAX), page.rows());
        let seen = match order_id.as_str() {
            "" => store::list(&self.pool, before, limit).await,
            id => store::list_of_order(&self.pool, kit::grpc::order_id(id)?, before, limit).await,
        };
        let mut seen = seen.map_err(kit::grpc::internal)?;
        let next_page_token = page.cut(&mut seen, |last| kit::grpc::number_token(last.no));
        let notifications = seen.into_iter().map(Notification::from).collect();
        Ok(Response::new(ListNotificationsResponse { notifications, next_page_token }))
    }

    async fn resend_notification(
        &self,
        request: Request<ResendNotificationRequest>,
    ) -> Result<Response<ResendNotificationResponse>, Status> {
        let trace = kit::grpc::trace_of(&request);
        let ResendNotificationRequest { notification_id } = request.into_inner();
        let malformed = |_| {
            let description = "must be a UUID such as 0190d3a8-7c1e-7000-8000-000000000001";
            kit::grpc::invalid("notification_id", description, "MALFORMED_ID")
        };
        let id = ids::parse(&notification_id).map_err(malformed)?;
        let known = store::one(&self.pool, id).await.map_err(kit::grpc::internal)?.ok_or(Refusal::Unknown(id))?;
        // What is said of an order goes by its key.
        let (key, input) = (known.order_id.to_string(), Input::Resend { notification: id });
        self.runner.call(kit::fresh_id(), key, trace, input).await.map_err(kit::grpc::call_error)?;
        let seen = store::one(&self.pool, id).await.map_err(kit::grpc::internal)?;
        Ok(Response::new(ResendNotificationResponse { notification: seen.map(Notification::from) }))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(id) => kit::grpc::not_found("notification", &id.to_string()),
        }
    }
}

impl From<Seen> for Notification {
    fn from(seen: Seen) -> Self {
        Self {
            notification_id: seen.id.to_string(),
            order_id: seen.order_id.to_string(),
            customer_id: seen.customer_id,
            kind: seen.kind,
            channel: seen.channel,
            text: seen.text,
            sent_at: Some(contracts::time::to_proto(seen.sent_at)),
            attempts: i32::try_from(seen.attempts).unwrap_or(i32::MAX),
        }
    }
}
