//! Production's `next` made wrong in one place each, to see that the walk would notice.

use super::*;

fn broken(wrong: Next) -> Counterexample {
    let report = explore_model(&CHECKOUT, CHECKOUT_ROLES, &Bounds::default(), None, Some(wrong));
    let found = report.violation.expect("nothing is found");
    println!("{found}");
    found
}

#[test]
fn deaf_to_deadlines_it_waits_for_ever() {
    let found = broken(|definition, progress, input| match input {
        Input::Deadline => (progress, Vec::new()),
        _ => crate::next(definition, progress, input),
    });
    assert!(found.property.starts_with("silence ends with a person"), "{found}");
}

#[test]
fn an_unwinding_that_leaves_out_the_unknown_leaves_it_behind() {
    let found = broken(|definition, mut progress, input| {
        if input == Input::Cancel {
            for stand in &mut progress.steps {
                if stand.state == StepState::Asked {
                    stand.state = StepState::Waiting;
                }
            }
        }
        crate::next(definition, progress, input)
    });
    assert!(found.property.starts_with("I2"), "{found}");
}

#[test]
fn a_saga_that_takes_its_pivot_for_refused_undoes_a_confirmed_order() {
    let found = broken(|definition, progress, input| match input {
        Input::Answer { to: to @ Command::Do { step: 3, .. }, .. } => {
            crate::next(definition, progress, Input::Answer { to, answer: Answer::Refused })
        }
        _ => crate::next(definition, progress, input),
    });
    assert!(found.property.starts_with("a confirmed order has every effect"), "{found}");
    assert!(tells(&found, &[("order", "saga", "ConfirmOrder: done")]), "{found}");
}

#[test]
fn a_saga_that_gives_up_on_its_pivot_by_itself_is_noticed() {
    // Only the arbiter may call the pivot off: while it is silent, the order may be confirmed at any moment.
    let found = broken(|definition, progress, input| {
        let pivot_asked = progress.steps[3].state == StepState::Asked && progress.phase == Phase::Forward;
        let input = if input == Input::Deadline && pivot_asked { Input::Cancel } else { input };
        crate::next(definition, progress, input)
    });
    assert!(found.property.starts_with("silence ends with a person"), "{found}");
}

#[test]
fn a_skip_that_forgets_the_step_it_skips_leaves_it_behind() {
    let found = broken(|definition, mut progress, input| {
        if input == Input::Operator(Operation::Skip) && progress.phase == Phase::Forward && progress.stuck && !progress.paused {
            for stand in &mut progress.steps {
                if stand.state == StepState::Asked {
                    stand.state = StepState::Refused;
                }
            }
            return crate::next(definition, progress, Input::Cancel);
        }
        crate::next(definition, progress, input)
    });
    assert!(found.property.starts_with("I2") && tells(&found, &[("operator", "saga", "skip")]), "{found}");
}

#[test]
fn a_skip_of_an_undo_that_waits_for_its_turn_leaves_it_behind() {
    const TRIP: Definition = Definition {
        name: "trip",
        steps: &[step("take", "Take").undo("Return"), step("hold", "Hold").undo("Free"), step("go", "Go").pivot()],
        ..CHECKOUT
    };
    let wrong: Next = |definition, mut progress, input| {
        if input == Input::Operator(Operation::Skip)
            && progress.phase == Phase::Unwinding
            && progress.allows(definition, Operation::Skip)
        {
            for stand in &mut progress.steps {
                if stand.state == StepState::Undoing {
                    stand.state = StepState::UndoRefused;
                }
            }
        }
        crate::next(definition, progress, input)
    };
    let roles = [Role::Hold, Role::Hold, Role::Decide];
    let found = explore_model(&TRIP, &roles, &Bounds::default(), None, Some(wrong)).violation.unwrap();
    assert!(found.property.starts_with("a saga that is undone holds nothing"), "{found}");
    assert!(tells(&found, &[("operator", "saga", "retry"), ("operator", "saga", "skip")]), "{found}");
}

#[test]
fn a_resume_that_asks_nothing_leaves_the_saga_waiting() {
    let found = broken(|definition, progress, input| {
        let (after, commands) = crate::next(definition, progress, input);
        if input == Input::Operator(Operation::Resume) { (after, Vec::new()) } else { (after, commands) }
    });
    assert!(found.property.starts_with("where all that was said is heard"), "{found}");
    assert!(tells(&found, &[("operator", "saga", "pause"), ("operator", "saga", "resume")]), "{found}");
}

#[test]
fn a_pause_that_withholds_nothing_is_none() {
    let found = broken(|definition, progress, input| match input {
        Input::Answer { .. } if progress.paused => {
            let (after, commands) = crate::next(definition, Progress { paused: false, ..progress }, input);
            (Progress { paused: true, ..after }, commands)
        }
        _ => crate::next(definition, progress, input),
    });
    assert!(found.property.starts_with("a paused saga asks nothing"), "{found}");
}

#[test]
fn an_unknown_that_is_not_heard_is_noticed_as_never_listed() {
    let bounds = Bounds { operations_max: 0, ..Bounds::default() };
    let report = explore_model(
        &CHECKOUT,
        CHECKOUT_ROLES,
        &bounds,
        None,
        Some(|definition, progress, input| match input {
            Input::Unknown { .. } => (progress, Vec::new()),
            _ => crate::next(definition, progress, input),
        }),
    );
    assert_eq!(report.violation, None, "{report}");
    assert_eq!(report.never_reached(), ["listed: the outcome is unknown"]);
    assert!(!report.holds());
}

#[test]
fn answers_that_are_taken_twice_are_noticed() {
    let found = broken(|definition, progress, input| match input {
        Input::Answer { to: Command::Do { step, .. }, answer: Answer::Done } if progress.steps[step].state == StepState::Done => {
            let asked = progress.asked().into_iter().collect();
            (progress, asked)
        }
        _ => crate::next(definition, progress, input),
    });
    assert!(found.property.starts_with("what is heard twice") || found.property.starts_with("a saga asks only"), "{found}");
}

#[test]
fn a_saga_that_takes_heart_again_runs_in_circles() {
    // The close is refused, so the refund is asked for once more; it is refused, as it was before.
    let wrong: Next = |definition, progress, input| match input {
        Input::Answer { to: Command::Close { .. }, answer: Answer::Refused } if progress.phase == Phase::Closing => {
            crate::next(definition, Progress::new(definition), Input::Started)
        }
        _ => crate::next(definition, progress, input),
    };
    let bounds = Bounds { operations_max: 0, ..Bounds::default() };
    let found = explore_model(&REFUND, REFUND_ROLES, &bounds, None, Some(wrong)).violation.unwrap();
    assert!(found.property.starts_with("no hot loop"), "{found}");
}
