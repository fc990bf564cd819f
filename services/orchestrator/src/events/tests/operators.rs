//! What operators do to sagas, and what they may not.

use contracts::Message;
use saga::{Operation, State, StepState};

use super::play::{ORDER, Play, cancel, command_id, commands, done, name, names, refund_requested, refused, unknown};
use crate::{
    definitions::{self, CHECKOUT, CHECKOUT_RESERVE_FIRST, REFUND},
    error::Refusal,
    events::Input,
    instance::attention,
    operations::Asked,
};
use uuid::Uuid;

/// The goods were not there, and the refund of the charge is refused: with the refund that was asked for.
fn stuck() -> (Play, Message) {
    let (mut play, reserve) = Play::at_step(&CHECKOUT, 1);
    let refund = play.asks(refused(&reserve).expect("it can be refused"));
    let news = names(&play.hear(refused(&refund).expect("it can be refused")));
    assert_eq!(news, ["+PaymentRefundFailed", "+SagaNeedsAttention", "SagaNeedsAttention"]);
    assert_eq!(play.saga().progress.state(), State::NeedsAttention);
    (play, refund)
}

fn is_refused(refusal: Result<Vec<Message>, Refusal>) -> bool {
    matches!(refusal, Err(Refusal::MakesNoSense(_)))
}

#[test]
fn a_refused_undo_is_asked_again_under_a_new_id() {
    let (mut play, first) = stuck();
    let news = play.operate(Operation::Retry).expect("allowed");
    assert_eq!(names(&news), ["+SagaRetried", "+SagaResumed", "RefundPayment"]);
    let (Some(Message::RefundPayment(again)), Message::RefundPayment(first)) = (news.last(), &first) else { panic!("{news:?}") };
    assert_ne!(again.command_id, first.command_id);
    assert_eq!(again.undoes, first.undoes, "it undoes the same");
    assert!(play.saga().deadline_at.is_some());
    let close = play.asks(done(&news[2]));
    let Message::CloseOrder(close) = close else { panic!("{close:?}") };
    assert_eq!(close.refunded_amount, super::play::TOTAL);
}

#[test]
fn what_has_no_answer_is_asked_again_under_its_own_id() {
    let (mut play, reserve) = Play::at_step(&CHECKOUT, 1);
    let before_its_deadline = play.operate(Operation::Retry).expect("allowed");
    assert_eq!(names(&before_its_deadline), ["+SagaRetried", "ReserveStock"]);
    while play.saga().deadline_at.is_some() {
        play.due(&[]);
    }
    let after_the_last = play.operate(Operation::Retry).expect("allowed");
    assert_eq!(names(&after_the_last), ["+SagaRetried", "+SagaResumed", "ReserveStock"]);
    for news in [before_its_deadline, after_the_last] {
        assert_eq!(commands(&news), std::slice::from_ref(&reserve), "under another id it could be reserved twice");
    }
    assert_eq!(play.saga().progress.resent, 0);
    assert!(play.saga().deadline_at.is_some());
}

#[test]
fn what_is_refused_again_waits_for_a_person_again() {
    let (mut play, _) = stuck();
    let again = play.operate(Operation::Retry).expect("allowed").pop().expect("a refund");
    let news = names(&play.hear(refused(&again).expect("it can be refused")));
    assert_eq!(news, ["+PaymentRefundFailed", "+SagaNeedsAttention", "SagaNeedsAttention"]);
}

#[test]
fn a_refused_undo_that_is_skipped_was_settled_by_hand() {
    let (mut play, _) = stuck();
    let news = play.operate(Operation::Skip).expect("allowed");
    assert_eq!(names(&news), ["SagaSkipped+SagaResumed+CloseOrder"]);
    let Some(Message::CloseOrder(close)) = news.last() else { panic!("{news:?}") };
    assert_eq!((close.reason.as_str(), close.refunded_amount), ("SO_IT_IS", 0));
    play.hear(done(&news[0]));
    assert_eq!(play.saga().progress.state(), State::Undone);
}

#[test]
fn s3_a_refund_that_was_settled_by_hand_and_is_made_after_all_is_told_once() {
    let (mut play, refund) = stuck();
    let close = play.operate(Operation::Skip).expect("allowed").pop().expect("a close");
    assert_eq!((name(&close), play.saga().progress.steps[0].state), ("CloseOrder", StepState::Skipped));
    let mut ended = play.clone();
    assert_eq!(names(&ended.hear(done(&close))), ["SagaCompleted"]);
    for (mut play, state) in [(play, State::Compensating), (ended, State::Undone)] {
        let deadline = play.saga().deadline_at.is_some();
        assert_eq!(names(&play.hear(done(&refund))), ["+PaymentRefunded"], "it is told, and nothing follows");
        let saga = play.saga();
        assert_eq!((saga.progress.steps[0].state, saga.kept.refunded_amount), (StepState::Undone, super::play::TOTAL));
        assert_eq!((saga.progress.state(), saga.deadline_at.is_some()), (state, deadline));
        let before = play.book.sagas.clone();
        assert!(play.hear(done(&refund)).is_empty(), "once");
        assert_eq!(play.book.sagas, before);
    }
}

#[test]
fn s6_a_skip_settles_what_a_person_was_told_of_and_asks_what_waits_for_its_turn() {
    let (mut play, confirm) = Play::at_step(&CHECKOUT_RESERVE_FIRST, 4);
    let of_capture = play.asks(refused(&confirm).expect("it can be refused"));
    let cancel = play.asks(refused(&of_capture).expect("it can be refused"));
    let of_authorization = play.asks(done(&cancel));
    let release = play.asks(refused(&of_authorization).expect("it can be refused"));
    play.hear(done(&release));
    let why = |play: &Play| attention(&CHECKOUT_RESERVE_FIRST, &play.saga().progress);
    assert_eq!(why(&play), "RefundPayment is refused; RefundPayment is refused");

    let again = play.operate(Operation::Retry).expect("allowed").pop().expect("an undo");
    play.hear(unknown(&again));
    assert_eq!(why(&play), "RefundPayment has no answer", "the other one waits for its turn");
    let news = play.operate(Operation::Skip).expect("allowed");
    assert_eq!(names(&news), ["+SagaSkipped", "+SagaResumed", "RefundPayment"]);
    let (Message::RefundPayment(first), Message::RefundPayment(asked)) = (&of_authorization, &news[2]) else { panic!("{news:?}") };
    assert_eq!(asked.undoes, first.undoes, "that of the authorization");
    let states = play.saga().progress.steps.iter().map(|stand| stand.state).collect::<Vec<_>>();
    assert_eq!((states[1], states[3]), (StepState::Undoing, StepState::Skipped));
    assert_eq!(name(&play.asks(done(&news[2]))), "CloseOrder");
}

#[test]
fn a_charge_that_nobody_knows_of_is_skipped_by_its_undo() {
    let (mut play, charge) = Play::at_step(&CHECKOUT, 0);
    assert!(is_refused(play.operate(Operation::Skip)), "it is not stuck");
    play.hear(unknown(&charge));
    let news = play.operate(Operation::Skip).expect("allowed");
    assert_eq!(names(&news), ["+SagaSkipped", "+SagaCompensating", "+SagaResumed", "SagaCompensating", "RefundPayment"]);
    assert_eq!(play.saga().reason, "SKIPPED_BY_OPERATOR");
    assert_eq!(names(&play.hear(done(&charge))), ["+PaymentSucceeded"], "it landed later");
    let close = play.asks(done(&news[4]));
    assert_eq!(name(&close), "CloseOrder");
}

#[test]
fn the_pivot_is_not_skipped() {
    let (mut play, _) = Play::at_step(&CHECKOUT, 3);
    while play.saga().deadline_at.is_some() {
        play.due(&[]);
    }
    assert_eq!(play.saga().progress.state(), State::NeedsAttention);
    assert!(is_refused(play.operate(Operation::Skip)));
    assert_eq!(names(&play.operate(Operation::Retry).expect("allowed")), ["SagaRetried+SagaResumed+ConfirmOrder"]);
}

#[test]
fn a_paused_saga_takes_answers_in_and_asks_when_it_is_resumed() {
    let (mut play, charge) = Play::at_step(&CHECKOUT, 0);
    let mut undisturbed = play.clone();
    assert_eq!(names(&play.operate(Operation::Pause).expect("allowed")), ["+SagaPaused"]);
    assert_eq!(play.saga().deadline_at, None, "it is never due");
    assert_eq!(names(&play.hear(done(&charge))), ["+PaymentSucceeded"]);
    assert!(is_refused(play.operate(Operation::Pause)), "it is paused");
    let news = play.operate(Operation::Resume).expect("allowed");
    assert_eq!(names(&news), ["+SagaResumed", "ReserveStock"]);
    assert_eq!(command_id(&news[1]), command_id(&undisturbed.asks(done(&charge))), "the id it always had");
    assert!(play.saga().deadline_at.is_some());
    assert!(is_refused(play.operate(Operation::Resume)), "it is not paused");
}

#[test]
fn a_cancel_is_taken_in_by_a_paused_saga() {
    let (mut play, _) = Play::at_step(&CHECKOUT, 1);
    play.operate(Operation::Pause).expect("allowed");
    assert_eq!(names(&play.hear(cancel())), ["+SagaCompensating", "SagaCompensating"]);
    assert_eq!(names(&play.operate(Operation::Resume).expect("allowed")), ["+SagaResumed", "ReleaseStock"]);
}

#[test]
fn what_is_over_takes_no_operation() {
    let (mut play, confirm) = Play::at_step(&CHECKOUT, 3);
    play.hear(done(&confirm));
    for operation in [Operation::Retry, Operation::Skip, Operation::Pause, Operation::Resume] {
        assert!(is_refused(play.operate(operation)), "{operation:?}");
    }
    assert!(play.book.done.is_empty(), "what is refused is not written down");
}

#[test]
fn an_operation_that_was_decided_on_another_version_is_refused() {
    let (mut play, _) = stuck();
    let version = play.saga().version;
    for other in [version - 1, version + 1] {
        let refused = play.operate_on(Operation::Retry, Some(other));
        assert!(matches!(refused, Err(Refusal::MovedOn(now)) if now == version), "{refused:?}");
    }
    play.operate_on(Operation::Retry, None).expect("any version will do");
}

#[test]
fn who_did_what_and_why_is_written_down() {
    let (mut play, _) = stuck();
    play.operate(Operation::Retry).expect("allowed");
    play.operate(Operation::Pause).expect("allowed");
    let written: Vec<_> =
        play.book.done.iter().map(|done| (done.operation, done.version, done.who.as_str(), done.reason.as_str())).collect();
    let version = play.saga().version;
    assert_eq!(written, [(Operation::Retry, version - 1, "ann", "it was time"), (Operation::Pause, version, "ann", "it was time")]);
}

#[test]
fn a_call_that_is_repeated_is_done_once() {
    let (mut play, _) = stuck();
    let call = Uuid::from_u128(0xca11);
    let input = || {
        Input::Operated(Asked {
            order_id: ORDER,
            saga_id: None,
            expected_version: None,
            operation: Operation::Retry,
            who: "ann".into(),
            reason: "it was time".into(),
        })
    };
    assert_eq!(commands(&play.decide_as(call, input()).expect("allowed")).len(), 1);
    // As a batch finds it whose commit was in doubt.
    play.book.known.insert(call);
    assert!(play.decide_as(call, input()).expect("done before").is_empty());
}

#[test]
fn a_saga_that_is_not_there_is_not_found() {
    let (mut play, _) = stuck();
    play.key.1 = Uuid::from_u128(0xdead);
    assert!(matches!(play.operate_on(Operation::Retry, None), Err(Refusal::NotStarted)));
}

#[test]
fn the_flag_of_the_order_stays_up_while_another_saga_of_it_is_stuck() {
    let (mut play, first) = Play::new(&REFUND);
    let other = Uuid::from_u128(0xf2);
    let second = play.asks(refund_requested(other, 300));
    for refund in [&first, &second] {
        play.hear(unknown(refund));
    }
    let news = play.operate(Operation::Retry).expect("allowed");
    assert_eq!(names(&news), ["+SagaRetried", "+SagaResumed", "RefundCapture", "+SagaNeedsAttention"]);
    play.key.1 = definitions::saga_id(other, REFUND.name);
    let news = play.operate(Operation::Retry).expect("allowed");
    assert_eq!(names(&news), ["+SagaRetried", "+SagaResumed", "RefundCapture"], "none is stuck any more");
}

#[test]
fn the_flag_of_the_order_stays_up_where_a_stuck_saga_is_resumed() {
    let (mut play, _) = stuck();
    play.operate(Operation::Pause).expect("allowed");
    let news = play.operate(Operation::Resume).expect("allowed");
    assert_eq!(names(&news), ["+SagaResumed", "+SagaNeedsAttention"]);
}
