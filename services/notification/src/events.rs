//! The handler: every end of an order is told once.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use contracts::{
    Message,
    ids::{self, NotAnId},
    notification::v1::NotificationSent,
};
use messaging::{Decision, Envelope, Handler, Heard, Record};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    error::Refusal,
    store::{self, Book, Notification},
    text::{self, Amount, Ending},
};

/// Where notifications go: to their table, and into the log at debug.
const CHANNEL: &str = "log";

#[derive(Default)]
pub(crate) struct Notifications {
    /// What the batch in progress has saved, for the log: each save replaces what an undone one left.
    saved: Mutex<Book>,
}

impl Notifications {
    fn saved(&self) -> MutexGuard<'_, Book> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An order that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    order: Uuid,
    customer: String,
    ending: Ending,
}

impl Ended {
    /// What a message means here; `None` if nothing.
    fn of(message: Message) -> Option<Result<Self, NotAnId>> {
        let (order_id, customer, ending) = match message {
            Message::OrderCompleted(told) => {
                let charged = Amount { minor: told.total, currency: told.currency };
                (told.order_id, told.customer_id, Ending::Confirmed { charged })
            }
            Message::OrderFailed(told) => {
                let refunded = Amount { minor: told.refunded_amount, currency: told.currency };
                (told.order_id, told.customer_id, Ending::Failed { reason: told.reason, refunded })
            }
            Message::OrderCancelled(told) => {
                let refunded = Amount { minor: told.refunded_amount, currency: told.currency };
                (told.order_id, told.customer_id, Ending::Cancelled { refunded })
            }
            _ => return None,
        };
        Some(ids::parse(&order_id).map(|order| Self { order, customer, ending }))
    }
}

impl Handler for Notifications {
    type Input = Ended;
    type Answer = ();
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Ended> {
        kit::hear(record, Ended::of)
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Ended>]) -> sqlx::Result<Book> {
        let orders: BTreeSet<Uuid> = batch.iter().map(|heard| heard.input.order).collect();
        store::load(db, orders).await
    }

    fn decide(&self, book: &mut Book, heard: &Envelope<Ended>) -> Result<Decision<()>, Refusal> {
        let Ended { order, customer, ending } = &heard.input;
        let kind = ending.kind();
        if book.has(*order, kind) {
            return Ok(Decision::quiet(()));
        }
        let id = ids::derive(*order, kind.name());
        let text = text::text(*order, ending);
        book.put(*order, kind, Notification { id, customer: customer.clone(), channel: CHANNEL, text, sent_at: heard.at });
        let sent = NotificationSent {
            order_id: order.to_string(),
            customer_id: customer.clone(),
            notification_id: id.to_string(),
            kind: kind.name().to_owned(),
            channel: CHANNEL.to_owned(),
        };
        Ok(Decision::new((), vec![kit::news(order, sent)]))
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        store::save(db, &book).await?;
        *self.saved() = book;
        Ok(())
    }

    fn committed(&self) {
        let book = std::mem::take(&mut *self.saved());
        for ((order, kind), Notification { customer, text, .. }) in book.fresh() {
            tracing::debug!(
                r#type = "NOTIFICATION",
                service = "notification",
                orderId = %order,
                kind = kind.name(),
                customer,
                text,
                "told the customer"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::order::v1::{OrderCancelled, OrderCompleted, OrderCreated, OrderFailed};
    use time::OffsetDateTime;

    use super::*;

    const ORDER: Uuid = Uuid::from_u128(1);

    fn said(book: &mut Book, message: impl Into<Message>) -> usize {
        let (id, key) = (Uuid::from_u128(99), ORDER.to_string());
        let input = Ended::of(message.into()).unwrap().unwrap();
        let heard = Envelope {
            id,
            correlation: key.clone(),
            key,
            at: OffsetDateTime::UNIX_EPOCH,
            trace: messaging::Trace::default(),
            input,
        };
        Notifications::default().decide(book, &heard).unwrap().news.len()
    }

    #[test]
    fn each_end_is_told_once() {
        let mut book = Book::default();
        let order_id = ORDER.to_string();
        for expected in [1, 0] {
            assert_eq!(said(&mut book, OrderCompleted { order_id: order_id.clone(), ..OrderCompleted::default() }), expected);
            assert_eq!(said(&mut book, OrderFailed { order_id: order_id.clone(), ..OrderFailed::default() }), expected);
            assert_eq!(said(&mut book, OrderCancelled { order_id: order_id.clone(), ..OrderCancelled::default() }), expected);
        }
        assert_eq!(book.fresh().count(), 3);
    }

    #[test]
    fn an_order_that_goes_on_is_of_no_interest_and_a_bad_id_is_not_readable() {
        assert!(Ended::of(OrderCreated::default().into()).is_none());
        assert!(Ended::of(OrderFailed::default().into()).is_some_and(|read| read.is_err()));
    }
}
