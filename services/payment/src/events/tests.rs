//! How old the cause of a call is: by that the dispatcher tells what a restore may have lost.

use contracts::{
    Message,
    payment::v1::{AuthorizePayment, CapturePayment, ChargePayment},
};
use messaging::{Stream, Trace};
use time::{Duration, macros::datetime};

use super::*;
use crate::payment::{Kind, Known, Made};

const ORDER: Uuid = Uuid::from_u128(1);
const OPEN: Uuid = Uuid::from_u128(2);
const CAPTURE: Uuid = Uuid::from_u128(3);
const SAID_AT: OffsetDateTime = datetime!(2025-03-04 5:06:07 UTC);

fn payments() -> Payments {
    Payments::new("sandbox", Handover::new(1).0, 1_000)
}

fn charge() -> ChargePayment {
    let (order_id, command_id) = (ORDER.to_string(), OPEN.to_string());
    ChargePayment { order_id, command_id, amount: 2_400, currency: "USD".into(), payment_token: String::new() }
}

/// A command that is heard three days after it was said.
fn heard(payments: &Payments, message: impl Into<Message>, at: OffsetDateTime) -> Envelope<Input> {
    let message = message.into();
    let record = Record {
        stream: Stream { topic: message.topic().into(), partition: 0 },
        place: None,
        kafka_offset: None,
        id: Uuid::from_u128(9),
        key: ORDER.to_string(),
        type_name: message.type_name().into(),
        payload: message.encode().into(),
        at,
        correlation: String::new(),
        causation: None,
        trace: Trace::default(),
    };
    match payments.hear(&record) {
        Heard::Input(input) => envelope(input, at + Duration::days(3)),
        other => panic!("{other:?}"),
    }
}

fn envelope(input: Input, at: OffsetDateTime) -> Envelope<Input> {
    let (id, key) = (Uuid::from_u128(9), ORDER.to_string());
    Envelope { id, correlation: key.clone(), key, at, trace: Trace::default(), input }
}

fn decided(payments: &Payments, book: &mut Book, asked: &Envelope<Input>) {
    payments.decide(book, asked).expect("decided");
}

#[test]
fn a_call_is_as_old_as_the_command_that_asked_for_it_however_late_that_is_heard() {
    let (payments, mut book) = (payments(), Book::default());
    decided(&payments, &mut book, &heard(&payments, charge(), SAID_AT));
    let calls: Vec<(Kind, OffsetDateTime)> = book.calls.values().map(|call| (call.kind, call.asked_at)).collect();
    assert_eq!(calls, [(Kind::Charge, SAID_AT)]);
}

#[test]
fn a_call_that_an_answer_leads_to_is_as_old_as_the_one_that_was_answered() {
    let (payments, mut book) = (payments(), Book::default());
    let ChargePayment { order_id, command_id, amount, currency, payment_token } = charge();
    let authorize = AuthorizePayment { order_id: order_id.clone(), command_id, amount, currency, payment_token };
    decided(&payments, &mut book, &heard(&payments, authorize, SAID_AT));
    let capture = CapturePayment { order_id, command_id: CAPTURE.to_string() };
    decided(&payments, &mut book, &heard(&payments, capture, SAID_AT + Duration::days(1)));
    let open = book.calls.values().next().expect("the authorization is asked for");
    let (made, asked_at) =
        (Made { kind: open.kind, key: open.key, amount: open.amount, currency: open.currency.clone() }, open.asked_at);

    let known = Known::Succeeded { auth_code: "A1".into() };
    let answered = Input::Change { order_id: ORDER, input: payment::Input::Answered { call: made, known }, asked_at };
    decided(&payments, &mut book, &envelope(answered, SAID_AT + Duration::days(5)));
    let calls: Vec<(Kind, OffsetDateTime)> = book.calls.values().map(|call| (call.kind, call.asked_at)).collect();
    assert_eq!(calls, [(Kind::Capture, SAID_AT)], "it may have been made since then");
}
