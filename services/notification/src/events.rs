//! The handler: whatever a customer has to know of an order is told once, and again only when a person asks for it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use contracts::{
    Message,
    ids::{self, NotAnId},
    notification::v1::NotificationSent,
};
use messaging::{Decision, Envelope, Handler, Heard, News, Record};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    error::Refusal,
    store::{self, Attempt, Book, Notification},
    text::{self, Amount, Occasion},
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

#[derive(Debug)]
pub(crate) enum Input {
    /// There is something to tell.
    Told { order: Uuid, customer: String, occasion: Occasion },
    /// A person wants it told again.
    Resend { notification: Uuid },
}

impl Input {
    /// What a message means here; `None` if nothing.
    fn of(message: Message) -> Option<Result<Self, NotAnId>> {
        let amount = |minor, currency: &str| Amount { minor, currency: currency.to_owned() };
        let (order_id, customer, occasion) = match message {
            Message::OrderCompleted(told) => {
                let charged = amount(told.total, &told.currency);
                (told.order_id, told.customer_id, Occasion::Confirmed { charged })
            }
            Message::OrderFailed(told) => {
                let refunded = amount(told.refunded_amount, &told.currency);
                (told.order_id, told.customer_id, Occasion::Failed { reason: told.reason, refunded })
            }
            Message::OrderCancelled(told) => {
                let refunded = amount(told.refunded_amount, &told.currency);
                (told.order_id, told.customer_id, Occasion::Cancelled { refunded })
            }
            Message::OrderRefunded(told) => {
                let refund = match ids::parse(&told.refund_id) {
                    Ok(refund) => refund,
                    Err(error) => return Some(Err(error)),
                };
                let (refunded, in_all) = (amount(told.amount, &told.currency), amount(told.refunded_amount, &told.currency));
                (told.order_id, told.customer_id, Occasion::Refunded { refund, refunded, in_all })
            }
            Message::ShippingDispatched(told) => {
                (told.order_id, told.customer_id, Occasion::Dispatched { tracking_number: told.tracking_number })
            }
            Message::ShippingDelivered(told) => (told.order_id, told.customer_id, Occasion::Delivered),
            _ => return None,
        };
        Some(ids::parse(&order_id).map(|order| Self::Told { order, customer, occasion }))
    }
}

impl Handler for Notifications {
    type Input = Input;
    type Answer = ();
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        kit::hear(record, Input::of)
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        let mut orders = BTreeSet::new();
        let mut calls = Vec::new();
        for asked in batch {
            match &asked.input {
                Input::Told { order, .. } => _ = orders.insert(*order),
                Input::Resend { notification } => calls.push((*notification, asked.id)),
            }
        }
        store::load(db, orders, calls).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<()>, Refusal> {
        match &asked.input {
            Input::Told { order, customer, occasion } => Ok(tell(book, asked, *order, customer, occasion)),
            Input::Resend { notification } => send_again(book, asked, *notification),
        }
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        store::save(db, &book).await?;
        *self.saved() = book;
        Ok(())
    }

    fn committed(&self) {
        let book = std::mem::take(&mut *self.saved());
        for ((order, kind, _), Notification { customer, text, .. }) in book.fresh() {
            log(*order, kind.name(), customer, text);
        }
        for Attempt { of, .. } in book.again() {
            log(of.order_id, &of.kind, &of.customer_id, &of.text);
        }
    }
}

/// The one channel there is. It cannot fail.
fn log(order: Uuid, kind: &str, customer: &str, text: &str) {
    tracing::debug!(
        r#type = "NOTIFICATION",
        service = "notification",
        orderId = %order,
        kind,
        customer,
        text,
        "told the customer"
    );
}

fn tell(book: &mut Book, asked: &Envelope<Input>, order: Uuid, customer: &str, occasion: &Occasion) -> Decision<()> {
    let key = (order, occasion.kind(), occasion.subject());
    if book.has(&key) {
        return Decision::quiet(());
    }
    let id = id_of(order, occasion);
    let (kind, customer, text) = (key.1.name().to_owned(), customer.to_owned(), text::text(order, occasion));
    let told = sent(order, &customer, id, kind);
    book.put(key, Notification { id, customer, channel: CHANNEL, text, sent_at: asked.at });
    Decision::new((), vec![told])
}

fn id_of(order: Uuid, occasion: &Occasion) -> Uuid {
    let (kind, subject) = (occasion.kind().name(), occasion.subject());
    match subject.is_nil() {
        true => ids::derive(order, kind),
        false => ids::derive(order, &format!("{kind}/{subject}")),
    }
}

fn send_again(book: &mut Book, asked: &Envelope<Input>, notification: Uuid) -> Result<Decision<()>, Refusal> {
    let of = book.sent(notification).ok_or(Refusal::Unknown(notification))?.clone();
    if book.was_called(asked.id) {
        return Ok(Decision::quiet(()));
    }
    let told = sent(of.order_id, &of.customer_id, of.id, of.kind.clone());
    book.send_again(Attempt { of, id: asked.id, channel: CHANNEL, at: asked.at });
    Ok(Decision::new((), vec![told]))
}

fn sent(order: Uuid, customer: &str, notification: Uuid, kind: String) -> News {
    let (order_id, customer_id, notification_id) = (order.to_string(), customer.to_owned(), notification.to_string());
    kit::news(order, NotificationSent { order_id, customer_id, notification_id, kind, channel: CHANNEL.to_owned() })
}

#[cfg(test)]
mod tests {
    use contracts::{
        order::v1::{OrderCancelled, OrderCompleted, OrderCreated, OrderFailed, OrderRefunded},
        shipping::v1::{ShippingDelivered, ShippingDispatched, ShippingScheduled},
    };
    use time::OffsetDateTime;

    use super::*;

    const ORDER: Uuid = Uuid::from_u128(1);

    fn asked(id: u128, input: Input) -> Envelope<Input> {
        let (id, key, trace) = (Uuid::from_u128(id), ORDER.to_string(), messaging::Trace::default());
        Envelope { id, correlation: key.clone(), key, at: OffsetDateTime::UNIX_EPOCH, trace, input }
    }

    fn said(book: &mut Book, message: impl Into<Message>) -> usize {
        let input = Input::of(message.into()).unwrap().unwrap();
        Notifications::default().decide(book, &asked(99, input)).unwrap().news.len()
    }

    fn refunded(refund: u128) -> OrderRefunded {
        let refund_id = Uuid::from_u128(refund).to_string();
        OrderRefunded { order_id: ORDER.to_string(), refund_id, amount: 1, ..OrderRefunded::default() }
    }

    #[test]
    fn each_occasion_is_told_once() {
        let mut book = Book::default();
        let order_id = ORDER.to_string();
        for expected in [1, 0] {
            assert_eq!(said(&mut book, OrderCompleted { order_id: order_id.clone(), ..OrderCompleted::default() }), expected);
            assert_eq!(said(&mut book, OrderFailed { order_id: order_id.clone(), ..OrderFailed::default() }), expected);
            assert_eq!(said(&mut book, OrderCancelled { order_id: order_id.clone(), ..OrderCancelled::default() }), expected);
            assert_eq!(
                said(&mut book, ShippingDispatched { order_id: order_id.clone(), ..ShippingDispatched::default() }),
                expected
            );
            assert_eq!(said(&mut book, ShippingDelivered { order_id: order_id.clone(), ..ShippingDelivered::default() }), expected);
        }
        assert_eq!(book.fresh().count(), 5);
    }

    #[test]
    fn two_refunds_are_two_notifications() {
        let mut book = Book::default();
        for expected in [1, 0] {
            assert_eq!(said(&mut book, refunded(2)), expected);
            assert_eq!(said(&mut book, refunded(3)), expected);
        }
        let ids: BTreeSet<Uuid> = book.fresh().map(|(_, notification)| notification.id).collect();
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn a_notification_that_is_not_there_is_not_sent_again() {
        let resend = asked(7, Input::Resend { notification: Uuid::from_u128(8) });
        let refused = Notifications::default().decide(&mut Book::default(), &resend);
        assert!(matches!(refused, Err(Refusal::Unknown(_))));
    }

    #[test]
    fn an_order_that_goes_on_is_of_no_interest_and_a_bad_id_is_not_readable() {
        assert!(Input::of(OrderCreated::default().into()).is_none());
        assert!(Input::of(ShippingScheduled::default().into()).is_none());
        assert!(Input::of(OrderFailed::default().into()).is_some_and(|read| read.is_err()));
        let of_no_refund = OrderRefunded { refund_id: String::new(), ..refunded(2) };
        assert!(Input::of(of_no_refund.into()).is_some_and(|read| read.is_err()));
    }
}
