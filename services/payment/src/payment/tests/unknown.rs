//! Outcomes that nobody knows.

use super::*;

fn unknown(kind: Kind) -> Input {
    Input::Unknown { call: made(kind, 2_400) }
}

fn is_unknown(command_id: Uuid) -> (Option<Uuid>, Answer) {
    (Some(command_id), Answer::Unknown { reason: "KEY_WINDOW_PASSED".into() })
}

#[test]
fn s11_it_is_said_once_and_the_call_waits_for_a_person_each_time() {
    let told = Told::default().then(charge()).sent().then(unknown(Kind::Charge));
    assert_eq!((told.state(), told.said()), (State::InFlight, vec![is_unknown(DO)]));
    let aside = Effect::SetAside { key: payment_id(), why: Aside::Forgotten };
    assert!(told.effects.contains(&aside));
    let told = told.then(unknown(Kind::Charge));
    assert_eq!(told.effects, vec![aside], "taken up again in vain");
}

#[test]
fn s11_what_is_unknown_for_too_long_is_said_once_and_asked_about_all_the_same() {
    let overdue = |kind| Input::Overdue { call: made(kind, 2_400) };
    let told = Told::default().then(charge()).sent().then(overdue(Kind::Charge));
    assert_eq!((told.state(), told.effects.len(), told.said()), (State::InFlight, 1, vec![is_unknown(DO)]));
    assert_eq!(told.clone().then(overdue(Kind::Charge)).effects, vec![]);
    // Then the provider can be asked, and does not know the key any more.
    assert_eq!(
        told.clone().then(unknown(Kind::Charge)).effects,
        vec![Effect::SetAside { key: payment_id(), why: Aside::Forgotten }]
    );
    let undone = told.then(undo(UNDO));
    assert_eq!(undone.said(), vec![is_unknown(UNDO)]);
    let back = undone.then(answered(Kind::Charge, yes())).then(overdue(Kind::Refund));
    assert_eq!((back.state(), back.said()), (State::Refunding, vec![is_unknown(UNDO)]), "of another call it is said again");
    assert_eq!(back.clone().then(overdue(Kind::Refund)).effects, vec![]);
    assert_eq!(back.clone().then(answered(Kind::Refund, yes())).said(), vec![refunded(&back, Some(UNDO))]);
}

#[test]
fn s11_what_was_withdrawn_may_be_forgotten_as_well() {
    let told = Told::default().then(charge()).then(undo(UNDO)).then(unknown(Kind::Charge));
    assert_eq!(told.said(), vec![is_unknown(DO), is_unknown(UNDO)]);
    assert!(told.effects.contains(&Effect::SetAside { key: payment_id(), why: Aside::Forgotten }));
    assert_eq!(told.clone().then(answered(Kind::Charge, no(VOIDED))).said(), vec![voided(UNDO)]);
    let taken = told.then(answered(Kind::Charge, yes()));
    assert_eq!((taken.state(), taken.calls()), (State::Refunding, vec![(Kind::Refund, 2_400)]));
}

#[test]
fn s11_whatever_the_provider_says_later_still_counts() {
    let told = Told::default().then(charge()).sent().then(unknown(Kind::Charge));
    let taken = told.clone().then(answered(Kind::Charge, yes()));
    assert_eq!((taken.state(), taken.said()), (State::Captured, vec![succeeded()]));
    let declined = told.clone().then(answered(Kind::Charge, no("CARD_DECLINED")));
    assert_eq!(declined.said(), vec![failed_of(DO, "CARD_DECLINED")]);
    // An operator skipped it: the undo hears at once that it waits for the unknown, and a charge that lands later goes back.
    let skipped = told.then(undo(UNDO));
    assert_eq!((skipped.state(), skipped.said()), (State::InFlight, vec![is_unknown(UNDO)]));
    assert_eq!(skipped.clone().then(undo(UNDO)).said(), vec![is_unknown(UNDO)], "asked again");
    let late = skipped.then(answered(Kind::Charge, yes()));
    assert_eq!((late.state(), late.calls()), (State::Refunding, vec![(Kind::Refund, 2_400)]));
}

#[test]
fn who_asks_again_hears_at_once_that_it_waits_for_the_unknown() {
    let told = Told::default().then(charge()).sent().then(unknown(Kind::Charge));
    assert_eq!(told.clone().then(charge()).said(), vec![is_unknown(DO)]);
    let told = told.then(Input::Charge(Ask { command_id: CAPTURE, ..ask() }));
    assert_eq!((told.said(), told.calls()), (vec![is_unknown(CAPTURE)], vec![]));
    assert_eq!(told.then(answered(Kind::Charge, yes())).said(), vec![(Some(CAPTURE), succeeded().1)]);

    let capturing = || Told::default().then(authorize()).sent().then(answered(Kind::Authorize, yes())).then(capture()).sent();
    let told = capturing().then(unknown(Kind::Capture)).then(Input::Capture { command_id: UNDO_AGAIN });
    assert_eq!((told.said(), told.calls()), (vec![is_unknown(UNDO_AGAIN)], vec![]));
}

#[test]
fn all_who_wait_for_it_hear_of_it() {
    let set_aside = || Told::default().then(authorize()).sent().then(answered(Kind::Authorize, yes()));
    let told = set_aside().then(capture()).sent().then(uncapture()).then(unknown(Kind::Capture));
    assert_eq!(told.said(), vec![is_unknown(CAPTURE), is_unknown(UNCAPTURE)]);
    let told = told.then(answered(Kind::Capture, no("EXPIRED")));
    assert_eq!((told.state(), told.said()), (State::Authorized, vec![failed_of(CAPTURE, "EXPIRED"), voided(UNCAPTURE)]));
    let told = told.then(undo(UNDO)).then(unknown(Kind::Void));
    assert_eq!(told.said(), vec![is_unknown(UNDO)], "of another call it is said again");
    assert_eq!(told.then(answered(Kind::Void, yes())).said(), vec![voided(UNDO)]);
}

#[test]
fn a_refund_that_nobody_knows_of_keeps_its_money_reserved() {
    let captured = || Told::default().then(charge()).sent().then(answered(Kind::Charge, yes()));
    let told = captured().then(undo(UNDO)).then(unknown(Kind::Refund));
    assert_eq!((told.state(), told.said(), told.row().refund_pending), (State::Refunding, vec![is_unknown(UNDO)], 2_400));
    assert_eq!(told.clone().then(unknown(Kind::Refund)).said(), vec![]);
    let told = told.then(answered(Kind::Refund, yes()));
    assert_eq!(told.said(), vec![refunded(&told, Some(UNDO))]);

    let unknown = |number| Input::Unknown { call: Made { key: refund_id(number), ..made(Kind::Refund, 1_000) } };
    let told = captured().then(refund(1, 1_000)).then(refund(2, 1_000)).then(unknown(1));
    assert_eq!(told.said(), vec![is_unknown(Uuid::from_u128(101))]);
    assert_eq!(told.clone().then(unknown(2)).said(), vec![is_unknown(Uuid::from_u128(102))], "each of them once");
    let other = Input::Refund { command_id: UNDO, refund_id: refund_id(1), amount: 1_000 };
    assert_eq!(told.then(other).said(), vec![is_unknown(UNDO)]);
}

#[test]
fn an_unknown_that_is_known_by_now_says_nothing() {
    let told = Told::default().then(charge()).sent().then(answered(Kind::Charge, yes())).then(unknown(Kind::Charge));
    assert_eq!((told.state(), told.said()), (State::Captured, vec![]));
}

#[test]
fn s3_what_is_held_of_a_payment_without_a_sum_waits_for_a_person() {
    for kind in [Kind::Charge, Kind::Authorize] {
        let asked = || Made { currency: String::new(), ..made(kind, 0) };
        let mark = Told::default().then(undo(UNDO));
        let found = mark.clone().then(Input::Answered { call: asked(), known: yes() });
        assert_eq!(found.row(), mark.row());
        assert_eq!(found.effects, vec![Effect::SetAside { key: payment_id(), why: Aside::NoSum }]);
        for nothing in [no(VOIDED), no("CARD_DECLINED")] {
            let told = mark.clone().then(Input::Answered { call: asked(), known: nothing });
            assert_eq!((told.row(), &told.effects), (mark.row(), &vec![Effect::EndCall { key: payment_id() }]));
        }
    }
}
