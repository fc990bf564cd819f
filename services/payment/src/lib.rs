//! The payment service: one payment an order, its refunds and the ledger, and the provider behind a bounded dispatcher.
//!
//! The runner decides ([`payment`] is the state machine), the dispatcher calls the provider outside of every transaction, and what
//! the provider says enters the runner like any other input.

mod breaker;
mod dispatcher;
mod error;
mod events;
mod grpc;
mod ledger;
pub mod payment;
pub mod provider;
mod reconcile;
mod results;
pub mod sandbox;
mod store;
pub mod webhook;

use std::sync::Arc;

use contracts::{payment::v1::payment_service_server::PaymentServiceServer, topic};
use messaging::Subscription;
use tonic::service::Routes;

use crate::{
    dispatcher::{Dispatcher, Handover, Limits},
    events::Payments,
    provider::Provider,
    webhook::{Secrets, Webhooks},
};

/// The tables of the service's own database.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/payment");

const SUBSCRIPTION: Subscription = Subscription { group: "payment", topics: &[topic::PAYMENT_COMMANDS] };

/// Starts the service: the runner with its readers, the dispatcher of provider calls, and the gRPC routes. The provider signs its
/// webhooks with one of the secrets.
pub async fn start<P: Provider>(room: kit::Room, provider: Arc<P>, secrets: Option<Secrets>) -> anyhow::Result<Routes> {
    let limits = Limits::of(&room.settings.provider_limits);
    let (handover, handed) = Handover::new(limits.handed_max);
    let payments = Payments::new(provider.name(), handover, limits.lease_ms);
    let runner = room.run(payments, SUBSCRIPTION).await?;
    let dispatcher = Dispatcher::new(room.pool.clone(), Arc::clone(&provider), runner, handed, limits);
    room.tasks.spawn("payment dispatcher", dispatcher.run(room.tasks.clone()));
    room.tasks.spawn("payment webhooks", webhook::age(room.pool.clone(), room.tasks.clone()));
    let webhooks = Webhooks::new(room.pool.clone(), secrets);
    Ok(Routes::new(PaymentServiceServer::new(grpc::Service::new(room.pool, provider, webhooks))))
}
