//! A payment in two steps: authorize, capture, and their undos in any order.

use super::*;

fn in_flight() -> Told {
    Told::default().then(authorize()).sent()
}

fn set_aside() -> Told {
    in_flight().then(answered(Kind::Authorize, yes()))
}

fn capturing() -> Told {
    set_aside().then(capture()).sent()
}

fn captured() -> Told {
    capturing().then(answered(Kind::Capture, yes()))
}

fn was_authorized() -> (Option<Uuid>, Answer) {
    let answer = Answer::Authorized { amount: 2_400, currency: "USD".into(), provider: "sandbox".into(), auth_code: "A1".into() };
    (Some(DO), answer)
}

#[test]
fn what_is_set_aside_is_not_booked_and_what_is_taken_is() {
    let told = Told::default().then(authorize());
    assert_eq!((told.state(), told.calls()), (State::InFlight, vec![(Kind::Authorize, 2_400)]));
    let told = set_aside();
    assert_eq!((told.state(), told.said(), told.transfers()), (State::Authorized, vec![was_authorized()], vec![]));
    assert_eq!((told.row().authorized(), told.row().captured), (2_400, 0));
    let told = told.then(capture());
    assert_eq!((told.state(), told.said(), told.calls()), (State::Capturing, vec![], vec![(Kind::Capture, 2_400)]));
    let told = told.then(capture());
    assert!(told.effects.is_empty(), "asked again while it is under way");
    let told = told.then(answered(Kind::Capture, yes()));
    assert_eq!((told.state(), told.said()), (State::Captured, vec![was_captured()]));
    assert_eq!(told.transfers(), vec![("receivable:sandbox", "sales", 2_400)]);
    let told = told.then(capture());
    assert_eq!((told.said(), told.transfers()), (vec![was_captured()], vec![]));
    assert_eq!(told.then(authorize()).said(), vec![was_authorized()]);
}

#[test]
fn what_is_set_aside_is_given_free_when_it_is_undone() {
    let told = set_aside().then(undo(UNDO));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Voiding, vec![], vec![(Kind::Void, 2_400)]));
    let told = told.then(undo(UNDO));
    assert!(told.effects.is_empty(), "asked again while it is under way");
    let told = told.then(answered(Kind::Void, yes()));
    assert_eq!((told.state(), told.said(), told.transfers()), (State::Voided, vec![voided(UNDO)], vec![]));
    assert_eq!(told.row().authorized(), 0);
    let told = told.then(answered(Kind::Authorize, yes()));
    assert_eq!((told.state(), told.calls()), (State::Voided, vec![]), "known already");
    assert_eq!(told.clone().then(authorize()).said(), vec![was_authorized()], "the command keeps its answer");
    assert_eq!(told.clone().then(capture()).said(), vec![failed_of(CAPTURE, VOIDED)]);
    assert_eq!(told.then(undo(UNDO)).said(), vec![voided(UNDO)]);
}

#[test]
fn an_undo_waits_for_what_is_under_way() {
    let told = in_flight().then(undo(UNDO));
    assert_eq!((told.state(), told.said()), (State::InFlight, vec![]));
    let declined = told.clone().then(answered(Kind::Authorize, no("CARD_DECLINED")));
    assert_eq!((declined.state(), declined.said()), (State::Declined, vec![failed_of(DO, "CARD_DECLINED"), voided(UNDO)]));
    let told = told.then(answered(Kind::Authorize, yes()));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Voiding, vec![was_authorized()], vec![(Kind::Void, 2_400)]));

    let told = capturing().then(undo(UNDO));
    assert_eq!((told.state(), told.said()), (State::Capturing, vec![]));
    let taken = told.clone().then(answered(Kind::Capture, yes()));
    assert_eq!((taken.state(), taken.said()), (State::Refunding, vec![was_captured()]));
    let back = taken.then(answered(Kind::Refund, yes()));
    assert_eq!((back.state(), back.said()), (State::Refunded, vec![refunded(&back, Some(UNDO))]));
    let declined = told.then(answered(Kind::Capture, no("EXPIRED")));
    assert_eq!((declined.state(), declined.said()), (State::Voiding, vec![failed_of(CAPTURE, "EXPIRED")]));
}

#[test]
fn what_was_never_sent_is_withdrawn() {
    let told = Told::default().then(authorize()).then(undo(UNDO));
    assert_eq!((told.state(), &told.effects), (State::InFlight, &vec![Effect::Withdraw { key: payment_id() }]));
    let found = told.clone().then(answered(Kind::Authorize, yes()));
    assert_eq!((found.state(), found.said(), found.calls()), (State::Voiding, vec![was_authorized()], vec![(Kind::Void, 2_400)]));
    let told = told.then(absent(Kind::Authorize));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Voided, vec![voided(UNDO)], vec![]));
    assert_eq!(told.then(authorize()).said(), vec![failed_of(DO, VOIDED)]);

    let unsent = || set_aside().then(capture());
    let key = unsent().row().capture_key();
    let told = unsent().then(undo(UNDO));
    assert_eq!((told.state(), &told.effects), (State::Capturing, &vec![Effect::Withdraw { key }]));
    let found = told.clone().then(answered(Kind::Capture, yes()));
    assert_eq!((found.state(), found.said(), found.calls()), (State::Refunding, vec![was_captured()], vec![(Kind::Refund, 2_400)]));
    let told = told.then(absent(Kind::Capture));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Voiding, vec![], vec![(Kind::Void, 2_400)]));
    assert_eq!(told.then(capture()).said(), vec![failed_of(CAPTURE, VOIDED)]);

    let told = unsent().then(uncapture());
    assert_eq!((told.state(), &told.effects), (State::Capturing, &vec![Effect::Withdraw { key }]));
    let told = told.then(absent(Kind::Capture));
    assert_eq!((told.state(), told.said()), (State::Authorized, vec![voided(UNCAPTURE)]));
    assert_eq!(told.then(capture()).said(), vec![failed_of(CAPTURE, VOIDED)]);
}

#[test]
fn s8_both_undos_give_the_money_back_once_and_say_so_once() {
    let told = captured().then(uncapture());
    assert_eq!((told.state(), told.calls()), (State::Refunding, vec![(Kind::Refund, 2_400)]));
    let told = told.then(answered(Kind::Refund, yes()));
    assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNCAPTURE))]));
    let told = told.then(undo(UNDO));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Refunded, vec![voided(UNDO)], vec![]));
    for (again, said) in [(uncapture(), refunded(&told, Some(UNCAPTURE))), (undo(UNDO), voided(UNDO))] {
        let told = told.clone().then(again);
        assert_eq!((told.said(), told.calls()), (vec![said], vec![]));
    }
}

#[test]
fn the_undo_of_a_capture_that_was_not_made_takes_nothing_and_bars_it() {
    let refused = capturing().then(answered(Kind::Capture, no("EXPIRED")));
    assert_eq!((refused.state(), refused.said()), (State::Authorized, vec![failed_of(CAPTURE, "EXPIRED")]));
    assert_eq!(refused.clone().then(capture()).said(), vec![failed_of(CAPTURE, "EXPIRED")], "it is not asked again");
    for (told, reason) in [(refused, "EXPIRED"), (set_aside(), VOIDED)] {
        let told = told.then(uncapture());
        assert_eq!((told.state(), told.said(), told.calls()), (State::Authorized, vec![voided(UNCAPTURE)], vec![]));
        assert_eq!(told.clone().then(capture()).said(), vec![failed_of(CAPTURE, reason)]);
        let told = told.then(undo(UNDO));
        assert_eq!(told.calls(), vec![(Kind::Void, 2_400)]);
        let told = told.then(answered(Kind::Void, yes()));
        assert_eq!((told.state(), told.said()), (State::Voided, vec![voided(UNDO)]));
        assert_eq!(told.then(uncapture()).said(), vec![voided(UNCAPTURE)]);
    }
}

#[test]
fn s3_what_is_set_aside_late_is_given_free_unasked_and_what_is_taken_late_is_given_back() {
    let marks = [
        Told::default().then(undo(UNDO)),
        Told::default().then(authorize()).then(undo(UNDO)).then(absent(Kind::Authorize)),
        in_flight().then(answered(Kind::Authorize, no("CARD_DECLINED"))),
    ];
    for told in marks {
        let reason = told.row().decline_reason.clone();
        let late = told.then(answered(Kind::Authorize, yes()));
        assert_eq!((late.state(), late.said(), late.calls()), (State::Voiding, vec![], vec![(Kind::Void, 2_400)]));
        assert_eq!(late.clone().then(authorize()).said(), vec![failed_of(DO, &reason)], "the command keeps its answer");
        let free = late.then(answered(Kind::Void, yes()));
        assert_eq!((free.state(), free.said().len()), (State::Voided, 1));
        assert_eq!(free.then(answered(Kind::Authorize, yes())).calls(), vec![], "once");
    }
    let refused = || capturing().then(answered(Kind::Capture, no("EXPIRED")));
    for told in [refused(), refused().then(undo(UNDO)), refused().then(undo(UNDO)).then(answered(Kind::Void, yes()))] {
        let late = told.then(answered(Kind::Capture, yes()));
        assert_eq!((late.state(), late.said(), late.calls()), (State::Refunding, vec![], vec![(Kind::Refund, 2_400)]));
        assert_eq!(late.clone().then(capture()).said(), vec![failed_of(CAPTURE, "EXPIRED")], "the command keeps its answer");
        let back = late.then(answered(Kind::Void, no("ALREADY_CAPTURED"))).then(answered(Kind::Refund, yes()));
        assert_eq!((back.state(), back.row().refunded), (State::Refunded, 2_400));
    }
}

#[test]
fn a_void_that_is_refused_is_said_again_and_tried_again_for_another_undo_only() {
    let told = set_aside().then(undo(UNDO)).then(answered(Kind::Void, no("VOID_REFUSED")));
    let said = |command_id| {
        let refund_id = told.row().void_key();
        vec![(Some(command_id), Answer::RefundFailed { refund_id, reason: "VOID_REFUSED".into() })]
    };
    assert_eq!((told.state(), told.said()), (State::Authorized, said(UNDO)));
    let again = told.clone().then(undo(UNDO));
    assert_eq!((again.said(), again.calls()), (said(UNDO), vec![]));
    assert_eq!(told.clone().then(capture()).said(), vec![failed_of(CAPTURE, VOIDED)], "what is undone is not taken");
    let other = told.clone().then(undo(UNDO_AGAIN));
    assert_eq!((other.said(), other.calls()), (vec![], vec![(Kind::Void, 2_400)]));
    assert_eq!(
        other.row().open_key(),
        Some(own_key(UNDO_AGAIN, Kind::Void)),
        "under the old key the provider would say what it said"
    );
    let late = told.then(answered(Kind::Void, yes()));
    assert_eq!((late.state(), late.said()), (State::Voided, vec![voided(UNDO)]));
}

#[test]
fn commands_that_come_again_faster_than_the_provider_answers_are_done_in_order() {
    // As after a restore: all of it was done before, and the provider says the same again.
    let told = Told::default().then(authorize()).then(capture()).then(uncapture()).sent().then(undo(UNDO));
    assert_eq!((told.state(), told.said(), told.calls()), (State::InFlight, vec![], vec![]));
    let told = told.then(answered(Kind::Authorize, yes()));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Capturing, vec![was_authorized()], vec![(Kind::Capture, 2_400)]));
    let told = told.then(answered(Kind::Capture, yes()));
    assert_eq!((told.said(), told.calls()), (vec![was_captured()], vec![(Kind::Refund, 2_400)]));
    let told = told.then(answered(Kind::Refund, yes()));
    assert_eq!(told.said(), vec![refunded(&told, Some(UNCAPTURE)), voided(UNDO)]);
}

#[test]
fn a_declined_authorization_refuses_the_capture_that_waits_for_it() {
    let told = in_flight().then(capture()).then(uncapture());
    let told = told.then(answered(Kind::Authorize, no("CARD_DECLINED")));
    assert_eq!(told.said(), vec![failed_of(DO, "CARD_DECLINED"), failed_of(CAPTURE, "CARD_DECLINED"), voided(UNCAPTURE)]);
}

#[test]
fn a_capture_of_nothing_is_refused() {
    let charged = Told::default().then(charge()).sent().then(answered(Kind::Charge, yes()));
    assert_eq!(charged.then(capture()).said(), vec![failed_of(CAPTURE, NOT_AUTHORIZED)]);
    assert_eq!(Told::default().then(undo(UNDO)).then(capture()).said(), vec![failed_of(CAPTURE, VOIDED)]);
    let told = in_flight().then(answered(Kind::Authorize, no("CARD_DECLINED"))).then(capture());
    assert_eq!(told.said(), vec![failed_of(CAPTURE, "CARD_DECLINED")]);
}

#[test]
fn what_was_given_up_is_refused_ever_after() {
    let give_up = || Input::RefuseCapture { command_id: CAPTURE };
    assert_eq!(Told::default().then(give_up()).said(), vec![failed_of(CAPTURE, "DISCARDED")]);
    for told in [in_flight(), set_aside()] {
        let told = told.then(give_up());
        assert_eq!(told.said(), vec![failed_of(CAPTURE, "DISCARDED")]);
        assert_eq!(told.then(capture()).said(), vec![failed_of(CAPTURE, "DISCARDED")]);
    }
    assert!(capturing().then(give_up()).effects.is_empty(), "its outcome is the answer");
    assert_eq!(captured().then(give_up()).said(), vec![was_captured()]);

    let give_up = || Input::RefuseUndo { command_id: UNDO, undoes: DO };
    let told = set_aside().then(give_up());
    let said =
        |told: &Told| vec![(Some(UNDO), Answer::RefundFailed { refund_id: told.row().void_key(), reason: "DISCARDED".into() })];
    assert_eq!((told.state(), told.said(), told.calls()), (State::Authorized, said(&told), vec![]));
    assert_eq!(told.then(undo(UNDO_AGAIN)).calls(), vec![(Kind::Void, 2_400)]);
}
