use super::*;
use crate::{Answer, step};

/// The shape of an order's saga: three steps with an undo, and the pivot.
const CHECKOUT: Definition = Definition {
    name: "checkout",
    version: 1,
    steps: &[
        step("charge", "ChargePayment").undo("RefundPayment"),
        step("reserve", "ReserveStock").undo("ReleaseStock"),
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("confirm", "ConfirmOrder").pivot(),
    ],
    close: "CloseOrder",
    resends_max: 2,
};

fn broken(model: &Model) -> Counterexample {
    let counterexample = explore(model).unwrap_err();
    println!("{counterexample}\n");
    counterexample
}

#[test]
fn every_order_settles() {
    let report = explore(&Model::new(CHECKOUT)).unwrap_or_else(|counterexample| panic!("{counterexample}"));
    println!("{} states, {} transitions, {:#?}", report.states, report.transitions, report.sometimes);
    assert!(report.states > 1_000, "{} states", report.states);
    for (name, states) in report.sometimes {
        assert!(states > 0, "never reached: {name}");
    }
}

#[test]
fn other_shapes_settle_too() {
    const SHAPES: &[&[crate::Step]] = &[
        &[step("go", "Go").pivot()],
        &[step("look", "Look").no_undo("only reads"), step("take", "Take").undo("Return"), step("go", "Go").pivot()],
        &[
            step("take", "Take").undo("Return"),
            step("go", "Go").pivot(),
            step("mail", "Mail").retriable(),
            step("log", "Log").retriable(),
        ],
    ];
    for &steps in SHAPES {
        let definition = Definition { steps, ..CHECKOUT };
        definition.check().unwrap();
        explore(&Model::new(definition)).unwrap_or_else(|counterexample| panic!("{counterexample}"));
    }
}

#[test]
fn sabotage_without_marks_an_undone_saga_still_holds_something() {
    let mut model = Model::new(CHECKOUT);
    model.participants.leave_marks = false;
    let found = broken(&model);
    assert_eq!(found.broken, "a saga that is undone holds nothing and has its order closed");
    assert!(found.path.iter().any(|event| event.contains("no mark left")), "{found}");
}

#[test]
fn sabotage_forgetful_participants_charge_twice() {
    let mut model = Model::new(CHECKOUT);
    model.participants.keep_answers = false;
    assert_eq!(broken(&model).broken, "an effect is taken at most once and given back at most once");
}

#[test]
fn sabotage_answers_matched_by_step_take_a_late_charge_for_its_undo() {
    fn by_step(definition: &Definition, progress: Progress, input: Input) -> (Progress, Vec<Command>) {
        let input = match input {
            Input::Answer { to: Command::Do { step, .. } | Command::Undo { step, .. }, answer: Answer::Done } => {
                let to = match progress.steps[step].state {
                    StepState::Undoing => Command::Undo { step, attempt: 1 },
                    _ => Command::Do { step, attempt: 1 },
                };
                Input::Answer { to, answer: Answer::Done }
            }
            other => other,
        };
        crate::next(definition, progress, input)
    }
    let found = broken(&Model { next: by_step, ..Model::new(CHECKOUT) });
    assert_eq!(found.broken, "a saga that is undone holds nothing and has its order closed");
}

#[test]
fn sabotage_without_deadlines_a_silent_participant_is_never_noticed() {
    fn deaf_to_deadlines(definition: &Definition, progress: Progress, input: Input) -> (Progress, Vec<Command>) {
        if input == Input::Deadline { (progress, Vec::new()) } else { crate::next(definition, progress, input) }
    }
    assert_eq!(broken(&Model { next: deaf_to_deadlines, ..Model::new(CHECKOUT) }).broken, COMES_TO_REST);
}

#[test]
fn sabotage_an_unwinding_that_skips_the_unknown_leaves_it_behind() {
    fn only_what_is_done(definition: &Definition, mut progress: Progress, input: Input) -> (Progress, Vec<Command>) {
        if input == Input::Cancel {
            for stand in &mut progress.steps {
                if stand.state == StepState::Asked {
                    stand.state = StepState::Waiting;
                }
            }
        }
        crate::next(definition, progress, input)
    }
    let found = broken(&Model { next: only_what_is_done, ..Model::new(CHECKOUT) });
    assert_eq!(found.broken, "a saga that is undone holds nothing and has its order closed");
}

#[test]
fn sabotage_a_saga_that_gives_up_on_its_pivot_undoes_a_confirmed_order() {
    // Only the arbiter may call the pivot off: while it is silent, the order may be confirmed at any moment.
    fn impatient(definition: &Definition, progress: Progress, input: Input) -> (Progress, Vec<Command>) {
        let pivot_asked = progress.steps[3].state == StepState::Asked;
        let input = if input == Input::Deadline && pivot_asked { Input::Cancel } else { input };
        crate::next(definition, progress, input)
    }
    let found = broken(&Model { next: impatient, ..Model::new(CHECKOUT) });
    assert_eq!(found.broken, "a confirmed order holds every effect before the pivot");
}
