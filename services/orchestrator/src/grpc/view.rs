//! Rows as they are shown.

use contracts::{
    saga::v1::{self, DescribeDefinitionResponse, SagaState, describe_definition_response},
    time::to_proto,
};
use saga::{Definition, State, StepState, Undo};

use super::{STATE_PREFIX, store::Shown};
use crate::{instance, known::Known, store::Row};

/// Of a saga that stands as well as any, but could not be saved when it asked again.
const SET_ASIDE: &str = "it could not ask again; the log says why";

pub(super) fn saga(row: Row, known: &Known) -> v1::Saga {
    let known = row.known(known);
    let (steps, remaining, mut attention) = match &known {
        None => (Vec::new(), Vec::new(), String::new()),
        Some((definition, progress)) => (
            definition
                .steps
                .iter()
                .zip(&progress.steps)
                .map(|(step, stand)| v1::Step { name: step.name.to_owned(), state: state_of(stand.state).into() })
                .collect(),
            progress.remaining(definition).into_iter().map(|command| command.name(definition).to_owned()).collect(),
            instance::attention(definition, progress),
        ),
    };
    if attention.is_empty() && known.is_some() && row.state == State::NeedsAttention.as_str() {
        attention.push_str(SET_ASIDE);
    }
    let state = SagaState::from_str_name(&format!("{STATE_PREFIX}{}", row.state)).unwrap_or_default();
    let reason = [attention, row.reason].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    v1::Saga {
        saga_id: row.saga_id.to_string(),
        order_id: row.order_id.to_string(),
        definition: row.definition,
        definition_version: row.definition_version,
        state: state.into(),
        steps,
        reason,
        remaining,
        deadline: row.deadline_at.map(to_proto),
        started_at: Some(to_proto(row.started_at)),
        updated_at: Some(to_proto(row.updated_at)),
        version: row.version,
        paused: known.is_some_and(|(_, progress)| progress.paused),
        operations: Vec::new(),
    }
}

pub(super) fn operation(shown: Shown) -> v1::Operation {
    let Shown { kind, who, reason, at } = shown;
    v1::Operation { kind, who, reason, at: Some(to_proto(at)) }
}

pub(super) fn definition(definition: &Definition) -> DescribeDefinitionResponse {
    let steps = definition.steps.iter().enumerate().map(|(at, step)| describe_definition_response::Step {
        name: step.name.to_owned(),
        command: step.command.to_owned(),
        undo: definition.undo_of(at).unwrap_or_default().to_owned(),
        pivot: step.undo == Undo::Pivot,
    });
    DescribeDefinitionResponse {
        name: definition.name.to_owned(),
        version: definition.version,
        steps: steps.collect(),
        mermaid: saga::mermaid(definition),
    }
}

fn state_of(state: StepState) -> v1::StepState {
    match state {
        StepState::Waiting => v1::StepState::Waiting,
        StepState::Asked => v1::StepState::Asked,
        StepState::Done => v1::StepState::Done,
        StepState::Refused => v1::StepState::Refused,
        StepState::Undoing => v1::StepState::Undoing,
        StepState::Undone => v1::StepState::Undone,
        StepState::UndoRefused => v1::StepState::UndoRefused,
        StepState::Skipped => v1::StepState::Skipped,
    }
}
