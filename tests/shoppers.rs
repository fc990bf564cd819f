//! Customers: they order what is there and what is not, change their minds, want a part of their money back, and ask again under the same
//! key whatever happens to the platform meanwhile.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use contracts::order::v1::{
    CancelOrderRequest, CreateOrderRequest, OrderItem, RefundOrderRequest, WatchOrderRequest,
    order_service_client::OrderServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

use crate::placing::{UNPRICED, is_final};

/// HTTP/2 connections they share.
const CONNECTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(50);
const PRICE: i64 = 1_200;
/// Of every ten orders, those of what is not there, of what cannot be shipped, those that are cancelled, and those that are refunded in
/// part once they are confirmed.
const MISSING: usize = 1;
const UNSHIPPABLE: usize = 2;
const CANCELLED: usize = 3;
const REFUNDED: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Of their keys.
    pub(crate) name: String,
    /// So many orders, or fewer if the shop is closed before.
    pub(crate) orders: usize,
    pub(crate) at_once: usize,
    /// Within which an order ends or needs a person.
    pub(crate) patience: Duration,
}

/// What they did, as they do it.
#[derive(Default)]
pub(crate) struct Shop {
    closed: AtomicBool,
    next: AtomicUsize,
    placed: AtomicUsize,
    refunds: AtomicUsize,
    /// How many orders ended how.
    ends: Mutex<BTreeMap<String, usize>>,
}

impl Shop {
    /// No more new orders.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn placed(&self) -> usize {
        self.placed.load(Ordering::SeqCst)
    }

    /// Refunds that were accepted.
    pub(crate) fn refunds(&self) -> usize {
        self.refunds.load(Ordering::SeqCst)
    }

    pub(crate) fn ends(&self) -> BTreeMap<String, usize> {
        self.ends.lock().expect("no customer panicked").clone()
    }

    fn take(&self, plan: &Plan) -> Option<usize> {
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        (n < plan.orders).then_some(n)
    }
}

/// Settles order after order, until all are placed or the shop is closed. Each ends, or needs a person.
pub(crate) async fn shop(grpc: String, plan: Plan, shop: Arc<Shop>) -> Result<()> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(settle::client::connect(&grpc).await?);
    }
    let plan = Arc::new(plan);
    let mut customers = JoinSet::new();
    for channel in channels.iter().cycle().take(plan.at_once) {
        let (orders, plan, shop) = (OrderServiceClient::new(channel.clone()), plan.clone(), shop.clone());
        customers.spawn(async move {
            while let Some(n) = shop.take(&plan) {
                let order = async { settle_one(orders.clone(), &plan, &shop, n).await };
                let ended = tokio::time::timeout(plan.patience, order).await;
                let end = ended.with_context(|| format!("{}-{n} does not settle", plan.name))?;
                *shop.ends.lock().expect("no customer panicked").entry(end?).or_default() += 1;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = customers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn settle_one(orders: OrderServiceClient<Channel>, plan: &Plan, shop: &Shop, n: usize) -> Result<String> {
    let sku = match n % 10 {
        MISSING => "SKU-EMPTY",
        UNSHIPPABLE => "SKU-UNSHIPPABLE",
        _ => "SKU-123",
    };
    let create = CreateOrderRequest {
        idempotency_key: format!("{}-{n}", plan.name),
        customer_id: format!("customer-{}", n % 100),
        currency: UNPRICED.into(),
        items: vec![OrderItem { sku: sku.into(), quantity: 1, unit_price: Some(PRICE) }],
        payment_token: String::new(),
    };
    let created = again(|| {
        let (mut orders, create) = (orders.clone(), create.clone());
        async move { orders.create_order(create).await }
    });
    let order_id = created.await?.order_id;
    shop.placed.fetch_add(1, Ordering::SeqCst);
    if n % 10 == CANCELLED {
        let cancel = CancelOrderRequest { order_id: order_id.clone(), reason: "changed my mind".into() };
        let cancelled = again(|| {
            let (mut orders, cancel) = (orders.clone(), cancel.clone());
            async move { orders.cancel_order(cancel).await }
        });
        if let Err(status) = cancelled.await
            && status.code() != Code::FailedPrecondition
        {
            return Err(status.into());
        }
    }
    let end = end_of(&orders, &order_id).await?;
    if n % 10 == REFUNDED && end == "CONFIRMED" {
        let refund = RefundOrderRequest {
            order_id: order_id.clone(),
            idempotency_key: format!("{}-{n}", plan.name),
            amount: Some(PRICE / 4),
            reason: "a scratch".into(),
        };
        let refunded = again(|| {
            let (mut orders, refund) = (orders.clone(), refund.clone());
            async move { orders.refund_order(refund).await }
        });
        refunded.await?;
        shop.refunds.fetch_add(1, Ordering::SeqCst);
    }
    Ok(end)
}

/// Its status, once that is final or a person must act.
async fn end_of(orders: &OrderServiceClient<Channel>, order_id: &str) -> Result<String> {
    loop {
        let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: false };
        let watch = again(|| {
            let (mut orders, request) = (orders.clone(), request.clone());
            async move { orders.watch_order(request).await }
        });
        let mut told = watch.await?;
        loop {
            match told.message().await {
                Ok(Some(told)) => {
                    let order = told.order.context("a change without its order")?;
                    if order.needs_attention {
                        return Ok("NEEDS_ATTENTION".to_owned());
                    }
                    if is_final(&order) {
                        return Ok(order.status().as_str_name().trim_start_matches("ORDER_STATUS_").to_owned());
                    }
                }
                Ok(None) => break,
                Err(status) if may_pass(&status) => break,
                Err(status) => bail!("{order_id}: {status}"),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn may_pass(status: &Status) -> bool {
    matches!(status.code(), Code::ResourceExhausted | Code::Unavailable)
}

/// Asks until there is an answer.
async fn again<T, F>(ask: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if may_pass(&status) => tokio::time::sleep(PAUSE).await,
            Err(status) => return Err(status),
        }
    }
}
