//! The sagas of one order, played message by message, and participants that answer as they are told to.

use bytes::Bytes;
use contracts::{
    Message,
    inventory::v1::{InventoryFailed, InventoryReleased, InventoryReserved},
    order::v1::{
        OrderCancelRequested, OrderCompleted, OrderConfirmRefused, OrderCreated, OrderFailed, OrderItem, OrderRefundRefused,
        OrderRefundRequested, OrderRefunded,
    },
    payment::v1::{
        PaymentAuthorized, PaymentCaptured, PaymentFailed, PaymentRefundFailed, PaymentRefunded, PaymentSucceeded, PaymentUnknown,
    },
    shipping::v1::{ShippingCancelled, ShippingFailed, ShippingScheduled},
};
use messaging::Trace;
use saga::{Definition, Operation};

use super::super::*;
use crate::{
    definitions::{DEFINITIONS, REFUND},
    hear::hear,
};

pub(super) const ORDER: Uuid = Uuid::from_u128(0x0190_d3a8_7c1e_7000_8000_0000_0000_0001);
pub(super) const TOTAL: i64 = 2405;

#[derive(Clone)]
pub(super) struct Play {
    pub(super) book: Book,
    pub(super) at: OffsetDateTime,
    /// The saga it is about.
    pub(super) key: Key,
    inputs: u128,
}

impl Play {
    /// A saga that just began, and its first command.
    pub(super) fn new(definition: &Definition) -> (Self, Message) {
        let refund_id = Uuid::from_u128(0xf1);
        let (cause, begins) = match definition.name == REFUND.name {
            true => (refund_id, refund_requested(refund_id, 405)),
            false => (ORDER, created(definition.name)),
        };
        let key = (ORDER, definitions::saga_id(cause, definition.name));
        let mut play = Self { book: Book::default(), at: OffsetDateTime::UNIX_EPOCH, key, inputs: 0 };
        let first = play.asks(begins);
        (play, first)
    }

    /// Before the step of this place is answered, and the command that asks it.
    pub(super) fn at_step(definition: &Definition, place: usize) -> (Self, Message) {
        let (mut play, mut asked) = Self::new(definition);
        for step in &definition.steps[..place] {
            assert_eq!(name(&asked), step.command);
            asked = play.asks(done(&asked));
        }
        assert_eq!(name(&asked), definition.steps[place].command);
        (play, asked)
    }

    pub(super) fn hear(&mut self, message: Message) -> Vec<Message> {
        self.heard(message).expect("is decided")
    }

    pub(super) fn heard(&mut self, message: Message) -> Result<Vec<Message>, Refusal> {
        let payload = Bytes::from(message.encode());
        let (order_id, means) = hear(message, &payload).expect("sagas listen to it").expect("has ids");
        self.decide(Input::Heard { order_id, means })
    }

    /// The one command that follows.
    pub(super) fn asks(&mut self, message: Message) -> Message {
        let news = self.hear(message);
        let [asked] = &commands(&news)[..] else { panic!("{:?}", names(&news)) };
        asked.clone()
    }

    pub(super) fn due(&mut self, unread: &[(&str, OffsetDateTime)]) -> Vec<Message> {
        let deadline_at = self.saga().deadline_at.expect("waits for an answer");
        self.at = deadline_at;
        let unread = Arc::new(unread.iter().map(|(topic, since)| ((*topic).to_owned(), *since)).collect());
        self.decide(Input::Due { order_id: self.key.0, saga_id: self.key.1, deadline_at, unread }).expect("is decided")
    }

    pub(super) fn operate(&mut self, operation: Operation) -> Result<Vec<Message>, Refusal> {
        let version = self.saga().version;
        self.operate_on(operation, Some(version))
    }

    pub(super) fn operate_on(&mut self, operation: Operation, expected_version: Option<i64>) -> Result<Vec<Message>, Refusal> {
        self.decide(Input::Operated(Asked {
            order_id: self.key.0,
            saga_id: Some(self.key.1),
            expected_version,
            operation,
            who: "ann".into(),
            reason: "it was time".into(),
        }))
    }

    pub(super) fn decide(&mut self, input: Input) -> Result<Vec<Message>, Refusal> {
        self.inputs += 1;
        self.decide_as(Uuid::from_u128(self.inputs), input)
    }

    pub(super) fn decide_as(&mut self, id: Uuid, input: Input) -> Result<Vec<Message>, Refusal> {
        let key = self.key.0.to_string();
        let asked = Envelope { id, correlation: key.clone(), key, at: self.at, trace: Trace::default(), input };
        let decision = Orchestrator { known: Known::new(&DEFINITIONS, &[]) }.decide(&mut self.book, &asked)?;
        let read = |type_name, payload| Message::decode(type_name, payload).expect("is known").expect("is readable");
        Ok(decision.news.iter().map(|news| read(news.type_name, &news.payload)).collect())
    }

    pub(super) fn saga(&self) -> &Instance {
        &self.book.sagas[&self.key]
    }
}

pub(super) fn created(definition: &str) -> Message {
    OrderCreated {
        order_id: ORDER.to_string(),
        customer_id: "c-1".into(),
        currency: "USD".into(),
        total: TOTAL,
        items: vec![OrderItem { sku: "SKU-123".into(), quantity: 2, unit_price: Some(1200) }],
        payment_token: "tok".into(),
        definition: definition.into(),
    }
    .into()
}

pub(super) fn refund_requested(refund_id: Uuid, amount: i64) -> Message {
    OrderRefundRequested {
        order_id: ORDER.to_string(),
        customer_id: "c-1".into(),
        refund_id: refund_id.to_string(),
        amount,
        currency: "USD".into(),
        reason: "one was broken".into(),
        definition: "refund".into(),
    }
    .into()
}

pub(super) fn cancel() -> Message {
    OrderCancelRequested { order_id: ORDER.to_string(), reason: "changed my mind".into(), ..Default::default() }.into()
}

pub(super) fn name(message: &Message) -> &'static str {
    message.type_name().rsplit('.').next().unwrap_or_default()
}

/// Names of the messages, behind the facts that they bring along; a fact by itself is `+` and its event.
pub(super) fn names(news: &[Message]) -> Vec<String> {
    let name = |message: &Message| {
        let facts = match message {
            Message::RecordProgress(fact) => return format!("+{}", fact.event),
            Message::ConfirmOrder(confirm) => confirm.facts.as_slice(),
            Message::CloseOrder(close) => close.facts.as_slice(),
            _ => &[],
        };
        facts.iter().map(|fact| fact.event.as_str()).chain([name(message)]).collect::<Vec<_>>().join("+")
    };
    news.iter().map(name).collect()
}

/// What is asked of participants.
pub(super) fn commands(news: &[Message]) -> Vec<Message> {
    let asks = |message: &&Message| message.topic().ends_with(".commands") && !matches!(message, Message::RecordProgress(_));
    news.iter().filter(asks).cloned().collect()
}

pub(super) fn command_id(command: &Message) -> String {
    match command {
        Message::ChargePayment(told) => told.command_id.clone(),
        Message::AuthorizePayment(told) => told.command_id.clone(),
        Message::CapturePayment(told) => told.command_id.clone(),
        Message::RefundPayment(told) => told.command_id.clone(),
        Message::RefundCapture(told) => told.command_id.clone(),
        Message::ReserveStock(told) => told.command_id.clone(),
        Message::ReleaseStock(told) => told.command_id.clone(),
        Message::ScheduleShipment(told) => told.command_id.clone(),
        Message::CancelShipment(told) => told.command_id.clone(),
        Message::ConfirmOrder(told) => told.command_id.clone(),
        Message::CloseOrder(told) => told.command_id.clone(),
        Message::SettleRefund(told) => told.command_id.clone(),
        Message::RefuseRefund(told) => told.command_id.clone(),
        other => panic!("{} is no command", name(other)),
    }
}

/// The answer that the command was carried out.
pub(super) fn done(command: &Message) -> Message {
    let (order_id, command_id) = (ORDER.to_string(), command_id(command));
    let (amount, currency, payment_id) = (TOTAL, "USD".to_owned(), "pay-1".to_owned());
    match command {
        Message::ChargePayment(_) => {
            PaymentSucceeded { order_id, command_id, payment_id, amount, currency, ..Default::default() }.into()
        }
        Message::AuthorizePayment(_) => {
            PaymentAuthorized { order_id, command_id, payment_id, amount, currency, ..Default::default() }.into()
        }
        Message::CapturePayment(_) => PaymentCaptured { order_id, command_id, payment_id, amount, currency }.into(),
        Message::RefundPayment(_) => {
            PaymentRefunded { order_id, command_id, payment_id, amount, currency, ..Default::default() }.into()
        }
        Message::RefundCapture(told) => {
            let (refund_id, amount) = (told.refund_id.clone(), told.amount);
            PaymentRefunded { order_id, command_id, payment_id, refund_id, amount, currency }.into()
        }
        Message::ReserveStock(_) => {
            InventoryReserved { order_id, command_id, reservation_id: "res-1".into(), ..Default::default() }.into()
        }
        Message::ReleaseStock(_) => InventoryReleased { order_id, command_id, ..Default::default() }.into(),
        Message::ScheduleShipment(_) => {
            ShippingScheduled { order_id, command_id, shipment_id: "ship-1".into(), ..Default::default() }.into()
        }
        Message::CancelShipment(_) => ShippingCancelled { order_id, command_id, ..Default::default() }.into(),
        Message::ConfirmOrder(_) => OrderCompleted { order_id, command_id, ..Default::default() }.into(),
        Message::CloseOrder(_) => OrderFailed { order_id, command_id, ..Default::default() }.into(),
        Message::SettleRefund(_) => OrderRefunded { order_id, command_id, ..Default::default() }.into(),
        Message::RefuseRefund(_) => OrderRefundRefused { order_id, command_id, ..Default::default() }.into(),
        other => panic!("{} is no command", name(other)),
    }
}

/// The answer that refuses the command; `None` where there is none.
pub(super) fn refused(command: &Message) -> Option<Message> {
    let (order_id, command_id, reason) = (ORDER.to_string(), command_id(command), "SO_IT_IS".to_owned());
    match command {
        Message::ChargePayment(_) | Message::AuthorizePayment(_) | Message::CapturePayment(_) => {
            Some(PaymentFailed { order_id, command_id, reason, ..Default::default() }.into())
        }
        Message::RefundPayment(_) | Message::RefundCapture(_) => {
            Some(PaymentRefundFailed { order_id, command_id, reason, ..Default::default() }.into())
        }
        Message::ReserveStock(_) => Some(InventoryFailed { order_id, command_id, reason, ..Default::default() }.into()),
        Message::ScheduleShipment(_) => Some(ShippingFailed { order_id, command_id, reason, ..Default::default() }.into()),
        Message::ConfirmOrder(_) => Some(OrderConfirmRefused { order_id, command_id, ..Default::default() }.into()),
        _ => None,
    }
}

/// The payment service cannot find out what became of the command.
pub(super) fn unknown(command: &Message) -> Message {
    let (order_id, command_id) = (ORDER.to_string(), command_id(command));
    PaymentUnknown { order_id, command_id, reason: "NO_ANSWER".into(), ..Default::default() }.into()
}
