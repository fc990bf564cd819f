//! Takes orders and keeps how they stand. The order row is the saga's only arbiter between confirm and cancel.

mod catalogue;
mod draft;
mod error;
mod events;
mod grpc;
mod lookup;
pub mod order;
mod pending;
mod refund;
mod refunding;
mod said;
mod store;
mod watch;

use std::sync::Arc;

use contracts::{order::v1::order_service_server::OrderServiceServer, topic};
use kit::Room;
use messaging::Subscription;
use tonic::service::Routes;

pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/order");

/// Starts the service.
pub async fn start(room: Room) -> anyhow::Result<Routes> {
    let watchers = Arc::new(watch::Watchers::default());
    let orders = events::Orders::new(watchers.clone(), room.settings.checkout);
    let subscription = Subscription { group: "order", topics: &[topic::ORDER_COMMANDS, topic::PRODUCT_EVENTS] };
    let runner = room.run(orders, subscription).await?;
    let lookup = lookup::start(room.pool.clone(), &room.tasks);
    let service = grpc::Service { runner, lookup, watchers, pool: room.pool, tasks: room.tasks };
    Ok(Routes::new(OrderServiceServer::new(service)))
}
