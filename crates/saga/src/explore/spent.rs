//! Messages that mean nothing to a saga any more, now or later. A state without them stands for all states that differ in nothing
//! else. That this is so is not believed but looked at, for every progress and every turn there is.

use super::{
    Model,
    wires::{Sent, Wire},
};
use crate::{Answer, Command, Input, Phase, Progress, StepState};

/// Everything that may still arrive and is spent.
pub(super) fn of(model: &Model<'_>, progress: &Progress) -> Sent {
    let mut spent = Sent::default();
    if model.keeps_all {
        return spent;
    }
    for wire in model.alphabet.answers().chain([Wire::Started, Wire::Cancel]) {
        if is_spent(model, progress, wire) {
            spent.add(wire);
        }
    }
    spent
}

fn is_spent(model: &Model<'_>, progress: &Progress, wire: Wire) -> bool {
    let command = |code| model.alphabet.command(code);
    match wire {
        Wire::Started => progress.steps.iter().any(|stand| stand.state != StepState::Waiting),
        Wire::Cancel => progress.phase != Phase::Forward || progress.is_past_pivot(&model.definition),
        Wire::Turned | Wire::Ask(_) => false,
        // What a person took for settled may be undone after all.
        Wire::Done(code) => match command(code) {
            Command::Undo { step, .. } if progress.is_settled_by_hand(step) => false,
            command => is_settled(progress, command),
        },
        Wire::Refused(code) => is_settled(progress, command(code)) || is_superseded(progress, command(code)),
        Wire::Unknown(code) => match (command(code), progress.phase) {
            // An undo waits for the outcome of what it undoes.
            (Command::Do { step, .. }, Phase::Forward | Phase::Unwinding) if model.definition.undo_of(step).is_some() => {
                matches!(progress.steps[step].state, StepState::Refused | StepState::Undone | StepState::Skipped)
            }
            (command, _) => is_settled(progress, command) || is_superseded(progress, command),
        },
    }
}

/// No answer to any attempt counts any more.
fn is_settled(progress: &Progress, command: Command) -> bool {
    let state = |step: usize| progress.steps[step].state;
    match (command, progress.phase) {
        (_, Phase::Done | Phase::Undone) => true,
        (Command::Do { step, .. }, Phase::Forward) => state(step) == StepState::Done,
        (Command::Undo { step, .. }, Phase::Unwinding) => {
            matches!(state(step), StepState::Undone | StepState::Skipped | StepState::Refused)
        }
        (Command::Do { .. }, Phase::Unwinding | Phase::Closing) | (Command::Undo { .. }, Phase::Closing) => true,
        (Command::Undo { .. }, Phase::Forward) | (Command::Close { .. }, _) => false,
    }
}

/// Only an answer to a later attempt may still be a refusal.
fn is_superseded(progress: &Progress, command: Command) -> bool {
    match command {
        Command::Do { step, attempt } | Command::Undo { step, attempt } => {
            let stand = progress.steps[step];
            let refused = matches!(stand.state, StepState::Refused | StepState::UndoRefused);
            attempt < stand.attempt || (refused && attempt == stand.attempt)
        }
        Command::Close { attempt } => attempt <= progress.reclosed,
    }
}

/// Whether what is spent really changes nothing.
pub(super) fn is_true(model: &Model<'_>, progress: &Progress, spent: Sent) -> bool {
    spent.each().all(|wire| {
        let command = |code| model.alphabet.command(code);
        let input = match wire {
            Wire::Started => Input::Started,
            Wire::Cancel => Input::Cancel,
            Wire::Done(code) => Input::Answer { to: command(code), answer: Answer::Done },
            Wire::Refused(code) => Input::Answer { to: command(code), answer: Answer::Refused },
            Wire::Unknown(code) => Input::Unknown { to: command(code) },
            Wire::Turned | Wire::Ask(_) => return false,
        };
        (model.next)(&model.definition, progress.clone(), input) == (progress.clone(), Vec::new())
    })
}
