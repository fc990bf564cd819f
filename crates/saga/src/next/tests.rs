use super::*;
use crate::{State, step};

mod operator;

const TRIP: Definition = Definition {
    name: "trip",
    version: 1,
    steps: &[
        step("flight", "BookFlight").undo("CancelFlight"),
        step("hotel", "BookHotel").undo("CancelHotel"),
        step("go", "Go").pivot(),
        step("mail", "SendMail").retriable(),
    ],
    close: "EndTrip",
    resends_max: 2,
};
const _: () = assert!(TRIP.check().is_ok());

const fn ask(step: usize) -> Command {
    Command::Do { step, attempt: 1 }
}

const fn undo(step: usize) -> Command {
    Command::Undo { step, attempt: 1 }
}

const CLOSE: Command = Command::Close { attempt: 1 };

const fn done(to: Command) -> Input {
    Input::Answer { to, answer: Answer::Done }
}

const fn refused(to: Command) -> Input {
    Input::Answer { to, answer: Answer::Refused }
}

/// Plays the inputs; what the last one makes it ask, and where it stands then.
fn play(inputs: &[Input]) -> (Progress, Vec<Command>) {
    inputs.iter().fold((Progress::new(&TRIP), Vec::new()), |(progress, _), input| next(&TRIP, progress, *input))
}

fn names(progress: &Progress) -> Vec<&'static str> {
    progress.remaining(&TRIP).into_iter().map(|command| command.name(&TRIP)).collect()
}

#[test]
fn all_steps_are_asked_in_order() {
    let inputs = [Input::Started, done(ask(0)), done(ask(1)), done(ask(2)), done(ask(3))];
    for step in 0..4 {
        assert_eq!(play(&inputs[..=step]).1, [ask(step)]);
    }
    let (progress, asked) = play(&inputs);
    assert_eq!((progress.state(), asked), (State::Done, vec![]));
}

#[test]
fn a_refusal_undoes_what_is_done_last_first() {
    let refusal = [Input::Started, done(ask(0)), done(ask(1)), refused(ask(2))];
    assert_eq!(play(&refusal).1, [undo(1)]);
    assert_eq!(names(&play(&refusal).0), ["CancelHotel", "CancelFlight", "EndTrip"]);
    assert_eq!(play(&[&refusal[..], &[done(undo(1))]].concat()).1, [undo(0)]);
    assert_eq!(play(&[&refusal[..], &[done(undo(1)), done(undo(0))]].concat()).1, [CLOSE]);
    let (progress, asked) = play(&[&refusal[..], &[done(undo(1)), done(undo(0)), done(CLOSE)]].concat());
    assert_eq!((progress.state(), progress.cause, asked), (State::Undone, Some(Cause::Refused { step: 2 }), vec![]));
}

#[test]
fn with_nothing_done_it_closes_at_once() {
    let (progress, asked) = play(&[Input::Started, refused(ask(0))]);
    assert_eq!((progress.phase, asked), (Phase::Closing, vec![CLOSE]));
}

#[test]
fn a_cancel_undoes_what_is_asked_too() {
    let (progress, asked) = play(&[Input::Started, done(ask(0)), Input::Cancel]);
    assert_eq!((progress.state(), asked), (State::Compensating, vec![undo(1)]));
}

#[test]
fn a_cancel_while_the_pivot_is_asked_unwinds_at_once() {
    let before = [Input::Started, done(ask(0)), done(ask(1)), Input::Cancel];
    let (progress, asked) = play(&before);
    assert_eq!((progress.steps[2].state, asked), (StepState::Refused, vec![undo(1)]));
    let late = play(&[&before[..], &[refused(ask(2))]].concat());
    assert_eq!(late, (progress, vec![]), "its late refusal changes nothing");
}

#[test]
fn what_is_answered_or_makes_no_sense_changes_nothing() {
    let unwinding = [Input::Started, done(ask(0)), Input::Cancel];
    let past_pivot = [Input::Started, done(ask(0)), done(ask(1)), done(ask(2))];
    for (inputs, ignored) in [
        (&unwinding[..2], Input::Started),
        (&unwinding[..2], done(ask(0))),
        (&unwinding[..2], refused(ask(0))),
        (&unwinding[..2], done(ask(2))),
        (&unwinding[..2], done(undo(1))),
        (&unwinding[..2], done(Command::Do { step: 1, attempt: 2 })),
        (&unwinding[..2], done(Command::Do { step: 99, attempt: 1 })),
        (&unwinding[..2], done(CLOSE)),
        (&unwinding[..], done(ask(1))),
        (&unwinding[..], Input::Cancel),
        (&past_pivot[..], Input::Cancel),
    ] {
        let before = play(inputs);
        assert_eq!(next(&TRIP, before.0.clone(), ignored), (before.0, vec![]), "{ignored:?}");
    }
}

#[test]
fn a_refused_undo_does_not_stop_the_others_but_needs_a_person() {
    let inputs = [Input::Started, done(ask(0)), done(ask(1)), Input::Cancel, refused(undo(1))];
    assert_eq!(play(&inputs).1, [undo(0)]);
    let (progress, asked) = play(&[&inputs[..], &[done(undo(0))]].concat());
    assert_eq!((progress.state(), asked), (State::NeedsAttention, vec![]));
    assert_eq!(names(&progress), ["CancelHotel", "EndTrip"]);
    let (progress, asked) = play(&[&inputs[..], &[done(undo(0)), done(undo(1))]].concat());
    assert_eq!((progress.state(), asked), (State::Compensating, vec![CLOSE]), "it was undone after all");
}

#[test]
fn an_undo_that_is_done_after_all_does_not_answer_for_another() {
    let inputs = [Input::Started, done(ask(0)), done(ask(1)), Input::Cancel, refused(undo(1)), done(undo(1))];
    let (progress, asked) = play(&inputs);
    assert_eq!((progress.asked(), asked), (Some(undo(0)), vec![]));
    assert_eq!(play(&[&inputs[..], &[done(undo(0))]].concat()).1, [CLOSE]);
}

#[test]
fn a_refusal_behind_the_pivot_needs_a_person() {
    let inputs = [Input::Started, done(ask(0)), done(ask(1)), done(ask(2)), refused(ask(3))];
    let (progress, asked) = play(&inputs);
    assert_eq!((progress.state(), asked), (State::NeedsAttention, vec![]));
    assert_eq!(names(&progress), ["SendMail"]);
    assert_eq!(play(&[&inputs[..], &[done(ask(3))]].concat()).0.state(), State::Done, "it was done after all");
}

#[test]
fn an_unknown_outcome_needs_a_person_at_once_and_an_answer_still_counts() {
    let unknown = [Input::Started, Input::Unknown { to: ask(0) }];
    let (progress, asked) = play(&unknown);
    assert_eq!((progress.state(), progress.resent, asked), (State::NeedsAttention, 0, vec![]));
    for deaf in [Input::Deadline, Input::Unknown { to: ask(0) }] {
        assert_eq!(play(&[&unknown[..], &[deaf]].concat()), (progress.clone(), vec![]));
    }
    assert_eq!(play(&[&unknown[..], &[done(ask(0))]].concat()).1, [ask(1)]);
    assert_eq!(play(&[&unknown[..], &[Input::Cancel]].concat()).1, [undo(0)]);
}

#[test]
fn an_unknown_outcome_holds_up_its_undo_too() {
    let inputs = [Input::Started, Input::Cancel, Input::Unknown { to: ask(0) }];
    assert_eq!(play(&inputs).0.state(), State::NeedsAttention);
    assert_eq!(play(&[&inputs[..], &[done(undo(0))]].concat()).1, [CLOSE]);
    for other in [ask(1), undo(1), Command::Do { step: 0, attempt: 2 }, CLOSE] {
        let (progress, _) = play(&[Input::Started, Input::Cancel, Input::Unknown { to: other }]);
        assert_eq!(progress.state(), State::Compensating, "{other:?} is not what it waits for");
    }
}

#[test]
fn deadlines_ask_again_and_then_give_up_but_a_late_answer_moves_on() {
    let spent = [Input::Started, Input::Deadline, Input::Deadline];
    assert_eq!(play(&spent).1, [ask(0)]);
    let stuck = [&spent[..], &[Input::Deadline]].concat();
    let (progress, asked) = play(&stuck);
    assert_eq!((progress.state(), progress.resent, asked), (State::NeedsAttention, 2, vec![]));
    let (progress, asked) = play(&[&stuck[..], &[done(ask(0))]].concat());
    assert_eq!((progress.state(), asked), (State::Running, vec![ask(1)]));
}

#[test]
fn an_answer_is_known_by_the_id_of_its_command() {
    let saga = Uuid::from_u128(7);
    let (progress, _) = play(&[Input::Started]);
    let id = ask(0).id(&TRIP, saga);
    assert_eq!(id, Uuid::new_v5(&saga, b"flight/do/1"));
    assert_eq!(progress.named(&TRIP, saga, ask(0), id), Some(ask(0)));
    assert_eq!(progress.named(&TRIP, saga, undo(0), id), None);
    assert_eq!(progress.named(&TRIP, saga, ask(1), ask(1).id(&TRIP, saga)), None, "was never asked");
    assert_eq!(CLOSE.id(&TRIP, saga), Uuid::new_v5(&saga, b"close"));
    assert_eq!(Command::Close { attempt: 2 }.id(&TRIP, saga), Uuid::new_v5(&saga, b"close/2"));
}
