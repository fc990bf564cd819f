//! Where a saga stands: small, comparable, and all that has to be kept.

use crate::{Command, Definition};

/// Where one saga stands. Read and written as one line of text: [`Display`](std::fmt::Display) and [`FromStr`](std::str::FromStr).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// One a step, in the order of the definition.
    pub steps: Vec<Stand>,
    /// Which way it goes.
    pub phase: Phase,
    /// Why it unwinds.
    pub cause: Option<Cause>,
    /// It waits for a person. A late answer still moves it on.
    pub stuck: bool,
    /// How often it asked again, in all its life.
    pub resent: u8,
}

/// Where one step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stand {
    /// What became of it.
    pub state: StepState,
    /// Of the command asked last, do or undo; 0 before the first.
    pub attempt: u8,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepState {
    /// Not asked yet.
    Waiting,
    /// Asked, not answered.
    Asked,
    /// Its effect is there.
    Done,
    /// For good: it has no effect.
    Refused,
    /// Its undo is asked, not answered.
    Undoing,
    /// Its effect is taken back, or never was.
    Undone,
    /// Its effect is there and stays: a person must act.
    UndoRefused,
    /// Never asked, and now never will be.
    Skipped,
}

/// Which way a saga goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Asking steps, the first one first.
    Forward,
    /// Undoing steps, the last one first.
    Unwinding,
    /// Everything is undone; the closing command is asked.
    Closing,
    /// Every step is done. Final.
    Done,
    /// Every step is undone, and it is closed. Final.
    Undone,
}

/// Why a saga unwinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// This step was refused.
    Refused {
        /// Its place in the definition, from 0.
        step: usize,
    },
    /// [`Input::Cancel`](crate::Input::Cancel).
    Cancelled,
}

/// What people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Goes forward.
    Running,
    /// Unwinds or closes.
    Compensating,
    /// Waits for a person, or for a late answer.
    NeedsAttention,
    /// Every step is done.
    Done,
    /// Every step is undone.
    Undone,
}

impl State {
    /// `RUNNING COMPENSATING NEEDS_ATTENTION DONE UNDONE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Compensating => "COMPENSATING",
            Self::NeedsAttention => "NEEDS_ATTENTION",
            Self::Done => "DONE",
            Self::Undone => "UNDONE",
        }
    }
}

impl Progress {
    /// A saga that was not started yet.
    #[must_use]
    pub fn new(definition: &Definition) -> Self {
        Self {
            steps: vec![Stand { state: StepState::Waiting, attempt: 0 }; definition.steps.len()],
            phase: Phase::Forward,
            cause: None,
            stuck: false,
            resent: 0,
        }
    }

    /// What people are shown.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Done => State::Done,
            Phase::Undone => State::Undone,
            Phase::Forward | Phase::Unwinding | Phase::Closing if self.stuck => State::NeedsAttention,
            Phase::Forward => State::Running,
            Phase::Unwinding | Phase::Closing => State::Compensating,
        }
    }

    /// Whether nothing moves it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Undone)
    }

    /// The command that is asked and not answered; there is never more than one.
    #[must_use]
    pub fn asked(&self) -> Option<Command> {
        let of = |state: StepState| self.steps.iter().enumerate().find(|(_, stand)| stand.state == state);
        match self.phase {
            Phase::Forward => of(StepState::Asked).map(|(step, stand)| Command::Do { step, attempt: stand.attempt }),
            Phase::Unwinding => of(StepState::Undoing).map(|(step, stand)| Command::Undo { step, attempt: stand.attempt }),
            Phase::Closing => Some(Command::Close),
            Phase::Done | Phase::Undone => None,
        }
    }

    /// Whether the step has to be undone when the saga unwinds: it is done, or may be.
    pub(crate) fn is_to_undo(&self, definition: &Definition, step: usize) -> bool {
        let held = self.steps.get(step).is_some_and(|stand| matches!(stand.state, StepState::Done | StepState::Asked));
        held && definition.undo_of(step).is_some()
    }

    /// Commands without an answer yet, in order, if nothing else goes wrong: what is asked, what is still to be asked, and the
    /// undos that were refused and wait for a person.
    #[must_use]
    pub fn remaining(&self, definition: &Definition) -> Vec<Command> {
        let steps = self.steps.iter().enumerate();
        match self.phase {
            Phase::Forward => steps
                .filter(|(_, stand)| matches!(stand.state, StepState::Waiting | StepState::Asked))
                .map(|(step, stand)| Command::Do { step, attempt: stand.attempt.max(Command::FIRST_ATTEMPT) })
                .collect(),
            Phase::Unwinding => steps
                .rev()
                .filter_map(|(step, stand)| match stand.state {
                    StepState::Undoing | StepState::UndoRefused => Some(Command::Undo { step, attempt: stand.attempt }),
                    _ if self.is_to_undo(definition, step) => Some(Command::Undo { step, attempt: Command::FIRST_ATTEMPT }),
                    _ => None,
                })
                .chain([Command::Close])
                .collect(),
            Phase::Closing => vec![Command::Close],
            Phase::Done | Phase::Undone => Vec::new(),
        }
    }
}
