//! Two loads: one keeps so many orders open, the other begins so many a second whatever becomes of them.

use std::{
    ops::Sub,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use contracts::order::v1::{CreateOrderRequest, OrderItem, WatchOrderRequest, order_service_client::OrderServiceClient};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, interval, sleep},
};
use tonic::{Code, Status, transport::Channel};

pub(super) const SKU: &str = "SOAK";
/// HTTP/2 connections that the callers share.
const CONNECTIONS: usize = 4;
/// Orders open at once in the closed loop.
const OPEN: usize = 1_024;
/// Calls open at once in the open loop; beyond that the next one waits.
const CALLS_MAX: usize = 16_384;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(5);

/// The order service.
#[derive(Clone)]
pub(super) struct Orders(Arc<[Channel]>);

impl Orders {
    pub(super) async fn connect(grpc: &str) -> Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(settle::client::connect(grpc).await?);
        }
        Ok(Self(channels.into()))
    }

    fn client(&self, nth: usize) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.0[nth % CONNECTIONS].clone())
    }

    /// Closed loop: orders a second that became final.
    pub(super) async fn settle(&self, lasts: Duration) -> Result<f64> {
        let begun = Instant::now();
        let mut callers = JoinSet::new();
        for nth in 0..OPEN {
            callers.spawn(caller(self.client(nth), begun + lasts));
        }
        let mut settled: u32 = 0;
        while let Some(ended) = callers.join_next().await {
            settled += ended??;
        }
        Ok(f64::from(settled) / begun.elapsed().as_secs_f64())
    }

    /// Open loop: begins, and goes on until it is told to end.
    pub(super) fn offer(&self, per_second: f64) -> Offer {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(offer(self.clone(), per_second, shared.clone()));
        Offer { shared, task }
    }
}

/// Settles one order after the other; how many.
async fn caller(mut orders: OrderServiceClient<Channel>, until: Instant) -> Result<u32> {
    let mut settled = 0;
    while Instant::now() < until {
        match settle_one(&mut orders).await {
            Ok(()) => settled += 1,
            Err(status) if status.code() == Code::ResourceExhausted => sleep(BUSY_PAUSE).await,
            Err(status) => return Err(status.into()),
        }
    }
    Ok(settled)
}

async fn settle_one(orders: &mut OrderServiceClient<Channel>) -> Result<(), Status> {
    let order_id = orders.create_order(request()).await?.into_inner().order_id;
    let mut outcome = orders.watch_order(WatchOrderRequest { order_id, final_only: true }).await?.into_inner();
    while outcome.message().await?.is_some() {}
    Ok(())
}

fn request() -> CreateOrderRequest {
    CreateOrderRequest {
        customer_id: "soak".into(),
        currency: "USD".into(),
        items: vec![OrderItem { sku: SKU.into(), quantity: 1, unit_price: Some(1_000) }],
        ..Default::default()
    }
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    calls: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// What an open loop came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered {
    pub(super) calls: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
}

impl Sub for Offered {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, accepted: self.accepted - before.accepted, refused: self.refused - before.refused }
    }
}

/// A running open loop.
pub(super) struct Offer {
    shared: Arc<Shared>,
    task: JoinHandle<Result<Vec<String>>>,
}

impl Offer {
    fn offered(&self) -> Offered {
        let Shared { calls, accepted, refused, .. } = &*self.shared;
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Offered { calls: now(calls), accepted: now(accepted), refused: now(refused) }
    }

    /// Goes on for so long, and tells what was offered meanwhile.
    pub(super) async fn go_on(&mut self, lasts: Duration) -> Result<Offered> {
        let before = self.offered();
        tokio::select! {
            () = sleep(lasts) => Ok(self.offered() - before),
            ended = &mut self.task => {
                ended??;
                bail!("the load ended by itself")
            }
        }
    }

    /// Ends it. The ids of all orders that were accepted.
    pub(super) async fn end(self) -> Result<Vec<String>> {
        self.shared.over.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn offer(orders: Orders, per_second: f64, shared: Arc<Shared>) -> Result<Vec<String>> {
    let mut accepted = Vec::new();
    let mut calls: JoinSet<Result<Option<String>, Status>> = JoinSet::new();
    let mut tick = interval(TICK);
    let begun = Instant::now();
    let mut nth = 0;
    while !shared.over.load(Ordering::Relaxed) {
        tick.tick().await;
        let due = (begun.elapsed().as_secs_f64() * per_second) as usize;
        while nth < due {
            while calls.len() >= CALLS_MAX
                && let Some(ended) = calls.join_next().await
            {
                accepted.extend(ended??);
            }
            calls.spawn(create(orders.client(nth), shared.clone()));
            nth += 1;
        }
        while let Some(ended) = calls.try_join_next() {
            accepted.extend(ended??);
        }
    }
    while let Some(ended) = calls.join_next().await {
        accepted.extend(ended??);
    }
    Ok(accepted)
}

/// Who is refused goes away.
async fn create(mut orders: OrderServiceClient<Channel>, shared: Arc<Shared>) -> Result<Option<String>, Status> {
    shared.calls.fetch_add(1, Ordering::Relaxed);
    match orders.create_order(request()).await {
        Ok(created) => {
            shared.accepted.fetch_add(1, Ordering::Relaxed);
            Ok(Some(created.into_inner().order_id))
        }
        Err(status) if status.code() == Code::ResourceExhausted => {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        }
        Err(status) => Err(status),
    }
}
