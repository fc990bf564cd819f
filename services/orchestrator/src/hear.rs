//! What each message means to the sagas of its order. Pure.
//!
//! A message says what it answers by the names of commands, not by places in one definition: which saga of the order asked, and as
//! which step, the command's id tells.

use bytes::Bytes;
use contracts::{
    Message,
    ids::{self, NotAnId},
    money::readable,
};
use uuid::Uuid;

#[derive(Debug)]
pub(crate) enum Means {
    /// A saga begins.
    Begins {
        /// Of this refund; else of the order itself.
        refund_id: Option<Uuid>,
        definition: String,
        /// The message as it came.
        payload: Bytes,
    },
    CancelRequested {
        reason: String,
    },
    Answered(Answered),
    /// No saga waits for it; the order's timeline is told.
    Happened(Fact),
}

#[derive(Debug)]
pub(crate) struct Answered {
    /// It answers one of these.
    pub(crate) answers: &'static [&'static str],
    /// To this one it is a no: the order came to the opposite before, and says so again. See [`why_denied`].
    pub(crate) denies: Option<&'static str>,
    /// Which one, in which attempt.
    pub(crate) command_id: String,
    pub(crate) said: Said,
    /// What the order's timeline is told. The order's own answers are there already.
    pub(crate) fact: Option<Fact>,
}

impl Answered {
    fn denying(self, command: &'static str) -> Means {
        Means::Answered(Self { denies: Some(command), ..self })
    }

    /// Whether a command of this name can be meant.
    pub(crate) fn may_answer(&self, command: &str) -> bool {
        self.answers.contains(&command) || self.denies == Some(command)
    }
}

#[derive(Debug)]
pub(crate) enum Said {
    Done,
    Refused {
        reason: String,
    },
    /// Nobody knows. An answer may still come.
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) event: &'static str,
    pub(crate) detail: String,
    pub(crate) keeps: Keeps,
}

/// What a later command or the customer needs of an answer.
#[derive(Debug)]
pub(crate) enum Keeps {
    Nothing,
    /// It took the money.
    Payment(String),
    Reservation(String),
    Shipment(String),
    Refunded(i64),
}

/// What the message means, and to which order; `None` if sagas don't listen to it.
pub(crate) fn hear(message: Message, payload: &Bytes) -> Option<Result<(Uuid, Means), NotAnId>> {
    let (order_id, means) = match message {
        Message::OrderCreated(told) => {
            (told.order_id, Means::Begins { refund_id: None, definition: told.definition, payload: payload.clone() })
        }
        Message::OrderRefundRequested(told) => match ids::parse(&told.refund_id) {
            Ok(refund_id) => {
                let refund_id = Some(refund_id);
                (told.order_id, Means::Begins { refund_id, definition: told.definition, payload: payload.clone() })
            }
            Err(error) => return Some(Err(error)),
        },
        Message::OrderCancelRequested(told) => (told.order_id, Means::CancelRequested { reason: told.reason }),
        Message::OrderCompleted(told) => {
            (told.order_id, answered(&["ConfirmOrder"], told.command_id, Said::Done, None).denying("CloseOrder"))
        }
        Message::OrderConfirmRefused(told) => {
            let said = Said::Refused { reason: "CONFIRM_REFUSED".to_owned() };
            (told.order_id, answer(&["ConfirmOrder"], told.command_id, said, None))
        }
        Message::OrderFailed(told) => (told.order_id, answer(&["CloseOrder"], told.command_id, Said::Done, None)),
        Message::OrderCancelled(told) => (told.order_id, answer(&["CloseOrder"], told.command_id, Said::Done, None)),
        Message::OrderRefunded(told) => {
            (told.order_id, answered(&["SettleRefund"], told.command_id, Said::Done, None).denying("RefuseRefund"))
        }
        Message::OrderRefundRefused(told) => {
            (told.order_id, answered(&["RefuseRefund"], told.command_id, Said::Done, None).denying("SettleRefund"))
        }

        Message::PaymentSucceeded(told) => {
            let fact = fact("PaymentSucceeded", readable(told.amount, &told.currency), Keeps::Payment(told.payment_id));
            (told.order_id, answer(&["ChargePayment"], told.command_id, Said::Done, fact))
        }
        Message::PaymentAuthorized(told) => {
            let fact = fact("PaymentAuthorized", readable(told.amount, &told.currency), Keeps::Nothing);
            (told.order_id, answer(&["AuthorizePayment"], told.command_id, Said::Done, fact))
        }
        Message::PaymentCaptured(told) => {
            let fact = fact("PaymentCaptured", readable(told.amount, &told.currency), Keeps::Payment(told.payment_id));
            (told.order_id, answer(&["CapturePayment"], told.command_id, Said::Done, fact))
        }
        Message::PaymentFailed(told) => {
            let fact = fact("PaymentFailed", told.reason.clone(), Keeps::Nothing);
            let answers = &["ChargePayment", "AuthorizePayment", "CapturePayment"];
            (told.order_id, answer(answers, told.command_id, Said::Refused { reason: told.reason }, fact))
        }
        Message::PaymentUnknown(told) => {
            let fact = fact("PaymentUnknown", told.reason, Keeps::Nothing);
            let answers = &["ChargePayment", "AuthorizePayment", "CapturePayment", "RefundPayment", "RefundCapture"];
            (told.order_id, answer(answers, told.command_id, Said::Unknown, fact))
        }
        Message::PaymentRefunded(told) => {
            let fact = fact("PaymentRefunded", readable(told.amount, &told.currency), Keeps::Refunded(told.amount));
            (told.order_id, answer(&["RefundPayment", "RefundCapture"], told.command_id, Said::Done, fact))
        }
        Message::PaymentVoided(told) => {
            let fact = fact("PaymentVoided", String::new(), Keeps::Nothing);
            (told.order_id, answer(&["RefundPayment"], told.command_id, Said::Done, fact))
        }
        Message::PaymentRefundFailed(told) => {
            let fact = fact("PaymentRefundFailed", told.reason.clone(), Keeps::Nothing);
            let said = Said::Refused { reason: told.reason };
            (told.order_id, answer(&["RefundPayment", "RefundCapture"], told.command_id, said, fact))
        }

        Message::InventoryReserved(told) => {
            let fact = fact("InventoryReserved", told.reservation_id.clone(), Keeps::Reservation(told.reservation_id));
            (told.order_id, answer(&["ReserveStock"], told.command_id, Said::Done, fact))
        }
        Message::InventoryFailed(told) => {
            let fact = fact("InventoryFailed", with_sku(&told.reason, &told.sku), Keeps::Nothing);
            (told.order_id, answer(&["ReserveStock"], told.command_id, Said::Refused { reason: told.reason }, fact))
        }
        Message::InventoryReleased(told) => {
            let fact = fact("InventoryReleased", told.reservation_id, Keeps::Nothing);
            (told.order_id, answer(&["ReleaseStock"], told.command_id, Said::Done, fact))
        }

        Message::ShippingScheduled(told) => {
            let fact = fact("ShippingScheduled", told.shipment_id.clone(), Keeps::Shipment(told.shipment_id));
            (told.order_id, answer(&["ScheduleShipment"], told.command_id, Said::Done, fact))
        }
        Message::ShippingFailed(told) => {
            let fact = fact("ShippingFailed", told.reason.clone(), Keeps::Nothing);
            (told.order_id, answer(&["ScheduleShipment"], told.command_id, Said::Refused { reason: told.reason }, fact))
        }
        Message::ShippingCancelled(told) => {
            let fact = fact("ShippingCancelled", told.shipment_id, Keeps::Nothing);
            (told.order_id, answer(&["CancelShipment"], told.command_id, Said::Done, fact))
        }
        Message::ShippingDispatched(told) => (told.order_id, happened("ShippingDispatched", told.tracking_number)),
        Message::ShippingDelivered(told) => (told.order_id, happened("ShippingDelivered", String::new())),
        _ => return None,
    };
    Some(ids::parse(&order_id).map(|order_id| (order_id, means)))
}

/// Why the order can only say no to what ends a saga; empty for any other command.
pub(crate) fn why_denied(command: &str) -> &'static str {
    match command {
        "CloseOrder" => "the order is confirmed",
        "SettleRefund" => "the order has this refund as refused",
        "RefuseRefund" => "the order has this refund as made",
        _ => "",
    }
}

fn answer(answers: &'static [&'static str], command_id: String, said: Said, fact: Option<Fact>) -> Means {
    Means::Answered(answered(answers, command_id, said, fact))
}

fn answered(answers: &'static [&'static str], command_id: String, said: Said, fact: Option<Fact>) -> Answered {
    Answered { answers, denies: None, command_id, said, fact }
}

fn fact(event: &'static str, detail: String, keeps: Keeps) -> Option<Fact> {
    Some(Fact { event, detail, keeps })
}

fn happened(event: &'static str, detail: String) -> Means {
    Means::Happened(Fact { event, detail, keeps: Keeps::Nothing })
}

fn with_sku(reason: &str, sku: &str) -> String {
    if sku.is_empty() { reason.to_owned() } else { format!("{reason}: {sku}") }
}

#[cfg(test)]
mod tests {
    use contracts::payment::v1::{PaymentAuthorized, PaymentCaptured, PaymentRefunded, PaymentSucceeded};

    use super::*;

    #[test]
    fn amounts_in_the_timeline_are_as_people_write_them() {
        for (amount, currency, expected) in [(2000, "USD", "20.00 USD"), (2000, "JPY", "2000 JPY"), (5, "KWD", "0.005 KWD")] {
            let (order_id, currency) = (Uuid::from_u128(1).to_string(), currency.to_owned());
            let told: [Message; 4] = [
                PaymentSucceeded { order_id: order_id.clone(), amount, currency: currency.clone(), ..Default::default() }.into(),
                PaymentAuthorized { order_id: order_id.clone(), amount, currency: currency.clone(), ..Default::default() }.into(),
                PaymentCaptured { order_id: order_id.clone(), amount, currency: currency.clone(), ..Default::default() }.into(),
                PaymentRefunded { order_id, amount, currency, ..Default::default() }.into(),
            ];
            for message in told {
                let heard = hear(message, &Bytes::new()).expect("sagas listen to it").expect("has an order id");
                let (_, Means::Answered(Answered { fact: Some(fact), .. })) = heard else { panic!("{heard:?}") };
                assert_eq!(fact.detail, expected, "{}", fact.event);
            }
        }
    }
}
