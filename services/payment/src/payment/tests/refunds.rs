//! Refunds in parts.

use super::*;

fn captured() -> Told {
    Told::default().then(charge()).sent().then(answered(Kind::Charge, yes()))
}

fn back(number: u128, amount: i64) -> (Option<Uuid>, Answer) {
    let answer = Answer::Refunded { refund_id: refund_id(number), amount, currency: "USD".into() };
    (Some(Uuid::from_u128(100 + number)), answer)
}

fn refused(number: u128, reason: &str) -> (Option<Uuid>, Answer) {
    let answer = Answer::RefundFailed { refund_id: refund_id(number), reason: reason.into() };
    (Some(Uuid::from_u128(100 + number)), answer)
}

#[test]
fn a_part_goes_back_under_its_own_key_and_the_rest_stays() {
    let told = captured().then(refund(1, 1_000));
    assert_eq!((told.state(), told.row().refund_pending, told.said()), (State::Captured, 1_000, vec![]));
    let call = Call { kind: Kind::Refund, key: refund_id(1), amount: 1_000, token: String::new() };
    assert!(told.effects.contains(&Effect::Call(call)));
    let told = told.then(refund_answered(1, yes()));
    assert_eq!((told.state(), told.row().refunded, told.said()), (State::Captured, 1_000, vec![back(1, 1_000)]));
    assert_eq!(told.transfers(), vec![("sales", "receivable:sandbox", 1_000)]);
    let told = told.then(refund(2, 1_400)).then(refund_answered(2, yes()));
    assert_eq!((told.state(), told.row().refunded), (State::Refunded, 2_400));
    assert_eq!(told.said(), vec![back(2, 1_400)], "nobody undid anything");
    assert_eq!(told.then(charge()).said(), vec![succeeded()], "the charge keeps its answer");
}

#[test]
fn s13_no_more_goes_back_than_was_taken_however_many_ask_at_once() {
    // 64 refunds of 40 %: two fit.
    let mut told = captured();
    let mut asked = Vec::new();
    for number in 0..64 {
        told = told.then(refund(number, 960));
        asked.extend(told.calls());
        if number >= 2 {
            assert_eq!(told.said(), vec![refused(number, REFUND_EXCEEDS_CAPTURE)]);
        }
    }
    assert_eq!(asked, vec![(Kind::Refund, 960); 2]);
    let told = told.then(refund_answered(1, yes())).then(refund_answered(0, no("REFUND_REFUSED")));
    assert_eq!((told.row().refunded, told.row().refund_pending), (960, 0));
    assert_eq!(told.clone().then(refund(7, 960)).said(), vec![refused(7, REFUND_EXCEEDS_CAPTURE)], "it keeps its answer");
    assert_eq!(told.then(refund(64, 1_440)).calls(), vec![(Kind::Refund, 1_440)], "what was refused is free again");
}

#[test]
fn a_refund_says_again_what_it_said() {
    let told = captured().then(refund(1, 1_000)).then(refund(1, 1_000));
    assert!(told.effects.is_empty(), "asked again while it is under way");
    let told = told.then(refund_answered(1, yes())).then(refund(1, 1_000));
    assert_eq!((told.said(), told.calls(), told.transfers()), (vec![back(1, 1_000)], vec![], vec![]));
    let told = told.then(refund(2, 5_000));
    assert_eq!(told.said(), vec![refused(2, REFUND_EXCEEDS_CAPTURE)]);
    assert_eq!(told.then(refund(2, 5_000)).said(), vec![refused(2, REFUND_EXCEEDS_CAPTURE)]);

    // Another command that names the same refund hears of it, and is the one that is answered.
    let other = Input::Refund { command_id: UNDO, refund_id: refund_id(1), amount: 1_000 };
    let told = captured().then(refund(1, 1_000)).then(other).then(refund_answered(1, yes()));
    assert_eq!(told.said(), vec![(Some(UNDO), back(1, 1_000).1)]);
}

#[test]
fn a_refund_needs_money_that_was_taken() {
    for told in [
        Told::default().then(undo(UNDO)),
        Told::default().then(charge()).sent().then(answered(Kind::Charge, no("CARD_DECLINED"))),
        Told::default().then(authorize()).sent().then(answered(Kind::Authorize, yes())),
    ] {
        assert_eq!(told.then(refund(1, 1)).said(), vec![refused(1, NOT_CAPTURED)]);
    }
    for amount in [0, -1] {
        let told = captured().then(refund(1, amount));
        assert_eq!((told.said(), told.refunds.len()), (vec![refused(1, "INVALID_AMOUNT")], 0));
    }
    let undone = captured().then(undo(UNDO));
    assert_eq!(undone.then(refund(1, 1)).said(), vec![refused(1, REFUND_EXCEEDS_CAPTURE)], "an undo has all of it");
}

#[test]
fn what_needs_money_comes_again_later_while_it_is_not_known_whether_there_is_any() {
    for input in [refund(1, 1), capture()] {
        assert_eq!(step(&opening(), None, None, &input), Err(Undecided::NotKnownYet));
    }
    let in_flight = Told::default().then(charge()).sent();
    let capturing = Told::default().then(authorize()).sent().then(answered(Kind::Authorize, yes())).then(capture());
    for told in [in_flight, capturing] {
        assert_eq!(step(&opening(), told.payment.as_ref(), None, &refund(1, 1)), Err(Undecided::NotKnownYet));
    }
}

#[test]
fn a_refund_of_another_payment_or_of_an_undo_is_left_alone() {
    let told = captured();
    let other = Refund {
        id: refund_id(1),
        payment_id: ORDER,
        command_id: None,
        amount: 7,
        currency: "USD".into(),
        state: RefundState::Succeeded,
        reason: String::new(),
        unknown_said: false,
    };
    let step = step(&opening(), told.payment.as_ref(), Some(&other), &refund(1, 7)).expect("decided");
    let answer = Answer::RefundFailed { refund_id: refund_id(1), reason: "REFUND_ID_TAKEN".into() };
    let said = Said { command_id: Some(Uuid::from_u128(101)), payment_id: payment_id(), answer };
    assert_eq!(step.effects, vec![Effect::Say(said)]);

    let undone = captured().then(undo(UNDO));
    let (command_id, refund_id) = (Uuid::from_u128(101), undone.row().refund_id());
    let told = undone.then(Input::Refund { command_id, refund_id, amount: 7 });
    let taken = Answer::RefundFailed { refund_id, reason: "REFUND_ID_TAKEN".into() };
    assert_eq!((told.said(), told.refunds[&refund_id].command_id), (vec![(Some(command_id), taken)], None), "it is the undo's");
}

#[test]
fn an_undo_gives_back_what_remains_once_the_refunds_in_flight_are_known() {
    let told = captured().then(refund(1, 1_000)).then(refund(2, 400)).then(undo(UNDO));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Refunding, vec![], vec![]));
    let told = told.then(refund_answered(1, no("REFUND_REFUSED")));
    assert_eq!((told.said(), told.calls()), (vec![refused(1, "REFUND_REFUSED")], vec![]));
    let told = told.then(refund_answered(2, yes()));
    assert_eq!((told.said(), told.calls()), (vec![back(2, 400)], vec![(Kind::Refund, 2_000)]));
    let told = told.then(answered(Kind::Refund, yes()));
    assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNDO))]));
    assert_eq!(told.transfers(), vec![("sales", "receivable:sandbox", 2_000)]);

    let told = captured().then(refund(1, 2_400)).then(undo(UNDO)).then(refund_answered(1, yes()));
    assert_eq!((told.state(), told.calls()), (State::Refunded, vec![]));
    assert_eq!(told.said(), vec![back(1, 2_400), refunded(&told, Some(UNDO))]);
}

#[test]
fn money_that_comes_back_after_a_refusal_counts() {
    let told = captured().then(refund(1, 1_000)).then(refund_answered(1, no("REFUND_REFUSED")));
    assert_eq!((told.row().refunded, told.said()), (0, vec![refused(1, "REFUND_REFUSED")]));
    let late = told.clone().then(refund_answered(1, yes()));
    assert_eq!((late.row().refunded, late.said()), (1_000, vec![back(1, 1_000)]));
    assert_eq!(late.transfers(), vec![("sales", "receivable:sandbox", 1_000)]);

    // What is in flight by then cannot all be made: the provider refuses it.
    let told = told.then(refund(2, 2_000)).then(refund_answered(1, yes()));
    assert_eq!((told.row().refunded, told.row().refund_pending), (1_000, 1_400));
    let told = told.then(refund_answered(2, no("REFUND_EXCEEDS_CHARGE")));
    assert_eq!((told.row().refunded, told.row().refund_pending), (1_000, 0));
}

#[test]
fn a_refund_that_was_given_up_is_refused_ever_after() {
    let give_up = || Input::RefuseRefund { command_id: Uuid::from_u128(101), refund_id: refund_id(1), amount: 1_000 };
    assert_eq!(Told::default().then(give_up()).said(), vec![refused(1, "DISCARDED")]);
    let told = captured().then(give_up());
    assert_eq!((told.said(), told.calls()), (vec![refused(1, "DISCARDED")], vec![]));
    assert_eq!(told.then(refund(1, 1_000)).said(), vec![refused(1, "DISCARDED")]);
    let told = captured().then(refund(1, 1_000)).then(give_up());
    assert!(told.effects.is_empty(), "its outcome is the answer");
    assert_eq!(told.then(refund_answered(1, yes())).then(give_up()).said(), vec![back(1, 1_000)]);
}
