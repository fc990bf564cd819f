//! The handler: commands of the saga, completed orders, and what people say of a shipment.

use std::collections::BTreeSet;

use contracts::{
    Message,
    ids::{self, NotAnId},
    order::v1::OrderCompleted,
    shipping::v1::{
        CancelShipment, ScheduleShipment, ShippingCancelled, ShippingDelivered, ShippingDispatched, ShippingFailed,
        ShippingScheduled,
    },
};
use messaging::{Decision, Envelope, Handler, Heard, News, Record};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    error::Refusal,
    shipment::{self, Ask, Mark, Said, Shipment, State},
    store::{self, Book},
};

pub(crate) struct Shipping;

#[derive(Debug)]
pub(crate) enum Input {
    /// About one shipment of an order.
    Told { order: Uuid, shipment: Uuid, ask: Ask },
    /// About the shipment of an order that was released.
    Marked { order: Uuid, mark: Mark },
}

impl Input {
    fn order(&self) -> Uuid {
        match self {
            Self::Told { order, .. } | Self::Marked { order, .. } => *order,
        }
    }

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
        Ok(Self::Told { order: ids::parse(&told.order_id)?, shipment: shipment_of(command), ask })
    }

    fn cancel(told: CancelShipment) -> Result<Self, NotAnId> {
        let undoes = ids::parse(&told.undoes)?;
        let ask = Ask::Cancel { customer: told.customer_id, command: ids::parse(&told.command_id)?, undoes };
        Ok(Self::Told { order: ids::parse(&told.order_id)?, shipment: shipment_of(undoes), ask })
    }

    fn release(told: &OrderCompleted) -> Result<Self, NotAnId> {
        let shipment = ids::parse(&told.shipment_id)?;
        Ok(Self::Told { order: ids::parse(&told.order_id)?, shipment, ask: Ask::Release })
    }
}

/// The shipment that this ScheduleShipment leads to.
fn shipment_of(command: Uuid) -> Uuid {
    ids::derive(command, "shipment")
}

impl Handler for Shipping {
    type Input = Input;
    /// The shipment that a call was about.
    type Answer = Option<Uuid>;
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        kit::hear(record, Input::of)
    }

    fn refuse(&self, record: &Record) -> Option<Input> {
        kit::refuse(record, |message| {
            let Message::ScheduleShipment(told) = message else { return None };
            let command = ids::parse(&told.command_id).ok()?;
            let ask = Ask::Refuse { customer: told.customer_id, command };
            Some(Input::Told { order: ids::parse(&told.order_id).ok()?, shipment: shipment_of(command), ask })
        })
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        let orders: BTreeSet<Uuid> = batch.iter().map(|asked| asked.input.order()).collect();
        store::load(db, orders).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<Option<Uuid>>, Refusal> {
        match &asked.input {
            Input::Told { order, shipment, ask } => {
                let (row, said) = shipment::settle(book.get(*order, *shipment), ask)?;
                if let Some(row) = row {
                    book.put(*order, *shipment, row);
                }
                Ok(Decision::new(None, news_of(*order, *shipment, ask, said).into_iter().collect()))
            }
            Input::Marked { order, mark } => marked(book, *order, mark),
        }
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

/// Of all shipments that an order ever had one at most was released; it is the one that is meant. Without it the last one says why not.
fn marked(book: &mut Book, order: Uuid, mark: &Mark) -> Result<Decision<Option<Uuid>>, Refusal> {
    let shipments = book.of_order(order);
    let released = shipments.iter().find(|(_, row)| row.state.is_released()).or(shipments.last());
    let (id, standing) = released.ok_or(Refusal::Unknown(order))?;
    let id = *id;
    let Some(row) = shipment::mark(standing, mark)? else { return Ok(Decision::quiet(Some(id))) };
    let news = news_of_mark(order, id, &row, mark);
    book.put(order, id, row);
    Ok(Decision::new(Some(id), vec![news]))
}

fn news_of_mark(order: Uuid, shipment: Uuid, row: &Shipment, mark: &Mark) -> News {
    let (order_id, customer_id, shipment_id) = (order.to_string(), row.customer.clone(), shipment.to_string());
    match mark {
        Mark::Dispatched { .. } => {
            let tracking_number = row.tracking_number.clone();
            kit::news(order, ShippingDispatched { order_id, customer_id, shipment_id, tracking_number })
        }
        Mark::Delivered => kit::news(order, ShippingDelivered { order_id, customer_id, shipment_id }),
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

    fn told(message: impl Into<Message>) -> Envelope<Input> {
        let (id, key) = (id(99), "key".to_owned());
        let input = Input::of(message.into()).unwrap().unwrap();
        Envelope { id, correlation: key.clone(), key, at: OffsetDateTime::UNIX_EPOCH, trace: messaging::Trace::default(), input }
    }

    fn schedule(order: u128) -> Envelope<Input> {
        let lines = vec![Line { sku: "prod-A".to_owned(), quantity: 1 }];
        let (order_id, command_id) = (id(order).to_string(), id(order + 1).to_string());
        told(ScheduleShipment { order_id, customer_id: "c".to_owned(), command_id, lines })
    }

    fn cancel(order: u128) -> Envelope<Input> {
        let (order_id, command_id, undoes) = (id(order).to_string(), id(order + 2).to_string(), id(order + 1).to_string());
        told(CancelShipment { order_id, customer_id: "c".to_owned(), command_id, undoes })
    }

    fn completed(order: u128) -> Envelope<Input> {
        let shipment_id = shipment_of(id(order + 1)).to_string();
        told(OrderCompleted { order_id: id(order).to_string(), shipment_id, ..OrderCompleted::default() })
    }

    /// The short names of what is said.
    fn said(book: &mut Book, asked: &Envelope<Input>) -> Vec<&'static str> {
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

    fn marked(order: u128, mark: Mark) -> Envelope<Input> {
        Envelope { input: Input::Marked { order: id(order), mark }, ..completed(order) }
    }

    fn dispatched(order: u128) -> Envelope<Input> {
        marked(order, Mark::Dispatched { tracking_number: "T-1".to_owned() })
    }

    #[test]
    fn a_shipment_leaves_and_arrives_and_each_is_told_once() {
        let mut book = Book::default();
        let refused = |book: &mut Book, asked| Shipping.decide(book, &asked).unwrap_err();
        assert_eq!(refused(&mut book, dispatched(10)), Refusal::Unknown(id(10)));
        said(&mut book, &schedule(10));
        assert_eq!(refused(&mut book, dispatched(10)), Refusal::NotReleased { state: "HELD" });
        said(&mut book, &completed(10));
        assert_eq!(refused(&mut book, marked(10, Mark::Delivered)), Refusal::NotDispatched);
        for expected in [&["ShippingDispatched"][..], &[]] {
            assert_eq!(said(&mut book, &dispatched(10)), expected);
        }
        for expected in [&["ShippingDelivered"][..], &[]] {
            assert_eq!(said(&mut book, &marked(10, Mark::Delivered)), expected);
        }
        assert!(said(&mut book, &completed(10)).is_empty(), "a repeat does not take it back");
        assert_eq!(book.fresh()[0].1.state, State::Delivered);
    }

    #[test]
    fn of_several_shipments_the_released_one_is_meant() {
        let mut book = Book::default();
        said(&mut book, &schedule(10));
        said(&mut book, &completed(10));
        for other in [schedule(30), cancel(40)] {
            let Input::Told { shipment, ask, .. } = other.input else { panic!("it is told") };
            let asked = Envelope { input: Input::Told { order: id(10), shipment, ask }, ..completed(10) };
            said(&mut book, &asked);
        }
        let decision = Shipping.decide(&mut book, &dispatched(10)).unwrap();
        assert_eq!(decision.answer, Some(shipment_of(id(11))));
    }

    #[test]
    fn a_refusal_leaves_the_rows_as_they_were() {
        let mut book = Book::default();
        assert_eq!(Shipping.decide(&mut book, &completed(10)).unwrap_err(), Refusal::NotYet);
        assert!(book.fresh().is_empty());
    }

    #[test]
    fn an_order_without_a_shipment_is_of_no_interest_and_a_bad_id_is_not_readable() {
        assert!(Input::of(OrderCompleted::default().into()).is_none());
        assert!(Input::of(ScheduleShipment::default().into()).is_some_and(|read| read.is_err()));
    }
}
