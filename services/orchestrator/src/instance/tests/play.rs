//! One saga, played message by message.

use contracts::{
    inventory::v1::{InventoryFailed, InventoryReleased, InventoryReserved},
    order::v1::{OrderCancelRequested, OrderCancelled, OrderCompleted, OrderConfirmRefused, OrderFailed, OrderItem},
    payment::v1::{PaymentFailed, PaymentRefundFailed, PaymentRefunded, PaymentSucceeded, PaymentVoided},
    shipping::v1::{ShippingCancelled, ShippingFailed, ShippingScheduled},
};
use saga::State;

use super::super::*;
use super::names;
use crate::{definitions::CHECKOUT, hear::hear};

pub(super) const ORDER: Uuid = Uuid::from_u128(0x0190_d3a8_7c1e_7000_8000_0000_0000_0001);

/// One saga, played message by message.
pub(super) struct Play {
    pub(super) saga: Option<Instance>,
    pub(super) at: OffsetDateTime,
}

impl Play {
    /// Of an order that was just created.
    pub(super) fn new() -> (Self, Vec<String>) {
        let mut play = Self { saga: None, at: OffsetDateTime::UNIX_EPOCH };
        let news = play.hear(created());
        (play, names(&news))
    }

    /// Before the step of this number is answered.
    pub(super) fn at_step(step: usize) -> Self {
        let (mut play, _) = Self::new();
        for answer in [Self::charged, Self::reserved, Self::scheduled].into_iter().take(step) {
            let message = answer(&play);
            play.hear(message);
        }
        play
    }

    pub(super) fn hear(&mut self, message: impl Into<Message>) -> Vec<Message> {
        let message = message.into();
        let payload = Bytes::from(message.encode());
        let (order_id, means) = hear(message, &payload).expect("sagas listen to it").expect("has an order id");
        let trace = Trace::default();
        let turn = match (&self.saga, &means) {
            (None, Means::Begins { definition, payload, .. }) => {
                let key = (order_id, definitions::saga_id(order_id, definition));
                assert_eq!(definition, CHECKOUT.name);
                Instance::start(key, &CHECKOUT, payload.clone(), self.at, &trace)
            }
            (None, _) => panic!("not started"),
            (Some(saga), _) => saga.hear(&means, self.at, &trace),
        };
        self.take(turn.expect("is decided"))
    }

    pub(super) fn due(&mut self) -> Vec<Message> {
        let deadline_at = self.saga().deadline_at.expect("waits for an answer");
        let turn = self.saga().due(deadline_at, &Unread::new(), deadline_at).expect("is decided");
        self.at = deadline_at;
        self.take(turn)
    }

    fn take(&mut self, turn: Option<Turn>) -> Vec<Message> {
        let Some((saga, news)) = turn else { return Vec::new() };
        self.saga = Some(saga);
        news
    }

    pub(super) fn saga(&self) -> &Instance {
        self.saga.as_ref().expect("is started")
    }

    pub(super) fn state(&self) -> State {
        self.saga().progress.state()
    }

    pub(super) fn do_id(&self, step: usize) -> String {
        Command::Do { step, attempt: 1 }.id(&CHECKOUT, self.saga().saga_id).to_string()
    }

    pub(super) fn undo_id(&self, step: usize) -> String {
        Command::Undo { step, attempt: 1 }.id(&CHECKOUT, self.saga().saga_id).to_string()
    }

    fn close_id(&self) -> String {
        Command::Close { attempt: 1 }.id(&CHECKOUT, self.saga().saga_id).to_string()
    }

    pub(super) fn charged(&self) -> Message {
        PaymentSucceeded {
            order_id: ORDER.to_string(),
            command_id: self.do_id(0),
            payment_id: "pay-1".into(),
            amount: 2405,
            currency: "USD".into(),
            ..Default::default()
        }
        .into()
    }

    pub(super) fn declined(&self) -> Message {
        PaymentFailed {
            order_id: ORDER.to_string(),
            command_id: self.do_id(0),
            reason: "CARD_DECLINED".into(),
            ..Default::default()
        }
        .into()
    }

    pub(super) fn reserved(&self) -> Message {
        let (order_id, command_id) = (ORDER.to_string(), self.do_id(1));
        InventoryReserved { order_id, command_id, reservation_id: "res-1".into(), ..Default::default() }.into()
    }

    pub(super) fn out_of_stock(&self) -> Message {
        let (order_id, command_id) = (ORDER.to_string(), self.do_id(1));
        InventoryFailed { order_id, command_id, reason: "OUT_OF_STOCK".into(), sku: "SKU-EMPTY".into() }.into()
    }

    pub(super) fn scheduled(&self) -> Message {
        let (order_id, command_id) = (ORDER.to_string(), self.do_id(2));
        ShippingScheduled { order_id, command_id, shipment_id: "ship-1".into(), ..Default::default() }.into()
    }

    pub(super) fn unshippable(&self) -> Message {
        let (order_id, command_id) = (ORDER.to_string(), self.do_id(2));
        ShippingFailed { order_id, command_id, reason: "UNSHIPPABLE".into(), ..Default::default() }.into()
    }

    pub(super) fn completed(&self) -> Message {
        OrderCompleted { order_id: ORDER.to_string(), command_id: self.do_id(3), ..Default::default() }.into()
    }

    pub(super) fn confirm_refused(&self) -> Message {
        OrderConfirmRefused { order_id: ORDER.to_string(), command_id: self.do_id(3), ..Default::default() }.into()
    }

    pub(super) fn refunded(&self) -> Message {
        let (order_id, command_id) = (ORDER.to_string(), self.undo_id(0));
        PaymentRefunded { order_id, command_id, amount: 2405, currency: "USD".into(), ..Default::default() }.into()
    }

    pub(super) fn voided(&self) -> Message {
        PaymentVoided { order_id: ORDER.to_string(), command_id: self.undo_id(0), ..Default::default() }.into()
    }

    pub(super) fn refund_refused(&self) -> Message {
        let (order_id, command_id) = (ORDER.to_string(), self.undo_id(0));
        PaymentRefundFailed { order_id, command_id, reason: "TOO_OLD".into(), ..Default::default() }.into()
    }

    pub(super) fn released(&self) -> Message {
        InventoryReleased { order_id: ORDER.to_string(), command_id: self.undo_id(1), ..Default::default() }.into()
    }

    pub(super) fn unscheduled(&self) -> Message {
        ShippingCancelled { order_id: ORDER.to_string(), command_id: self.undo_id(2), ..Default::default() }.into()
    }

    pub(super) fn failed(&self) -> Message {
        OrderFailed { order_id: ORDER.to_string(), command_id: self.close_id(), ..Default::default() }.into()
    }

    pub(super) fn cancelled(&self) -> Message {
        OrderCancelled { order_id: ORDER.to_string(), command_id: self.close_id(), ..Default::default() }.into()
    }
}

pub(super) fn created() -> OrderCreated {
    OrderCreated {
        order_id: ORDER.to_string(),
        customer_id: "c-1".into(),
        currency: "USD".into(),
        total: 2405,
        items: vec![OrderItem { sku: "SKU-123".into(), quantity: 2, unit_price: Some(1200) }],
        payment_token: "tok".into(),
        definition: "checkout".into(),
    }
}

pub(super) fn cancel() -> Message {
    OrderCancelRequested { order_id: ORDER.to_string(), reason: "changed my mind".into(), ..Default::default() }.into()
}
