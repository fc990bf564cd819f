use contracts::time::to_proto;
use messaging::{Stream, Trace};

use super::*;
use crate::order::sample;

const ORDER: Uuid = Uuid::from_u128(1);
const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn orders() -> Orders {
    Orders::new(Arc::default(), "checkout")
}

/// With one order, which has its first entry.
fn book(status: Status) -> Book {
    Book { orders: BTreeMap::from([(ORDER, sample(ORDER, status))]), ..Book::default() }
}

fn record(id: u128, message: impl Into<Message>) -> Record {
    let message = message.into();
    Record {
        stream: Stream { topic: message.topic().into(), partition: 0 },
        place: None,
        kafka_offset: None,
        id: Uuid::from_u128(id),
        key: ORDER.to_string(),
        type_name: message.type_name().into(),
        payload: message.encode().into(),
        at: AT,
        correlation: ORDER.to_string(),
        causation: None,
        trace: Trace::default(),
    }
}

fn envelope(id: u128, input: Input) -> Envelope<Input> {
    let (id, key) = (Uuid::from_u128(id), ORDER.to_string());
    Envelope { id, correlation: key.clone(), key, at: AT, trace: Trace::default(), input }
}

fn heard(id: u128, message: impl Into<Message>) -> Envelope<Input> {
    let Heard::Input(input) = orders().hear(&record(id, message)) else { panic!("it is not heard") };
    envelope(id, input)
}

fn facts(events: &[&str]) -> Vec<proto::Fact> {
    events.iter().map(|event| proto::Fact { event: (*event).into(), occurred_at: None, detail: "why".into() }).collect()
}

fn confirm(events: &[&str]) -> proto::ConfirmOrder {
    proto::ConfirmOrder { order_id: ORDER.to_string(), facts: facts(events), ..Default::default() }
}

fn close(events: &[&str]) -> proto::CloseOrder {
    proto::CloseOrder { order_id: ORDER.to_string(), reason: "OUT_OF_STOCK".into(), facts: facts(events), ..Default::default() }
}

/// The short names of what is said.
fn said(book: &mut Book, asked: &Envelope<Input>) -> Vec<&'static str> {
    let decision = orders().decide(book, asked).unwrap();
    decision.news.iter().map(|news| news.type_name.rsplit('.').next().unwrap()).collect()
}

fn written(book: &Book) -> Vec<(i32, &str)> {
    book.entries.iter().map(|entry| (entry.version, entry.event.as_str())).collect()
}

#[test]
fn facts_are_written_before_the_confirmation_and_each_once() {
    let mut book = book(Status::Paid);
    let asked = heard(10, confirm(&["ShippingScheduled", "SagaResumed"]));
    for _ in 0..2 {
        assert_eq!(said(&mut book, &asked), ["OrderCompleted"]);
    }
    assert_eq!(written(&book), [(2, "ShippingScheduled"), (3, "SagaResumed"), (4, "OrderCompleted")]);
    assert_eq!((book.orders[&ORDER].status, book.orders[&ORDER].version), (Status::Confirmed, 4));
    let causes: HashSet<Uuid> = book.entries.iter().map(|entry| entry.cause).collect();
    assert_eq!(causes, (0..3).map(|nth| cause(asked.id, nth)).collect(), "what is looked up before");
    assert_eq!(causes.len(), 3);
}

#[test]
fn a_command_that_is_asked_again_is_answered_and_writes_nothing() {
    for (status, command, answer) in [
        (Status::Paid, Message::from(confirm(&["ShippingScheduled"])), "OrderCompleted"),
        (Status::Compensating, close(&["PaymentRefunded"]).into(), "OrderFailed"),
    ] {
        let mut book = book(status);
        let again = match command {
            Message::ConfirmOrder(_) => Message::from(confirm(&[])),
            _ => close(&[]).into(),
        };
        assert_eq!(said(&mut book, &heard(10, command)), [answer]);
        assert_eq!(said(&mut book, &heard(11, again)), [answer]);
        assert_eq!(book.entries.len(), 2, "{answer}");
    }
}

#[test]
fn facts_by_themselves_make_the_same_story() {
    for (status, command, alone) in [
        (Status::Paid, Message::from(confirm(&["ShippingScheduled"])), Message::from(confirm(&[]))),
        (Status::Cancelling, confirm(&["ShippingScheduled"]).into(), confirm(&[]).into()),
        (Status::Compensating, close(&["ShippingScheduled"]).into(), close(&[]).into()),
    ] {
        let (order_id, occurred_at) = (ORDER.to_string(), Some(to_proto(AT)));
        let fact = proto::RecordProgress { order_id, event: "ShippingScheduled".into(), occurred_at, detail: "why".into() };
        let (mut before, mut now) = (book(status), book(status));
        assert!(said(&mut before, &heard(10, fact)).is_empty());
        assert_eq!(said(&mut before, &heard(11, alone)), said(&mut now, &heard(10, command)));
        assert_eq!(written(&before), written(&now));
        assert_eq!(before.orders, now.orders);
    }
}

#[test]
fn a_fact_moves_the_order_before_the_command_is_judged() {
    let mut pending = book(Status::Pending);
    assert_eq!(said(&mut pending, &heard(10, confirm(&["SagaStarted", "PaymentSucceeded"]))), ["OrderCompleted"]);
    let mut paid = book(Status::Paid);
    assert_eq!(said(&mut paid, &heard(10, confirm(&["SagaCompensating"]))), ["OrderConfirmRefused"]);
    assert_eq!(paid.orders[&ORDER].reason, "why");
}

#[test]
fn what_a_command_that_is_given_up_brought_along_is_told() {
    let given_up = |message: Message| orders().refuse(&record(10, message)).map(|input| envelope(10, input));

    let mut paid = book(Status::Paid);
    let asked = given_up(confirm(&["ShippingScheduled"]).into()).unwrap();
    assert_eq!(said(&mut paid, &asked), ["OrderConfirmRefused"]);
    assert_eq!(written(&paid), [(2, "ShippingScheduled"), (3, "OrderConfirmDiscarded")]);

    let mut compensating = book(Status::Compensating);
    let asked = given_up(close(&["PaymentRefunded"]).into()).unwrap();
    assert!(said(&mut compensating, &asked).is_empty(), "nobody is answered");
    assert_eq!(written(&compensating), [(2, "PaymentRefunded")]);
    assert_eq!(compensating.orders[&ORDER].status, Status::Compensating);

    assert!(given_up(close(&[]).into()).is_none());
}

#[test]
fn what_cannot_be_read_is_named() {
    let unreadable = |message: Message| match orders().hear(&record(10, message)) {
        Heard::Undecodable(reason) => reason,
        _ => panic!("it is read"),
    };
    let events = ["X"; FACTS_MAX + 1];
    assert!(matches!(orders().hear(&record(10, confirm(&events[1..]))), Heard::Input(_)));
    assert_eq!(unreadable(confirm(&events).into()), "facts: 17 of them, more than 16");
    assert!(unreadable(proto::CloseOrder::default().into()).starts_with("order_id: "));
}

#[test]
fn an_order_that_is_not_there_yet_is_left_alone() {
    let mut empty = Book::default();
    let refused = orders().decide(&mut empty, &heard(10, confirm(&["ShippingScheduled"])));
    assert!(matches!(refused, Err(Refusal::Unknown(id)) if id == ORDER));
    assert!(empty.entries.is_empty() && empty.orders.is_empty());
}
