//! The handler: commands of the saga, and completed orders.

use std::collections::BTreeSet;

use contracts::{
    Message,
    ids::{self, NotAnId},
    order::v1::OrderCompleted,
    shipping::v1::{CancelShipment, ScheduleShipment, ShippingCancelled, ShippingFailed, ShippingScheduled},
};
use messaging::{Decision, Envelope, Handler, Heard, News, Record};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    error::Refusal,
    shipment::{self, Ask, Said, State},
    store::{self, Book},
};

pub(crate) struct Shipping;

/// Something about one shipment of an order.
#[derive(Debug)]
pub(crate) struct Told {
    order: Uuid,
    shipment: Uuid,
    ask: Ask,
}

impl Told {
    /// What a message means here; `None` if nothing.
    fn of(message: Message) -> Option<Result<Self, NotAnId>> {
        match message {
            Message::ScheduleShipment(told) => Some(Self::schedule(told)),
            Message::CancelShipment(told) => Some(Self::cancel(told)),
            // An order without a shipment has nothing to release.
            Message::OrderCompleted(told) if !told.shipment_id.is_empty() => Some(Self::release(&told)),
            _ => None,
        }
    }

    fn schedule(told: ScheduleShipment) -> Result<Self, NotAnId> {
        let command = ids::parse(&told.command_id)?;
        let ask = Ask::Schedule { customer: told.customer_id, command, lines: told.lines };
        Ok(Self { order: ids::parse(&told.order_id)?, shipment: shipment_of(command), ask })
    }

    fn cancel(told: CancelShipment) -> Result<Self, NotAnId> {
        let undoes = ids::parse(&told.undoes)?;
        let ask = Ask::Cancel { customer: told.customer_id, command: ids::parse(&told.command_id)?, undoes };
        Ok(Self { order: ids::parse(&told.order_id)?, shipment: shipment_of(undoes), ask })
    }

    fn release(told: &OrderCompleted) -> Result<Self, NotAnId> {
        let shipment = ids::parse(&told.shipment_id)?;
        Ok(Self { order: ids::parse(&told.order_id)?, shipment, ask: Ask::Release })
    }
}

/// The shipment that this ScheduleShipment leads to.
fn shipment_of(command: Uuid) -> Uuid {
    ids::derive(command, "shipment")
}

impl Handler for Shipping {
    type Input = Told;
    type Answer = ();
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Told> {
        kit::hear(record, Told::of)
    }

    fn refuse(&self, record: &Record) -> Option<Told> {
        kit::refuse(record, |message| {
            let Message::ScheduleShipment(told) = message else { return None };
            let command = ids::parse(&told.command_id).ok()?;
            let ask = Ask::Refuse { customer: told.customer_id, command };
            Some(Told { order: ids::parse(&told.order_id).ok()?, shipment: shipment_of(command), ask })
        })
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Told>]) -> sqlx::Result<Book> {
        let orders: BTreeSet<Uuid> = batch.iter().map(|asked| asked.input.order).collect();
        store::load(db, orders).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Told>) -> Result<Decision<()>, Refusal> {
        let Told { order, shipment, ask } = &asked.input;
        let (row, said) = shipment::settle(book.get(*order, *shipment), ask)?;
        if let Some(row) = row {
            book.put(*order, *shipment, row);
        }
        Ok(Decision::new((), news_of(*order, *shipment, ask, said).into_iter().collect()))
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        store::save(db, &book).await?;
        for ((order, _), shipment) in book.fresh() {
            if shipment.state == State::Held {
                tracing::debug!("[Shipping Service] Successfully scheduled shipment for Order ID: {order}");
            }
        }
        Ok(())
    }
}

fn news_of(order: Uuid, shipment: Uuid, ask: &Ask, said: Said) -> Option<News> {
    let (Ask::Schedule { customer, command, .. } | Ask::Cancel { customer, command, .. } | Ask::Refuse { customer, command }) = ask
    else {
        return None;
    };
    let (order_id, customer_id, command_id) = (order.to_string(), customer.clone(), command.to_string());
    let shipment_id = shipment.to_string();
    match said {
        Said::Scheduled => Some(kit::news(order, ShippingScheduled { order_id, customer_id, command_id, shipment_id })),
        Said::Failed(reason) => Some(kit::news(order, ShippingFailed { order_id, customer_id, command_id, reason })),
        Said::Cancelled => Some(kit::news(order, ShippingCancelled { order_id, customer_id, command_id, shipment_id })),
        Said::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use contracts::common::v1::Line;
    use time::OffsetDateTime;

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn told(message: impl Into<Message>) -> Envelope<Told> {
        let (id, key) = (id(99), "key".to_owned());
        let input = Told::of(message.into()).unwrap().unwrap();
        Envelope { id, correlation: key.clone(), key, at: OffsetDateTime::UNIX_EPOCH, trace: messaging::Trace::default(), input }
    }

    fn schedule(order: u128) -> Envelope<Told> {
        let lines = vec![Line { sku: "prod-A".to_owned(), quantity: 1 }];
        let (order_id, command_id) = (id(order).to_string(), id(order + 1).to_string());
        told(ScheduleShipment { order_id, customer_id: "c".to_owned(), command_id, lines })
    }

    fn cancel(order: u128) -> Envelope<Told> {
        let (order_id, command_id, undoes) = (id(order).to_string(), id(order + 2).to_string(), id(order + 1).to_string());
        told(CancelShipment { order_id, customer_id: "c".to_owned(), command_id, undoes })
    }

    fn completed(order: u128) -> Envelope<Told> {
        let shipment_id = shipment_of(id(order + 1)).to_string();
        told(OrderCompleted { order_id: id(order).to_string(), shipment_id, ..OrderCompleted::default() })
    }

    /// The short names of what is said.
    fn said(book: &mut Book, asked: &Envelope<Told>) -> Vec<&'static str> {
        let decision = Shipping.decide(book, asked).unwrap();
        decision.news.iter().map(|news| news.type_name.rsplit('.').next().unwrap()).collect()
    }

    #[test]
    fn a_batch_sees_its_own_changes_and_repeats_have_no_effect() {
        let mut book = Book::default();
        for _ in 0..2 {
            assert_eq!(said(&mut book, &schedule(10)), ["ShippingScheduled"]);
        }
        for _ in 0..2 {
            assert!(said(&mut book, &completed(10)).is_empty());
        }
        assert_eq!(said(&mut book, &cancel(20)), ["ShippingCancelled"]);
        assert_eq!(said(&mut book, &schedule(20)), ["ShippingFailed"]);
        let states: Vec<&str> = book.fresh().iter().map(|(_, row)| row.state.name()).collect();
        assert_eq!(states, ["RELEASED", "VOIDED"]);
    }

    #[test]
    fn a_refusal_leaves_the_rows_as_they_were() {
        let mut book = Book::default();
        assert_eq!(Shipping.decide(&mut book, &completed(10)).unwrap_err(), Refusal::NotYet);
        assert!(book.fresh().is_empty());
    }

    #[test]
    fn an_order_without_a_shipment_is_of_no_interest_and_a_bad_id_is_not_readable() {
        assert!(Told::of(OrderCompleted::default().into()).is_none());
        assert!(Told::of(ScheduleShipment::default().into()).is_some_and(|read| read.is_err()));
    }
}
