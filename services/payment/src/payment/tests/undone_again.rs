//! Undos that the provider refused, asked for again; and undos that wait for refunds before them.

use super::*;

const UNDO_THIRD: Uuid = Uuid::from_u128(7);

fn captured() -> Told {
    Told::default().then(charge()).sent().then(answered(Kind::Charge, yes()))
}

fn set_aside() -> Told {
    Told::default().then(authorize()).sent().then(answered(Kind::Authorize, yes()))
}

/// The undo, refused under the first key.
fn refused() -> Told {
    captured().then(undo(UNDO)).then(answered(Kind::Refund, no("REFUND_REFUSED")))
}

fn unfreed() -> Told {
    set_aside().then(undo(UNDO)).then(answered(Kind::Void, no("VOID_REFUSED")))
}

/// Keys of the calls that were opened.
fn keys(told: &Told) -> Vec<Uuid> {
    let keys = told.effects.iter().filter_map(|effect| match effect {
        Effect::Call(call) => Some(call.key),
        _ => None,
    });
    keys.collect()
}

fn is_unknown(command_id: Uuid) -> (Option<Uuid>, Answer) {
    (Some(command_id), Answer::Unknown { reason: "KEY_WINDOW_PASSED".into() })
}

#[test]
fn s6_each_undo_of_what_was_refused_has_one_try_under_its_own_key() {
    let told = refused().then(undo(UNDO_AGAIN));
    assert_eq!((told.state(), keys(&told)), (State::Refunding, vec![own_key(UNDO_AGAIN, Kind::Refund)]));
    let told = told.then(answered_to(UNDO_AGAIN, Kind::Refund, no("REFUND_REFUSED")));
    assert_eq!((told.state(), told.said()), (State::RefundRefused, vec![refund_failed(&told, UNDO_AGAIN, "REFUND_REFUSED")]));
    assert_eq!(told.refunds.len(), 2, "each try is a refund of its own");
    // As when the stream is read from the start again.
    for command_id in [UNDO, UNDO_AGAIN] {
        let again = told.clone().then(undo(command_id));
        assert_eq!((again.said(), keys(&again)), (vec![refund_failed(&told, command_id, "REFUND_REFUSED")], vec![]));
        assert_eq!(again.row(), told.row(), "the latest is the latest");
    }
    let told = told.then(undo(UNDO_THIRD));
    assert_eq!(keys(&told), [own_key(UNDO_THIRD, Kind::Refund)]);
    assert!(told.clone().then(undo(UNDO)).effects.is_empty(), "the latest is answered");
    let told = told.then(answered_to(UNDO_THIRD, Kind::Refund, yes()));
    assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNDO_THIRD))]));
    assert_eq!(told.transfers(), vec![("sales", "receivable:sandbox", 2_400)]);
    assert_eq!(told.then(undo(UNDO)).calls(), vec![]);
}

#[test]
fn s6_a_void_that_was_refused_is_asked_for_again_under_another_key() {
    let told = unfreed().then(undo(UNDO_AGAIN));
    assert_eq!((told.state(), keys(&told)), (State::Voiding, vec![own_key(UNDO_AGAIN, Kind::Void)]));
    let twice = told.clone().then(answered(Kind::Void, no("VOID_REFUSED")));
    assert_eq!((twice.state(), twice.said()), (State::Voiding, vec![]), "the first no is known already");
    let told = told.then(answered_to(UNDO_AGAIN, Kind::Void, no("VOID_REFUSED")));
    assert_eq!((told.state(), told.said().len()), (State::Authorized, 1));
    for command_id in [UNDO, UNDO_AGAIN] {
        let again = told.clone().then(undo(command_id));
        assert_eq!((again.said().len(), keys(&again)), (1, vec![]));
    }
    let told = told.then(undo(UNDO_THIRD)).then(answered_to(UNDO_THIRD, Kind::Void, yes()));
    assert_eq!((told.state(), told.said()), (State::Voided, vec![voided(UNDO_THIRD)]));
    let row = told.row();
    let first = ids::derive(payment_id(), "void");
    for key in [first, own_key(UNDO_AGAIN, Kind::Void), own_key(UNDO_THIRD, Kind::Void)] {
        assert!(row.was_void_key(key));
    }
    assert!(!row.was_void_key(payment_id()) && row.void_key() == own_key(UNDO_THIRD, Kind::Void));
}

#[test]
fn s6_the_undo_of_a_capture_that_was_refused_is_asked_for_again_under_another_key() {
    let captured = set_aside().then(capture()).sent().then(answered(Kind::Capture, yes()));
    let told = captured.then(uncapture()).then(answered(Kind::Refund, no("REFUND_REFUSED"))).then(undo(UNDO));
    assert_eq!((told.said(), keys(&told)), (vec![voided(UNDO)], vec![]), "it is the other undo's");
    let told = told.then(Input::Undo { command_id: UNDO_AGAIN, undoes: CAPTURE });
    assert_eq!((told.state(), keys(&told)), (State::Refunding, vec![own_key(UNDO_AGAIN, Kind::Refund)]));
    let told = told.then(answered_to(UNDO_AGAIN, Kind::Refund, yes()));
    assert_eq!(told.said(), vec![refunded(&told, Some(UNDO_AGAIN)), voided(UNDO)]);
}

#[test]
fn s6_what_nobody_knows_keeps_its_key_whoever_asks() {
    let unknown = |kind| Input::Unknown { call: made(kind, 2_400) };
    for (told, kind) in [(captured(), Kind::Refund), (set_aside(), Kind::Void)] {
        let told = told.then(undo(UNDO)).then(unknown(kind));
        assert_eq!(told.said(), vec![is_unknown(UNDO)]);
        let told = told.then(undo(UNDO_AGAIN));
        assert_eq!((told.said(), keys(&told)), (vec![is_unknown(UNDO_AGAIN)], vec![]));
        let done = told.clone().then(answered(kind, yes()));
        assert_eq!((keys(&done), done.said().len(), done.said()[0].0), (vec![], 1, Some(UNDO_AGAIN)));
        // Only now it is known that nothing went back.
        let refused = told.then(answered(kind, no("NO")));
        assert_eq!((keys(&refused), refused.said()), (vec![own_key(UNDO_AGAIN, kind)], vec![]));
        assert!(!refused.row().unknown_said && refused.row().refunds_unknown == 0, "it is another call");
    }
}

#[test]
fn s6_undos_that_come_again_faster_than_the_provider_answers_end_under_the_key_of_the_latest() {
    // As after a restore: the first two were refused in the history that is lost, the third was not.
    for (command, opening, kind) in [(charge(), Kind::Charge, Kind::Refund), (authorize(), Kind::Authorize, Kind::Void)] {
        let told = Told::default().then(command).sent().then(undo(UNDO)).then(undo(UNDO_AGAIN)).then(answered(opening, yes()));
        assert_eq!(keys(&told), [made(kind, 1).key]);
        let told = told.then(undo(UNDO_THIRD)).then(answered(kind, no("NO")));
        assert_eq!((keys(&told), told.said()), (vec![own_key(UNDO_THIRD, kind)], vec![]));
        let refused = told.clone().then(answered_to(UNDO_THIRD, kind, no("NO")));
        assert_eq!((keys(&refused), refused.said().len(), refused.said()[0].0), (vec![], 1, Some(UNDO_THIRD)));
        let done = told.then(answered_to(UNDO_THIRD, kind, yes()));
        assert!(matches!(done.state(), State::Refunded | State::Voided));
        assert_eq!(done.said()[0].0, Some(UNDO_THIRD));
    }
}

#[test]
fn what_was_only_given_up_is_asked_for_under_the_first_key() {
    for (told, kind) in [(captured(), Kind::Refund), (set_aside(), Kind::Void)] {
        let told = told.then(Input::RefuseUndo { command_id: UNDO, undoes: DO }).then(undo(UNDO_AGAIN));
        assert_eq!(keys(&told), [made(kind, 1).key]);
        let given_up_again = told.then(Input::RefuseUndo { command_id: UNDO, undoes: DO });
        assert!(given_up_again.effects.is_empty(), "the latest is answered");
    }
}

#[test]
fn money_that_comes_back_under_the_key_that_was_refused_counts_once() {
    let told = refused().then(undo(UNDO_AGAIN)).then(answered(Kind::Refund, yes()));
    assert_eq!((told.state(), told.row().refunded, told.row().refund_pending), (State::Refunded, 2_400, 0));
    assert_eq!(told.row().refund_id(), made(Kind::Refund, 1).key, "the one that came back");
    assert_eq!(told.said(), vec![refunded(&told, Some(UNDO_AGAIN))]);
    let unknown = |kind| Input::Unknown { call: Made { key: own_key(UNDO_AGAIN, kind), ..made(kind, 2_400) } };
    let told = told.then(unknown(Kind::Refund));
    assert_eq!((told.said(), told.row().refunds_unknown), (vec![], 1), "nobody waits for the other one");
    let told = told.then(answered_to(UNDO_AGAIN, Kind::Refund, no("REFUND_EXCEEDS_CHARGE")));
    assert_eq!((told.state(), told.row().refunded, told.said()), (State::Refunded, 2_400, vec![]));

    let told = unfreed().then(undo(UNDO_AGAIN)).then(unknown(Kind::Void)).then(answered(Kind::Void, yes()));
    assert_eq!((told.state(), told.said()), (State::Voided, vec![voided(UNDO_AGAIN)]));
    assert_eq!((told.row().void_key(), told.row().unknown_said), (made(Kind::Void, 1).key, false));
    assert_eq!(told.then(answered_to(UNDO_AGAIN, Kind::Void, yes())).said(), vec![]);
}

#[test]
fn money_taken_late_goes_back_under_a_key_of_refunds() {
    let told = set_aside().then(capture()).sent().then(answered(Kind::Capture, no("EXPIRED"))).then(undo(UNDO));
    let told = told.then(answered(Kind::Void, no("ALREADY_CAPTURED"))).then(undo(UNDO_AGAIN));
    assert_eq!(keys(&told), [own_key(UNDO_AGAIN, Kind::Void)]);
    let told = told.then(answered(Kind::Capture, yes()));
    assert_eq!((told.state(), keys(&told)), (State::Refunding, vec![made(Kind::Refund, 1).key]));
    let told = told.then(answered_to(UNDO_AGAIN, Kind::Void, no("ALREADY_CAPTURED")));
    assert_eq!((told.state(), told.said()), (State::Refunding, vec![]));
    let told = told.then(answered(Kind::Refund, yes()));
    assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNDO_AGAIN))]));
}

#[test]
fn s11_an_undo_behind_refunds_that_nobody_knows_of_says_so_and_goes_on_when_they_are_known() {
    let unknown = |number| Input::Unknown { call: Made { key: refund_id(number), ..made(Kind::Refund, 1_000) } };
    let both = || captured().then(refund(1, 1_000)).then(refund(2, 400));
    let of = |number: u128| is_unknown(Uuid::from_u128(100 + number));

    let waits = both().then(undo(UNDO)).then(unknown(1));
    assert_eq!(waits.said(), vec![of(1), is_unknown(UNDO)]);
    assert_eq!(waits.clone().then(unknown(1)).said(), vec![], "once");
    let waits = waits.then(unknown(2));
    assert_eq!(waits.said(), vec![of(2)], "it was told");
    let comes_later = both().then(unknown(1)).then(unknown(2)).then(undo(UNDO));
    assert_eq!((comes_later.state(), comes_later.said()), (State::Refunding, vec![is_unknown(UNDO)]));

    for told in [waits, comes_later] {
        assert_eq!(told.clone().then(undo(UNDO)).said(), vec![is_unknown(UNDO)], "asked again");
        let told = told.then(refund_answered(1, no("NO")));
        assert_eq!((told.calls(), told.row().refunds_unknown), (vec![], 1), "the other one is not known yet");
        let told = told.then(refund_answered(2, yes()));
        assert_eq!(told.calls(), vec![(Kind::Refund, 2_000)]);
        assert!(told.clone().then(undo(UNDO)).effects.is_empty(), "nothing is unknown any more");
        let told = told.then(answered(Kind::Refund, yes()));
        assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNDO))]));
    }
    assert_eq!(both().then(unknown(1)).then(refund_answered(1, yes())).then(undo(UNDO)).said(), vec![], "it is known by now");
}

#[test]
fn an_undo_asked_again_while_its_refund_is_unknown_hears_so_at_once() {
    let told = captured().then(undo(UNDO)).then(Input::Unknown { call: made(Kind::Refund, 2_400) }).then(undo(UNDO));
    assert_eq!((told.said(), told.calls()), (vec![is_unknown(UNDO)], vec![]));
}

#[test]
fn what_the_provider_keeps_though_nobody_asked_for_it_needs_attention() {
    let late_charge = Told::default().then(undo(UNDO)).then(answered(Kind::Charge, yes()));
    assert!(!late_charge.row().needs_attention(), "it is on its way back");
    let kept = late_charge.then(answered(Kind::Refund, no("REFUND_REFUSED")));
    assert!(kept.state() == State::RefundRefused && kept.row().needs_attention());
    assert!(!kept.then(answered(Kind::Refund, yes())).row().needs_attention());

    let declined = Told::default().then(authorize()).sent().then(answered(Kind::Authorize, no("CARD_DECLINED")));
    let kept = declined.then(answered(Kind::Authorize, yes())).then(answered(Kind::Void, no("VOID_REFUSED")));
    assert!(kept.state() == State::Authorized && kept.row().needs_attention());
    assert!(!set_aside().row().needs_attention() && !captured().row().needs_attention());
}
