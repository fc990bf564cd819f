//! The payment service: one payment an order, its refunds and the ledger, and the provider behind a bounded dispatcher.
//!
//! The runner decides ([`payment`] is the state machine), the dispatcher calls the provider outside of every transaction, and what
//! the provider says enters the runner like any other input.

mod dispatcher;
mod error;
mod events;
mod grpc;
pub mod payment;
pub mod provider;
mod results;
pub mod sandbox;
mod store;

use std::sync::Arc;

use contracts::{payment::v1::payment_service_server::PaymentServiceServer, topic};
use messaging::Subscription;
use tonic::service::Routes;

use crate::{
    dispatcher::{Dispatcher, Handover, Limits},
    events::Payments,
    provider::Provider,
};

/// The tables of the service's own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/payment");

const SUBSCRIPTION: Subscription = Subscription { group: "payment", topics: &[topic::PAYMENT_COMMANDS] };

/// Starts the service: the runner with its readers, the dispatcher of provider calls, and the gRPC routes.
pub async fn start<P: Provider>(room: kit::Room, provider: Arc<P>) -> anyhow::Result<Routes> {
    let limits = Limits::default();
    let (handover, handed) = Handover::new(limits.handed_max);
    let payments = Payments::new(provider.name(), handover, limits.lease_ms);
    let runner = room.run(payments, SUBSCRIPTION).await?;
    let dispatcher = Dispatcher::new(room.pool.clone(), provider, runner, handed, limits);
    room.tasks.spawn("payment dispatcher", dispatcher.run(room.tasks.clone()));
    Ok(Routes::new(PaymentServiceServer::new(grpc::Service::new(room.pool))))
}
