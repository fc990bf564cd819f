//! One order as a customer's program places it: create, perhaps cancel, and learn what became of it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use contracts::order::v1::{
    CancelOrderRequest, CreateOrderRequest, OrderItem, OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient,
};
use tokio::sync::Notify;
use tonic::{Code, Status, transport::Channel};

use super::hearing::Hearing;
use crate::{client::connect, orders::told};

/// HTTP/2 connections the callers share: what waits for one goes out together, so few are cheap.
const CONNECTIONS: u32 = 2;
const SETTLE_WITHIN: Duration = Duration::from_secs(120);
/// Pause before a caller that was told to wait asks again: doubles from the first to the last.
const BUSY_FIRST: Duration = Duration::from_millis(20);
const BUSY_LAST: Duration = Duration::from_secs(1);

/// What callers do, and where.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) grpc: String,
    pub(super) skus: Arc<[String]>,
    pub(super) work: Work,
    /// Of a hundred orders so many are cancelled right after their creation.
    pub(super) cancel_percent: u32,
    /// Where to hear what becomes of all orders, in place of a watch for each.
    pub(super) order_database: Option<String>,
    pub(super) progress: Arc<Progress>,
}

#[derive(Clone)]
pub(super) enum Work {
    /// Create an order and learn what becomes of it.
    Settle,
    /// Create it, no more.
    Create,
    /// Learn what became of these.
    Learn(Arc<[String]>),
}

/// How many orders are done, for whoever samples a long run.
pub(super) struct Progress {
    done: AtomicU32,
    every: u32,
    crossed: Notify,
}

impl Progress {
    /// Says so each time that so many more are done.
    pub(super) fn new(every: Option<u32>) -> Arc<Self> {
        Arc::new(Self { done: AtomicU32::new(0), every: every.unwrap_or(u32::MAX), crossed: Notify::new() })
    }

    fn one_more(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(self.every) {
            self.crossed.notify_one();
        }
    }

    pub(super) fn every(&self) -> u32 {
        self.every
    }

    pub(super) fn done(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) async fn crossed(&self) {
        self.crossed.notified().await;
    }
}

/// What one call on a caller came to.
pub(super) struct Placed {
    pub(super) order_id: String,
    /// What its creation took.
    pub(super) created_in: Option<Duration>,
    pub(super) asked_to_cancel: bool,
    /// Times the platform said that it is busy.
    pub(super) refused_calls: u32,
    /// How it ended, if that was waited for.
    pub(super) status: Option<OrderStatus>,
}

/// The connections, and who hears what becomes of orders.
pub(super) struct Callers {
    plan: Arc<Plan>,
    channels: Vec<Channel>,
    hearing: Option<Arc<Hearing>>,
}

impl Callers {
    pub(super) async fn connect(plan: Plan) -> Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(connect(&plan.grpc).await?);
        }
        let hearing = match &plan.order_database {
            Some(url) => Some(Arc::new(Hearing::open(url).await?)),
            None => None,
        };
        Ok(Self { plan: Arc::new(plan), channels, hearing })
    }

    pub(super) fn caller(&self, nth: u32) -> Caller {
        let channel = self.channels[(nth % CONNECTIONS) as usize].clone();
        Caller { orders: OrderServiceClient::new(channel), plan: self.plan.clone(), hearing: self.hearing.clone() }
    }

    /// Does the work, and hears meanwhile what becomes of the orders.
    pub(super) async fn listening<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.hearing {
            Some(hearing) => tokio::select! {
                done = work => done,
                error = hearing.listen() => Err(error),
            },
            None => work.await,
        }
    }
}

pub(super) struct Caller {
    orders: OrderServiceClient<Channel>,
    plan: Arc<Plan>,
    hearing: Option<Arc<Hearing>>,
}

impl Caller {
    /// Does the nth piece of work. Nobody waits for ever.
    pub(super) async fn step(&mut self, n: u32) -> Result<Placed> {
        let placed = tokio::time::timeout(SETTLE_WITHIN, self.place(n)).await.context("an order did not settle in time")??;
        self.plan.progress.one_more();
        Ok(placed)
    }

    async fn place(&mut self, n: u32) -> Result<Placed> {
        let plan = self.plan.clone();
        let mut patience = Patience { pause: BUSY_FIRST, refused_calls: 0 };
        let (order_id, created_in) = match &plan.work {
            Work::Learn(orders) => (orders[n as usize].clone(), None),
            Work::Settle | Work::Create => {
                let begun = Instant::now();
                (self.create(n, &mut patience).await?, Some(begun.elapsed()))
            }
        };
        let asked_to_cancel = matches!(plan.work, Work::Settle) && is_cancelled(n, plan.cancel_percent);
        if asked_to_cancel {
            self.cancel(&order_id, &mut patience).await?;
        }
        let status = match (&plan.work, self.hearing.clone()) {
            (Work::Create, _) => None,
            (Work::Settle, Some(hearing)) => Some(hearing.outcome(order_id.clone()).await?),
            // What was said before somebody listened cannot be heard.
            (Work::Settle, None) | (Work::Learn(_), _) => Some(self.watch(&order_id, &mut patience).await?),
        };
        Ok(Placed { order_id, created_in, asked_to_cancel, refused_calls: patience.refused_calls, status })
    }

    async fn create(&mut self, n: u32, patience: &mut Patience) -> Result<String> {
        loop {
            let request = request(n, &self.plan.skus);
            match self.orders.create_order(request).await {
                Ok(response) => return Ok(response.into_inner().order_id),
                Err(status) => patience.with(status).await?,
            }
        }
    }

    async fn cancel(&mut self, order_id: &str, patience: &mut Patience) -> Result<()> {
        loop {
            let request = CancelOrderRequest { order_id: order_id.to_owned(), reason: "the bench wants to see this too".into() };
            match self.orders.cancel_order(request).await {
                Ok(_) => return Ok(()),
                // It was confirmed a moment before.
                Err(status) if status.code() == Code::FailedPrecondition => return Ok(()),
                Err(status) => patience.with(status).await?,
            }
        }
    }

    async fn watch(&mut self, order_id: &str, patience: &mut Patience) -> Result<OrderStatus> {
        loop {
            match self.watch_once(order_id).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => bail!("the watch of order {order_id} ended without an outcome"),
                Err(status) => patience.with(status).await?,
            }
        }
    }

    async fn watch_once(&mut self, order_id: &str) -> Result<Option<OrderStatus>, Status> {
        let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
        let mut outcome = self.orders.watch_order(request).await?.into_inner();
        let order = outcome.message().await?.and_then(|response| response.order);
        // To the end of the stream: one that is dropped is reset, and h2 takes many resets for an attack.
        while outcome.message().await?.is_some() {}
        Ok(order.map(|order| order.status()))
    }
}

struct Patience {
    pause: Duration,
    refused_calls: u32,
}

impl Patience {
    /// Waits if the platform is busy; every other refusal is an error.
    async fn with(&mut self, refused: Status) -> Result<()> {
        if refused.code() != Code::ResourceExhausted {
            return Err(told(refused));
        }
        self.refused_calls += 1;
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(BUSY_LAST);
        Ok(())
    }
}

fn request(n: u32, skus: &[String]) -> CreateOrderRequest {
    CreateOrderRequest {
        idempotency_key: String::new(),
        customer_id: format!("bench-{}", n % 1_000),
        currency: "USD".into(),
        items: vec![OrderItem { sku: skus[n as usize % skus.len()].clone(), quantity: 1, unit_price: Some(1_000) }],
        payment_token: String::new(),
    }
}

/// Spreads the cancelled ones evenly: 61 and 100 have no common divisor, so each hundred numbers give each remainder once.
fn is_cancelled(n: u32, percent: u32) -> bool {
    (n % 100) * 61 % 100 < percent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_hundred_are_cancelled() {
        for percent in [0, 1, 5, 50, 100] {
            for hundred in [0, 700] {
                assert_eq!((hundred..hundred + 100).filter(|n| is_cancelled(*n, percent)).count(), percent as usize);
            }
        }
        assert!((0..10).any(|n| !is_cancelled(n, 50)) && (0..10).any(|n| is_cancelled(n, 50)));
    }

    #[tokio::test]
    async fn progress_is_told_at_each_so_many() {
        let progress = Progress::new(Some(3));
        (0..3).for_each(|_| progress.one_more());
        progress.crossed().await;
        assert_eq!(progress.done(), 3);
        progress.one_more();
        let again = tokio::time::timeout(Duration::ZERO, progress.crossed()).await;
        assert!(again.is_err(), "four are told as six");
    }

    #[tokio::test]
    async fn only_a_busy_platform_is_asked_again() {
        let mut patience = Patience { pause: Duration::from_micros(1), refused_calls: 0 };
        for _ in 0..2 {
            patience.with(Status::resource_exhausted("busy")).await.unwrap();
        }
        assert_eq!((patience.refused_calls, patience.pause), (2, Duration::from_micros(4)));
        assert!(patience.with(Status::internal("broken")).await.is_err());
    }
}
