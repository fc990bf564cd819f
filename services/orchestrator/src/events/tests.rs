mod denied;
mod each_step;
mod operators;
mod play;
mod stored;

use contracts::{
    Message,
    shipping::v1::{ShippingDelivered, ShippingDispatched},
};
use messaging::{Refused, Verdict};
use play::{ORDER, Play, cancel, commands, created, done, names, refund_requested, refused};
use saga::{Definition, Operation, State, step};
use time::Duration;

use super::*;
use crate::definitions::{CHECKOUT, REFUND};

/// A saga that was settled, and two refunds of its order that just began.
fn two_refunds() -> (Play, [Message; 2]) {
    let (mut play, confirm) = Play::at_step(&CHECKOUT, 3);
    play.hear(done(&confirm));
    let asked = [(0xf1, 405), (0xf2, 300)].map(|(id, amount)| play.asks(refund_requested(Uuid::from_u128(id), amount)));
    (play, asked)
}

fn of_refund(play: &Play, refund_id: u128) -> &Instance {
    &play.book.sagas[&(ORDER, definitions::saga_id(Uuid::from_u128(refund_id), REFUND.name))]
}

#[test]
fn an_order_has_a_saga_of_each_refund_and_an_answer_finds_its_own() {
    let (mut play, [first, second]) = two_refunds();
    let settle = play.asks(done(&second));
    let Message::SettleRefund(told) = &settle else { panic!("{settle:?}") };
    assert_eq!(told.refund_id, Uuid::from_u128(0xf2).to_string());
    assert_eq!(names(&play.hear(done(&settle))), ["SagaCompleted"]);
    assert_eq!(of_refund(&play, 0xf2).progress.state(), State::Done);
    assert_eq!(of_refund(&play, 0xf1).progress.state(), State::Running);

    let refuse = play.asks(refused(&first).expect("it can be refused"));
    let Message::RefuseRefund(told) = &refuse else { panic!("{refuse:?}") };
    assert_eq!((told.refund_id.as_str(), told.reason.as_str()), (&*Uuid::from_u128(0xf1).to_string(), "SO_IT_IS"));
    play.hear(done(&refuse));
    assert_eq!(of_refund(&play, 0xf1).progress.state(), State::Undone);
    assert_eq!(play.saga().progress.state(), State::Done, "the order stays settled");
}

#[test]
fn a_refund_says_how_much_and_of_which() {
    let (_, [first, _]) = two_refunds();
    let Message::RefundCapture(told) = first else { panic!("{first:?}") };
    assert_eq!((told.amount, told.refund_id), (405, Uuid::from_u128(0xf1).to_string()));
}

#[test]
fn a_refund_that_is_announced_again_begins_once() {
    let (mut play, _) = two_refunds();
    assert!(play.hear(refund_requested(Uuid::from_u128(0xf1), 405)).is_empty());
    assert_eq!(play.book.sagas.len(), 3);
}

#[test]
fn a_cancel_is_not_for_refunds() {
    let (mut play, _) = two_refunds();
    let before = play.book.sagas.clone();
    assert!(play.hear(cancel()).is_empty());
    assert_eq!(play.book.sagas, before);
}

#[test]
fn what_becomes_of_the_shipment_is_told_and_changes_no_saga() {
    let (mut play, _) = two_refunds();
    let before = play.book.sagas.clone();
    let order_id = ORDER.to_string();
    let dispatched = ShippingDispatched { order_id: order_id.clone(), tracking_number: "TRACK-1".into(), ..Default::default() };
    let Some(Message::RecordProgress(fact)) = play.hear(dispatched.clone().into()).pop() else { panic!("not told") };
    assert_eq!((fact.event.as_str(), fact.detail.as_str()), ("ShippingDispatched", "TRACK-1"));
    assert_eq!(names(&play.hear(ShippingDelivered { order_id, ..Default::default() }.into())), ["+ShippingDelivered"]);
    assert_eq!(play.book.sagas, before);

    play.book.sagas.clear();
    assert!(matches!(play.heard(dispatched.into()), Err(Refusal::NotStarted)), "of an order that nobody has heard of");
}

#[test]
fn answers_wait_for_the_saga_and_what_nobody_asked_for_is_passed_over() {
    let (mut play, charge) = Play::at_step(&CHECKOUT, 0);
    let mut empty = play.clone();
    empty.book.sagas.clear();
    assert!(matches!(empty.heard(done(&charge)), Err(Refusal::NotStarted)));
    assert!(matches!(empty.heard(cancel()), Err(Refusal::NotStarted)));

    let (_, foreign) = Play::new(&REFUND);
    assert!(play.hear(done(&foreign)).is_empty());
}

/// As a binary left it behind in which the shipment came first, and nobody reserved anything.
static EARLIER: Definition = Definition {
    name: "checkout",
    version: 0,
    steps: &[
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("charge", "ChargePayment").undo("RefundPayment"),
        step("confirm", "ConfirmOrder").pivot(),
    ],
    close: "CloseOrder",
    resends_max: 10,
};

#[test]
fn s15_a_saga_finishes_on_the_definition_it_began_with() {
    let (mut play, _) = Play::new(&CHECKOUT);
    let older = Instance { definition: &EARLIER, progress: saga::Progress::new(&EARLIER), ..play.saga().clone() };
    let (progress, _) = saga::next(&EARLIER, older.progress.clone(), saga::Input::Started);
    play.book.sagas.insert(play.key, Instance { progress, ..older });

    let schedule = saga::Command::Do { step: 0, attempt: 1 };
    let mut asked = crate::tell::tell(play.saga(), schedule).expect("is told");
    let mut all = vec![play::name(&asked)];
    while let Some(next) = commands(&play.hear(done(&asked))).pop() {
        all.push(play::name(&next));
        asked = next;
    }
    assert_eq!(all, ["ScheduleShipment", "ChargePayment", "ConfirmOrder"]);
    assert_eq!((play.saga().progress.state(), play.saga().definition.version), (State::Done, 0));
}

#[test]
fn s15_a_saga_of_a_version_that_is_not_known_here_waits() {
    let (mut play, charge) = Play::at_step(&CHECKOUT, 0);
    let deadline_at = play.saga().deadline_at.expect("asked");
    play.book.sagas.clear();
    play.book.unknown.insert(play.key);
    for message in [done(&charge), refused(&charge).expect("it can be refused"), cancel()] {
        let refusal = play.heard(message).expect_err("it waits");
        assert_eq!(refusal.verdict(), Verdict::Unknown, "{refusal}");
    }
    assert!(play.hear(created("checkout")).is_empty(), "it has begun");
    assert!(matches!(play.heard(created("checkin")), Err(Refusal::UnknownDefinition)));
    assert!(matches!(play.operate_on(Operation::Retry, None), Err(Refusal::UnknownDefinition)));
    let (order_id, saga_id) = play.key;
    let due = Input::Due { order_id, saga_id, deadline_at, unread: Arc::default() };
    assert!(play.decide(due).expect("is decided").is_empty(), "whoever knows it will see to it");

    // Others of the order go on.
    let refund = play.asks(refund_requested(Uuid::from_u128(0xf1), 405));
    assert_eq!(play::name(&play.asks(done(&refund))), "SettleRefund");
}

#[test]
fn a_command_that_is_not_read_yet_is_not_asked_again() {
    let (mut play, _) = Play::at_step(&CHECKOUT, 1);
    let asked_at = play.saga().updated_at;
    let version = play.saga().version;
    assert!(play.due(&[("inventory.commands", asked_at)]).is_empty(), "its participant is behind");
    let saga = play.saga();
    assert!(saga.deadline_at.is_some_and(|deadline_at| deadline_at > play.at), "it looks again later");
    assert_eq!((saga.progress.resent, saga.version), (0, version), "it costs nothing");

    let passed = asked_at + Duration::milliseconds(1);
    for unread in [("payment.commands", asked_at), ("inventory.commands", passed)] {
        let news = play.clone().due(&[unread]);
        assert_eq!(names(&news), ["ReserveStock"], "{unread:?}: it was read");
    }
}

#[test]
fn a_participant_that_does_not_come_back_is_not_waited_for_without_end() {
    let (mut play, _) = Play::at_step(&CHECKOUT, 1);
    let asked_at = play.saga().updated_at;
    let mut waits = 0;
    let news = loop {
        let news = play.due(&[("inventory.commands", asked_at)]);
        if !news.is_empty() {
            break news;
        }
        waits += 1;
        assert!(waits < 100, "it waits without end");
    };
    assert!(waits > 1);
    assert_eq!(names(&news), ["ReserveStock"]);
    assert!(play.at - asked_at >= Duration::hours(1));
}
