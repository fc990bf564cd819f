//! Each step of each saga fails, each answer comes twice, or late, or after a crash: docs/failures.md, the saga orchestrator.

use std::collections::BTreeSet;

use contracts::Message;
use saga::{Cause, Definition, Phase, State, StepState, Undo};

use super::play::{Play, cancel, command_id, commands, done, name, names, refused, unknown};
use crate::definitions::{CHECKOUT, CHECKOUT_RESERVE_FIRST, DEFINITIONS};

/// Plays a saga to its end. Every command is carried out, but for the step of this place, which is refused. What asks is given back, in
/// order.
fn play(
    definition: &Definition,
    fails: Option<usize>,
    mut hear: impl FnMut(&mut Play, Message) -> Vec<Message>,
) -> (Play, Vec<Message>) {
    let (mut play, first) = Play::new(definition);
    let (mut asked, mut all) = (Some(first), Vec::new());
    while let Some(command) = asked {
        let place = definition.steps.iter().position(|step| step.command == name(&command));
        let answer = match fails.is_some() && place == fails {
            true => refused(&command).expect("it can be refused"),
            false => done(&command),
        };
        let next = commands(&hear(&mut play, answer));
        assert!(next.len() <= 1, "{}: one thing at a time: {:?}", definition.name, names(&next));
        all.push(command);
        asked = next.into_iter().next();
    }
    (play, all)
}

/// The places of the steps that can be refused, and `None` for a saga in which none is.
fn ways(definition: &Definition) -> Vec<Option<usize>> {
    let refusable = (0..definition.steps.len()).filter(|place| definition.steps[*place].undo != Undo::Retriable).map(Some);
    std::iter::once(None).chain(refusable).collect()
}

/// What undoes the first so many steps, and the close.
fn back_from(definition: &'static Definition, steps: usize) -> Vec<&'static str> {
    (0..steps).rev().filter_map(|place| definition.undo_of(place)).chain([definition.close]).collect()
}

fn names_of(commands: &[Message]) -> Vec<&'static str> {
    commands.iter().map(name).collect()
}

#[test]
fn where_no_step_fails_all_are_asked_in_order() {
    for definition in &DEFINITIONS {
        let (play, asked) = play(definition, None, Play::hear);
        assert_eq!(names_of(&asked), definition.steps.iter().map(|step| step.command).collect::<Vec<_>>());
        assert_eq!((play.saga().progress.state(), play.saga().deadline_at), (State::Done, None), "{}", definition.name);
    }
}

#[test]
fn s1_each_step_that_fails_turns_the_saga_back() {
    for definition in &DEFINITIONS {
        for place in ways(definition).into_iter().flatten() {
            let (play, asked) = play(definition, Some(place), Play::hear);
            let (saga, step) = (play.saga(), definition.steps[place]);
            let what = format!("{} of {}", step.name, definition.name);
            assert_eq!(saga.progress.cause, Some(Cause::Refused { step: place }), "{what} is the node that failed");
            assert_eq!(saga.progress.steps[place].state, StepState::Refused, "{what}");
            assert_eq!(names_of(&asked)[..=place], definition.steps[..=place].iter().map(|step| step.command).collect::<Vec<_>>());
            assert_eq!(names_of(&asked)[place + 1..], back_from(definition, place), "{what}");
            assert_eq!((saga.progress.state(), saga.deadline_at), (State::Undone, None), "{what}");
            let reason = if step.command == "ConfirmOrder" { "CONFIRM_REFUSED" } else { "SO_IT_IS" };
            assert_eq!(saga.reason, reason, "{what}");
        }
    }
}

#[test]
fn s1_a_crash_before_a_turn_is_saved_asks_the_same_with_the_same_ids() {
    for definition in &DEFINITIONS {
        for fails in ways(definition) {
            let mut turns = 0;
            play(definition, fails, |play, answer| {
                turns += 1;
                let lost = play.clone().hear(answer.clone());
                let news = play.hear(answer);
                assert_eq!(lost, news, "{} that fails at {fails:?}, turn {turns}", definition.name);
                news
            });
            assert!(turns > 0);
        }
    }
}

#[test]
fn s4_an_answer_that_comes_again_changes_nothing_and_asks_nothing() {
    for definition in &DEFINITIONS {
        for fails in ways(definition) {
            let mut heard: Vec<Message> = Vec::new();
            play(definition, fails, |play, answer| {
                let news = play.hear(answer.clone());
                heard.push(answer);
                let before = play.book.sagas.clone();
                for again in &heard {
                    let said = play.hear(again.clone());
                    assert!(
                        said.is_empty(),
                        "{} that fails at {fails:?}: {} again: {:?}",
                        definition.name,
                        name(again),
                        names(&said)
                    );
                }
                assert_eq!(play.book.sagas, before);
                news
            });
        }
    }
}

#[test]
fn s8_each_step_and_each_undo_is_asked_under_one_id_and_undone_once() {
    for definition in &DEFINITIONS {
        for fails in ways(definition) {
            let (play, asked) = play(definition, fails, |play, answer| {
                let news = play.hear(answer.clone());
                play.hear(answer);
                news
            });
            let ids: BTreeSet<String> = asked.iter().map(command_id).collect();
            assert_eq!(ids.len(), asked.len(), "{} that fails at {fails:?}: {:?}", definition.name, names_of(&asked));
            let undone = play.saga().progress.steps.iter().filter(|stand| stand.state == StepState::Undone).count();
            let expected = fails.map_or(0, |place| back_from(definition, place).len() - 1);
            assert_eq!(undone, expected, "{} that fails at {fails:?}", definition.name);
        }
    }
}

#[test]
fn s8_two_undos_of_one_payment_tell_of_one_refund() {
    let capture = 3;
    assert_eq!(CHECKOUT_RESERVE_FIRST.steps[capture].command, "CapturePayment");
    let (_, asked) = play(&CHECKOUT_RESERVE_FIRST, Some(capture + 1), Play::hear);
    let refunds: Vec<_> = asked.iter().filter(|command| name(command) == "RefundPayment").collect();
    assert_eq!(refunds.len(), 2, "of the capture, and of the authorization: {:?}", names_of(&asked));
    let Some(Message::CloseOrder(close)) = asked.last() else { panic!("no close") };
    assert_eq!(close.refunded_amount, super::play::TOTAL);
}

#[test]
fn s3_an_answer_that_comes_after_the_cancel_is_told_once_and_undone_once() {
    for definition in [&DEFINITIONS[0], &DEFINITIONS[1]] {
        assert!([CHECKOUT.name, CHECKOUT_RESERVE_FIRST.name].contains(&definition.name));
        // The order refuses the pivot after a cancel.
        for (place, step) in definition.steps.iter().enumerate().filter(|(_, step)| step.undo != Undo::Pivot) {
            let (mut play, asked) = Play::at_step(definition, place);
            let mut undo = commands(&play.hear(cancel()));
            let what = format!("{} of {}", step.name, definition.name);
            let told: &[&str] = match step.command {
                "ChargePayment" => &["+PaymentSucceeded"],
                "CapturePayment" => &["+PaymentCaptured"],
                "ReserveStock" => &["+InventoryReserved"],
                "ScheduleShipment" => &["+ShippingScheduled"],
                // No money has moved.
                "AuthorizePayment" => &[],
                other => panic!("{other}"),
            };
            assert_eq!(names(&play.hear(done(&asked))), told, "{what}");
            assert!(play.hear(done(&asked)).is_empty(), "{what}: told once");
            assert_eq!(play.saga().progress.phase, Phase::Unwinding, "{what}: it does not come to life again");

            let mut undone = Vec::new();
            while let Some(command) = undo.pop() {
                undone.push(name(&command));
                undo = commands(&play.hear(done(&command)));
            }
            assert_eq!(undone, back_from(definition, place + 1), "{what}");
            assert_eq!(play.saga().progress.state(), State::Undone, "{what}");
        }
    }
}

#[test]
fn s11_an_unknown_outcome_is_listed_at_once_and_a_late_answer_moves_it_on() {
    for (definition, place, next) in [
        (&CHECKOUT, 0, &["+PaymentSucceeded", "+SagaResumed", "ReserveStock"][..]),
        (&CHECKOUT_RESERVE_FIRST, 1, &["+PaymentAuthorized", "+SagaResumed", "ScheduleShipment"]),
        (&CHECKOUT_RESERVE_FIRST, 3, &["PaymentCaptured+SagaResumed+ConfirmOrder"]),
    ] {
        let (mut play, asked) = Play::at_step(definition, place);
        assert_eq!(names(&play.hear(unknown(&asked))), ["+PaymentUnknown", "+SagaNeedsAttention", "SagaNeedsAttention"]);
        assert_eq!((play.saga().progress.state(), play.saga().deadline_at), (State::NeedsAttention, None));
        assert!(play.hear(unknown(&asked)).is_empty(), "said again");
        assert_eq!(names(&play.hear(done(&asked))), next);
    }
}

#[test]
fn s11_what_waits_for_the_undo_of_an_unknown_charge_is_listed_too() {
    let (mut play, charge) = Play::at_step(&CHECKOUT, 0);
    let refund = play.asks(cancel());
    assert_eq!(names(&play.hear(unknown(&charge))), ["+PaymentUnknown", "+SagaNeedsAttention", "SagaNeedsAttention"]);
    assert_eq!(names(&play.hear(done(&refund))), ["PaymentRefunded+SagaResumed+CloseOrder"]);
}
