use super::*;

const ORDER: Uuid = Uuid::from_u128(1);
const DO: Uuid = Uuid::from_u128(2);
const UNDO: Uuid = Uuid::from_u128(3);
const UNDO_AGAIN: Uuid = Uuid::from_u128(4);

fn opening() -> Opening<'static> {
    Opening { order_id: ORDER, provider: "sandbox", at: OffsetDateTime::UNIX_EPOCH }
}

fn charge() -> Input {
    Input::Charge { command_id: DO, amount: 2_400, currency: "USD".into(), token: "tok".into() }
}

fn undo(command_id: Uuid) -> Input {
    Input::Undo { command_id, undoes: DO }
}

fn charged(known: Known) -> Input {
    Input::ChargeAnswered { amount: 2_400, currency: "USD".into(), known }
}

fn refund_answered(known: Known) -> Input {
    Input::RefundAnswered { known }
}

fn yes() -> Known {
    Known::Succeeded { auth_code: "A1".into() }
}

fn no(reason: &str) -> Known {
    Known::Declined { reason: reason.into() }
}

/// A payment and the effects of the last input.
#[derive(Default)]
struct Told {
    payment: Option<Payment>,
    effects: Vec<Effect>,
}

impl Told {
    fn then(self, input: Input) -> Self {
        let step = step(&opening(), self.payment.as_ref(), &input).expect("a payment");
        if let Some(payment) = &step.payment {
            assert!(
                payment.refunded + payment.refund_pending <= payment.captured,
                "more is given back than was taken: {payment:?}"
            );
            assert_eq!(payment.refund_pending > 0, payment.state == State::Refunding);
        }
        Self { payment: step.payment, effects: step.effects }
    }

    /// The charge has reached the provider, as the row of its call says when it is loaded.
    fn sent(mut self) -> Self {
        self.payment.as_mut().expect("a payment").charge_sent = true;
        self
    }

    fn row(&self) -> &Payment {
        self.payment.as_ref().expect("a payment")
    }

    fn state(&self) -> State {
        self.row().state
    }

    fn said(&self) -> Vec<(Option<Uuid>, Answer)> {
        let said = self.effects.iter().filter_map(|effect| match effect {
            Effect::Say(said) => Some((said.command_id, said.answer.clone())),
            _ => None,
        });
        said.collect()
    }

    fn transfers(&self) -> Vec<(&str, &str, i64)> {
        let transfers = self.effects.iter().filter_map(|effect| match effect {
            Effect::Transfer(transfer) => Some((transfer.debit.as_str(), transfer.credit.as_str(), transfer.amount)),
            _ => None,
        });
        transfers.collect()
    }

    fn asks_refund(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::CallRefund { .. }))
    }
}

fn in_flight() -> Told {
    Told::default().then(charge()).sent()
}

fn captured() -> Told {
    in_flight().then(charged(yes()))
}

fn refunding() -> Told {
    captured().then(undo(UNDO))
}

fn succeeded() -> (Option<Uuid>, Answer) {
    let answer = Answer::Succeeded { amount: 2_400, currency: "USD".into(), provider: "sandbox".into(), auth_code: "A1".into() };
    (Some(DO), answer)
}

fn failed(reason: &str) -> (Option<Uuid>, Answer) {
    (Some(DO), Answer::Failed { reason: reason.into() })
}

fn refunded(told: &Told, command_id: Option<Uuid>) -> (Option<Uuid>, Answer) {
    (command_id, Answer::Refunded { refund_id: told.row().refund_id(), amount: 2_400, currency: "USD".into() })
}

fn refund_failed(told: &Told, command_id: Uuid) -> (Option<Uuid>, Answer) {
    (Some(command_id), Answer::RefundFailed { refund_id: told.row().refund_id(), reason: "REFUND_REFUSED".into() })
}

#[test]
fn names_are_read_back() {
    for (state, name) in State::NAMES {
        assert_eq!(state.name(), name);
        assert_eq!(State::parse(name), Some(state));
    }
    assert_eq!(State::parse("PAID"), None);
}

#[test]
fn a_charge_opens_a_call_and_says_nothing_yet() {
    let told = Told::default().then(charge());
    assert_eq!(told.state(), State::InFlight);
    assert_eq!(told.row().id, ids::derive(DO, "payment"));
    assert_eq!(told.effects, vec![Effect::CallCharge { token: "tok".into() }]);
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
    for known in [yes(), no("CARD_DECLINED")] {
        let told = captured().then(charged(known));
        assert_eq!((told.state(), told.effects.len()), (State::Captured, 0));
    }
    let told = in_flight().then(charged(no("CARD_DECLINED"))).then(charged(no("CARD_DECLINED")));
    assert_eq!((told.state(), told.effects.len()), (State::Declined, 0));
    let told = refunding().then(refund_answered(yes())).then(refund_answered(yes()));
    assert_eq!((told.state(), told.row().refunded, told.effects.len()), (State::Refunded, 2_400, 0));
}

#[test]
fn a_declined_charge_says_why_and_its_undo_gives_nothing_back() {
    let told = in_flight().then(charged(no("CARD_DECLINED")));
    assert_eq!((told.state(), told.said()), (State::Declined, vec![failed("CARD_DECLINED")]));
    assert!(told.transfers().is_empty());
    let undone = told.then(undo(UNDO));
    assert_eq!((undone.state(), undone.said()), (State::Declined, vec![(Some(UNDO), Answer::Voided)]));
    let again = undone.then(charge());
    assert_eq!(again.said(), vec![failed("CARD_DECLINED")]);
}

#[test]
fn what_cannot_be_charged_is_refused_without_a_row() {
    for (amount, currency, reason) in [(0, "USD", "INVALID_AMOUNT"), (-5, "USD", "INVALID_AMOUNT"), (5, "usd", "INVALID_CURRENCY")]
    {
        let told = Told::default().then(Input::Charge { command_id: DO, amount, currency: currency.into(), token: String::new() });
        assert_eq!(told.payment, None);
        assert_eq!(told.said(), vec![failed(reason)]);
    }
}

#[test]
fn an_undo_before_its_command_refuses_the_command() {
    let told = Told::default().then(undo(UNDO));
    assert_eq!((told.state(), told.row().id), (State::Voided, ids::derive(DO, "payment")));
    assert_eq!(told.said(), vec![(Some(UNDO), Answer::Voided)]);
    let refused = told.then(charge());
    assert_eq!((refused.state(), refused.said()), (State::Voided, vec![failed(VOIDED)]));
    let again = refused.then(undo(UNDO));
    assert_eq!((again.state(), again.said()), (State::Voided, vec![(Some(UNDO), Answer::Voided)]));
}

#[test]
fn a_charge_that_was_never_sent_is_voided() {
    let told = Told::default().then(charge()).then(undo(UNDO));
    assert_eq!((told.state(), told.said()), (State::Voided, vec![(Some(UNDO), Answer::Voided)]));
    assert!(told.effects.contains(&Effect::EndCall));
    assert_eq!(told.then(charge()).said(), vec![failed(VOIDED)]);
}

#[test]
fn an_undo_of_a_charge_that_was_sent_waits_for_the_outcome() {
    let waiting = || in_flight().then(undo(UNDO));
    assert_eq!((waiting().state(), waiting().said()), (State::InFlight, vec![]));

    let charged_then = waiting().then(charged(yes()));
    assert_eq!((charged_then.state(), charged_then.said()), (State::Refunding, vec![succeeded()]));
    assert!(charged_then.asks_refund());
    let back = charged_then.then(refund_answered(yes()));
    assert_eq!((back.state(), back.said()), (State::Refunded, vec![refunded(&back, Some(UNDO))]));

    let declined_then = waiting().then(charged(no("INSUFFICIENT_FUNDS")));
    assert_eq!(declined_then.state(), State::Declined);
    assert_eq!(declined_then.said(), vec![failed("INSUFFICIENT_FUNDS"), (Some(UNDO), Answer::Voided)]);
}

#[test]
fn a_late_charge_on_a_voided_payment_is_given_back() {
    for voided in [Told::default().then(undo(UNDO)), Told::default().then(charge()).then(undo(UNDO))] {
        let late = voided.then(charged(yes()));
        assert_eq!((late.state(), late.row().captured, late.said()), (State::Refunding, 2_400, vec![]));
        assert_eq!(late.transfers(), vec![("receivable:sandbox", "sales", 2_400)]);
        assert!(late.asks_refund());
        let late = late.then(charge());
        assert_eq!(late.said(), vec![failed(VOIDED)], "the command keeps its answer");
        let back = late.then(refund_answered(yes()));
        assert_eq!((back.state(), back.said()), (State::Refunded, vec![refunded(&back, Some(UNDO))]));
    }
}

#[test]
fn a_late_charge_on_a_declined_payment_is_given_back_unasked() {
    let late = in_flight().then(charged(no("CARD_DECLINED"))).then(charged(yes()));
    assert_eq!((late.state(), late.said()), (State::Refunding, vec![]));
    let back = late.then(refund_answered(yes()));
    assert_eq!((back.state(), back.said()), (State::Refunded, vec![refunded(&back, None)]));
    assert_eq!(back.then(charge()).said(), vec![failed("CARD_DECLINED")]);
}

#[test]
fn a_refund_reserves_what_remains_and_is_answered_once_it_is_back() {
    let told = refunding();
    assert_eq!((told.state(), told.row().refund_pending, told.said()), (State::Refunding, 2_400, vec![]));
    assert!(told.asks_refund());
    let told = told.then(undo(UNDO));
    assert!(told.effects.is_empty(), "asked again while it is under way");
    let told = told.then(refund_answered(yes()));
    assert_eq!((told.state(), told.row().refunded), (State::Refunded, 2_400));
    assert_eq!(told.said(), vec![refunded(&told, Some(UNDO))]);
    assert_eq!(told.transfers(), vec![("sales", "receivable:sandbox", 2_400)]);
    let told = told.then(undo(UNDO));
    assert_eq!((told.said(), told.transfers()), (vec![refunded(&told, Some(UNDO))], vec![]));
    assert_eq!(told.then(charge()).said(), vec![succeeded()], "the command keeps its answer");
}

#[test]
fn the_latest_undo_is_answered() {
    let told = refunding().then(undo(UNDO_AGAIN)).then(refund_answered(yes()));
    assert_eq!(told.said(), vec![refunded(&told, Some(UNDO_AGAIN))]);
}

#[test]
fn a_refused_refund_is_said_again_and_tried_again_for_another_undo_only() {
    let told = refunding().then(refund_answered(no("REFUND_REFUSED")));
    assert_eq!((told.state(), told.row().refund_pending), (State::RefundRefused, 0));
    assert_eq!(told.said(), vec![refund_failed(&told, UNDO)]);
    let refund_id = told.row().refund_id();

    let told = told.then(undo(UNDO));
    assert_eq!((told.state(), told.said()), (State::RefundRefused, vec![refund_failed(&told, UNDO)]));

    let told = told.then(undo(UNDO_AGAIN));
    assert_eq!((told.state(), told.said()), (State::Refunding, vec![]));
    assert!(
        told.effects.contains(&Effect::CallRefund { refund_id, amount: 2_400 }),
        "the same refund, however often it is asked for"
    );
    let told = told.then(refund_answered(yes()));
    assert_eq!((told.state(), told.said()), (State::Refunded, vec![refunded(&told, Some(UNDO_AGAIN))]));
}

#[test]
fn money_that_is_back_after_a_refusal_counts() {
    let told = refunding().then(refund_answered(no("REFUND_REFUSED"))).then(refund_answered(yes()));
    assert_eq!((told.state(), told.row().refunded), (State::Refunded, 2_400));
    assert_eq!(told.transfers(), vec![("sales", "receivable:sandbox", 2_400)]);
}

fn give_up_charge() -> Input {
    Input::RefuseCharge { command_id: DO }
}

fn give_up_undo() -> Input {
    Input::RefuseUndo { command_id: UNDO, undoes: DO }
}

#[test]
fn a_charge_that_was_given_up_is_refused_ever_after() {
    let told = Told::default().then(give_up_charge());
    assert_eq!((told.state(), told.said()), (State::Voided, vec![failed("DISCARDED")]));
    let again = told.then(charge());
    assert_eq!(
        (again.state(), again.said(), again.effects.len()),
        (State::Voided, vec![failed("DISCARDED")], 1),
        "no call is made"
    );
    assert_eq!(again.then(undo(UNDO)).said(), vec![(Some(UNDO), Answer::Voided)]);

    let asked_before = in_flight().then(give_up_charge());
    assert_eq!((asked_before.state(), asked_before.said()), (State::InFlight, vec![]));
    assert_eq!(captured().then(give_up_charge()).said(), vec![succeeded()], "it was done before");
}

#[test]
fn an_undo_that_was_given_up_leaves_the_money_until_another_asks() {
    let told = captured().then(give_up_undo());
    let given_up =
        |told: &Told| (Some(UNDO), Answer::RefundFailed { refund_id: told.row().refund_id(), reason: "DISCARDED".into() });
    assert_eq!((told.state(), told.said(), told.asks_refund()), (State::RefundRefused, vec![given_up(&told)], false));
    let told = told.then(undo(UNDO));
    assert_eq!((told.state(), told.said()), (State::RefundRefused, vec![given_up(&told)]));
    assert!(told.then(undo(UNDO_AGAIN)).asks_refund());

    assert!(refunding().then(give_up_undo()).effects.is_empty(), "it is under way");
    assert_eq!(in_flight().then(give_up_undo()).state(), State::InFlight);
    let nothing = Told::default().then(give_up_undo());
    assert_eq!((nothing.payment.is_none(), nothing.said().len()), (true, 1));
}

#[test]
fn an_outcome_of_nothing_is_refused() {
    for input in [charged(yes()), refund_answered(yes())] {
        assert_eq!(step(&opening(), None, &input), Err(NoPayment));
    }
}
