//! Learning what became of orders from what the order service says: one reader for all of them, in place of a watch an order.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use contracts::order::v1::OrderStatus;
use kit::database::{self, Plans};
use sqlx::PgPool;
use tokio::sync::oneshot;

use super::store;

/// Pause between two looks at the stream.
const POLL: Duration = Duration::from_millis(5);

pub(super) struct Hearing {
    pool: PgPool,
    /// What was said last when this began, by partition.
    from: Vec<i64>,
    orders: Mutex<HashMap<String, Order>>,
}

enum Order {
    Awaited(oneshot::Sender<OrderStatus>),
    /// It ended before anybody asked.
    Ended(OrderStatus),
}

impl Hearing {
    /// On the order service's database, from now on. Nothing is heard before [`Hearing::listen`].
    pub(super) async fn open(url: &str) -> Result<Self> {
        let pool = database::pool(url, Plans::Pinned, 1)?;
        let from = store::order_event_ends(&mut *pool.acquire().await?).await?;
        Ok(Self { pool, from, orders: Mutex::default() })
    }

    /// What became of an order, as soon as it is said.
    pub(super) async fn outcome(&self, order_id: String) -> Result<OrderStatus> {
        let ended = {
            let mut orders = self.orders();
            match orders.remove(&order_id) {
                Some(Order::Ended(status)) => return Ok(status),
                Some(Order::Awaited(_)) | None => {
                    let (tell, ended) = oneshot::channel();
                    orders.insert(order_id, Order::Awaited(tell));
                    ended
                }
            }
        };
        ended.await.context("nobody listens to the order service any more")
    }

    /// Ends only when it cannot listen.
    pub(super) async fn listen(&self) -> anyhow::Error {
        let Err(error) = self.follow().await;
        anyhow::Error::from(error).context("cannot read what the order service says")
    }

    async fn follow(&self) -> sqlx::Result<Infallible> {
        let mut db = self.pool.acquire().await?;
        let mut places = self.from.clone();
        loop {
            for (order_id, type_name) in store::order_events_after(&mut db, &mut places).await? {
                if let Some(status) = ending(&type_name) {
                    self.tell(order_id, status);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn tell(&self, order_id: String, status: OrderStatus) {
        let mut orders = self.orders();
        match orders.remove(&order_id) {
            // Whoever asked may have given up.
            Some(Order::Awaited(tell)) => drop(tell.send(status)),
            Some(Order::Ended(_)) | None => drop(orders.insert(order_id, Order::Ended(status))),
        }
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<String, Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status an order ends with, if this is how it ends.
fn ending(type_name: &str) -> Option<OrderStatus> {
    match type_name {
        "settle.order.v1.OrderCompleted" => Some(OrderStatus::Confirmed),
        "settle.order.v1.OrderFailed" => Some(OrderStatus::Failed),
        "settle.order.v1.OrderCancelled" => Some(OrderStatus::Cancelled),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        Message,
        order::v1::{OrderCancelled, OrderCompleted, OrderCreated, OrderFailed},
    };

    use super::*;

    #[test]
    fn the_ends_have_the_names_of_the_contracts() {
        let name = |message: Message| message.type_name();
        assert_eq!(ending(name(OrderCompleted::default().into())), Some(OrderStatus::Confirmed));
        assert_eq!(ending(name(OrderFailed::default().into())), Some(OrderStatus::Failed));
        assert_eq!(ending(name(OrderCancelled::default().into())), Some(OrderStatus::Cancelled));
        assert_eq!(ending(name(OrderCreated::default().into())), None);
    }

    #[tokio::test]
    async fn an_end_is_told_whether_it_comes_before_or_after_the_question() {
        let pool = database::pool("postgres://nobody@127.0.0.1:1/none", Plans::Pinned, 1).unwrap();
        let hearing = Hearing { pool, from: Vec::new(), orders: Mutex::default() };
        hearing.tell("early".into(), OrderStatus::Confirmed);
        assert_eq!(hearing.outcome("early".into()).await.unwrap(), OrderStatus::Confirmed);
        let (outcome, ()) = tokio::join!(hearing.outcome("late".into()), async {
            hearing.tell("late".into(), OrderStatus::Cancelled);
        });
        assert_eq!(outcome.unwrap(), OrderStatus::Cancelled);
        assert!(hearing.orders().is_empty());
    }
}
