//! Customers: each wants an order to be taken, asks one process after the other until it is, and remembers what it was told.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contracts::order::v1::{CancelOrderRequest, CreateOrderRequest, OrderItem, order_service_client::OrderServiceClient};
use futures::{StreamExt, stream::FuturesUnordered};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, interval, sleep, timeout};
use tonic::{Code, Response, Status, transport::Channel};

use super::PROCESSES;

pub(super) const SKU: &str = "CHAOS";
/// For debug builds on two cores, beside other tests.
const ORDERS_PER_SECOND: u64 = 12;
const ORDERS_MAX: usize = 20_000;
/// Customers at once; beyond that the next one waits.
const OPEN_MAX: usize = 512;
/// After this another process is asked the same: this one may stand still.
const CALL_WITHIN: Duration = Duration::from_millis(1_500);
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// (payment token, whether the customer cancels at once).
const MIX: [(&str, bool); 10] = [
    ("", false),
    ("tok_declined", false),
    ("", true),
    ("", false),
    ("", false),
    ("tok_declined", false),
    ("", false),
    ("", true),
    ("", false),
    ("", false),
];

/// Where orders are taken: one door a process of the order service.
#[derive(Default)]
pub(super) struct Doors {
    channels: Mutex<[Option<Channel>; PROCESSES]>,
    closed: AtomicBool,
    turned_away: AtomicU64,
}

impl Doors {
    pub(super) fn open(&self, nth: usize, channel: Channel) {
        self.channels()[nth] = Some(channel);
    }

    /// No new customers; those who are there get their answers.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Times that nothing came of a question.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn channels(&self) -> MutexGuard<'_, [Option<Channel>; PROCESSES]> {
        self.channels.lock().expect("nobody panicked")
    }

    fn channel(&self, nth: usize) -> Option<Channel> {
        self.channels()[nth % PROCESSES].clone()
    }

    /// Asks at one door after the other until there is an answer; a refusal is one. What is dead, busy or slow may have done it or not.
    async fn ask<T, F>(&self, first: usize, mut call: impl FnMut(OrderServiceClient<Channel>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let mut nth = first;
        loop {
            let channel = self.channel(nth).ok_or_else(|| Status::internal("a door was never opened"))?;
            match timeout(CALL_WITHIN, call(OrderServiceClient::new(channel))).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if is_refusal(&status) => return Err(status),
                Ok(Err(_)) | Err(_) if Instant::now() < deadline => {}
                Ok(Err(status)) => return Err(status),
                Err(_) => return Err(Status::deadline_exceeded("nobody answers")),
            }
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
            nth += 1;
        }
    }
}

/// Said of the order, not of the state that the process is in.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition)
}

/// An order as its customer knows it.
#[derive(Debug)]
pub(super) struct Acknowledged {
    key: String,
    id: String,
    /// How it must end.
    ends: &'static str,
}

/// Places orders at an even rate until the doors are closed, and gives them back once each is acknowledged.
pub(super) async fn place(doors: &Doors, seed: u64) -> Result<Vec<Acknowledged>> {
    let mut tick = interval(Duration::from_millis(1_000 / ORDERS_PER_SECOND));
    let mut open = FuturesUnordered::new();
    let mut acknowledged = Vec::new();
    let mut next = 0;
    loop {
        let more = next < ORDERS_MAX && !doors.closed.load(Ordering::Relaxed);
        if !more && open.is_empty() {
            return Ok(acknowledged);
        }
        tokio::select! {
            _ = tick.tick(), if more && open.len() < OPEN_MAX => {
                open.push(place_one(doors, seed, next));
                next += 1;
            }
            Some(done) = open.next() => acknowledged.push(done?),
        }
    }
}

async fn place_one(doors: &Doors, seed: u64, n: usize) -> Result<Acknowledged> {
    let (token, cancels) = MIX[n % MIX.len()];
    let key = format!("chaos-{seed}-{n}");
    let request = CreateOrderRequest {
        idempotency_key: key.clone(),
        customer_id: format!("customer-{}", n % 100),
        currency: "USD".into(),
        items: vec![OrderItem { sku: SKU.into(), quantity: 1, unit_price: Some(1_000) }],
        payment_token: token.into(),
    };
    let created = doors.ask(n, |mut orders| {
        let request = request.clone();
        async move { orders.create_order(request).await }
    });
    let id = created.await.with_context(|| key.clone())?.order_id;
    let mut ends = if token == "tok_declined" { "FAILED" } else { "CONFIRMED" };
    if cancels {
        let request = CancelOrderRequest { order_id: id.clone(), reason: "changed my mind".into() };
        let cancelled = doors.ask(n, |mut orders| {
            let request = request.clone();
            async move { orders.cancel_order(request).await }
        });
        match cancelled.await {
            Ok(_) => ends = "CANCELLED",
            Err(status) if status.code() == Code::FailedPrecondition => {}
            Err(status) => return Err(status).context(key),
        }
    }
    Ok(Acknowledged { key, id, ends })
}

/// The orders that are stored are those that were acknowledged, each once, under the id that was told, and ended as it must. How many ended
/// how.
pub(super) async fn as_told(url: &str, acknowledged: &[Acknowledged]) -> Result<BTreeMap<&'static str, usize>> {
    let mut db = PgConnection::connect(url).await?;
    let sql = "select coalesce(idempotency_key, ''), id::text, status from orders";
    let stored: Vec<(String, String, String)> = sqlx::query_as(sql).fetch_all(&mut db).await?;
    ensure!(stored.len() == acknowledged.len(), "{} orders are stored, {} were placed", stored.len(), acknowledged.len());
    let stored: BTreeMap<String, (String, String)> = stored.into_iter().map(|(key, id, status)| (key, (id, status))).collect();
    let mut ends = BTreeMap::new();
    for order in acknowledged {
        let found = stored.get(&order.key).map(|(id, status)| (id.as_str(), status.as_str()));
        ensure!(found == Some((order.id.as_str(), order.ends)), "{order:?} is stored as {found:?}");
        *ends.entry(order.ends).or_default() += 1;
    }
    Ok(ends)
}
