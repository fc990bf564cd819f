//! What the clients of the crash test know: every order they placed, and what they were told of it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use contracts::order::v1::{
    CancelOrderRequest, CreateOrderRequest, OrderItem, OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient,
};
use tokio::sync::watch;
use tonic::{Code, Status, transport::Channel};

const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A kind of order and how it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    sku: &'static str,
    token: &'static str,
    cancel: bool,
    ends: OrderStatus,
}

const GOOD: Kind = Kind { sku: "prod-A", token: "", cancel: false, ends: OrderStatus::Confirmed };
const DECLINED: Kind = Kind { token: "tok_declined", ends: OrderStatus::Failed, ..GOOD };
const OUT_OF_STOCK: Kind = Kind { sku: "SKU-EMPTY", ends: OrderStatus::Failed, ..GOOD };
const UNSHIPPABLE: Kind = Kind { sku: "SKU-UNSHIPPABLE", ends: OrderStatus::Failed, ..GOOD };
const FAILS_BEFORE: Kind = Kind { token: "tok_error_before", ..GOOD };
const FAILS_AFTER: Kind = Kind { token: "tok_error_after", ..GOOD };
const SILENT: Kind = Kind { token: "tok_silent", ..GOOD };
const CANCELLED: Kind = Kind { cancel: true, ..GOOD };
/// The cancel comes while the outcome of the charge is unknown.
const CANCELLED_SLOW: Kind = Kind { token: "tok_slow", cancel: true, ..GOOD };

const MIX: [Kind; 20] = [
    GOOD,
    DECLINED,
    GOOD,
    OUT_OF_STOCK,
    GOOD,
    UNSHIPPABLE,
    GOOD,
    CANCELLED,
    FAILS_BEFORE,
    GOOD,
    DECLINED,
    FAILS_AFTER,
    GOOD,
    OUT_OF_STOCK,
    GOOD,
    UNSHIPPABLE,
    SILENT,
    GOOD,
    CANCELLED_SLOW,
    GOOD,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cancel {
    Accepted,
    TooLate,
}

/// An order as its client knows it.
#[derive(Clone, Debug)]
struct Known {
    kind: Kind,
    /// Absent: never answered. It may be stored or not.
    id: Option<String>,
    cancel: Option<Cancel>,
    outcome: Option<OrderStatus>,
}

#[derive(Default)]
struct Book {
    orders: Vec<Known>,
    /// Those nobody works on now.
    unfinished: Vec<usize>,
    closed: bool,
}

pub(super) struct History {
    seed: u64,
    book: Mutex<Book>,
    up: AtomicBool,
    /// Answers since the platform came up.
    answers: watch::Sender<u64>,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, book: Mutex::default(), up: AtomicBool::new(false), answers: watch::Sender::new(0) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no caller panicked")
    }

    pub(super) fn platform_is_up(&self) {
        self.answers.send_replace(0);
        self.up.store(true, Ordering::SeqCst);
    }

    /// From here on an error says nothing.
    pub(super) fn platform_is_gone(&self) {
        self.up.store(false, Ordering::SeqCst);
    }

    /// No more new orders.
    pub(super) fn close(&self) {
        self.book().closed = true;
    }

    pub(super) fn answers(&self) -> watch::Receiver<u64> {
        self.answers.subscribe()
    }

    pub(super) fn len(&self) -> usize {
        self.book().orders.len()
    }

    /// Accepted, and the outcome is not known.
    pub(super) fn in_flight(&self) -> usize {
        self.book().orders.iter().filter(|order| order.id.is_some() && order.outcome.is_none()).count()
    }

    /// Key, id and status of every order, which are all over by now.
    pub(super) fn told(&self) -> Vec<(String, String, String)> {
        let book = self.book();
        let told = book.orders.iter().enumerate().map(|(n, order)| {
            let status = order.outcome.expect("it is over").as_str_name().trim_start_matches("ORDER_STATUS_");
            (self.key(n), order.id.clone().expect("it was accepted"), status.to_owned())
        });
        told.collect()
    }

    /// How many orders of each kind ended how.
    pub(super) fn summary(&self) -> String {
        let mut counts = BTreeMap::new();
        for order in &self.book().orders {
            *counts.entry((order.kind, order.cancel, order.outcome)).or_insert(0) += 1;
        }
        let mut text = String::new();
        for ((kind, cancel, outcome), count) in counts {
            let _ = writeln!(text, "{count:>6} {} {} {cancel:?} {outcome:?}", kind.sku, kind.token);
        }
        text
    }

    fn key(&self, n: usize) -> String {
        format!("crash-{}-{n}", self.seed)
    }

    /// An order from before first, else a new one.
    fn take(&self) -> Option<usize> {
        let mut book = self.book();
        if let Some(n) = book.unfinished.pop() {
            return Some(n);
        }
        if book.closed {
            return None;
        }
        let n = book.orders.len();
        book.orders.push(Known { kind: MIX[n % MIX.len()], id: None, cancel: None, outcome: None });
        Some(n)
    }

    fn known(&self, n: usize) -> Known {
        self.book().orders[n].clone()
    }

    fn note(&self, n: usize, change: impl FnOnce(&mut Known)) {
        change(&mut self.book().orders[n]);
        self.answers.send_modify(|answers| *answers += 1);
    }

    /// Goes on where this order stands until its outcome is known. What is not answered is asked again later, with the same key.
    async fn settle(&self, n: usize, client: &mut OrderServiceClient<Channel>) -> Result<(), Status> {
        let Known { kind, id, cancel, .. } = self.known(n);
        let order_id = match id {
            Some(id) => id,
            None => {
                let created = client.create_order(self.request(n, kind)).await?.into_inner();
                self.note(n, |order| order.id = Some(created.order_id.clone()));
                created.order_id
            }
        };
        if kind.cancel && cancel.is_none() {
            let request = CancelOrderRequest { order_id: order_id.clone(), reason: "changed my mind".into() };
            let answer = match client.cancel_order(request).await {
                Ok(_) => Cancel::Accepted,
                Err(status) if status.code() == Code::FailedPrecondition => Cancel::TooLate,
                Err(status) => return Err(status),
            };
            self.note(n, |order| order.cancel = Some(answer));
        }
        let mut watch = client.watch_order(WatchOrderRequest { order_id, final_only: true }).await?.into_inner();
        let told = watch.message().await?.and_then(|told| told.order);
        let order = told.ok_or_else(|| Status::unavailable("the watch ended without an outcome"))?;
        self.note(n, |known| known.outcome = Some(order.status()));
        let known = self.known(n);
        let ends = if known.cancel == Some(Cancel::Accepted) { OrderStatus::Cancelled } else { kind.ends };
        assert_eq!(order.status(), ends, "{} {known:?} {:?}", self.key(n), order.timeline);
        Ok(())
    }

    fn request(&self, n: usize, kind: Kind) -> CreateOrderRequest {
        CreateOrderRequest {
            idempotency_key: self.key(n),
            customer_id: format!("customer-{}", n % 100),
            currency: "USD".into(),
            items: vec![OrderItem { sku: kind.sku.into(), quantity: 1, unit_price: None }],
            payment_token: kind.token.into(),
        }
    }
}

/// Settles one order after the other while the platform is there.
pub(super) async fn caller(history: Arc<History>, mut client: OrderServiceClient<Channel>) -> Result<()> {
    while let Some(n) = history.take() {
        loop {
            let Err(status) = history.settle(n, &mut client).await else { break };
            if status.code() == Code::ResourceExhausted {
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            history.book().unfinished.push(n);
            let of_no_meaning = !matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::AlreadyExists);
            if of_no_meaning && !history.up.load(Ordering::SeqCst) {
                return Ok(());
            }
            return Err(status.into());
        }
    }
    Ok(())
}
