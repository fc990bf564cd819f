use std::collections::BTreeSet;

use super::*;
use crate::audit::found::Invariant;

const ID: Uuid = Uuid::from_u128(1);

fn order(status: &str, events: &[&str]) -> Order {
    let version = i32::try_from(events.len()).expect("few");
    Order {
        id: ID,
        status: status.into(),
        currency: "USD".into(),
        total: 100,
        refunded_amount: 0,
        refund_pending: 0,
        needs_attention: false,
        version,
        versions: (1..=version).collect(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
    }
}

fn payment(state: &str, captured: i64, refunded: i64) -> Payment {
    Payment {
        order_id: ID,
        key: "k".into(),
        state: state.into(),
        currency: "USD".into(),
        captured,
        refunded,
        refund_pending: 0,
        ledger_taken: captured,
        ledger_back: refunded,
        ledger_strange: 0,
        calls_open: 0,
        taking: 0,
        giving: 0,
        attention: String::new(),
    }
}

fn reservation(state: &str) -> Reservation {
    Reservation { order_id: ID, state: state.into() }
}

fn saga(state: &str, progress: &str) -> Saga {
    Saga { order_id: ID, definition: "checkout".into(), definition_version: 1, state: state.into(), progress: progress.into() }
}

fn confirmed() -> Story {
    let events = ["OrderCreated", "SagaStarted", "PaymentSucceeded", "InventoryReserved", "OrderCompleted"];
    Story {
        id: ID,
        order: Some(order("CONFIRMED", &events)),
        payment: Some(payment("CAPTURED", 100, 0)),
        reservations: vec![reservation("COMMITTED")],
        sagas: vec![saga("DONE", "D1,D1,D1,D1 done")],
    }
}

fn failed() -> Story {
    let events = ["OrderCreated", "SagaStarted", "PaymentSucceeded", "SagaCompensating", "PaymentRefunded", "OrderFailed"];
    Story {
        id: ID,
        order: Some(Order { refunded_amount: 100, ..order("FAILED", &events) }),
        payment: Some(payment("REFUNDED", 100, 100)),
        reservations: vec![reservation("REFUSED")],
        sagas: vec![saga("UNDONE", "B1,R1,S0,S0 undone refused=1")],
    }
}

fn stuck() -> Story {
    let events =
        ["OrderCreated", "SagaStarted", "PaymentSucceeded", "SagaCompensating", "PaymentRefundFailed", "SagaNeedsAttention"];
    Story {
        order: Some(Order { needs_attention: true, ..order("COMPENSATING", &events) }),
        payment: Some(payment("REFUND_REFUSED", 100, 0)),
        sagas: vec![saga("NEEDS_ATTENTION", "X1,R1,S0,S0 unwinding refused=1 stuck")],
        ..failed()
    }
}

fn with(story: Story, change: impl FnOnce(&mut Story)) -> Story {
    let mut story = story;
    change(&mut story);
    story
}

fn in_order(story: Story, change: impl FnOnce(&mut Order)) -> Story {
    with(story, |story| change(story.order.as_mut().expect("an order")))
}

fn in_payment(story: Story, change: impl FnOnce(&mut Payment)) -> Story {
    with(story, |story| change(story.payment.as_mut().expect("a payment")))
}

fn wrong(story: &Story) -> Vec<Invariant> {
    story.check().wrong.into_iter().map(|(invariant, _)| invariant).collect()
}

#[test]
fn good_ends_are_left_alone() {
    let refunded = in_payment(in_order(confirmed(), |order| order.refunded_amount = 40), |payment| payment.refunded = 40);
    let declined = with(failed(), |story| {
        story.order.as_mut().expect("an order").refunded_amount = 0;
        story.payment = Some(payment("DECLINED", 0, 0));
    });
    for story in [confirmed(), failed(), refunded, declined] {
        assert_eq!(story.check(), Found::default(), "{story:?}");
    }
}

#[test]
fn i1_money_of_no_order_is_seen() {
    assert_eq!(wrong(&with(confirmed(), |story| story.order = None)), [I1, I3]);
}

#[test]
fn i2_money_that_is_held_is_seen() {
    assert_eq!(wrong(&in_payment(failed(), |payment| payment.refunded = 99)), [I2, I7]);
    let held = in_order(failed(), |order| order.refunded_amount = 0);
    assert_eq!(wrong(&in_payment(held.clone(), |payment| payment.refunded = 0)), [I2]);
    let set_aside = with(held.clone(), |story| story.payment = Some(payment("AUTHORIZED", 0, 0)));
    assert_eq!(wrong(&set_aside), [I2]);
    let given_away = in_payment(confirmed(), |payment| payment.refunded = 1);
    assert_eq!(wrong(&given_away), [I2]);
    assert_eq!(wrong(&in_payment(confirmed(), |payment| payment.refund_pending = 100)), [I2]);

    // A charge that came late.
    let late = in_payment(held, |payment| {
        *payment = super::tests::payment("REFUNDING", 100, 0);
        (payment.calls_open, payment.refund_pending, payment.giving) = (1, 100, 100);
    });
    assert!(wrong(&late).is_empty() && late.check().is_suspect(true), "it is on its way");
}

#[test]
fn i2_what_a_person_settled_by_hand_is_listed() {
    let by_hand = with(stuck(), |story| {
        let events = ["OrderCreated", "SagaStarted", "PaymentSucceeded", "SagaCompensating", "SagaSkipped", "OrderFailed"];
        story.order = Some(order("FAILED", &events));
        story.sagas = vec![saga("UNDONE", "S1,R1,S0,S0 undone refused=1")];
    });
    let found = by_hand.check();
    assert!(!found.is_suspect(true) && found.attention.len() == 1, "{found:?}");
    assert!(found.attention[0].contains("100 is held"), "{found:?}");
}

#[test]
fn i2_i3_what_a_person_settled_by_hand_excuses_nothing_else() {
    let lost = |definition: &str, progress: &str, payment: Payment, goods: &str| {
        let story = with(failed(), |story| {
            story.order.as_mut().expect("an order").refunded_amount = 0;
            story.payment = Some(payment);
            story.reservations = vec![reservation(goods)];
            story.sagas = vec![Saga { definition: definition.into(), ..saga("UNDONE", progress) }];
        });
        (wrong(&story), story.check().attention.len())
    };
    let held = || payment("CAPTURED", 100, 0);
    for (progress, expected) in [
        ("S1,B1,R1,S0 undone refused=2", (vec![I3], 1)),
        ("B1,S1,R1,S0 undone refused=2", (vec![I2], 1)),
        ("S1,S1,R1,S0 undone refused=2", (vec![], 2)),
        // Of the shipment alone, and of no undo at all: the operator did not wait for the answer of a step.
        ("B1,B1,S1,R1 undone refused=3", (vec![I2, I3], 0)),
        ("B1,B1,S0,S0 undone skipped=1", (vec![I2, I3], 0)),
    ] {
        assert_eq!(lost("checkout", progress, held(), "HELD"), expected, "{progress}");
    }

    let set_aside = || payment("AUTHORIZED", 0, 0);
    for (progress, payment, expected) in [
        ("B1,S1,B1,R1,S0 undone refused=3", set_aside(), (vec![], 1)),
        ("B1,B1,B1,S1,R1 undone refused=4", set_aside(), (vec![I2], 0)),
        ("B1,B1,B1,S1,R1 undone refused=4", held(), (vec![], 1)),
        ("S1,B1,B1,B1,R1 undone refused=4", held(), (vec![I2], 0)),
    ] {
        assert_eq!(lost("checkout-reserve-first", progress, payment, "RELEASED"), expected, "{progress}");
    }
}

#[test]
fn the_steps_that_take_and_set_aside_are_those_of_the_sagas() {
    let undone_by = |undo: &str| {
        let steps = orchestrator::DEFINITIONS.iter().flat_map(|definition| {
            let undone = (0..definition.steps.len()).filter(move |step| definition.undo_of(*step) == Some(undo));
            undone.map(move |step| definition.steps[step].command)
        });
        BTreeSet::from_iter(steps)
    };
    assert_eq!(undone_by("RefundPayment"), TAKE.iter().copied().collect());
    assert_eq!(undone_by("ReleaseStock"), RESERVE.iter().copied().collect());
    assert!(AUTHORIZE.iter().all(|step| TAKE.contains(step)));
}

#[test]
fn i3_goods_follow_the_order() {
    let with_goods =
        |story: Story, states: &str| with(story, |story| story.reservations = states.split_whitespace().map(reservation).collect());
    for (story, states) in [
        (confirmed(), ""),
        (confirmed(), "RELEASED"),
        (confirmed(), "COMMITTED HELD"),
        (failed(), "HELD"),
        (failed(), "COMMITTED"),
        (stuck(), "COMMITTED"),
    ] {
        assert_eq!(wrong(&with_goods(story, states)), [I3], "{states}");
    }
    let leaving = with_goods(confirmed(), "HELD").check();
    assert!(leaving.wrong.is_empty() && leaving.is_suspect(true));
}

#[test]
fn i6_a_broken_story_is_seen() {
    for broken in [
        in_order(confirmed(), |order| order.versions[2] = 7),
        in_order(confirmed(), |order| order.version += 1),
        in_order(confirmed(), |order| order.events.swap(0, 1)),
        in_order(confirmed(), |order| order.needs_attention = true),
        in_order(confirmed(), |order| *order.events.last_mut().expect("one") = "OrderFailed".into()),
    ] {
        assert_eq!(wrong(&broken), [I6], "{broken:?}");
    }
}

#[test]
fn i7_what_the_order_says_of_money_is_what_was_moved() {
    for differs in [
        in_payment(confirmed(), |payment| payment.captured = 99),
        in_payment(confirmed(), |payment| payment.currency = "EUR".into()),
        with(confirmed(), |story| story.payment = None),
        with(failed(), |story| story.payment = None),
        in_order(confirmed(), |order| order.refunded_amount = 1),
    ] {
        assert_eq!(wrong(&differs), [I7], "{differs:?}");
    }
}

#[test]
fn what_is_on_its_way_is_open_and_what_waits_for_a_person_is_listed() {
    let running = with(confirmed(), |story| {
        story.order = Some(order("PROCESSING", &["OrderCreated", "SagaStarted"]));
        story.payment = None;
        story.reservations.clear();
        story.sagas = vec![saga("RUNNING", "A1,W0,W0,W0 forward")];
    });
    let last = with(confirmed(), |story| story.sagas = vec![saga("RUNNING", "D1,D1,D1,A1 forward")]);
    for open in [running, last] {
        let found = open.check();
        assert_eq!((found.wrong.len(), found.open.len(), found.attention.len()), (0, 1, 0), "{found:?}");
    }
    let found = stuck().check();
    assert_eq!((found.wrong.len(), found.open.len(), found.attention.len()), (0, 0, 1), "{found:?}");
    let refund = in_order(confirmed(), |order| order.refund_pending = 40).check();
    assert_eq!((refund.wrong.len(), refund.open.len()), (0, 1), "{refund:?}");
}
