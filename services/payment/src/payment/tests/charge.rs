//! A payment in one step: charge, undo, refund of all.

use super::*;

fn in_flight() -> Told {
    Told::default().then(charge()).sent()
}

fn captured() -> Told {
    in_flight().then(charged(yes()))
}

fn refunding() -> Told {
    captured().then(undo(UNDO))
}

fn charged(known: Known) -> Input {
    answered(Kind::Charge, known)
}

fn given_back(known: Known) -> Input {
    answered(Kind::Refund, known)
}

#[test]
fn a_charge_opens_a_call_and_says_nothing_yet() {
    let told = Told::default().then(charge());
    assert_eq!(told.state(), State::InFlight);
    assert_eq!(told.row().id, payment_id());
    let call = Call { kind: Kind::Charge, key: payment_id(), amount: 2_400, token: "tok".into() };
    assert_eq!(told.effects, vec![Effect::Call(call)]);
    let again = told.then(charge());
    assert_eq!((again.state(), again.effects.as_slice()), (State::InFlight, [].as_slice()));
}

#[test]
fn a_charge_that_succeeded_is_in_the_ledger_and_said_again_for_the_same_command() {
    let told = captured();
    assert_eq!(told.state(), State::Captured);
    assert_eq!(told.said(), vec![succeeded()]);
    assert_eq!(told.transfers(), vec![("receivable:sandbox", "sales", 2_400)]);
    let again = told.then(charge());
    assert_eq!((again.state(), again.said(), again.transfers()), (State::Captured, vec![succeeded()], vec![]));
}

#[test]
fn an_outcome_that_comes_twice_changes_nothing() {
    let ends = |key| vec![Effect::EndCall { key }];
    for known in [yes(), no("CARD_DECLINED")] {
        let told = captured().then(charged(known));
        assert_eq!((told.state(), &told.effects), (State::Captured, &ends(payment_id())));
    }
    let told = in_flight().then(charged(no("CARD_DECLINED"))).then(charged(no("CARD_DECLINED")));
    assert_eq!((told.state(), &told.effects), (State::Declined, &ends(payment_id())));
    let told = refunding().then(given_back(yes())).then(given_back(yes()));
    assert_eq!((told.state(), told.row().refunded), (State::Refunded, 2_400));
    assert_eq!(told.effects, ends(told.row().refund_id()));
}

#[test]
fn a_declined_charge_says_why_and_its_undo_gives_nothing_back() {
    let told = in_flight().then(charged(no("CARD_DECLINED")));
    assert_eq!((told.state(), told.said()), (State::Declined, vec![failed_of(DO, "CARD_DECLINED")]));
    assert!(told.transfers().is_empty());
    let undone = told.then(undo(UNDO));
    assert_eq!((undone.state(), undone.said()), (State::Declined, vec![voided(UNDO)]));
    let again = undone.then(charge());
    assert_eq!(again.said(), vec![failed_of(DO, "CARD_DECLINED")]);
}

#[test]
fn what_cannot_be_charged_is_refused_without_a_row() {
    for (amount, currency, reason) in [(0, "USD", "INVALID_AMOUNT"), (-5, "USD", "INVALID_AMOUNT"), (5, "usd", "INVALID_CURRENCY")]
    {
        for input in [Input::Charge, Input::Authorize] {
            let told = Told::default().then(input(Ask { amount, currency: currency.into(), ..ask() }));
            assert_eq!(told.payment, None);
            assert_eq!(told.said(), vec![failed_of(DO, reason)]);
        }
    }
}

#[test]
fn an_undo_before_its_command_refuses_the_command() {
    let told = Told::default().then(undo(UNDO));
    assert_eq!((told.state(), told.row().id), (State::Voided, payment_id()));
    assert_eq!(told.said(), vec![voided(UNDO)]);
    for command in [charge(), authorize()] {
        let refused = told.clone().then(command);
        assert_eq!((refused.state(), refused.said()), (State::Voided, vec![failed_of(DO, VOIDED)]));
        let again = refused.then(undo(UNDO));
        assert_eq!((again.state(), again.said()), (State::Voided, vec![voided(UNDO)]));
    }
}

#[test]
fn a_charge_that_was_never_sent_is_voided_once_the_provider_does_not_know_it() {
    let withdrawn = Effect::Withdraw { key: payment_id() };
    let told = Told::default().then(charge()).then(undo(UNDO));
    assert_eq!((told.state(), &told.effects), (State::InFlight, &vec![withdrawn.clone()]));
    let again = told.clone().then(undo(UNDO));
    assert_eq!((again.state(), &again.effects), (State::InFlight, &vec![withdrawn]));
    let told = told.then(absent(Kind::Charge));
    assert_eq!((told.state(), told.said()), (State::Voided, vec![voided(UNDO)]));
    assert!(told.effects.contains(&Effect::EndCall { key: payment_id() }));
    assert_eq!(told.clone().then(charge()).said(), vec![failed_of(DO, VOIDED)]);
    assert_eq!(told.then(undo(UNDO)).said(), vec![voided(UNDO)]);
}

#[test]
fn a_charge_of_a_lost_history_goes_back_when_it_is_undone_before_it_is_sent() {
    let told = Told::default().then(charge()).then(undo(UNDO)).then(charged(yes()));
    assert_eq!((told.state(), told.said(), told.calls()), (State::Refunding, vec![succeeded()], vec![(Kind::Refund, 2_400)]));
    let told = told.then(given_back(yes()));
    assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNDO))]));

    let told = Told::default().then(charge()).then(undo(UNDO)).then(charged(no("CARD_DECLINED")));
    assert_eq!((told.state(), told.said()), (State::Declined, vec![failed_of(DO, "CARD_DECLINED"), voided(UNDO)]));
}

#[test]
fn an_undo_of_a_charge_that_was_sent_waits_for_the_outcome() {
    let waiting = || in_flight().then(undo(UNDO));
    assert_eq!((waiting().state(), waiting().said()), (State::InFlight, vec![]));

    let charged_then = waiting().then(charged(yes()));
    assert_eq!((charged_then.state(), charged_then.said()), (State::Refunding, vec![succeeded()]));
    assert_eq!(charged_then.calls(), vec![(Kind::Refund, 2_400)]);
    let back = charged_then.then(given_back(yes()));
    assert_eq!((back.state(), back.said()), (State::Refunded, vec![refunded(&back, Some(UNDO))]));

    let declined_then = waiting().then(charged(no("INSUFFICIENT_FUNDS")));
    assert_eq!(declined_then.state(), State::Declined);
    assert_eq!(declined_then.said(), vec![failed_of(DO, "INSUFFICIENT_FUNDS"), voided(UNDO)]);
}

#[test]
fn s3_a_late_charge_on_a_voided_payment_is_given_back() {
    let withdrawn = Told::default().then(charge()).then(undo(UNDO)).then(absent(Kind::Charge));
    for undone in [Told::default().then(undo(UNDO)), withdrawn] {
        let late = undone.then(charged(yes()));
        assert_eq!((late.state(), late.row().captured, late.said()), (State::Refunding, 2_400, vec![]));
        assert_eq!(late.transfers(), vec![("receivable:sandbox", "sales", 2_400)]);
        assert_eq!(late.calls(), vec![(Kind::Refund, 2_400)]);
        let late = late.then(charge());
        assert_eq!(late.said(), vec![failed_of(DO, VOIDED)], "the command keeps its answer");
        let back = late.then(given_back(yes()));
        assert_eq!((back.state(), back.said()), (State::Refunded, vec![refunded(&back, Some(UNDO))]));
    }
}

#[test]
fn s3_a_late_charge_on_a_declined_payment_is_given_back_unasked() {
    let late = in_flight().then(charged(no("CARD_DECLINED"))).then(charged(yes()));
    assert_eq!((late.state(), late.said()), (State::Refunding, vec![]));
    let back = late.then(given_back(yes()));
    assert_eq!((back.state(), back.said()), (State::Refunded, vec![refunded(&back, None)]));
    assert_eq!(back.then(charge()).said(), vec![failed_of(DO, "CARD_DECLINED")]);
}

#[test]
fn s8_a_refund_reserves_what_remains_and_an_undo_asked_twice_pays_once() {
    let told = refunding();
    assert_eq!((told.state(), told.row().refund_pending, told.said()), (State::Refunding, 2_400, vec![]));
    assert_eq!(told.calls(), vec![(Kind::Refund, 2_400)]);
    let told = told.then(undo(UNDO));
    assert!(told.effects.is_empty(), "asked again while it is under way");
    let told = told.then(given_back(yes()));
    assert_eq!((told.state(), told.row().refunded), (State::Refunded, 2_400));
    assert_eq!(told.said(), vec![refunded(&told, Some(UNDO))]);
    assert_eq!(told.transfers(), vec![("sales", "receivable:sandbox", 2_400)]);
    let told = told.then(undo(UNDO));
    assert_eq!((told.said(), told.transfers()), (vec![refunded(&told, Some(UNDO))], vec![]));
    assert_eq!(told.then(charge()).said(), vec![succeeded()], "the command keeps its answer");
}

#[test]
fn the_latest_undo_is_answered() {
    let told = refunding().then(undo(UNDO_AGAIN)).then(given_back(yes()));
    assert_eq!(told.said(), vec![refunded(&told, Some(UNDO_AGAIN))]);
}

#[test]
fn a_refused_refund_is_said_again_and_tried_again_for_another_undo_only() {
    let told = refunding().then(given_back(no("REFUND_REFUSED")));
    assert_eq!((told.state(), told.row().refund_pending), (State::RefundRefused, 0));
    assert_eq!(told.said(), vec![refund_failed(&told, UNDO, "REFUND_REFUSED")]);

    let told = told.then(undo(UNDO));
    assert_eq!((told.state(), told.said()), (State::RefundRefused, vec![refund_failed(&told, UNDO, "REFUND_REFUSED")]));

    let told = told.then(undo(UNDO_AGAIN));
    assert_eq!((told.state(), told.said()), (State::Refunding, vec![]));
    let call = Call { kind: Kind::Refund, key: own_key(UNDO_AGAIN, Kind::Refund), amount: 2_400, token: String::new() };
    assert!(told.effects.contains(&Effect::Call(call)), "under the old key the provider would say what it said");
    let told = told.then(answered_to(UNDO_AGAIN, Kind::Refund, yes()));
    assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNDO_AGAIN))]));
}

#[test]
fn money_that_is_back_after_a_refusal_counts() {
    let told = refunding().then(given_back(no("REFUND_REFUSED"))).then(given_back(yes()));
    assert_eq!((told.state(), told.row().refunded), (State::Refunded, 2_400));
    assert_eq!(told.transfers(), vec![("sales", "receivable:sandbox", 2_400)]);
}

fn give_up_charge() -> Input {
    Input::RefuseOpening { command_id: DO }
}

fn give_up_undo() -> Input {
    Input::RefuseUndo { command_id: UNDO, undoes: DO }
}

#[test]
fn a_charge_that_was_given_up_is_refused_ever_after() {
    let told = Told::default().then(give_up_charge());
    assert_eq!((told.state(), told.said()), (State::Voided, vec![failed_of(DO, "DISCARDED")]));
    let again = told.then(charge());
    assert_eq!(
        (again.state(), again.said(), again.effects.len()),
        (State::Voided, vec![failed_of(DO, "DISCARDED")], 1),
        "no call is made"
    );
    assert_eq!(again.then(undo(UNDO)).said(), vec![voided(UNDO)]);

    let asked_before = in_flight().then(give_up_charge());
    assert_eq!((asked_before.state(), asked_before.said()), (State::InFlight, vec![]));
    assert_eq!(captured().then(give_up_charge()).said(), vec![succeeded()], "it was done before");
}

#[test]
fn an_undo_that_was_given_up_leaves_the_money_until_another_asks() {
    let told = captured().then(give_up_undo());
    let given_up = |told: &Told| refund_failed(told, UNDO, "DISCARDED");
    assert_eq!((told.state(), told.said(), told.calls()), (State::RefundRefused, vec![given_up(&told)], vec![]));
    let told = told.then(undo(UNDO));
    assert_eq!((told.state(), told.said()), (State::RefundRefused, vec![given_up(&told)]));
    assert_eq!(told.then(undo(UNDO_AGAIN)).calls(), vec![(Kind::Refund, 2_400)]);

    assert!(refunding().then(give_up_undo()).effects.is_empty(), "it is under way");
    assert_eq!(in_flight().then(give_up_undo()).state(), State::InFlight);
    let nothing = Told::default().then(give_up_undo());
    assert_eq!((nothing.payment.is_none(), nothing.said().len()), (true, 1));
}

#[test]
fn an_outcome_of_nothing_is_refused() {
    for input in [charged(yes()), given_back(yes()), Input::Unknown { call: made(Kind::Charge, 1) }] {
        assert_eq!(step(&opening(), None, None, &input), Err(Undecided::NoPayment));
    }
    let payment = captured().payment;
    assert_eq!(step(&opening(), payment.as_ref(), None, &given_back(yes())), Err(Undecided::NoRefund));
}
