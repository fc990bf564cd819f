//! The load generator: keeps so many orders open until so many are settled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use contracts::order::v1::{
    CreateOrderRequest, OrderItem, OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

use crate::client::connect;

/// HTTP/2 connections the callers share.
const CONNECTIONS: usize = 4;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

pub(super) struct Run {
    pub(super) elapsed: Duration,
    pub(super) confirmed: u32,
    latencies: Vec<Duration>,
}

impl Run {
    /// Time from create to the outcome, in milliseconds to a hundredth.
    pub(super) fn percentile_ms(&self, p: f64) -> f64 {
        let rank = ((self.latencies.len() as f64 - 1.0) * p).round() as usize;
        self.latencies.get(rank).map_or(0.0, |latency| (latency.as_secs_f64() * 100_000.0).round() / 100.0)
    }
}

pub(super) async fn run(grpc: &str, skus: &[String], orders: u32, concurrency: u32) -> Result<Run> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS.min(concurrency as usize) {
        channels.push(connect(grpc).await?);
    }
    let skus: Arc<[String]> = skus.into();
    let next = Arc::new(AtomicU32::new(0));
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..concurrency.min(orders) {
        let (skus, next) = (skus.clone(), next.clone());
        let mut client = OrderServiceClient::new(channels[caller as usize % channels.len()].clone());
        callers.spawn(async move {
            let mut latencies = Vec::new();
            let mut confirmed = 0;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= orders {
                    return anyhow::Ok((latencies, confirmed));
                }
                let begun = Instant::now();
                let status = tokio::time::timeout(SETTLE_WITHIN, one(&mut client, &skus, n))
                    .await
                    .context("an order did not settle in time")??;
                latencies.push(begun.elapsed());
                confirmed += u32::from(status == OrderStatus::Confirmed);
            }
        });
    }
    let mut run = Run { elapsed: Duration::ZERO, confirmed: 0, latencies: Vec::with_capacity(orders as usize) };
    while let Some(caller) = callers.join_next().await {
        let (latencies, confirmed) = caller??;
        run.latencies.extend(latencies);
        run.confirmed += confirmed;
    }
    run.elapsed = start.elapsed();
    run.latencies.sort_unstable();
    Ok(run)
}

/// Places one order and waits for its outcome. A caller that is told to wait waits.
async fn one(client: &mut OrderServiceClient<Channel>, skus: &[String], n: u32) -> Result<OrderStatus> {
    let request = CreateOrderRequest {
        idempotency_key: String::new(),
        customer_id: format!("bench-{}", n % 1_000),
        currency: "USD".into(),
        items: vec![OrderItem { sku: skus[n as usize % skus.len()].clone(), quantity: 1, unit_price: Some(1_000) }],
        payment_token: String::new(),
    };
    let order_id = loop {
        match client.create_order(request.clone()).await {
            Ok(response) => break response.into_inner().order_id,
            Err(status) if status.code() == Code::ResourceExhausted => tokio::time::sleep(BUSY_PAUSE).await,
            Err(status) => return Err(status.into()),
        }
    };
    let mut outcome = client.watch_order(WatchOrderRequest { order_id, final_only: true }).await?.into_inner();
    let order = outcome.message().await?.and_then(|response| response.order).context("the watch ended without an outcome")?;
    // To the end of the stream: one that is dropped is reset, and h2 takes many resets for an attack.
    while outcome.message().await?.is_some() {}
    Ok(order.status())
}
