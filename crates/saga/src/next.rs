//! The one decision of a saga: from where it stands and what it hears to where it stands then and what it asks.

use uuid::Uuid;

use crate::{Cause, Definition, Phase, Progress, Stand, StepState};

/// What a saga asks of the world; also how an answer names what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Command {
    /// Takes the step.
    Do {
        /// Its place in the definition, from 0.
        step: usize,
        /// From [`Command::FIRST_ATTEMPT`].
        attempt: u8,
    },
    /// Undoes the first attempt of the step, whatever became of it.
    Undo {
        /// Its place in the definition, from 0.
        step: usize,
        /// From [`Command::FIRST_ATTEMPT`].
        attempt: u8,
    },
    /// Everything is undone: end it.
    Close,
}

impl Command {
    /// Attempts count from here; 0 stands for none.
    pub const FIRST_ATTEMPT: u8 = 1;

    /// UUIDv5 of the saga and `step/do|undo/attempt`: the same ask has the same id, after any crash and however often it is sent.
    #[must_use]
    pub fn id(self, definition: &Definition, saga: Uuid) -> Uuid {
        let name = |step: usize| definition.steps.get(step).map_or("", |step| step.name);
        let text = match self {
            Self::Do { step, attempt } => format!("{}/do/{attempt}", name(step)),
            Self::Undo { step, attempt } => format!("{}/undo/{attempt}", name(step)),
            Self::Close => "close".to_owned(),
        };
        Uuid::new_v5(&saga, text.as_bytes())
    }

    /// What it is called in the definition, for example `ChargePayment`.
    #[must_use]
    pub fn name(self, definition: &Definition) -> &'static str {
        match self {
            Self::Do { step, .. } => definition.steps.get(step).map_or("", |step| step.command),
            Self::Undo { step, .. } => definition.undo_of(step).unwrap_or(""),
            Self::Close => definition.close,
        }
    }

    fn with_attempt(self, attempt: u8) -> Self {
        match self {
            Self::Do { step, .. } => Self::Do { step, attempt },
            Self::Undo { step, .. } => Self::Undo { step, attempt },
            Self::Close => Self::Close,
        }
    }
}

/// What a participant says to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// The effect is there; of an undo, it is not there any more or never was.
    Done,
    /// For good. A failure that may pass is no answer: the participant tries again by itself.
    Refused,
}

/// What a saga hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// It begins.
    Started,
    /// A participant answered.
    Answer {
        /// What it answers: see [`Progress::named`].
        to: Command,
        /// What it says.
        answer: Answer,
    },
    /// Whoever decides the pivot has let a cancel through: the pivot will be refused from now on.
    Cancel,
    /// Nothing was heard for long.
    Deadline,
}

/// Pure and total: what makes no sense here, or was answered before, changes nothing and asks nothing.
#[must_use]
pub fn next(definition: &Definition, progress: Progress, input: Input) -> (Progress, Vec<Command>) {
    match (progress.phase, input) {
        (Phase::Forward, Input::Started) if is_untouched(&progress) => advance(progress),
        (Phase::Forward, Input::Cancel) if !is_past_pivot(definition, &progress) => unwind(definition, progress, Cause::Cancelled),
        (Phase::Forward | Phase::Unwinding | Phase::Closing, Input::Answer { to, answer }) if progress.asked() == Some(to) => {
            answered(definition, Progress { stuck: false, ..progress }, to, answer)
        }
        (Phase::Forward | Phase::Unwinding | Phase::Closing, Input::Deadline) if !progress.stuck => ask_again(definition, progress),
        (_, Input::Started | Input::Cancel | Input::Answer { .. } | Input::Deadline) => (progress, Vec::new()),
    }
}

impl Progress {
    /// The command that an answer with this id names, if it is `like` in some attempt.
    #[must_use]
    pub fn named(&self, definition: &Definition, saga: Uuid, like: Command, id: Uuid) -> Option<Command> {
        let attempts = match like {
            Command::Do { step, .. } | Command::Undo { step, .. } => self.steps.get(step)?.attempt,
            Command::Close => Command::FIRST_ATTEMPT,
        };
        (1..=attempts).map(|attempt| like.with_attempt(attempt)).find(|command| command.id(definition, saga) == id)
    }
}

fn is_untouched(progress: &Progress) -> bool {
    progress.steps.iter().all(|stand| stand.state == StepState::Waiting)
}

fn is_past_pivot(definition: &Definition, progress: &Progress) -> bool {
    let pivot = definition.pivot().and_then(|pivot| progress.steps.get(pivot));
    pivot.is_some_and(|pivot| pivot.state == StepState::Done)
}

fn answered(definition: &Definition, mut progress: Progress, to: Command, answer: Answer) -> (Progress, Vec<Command>) {
    match (to, answer) {
        (Command::Do { step, .. }, Answer::Done) => {
            set(&mut progress, step, StepState::Done);
            advance(progress)
        }
        (Command::Do { step, .. }, Answer::Refused) => {
            set(&mut progress, step, StepState::Refused);
            if is_past_pivot(definition, &progress) {
                return (Progress { stuck: true, ..progress }, Vec::new());
            }
            unwind(definition, progress, Cause::Refused { step })
        }
        (Command::Undo { step, .. }, Answer::Done) => {
            set(&mut progress, step, StepState::Undone);
            undo_next(definition, progress)
        }
        (Command::Undo { step, .. }, Answer::Refused) => {
            set(&mut progress, step, StepState::UndoRefused);
            undo_next(definition, progress)
        }
        (Command::Close, Answer::Done) => (Progress { phase: Phase::Undone, ..progress }, Vec::new()),
        (Command::Close, Answer::Refused) => (Progress { stuck: true, ..progress }, Vec::new()),
    }
}

/// Asks the next step, or is done.
fn advance(mut progress: Progress) -> (Progress, Vec<Command>) {
    match progress.steps.iter().position(|stand| stand.state == StepState::Waiting) {
        Some(step) => {
            let attempt = Command::FIRST_ATTEMPT;
            progress.steps[step] = Stand { state: StepState::Asked, attempt };
            (progress, vec![Command::Do { step, attempt }])
        }
        None => (Progress { phase: Phase::Done, ..progress }, Vec::new()),
    }
}

/// Turns back. A pivot that is asked counts as refused: either it said so, or the cancel that came through made sure of it.
fn unwind(definition: &Definition, progress: Progress, cause: Cause) -> (Progress, Vec<Command>) {
    let mut progress = Progress { phase: Phase::Unwinding, cause: Some(cause), stuck: false, ..progress };
    let pivot = definition.pivot();
    for (step, stand) in progress.steps.iter_mut().enumerate() {
        match stand.state {
            StepState::Waiting => stand.state = StepState::Skipped,
            StepState::Asked if pivot == Some(step) => stand.state = StepState::Refused,
            _ => {}
        }
    }
    undo_next(definition, progress)
}

/// Undoes the last step that is done or may be: an undo covers the unknown, since it is answered even where its command never
/// arrived. When no step is left, closes; but with a refused undo something is still held, and only a person can say what
/// becomes of it.
fn undo_next(definition: &Definition, mut progress: Progress) -> (Progress, Vec<Command>) {
    if let Some(step) = (0..progress.steps.len()).rev().find(|step| progress.is_to_undo(definition, *step)) {
        let attempt = Command::FIRST_ATTEMPT;
        progress.steps[step] = Stand { state: StepState::Undoing, attempt };
        return (progress, vec![Command::Undo { step, attempt }]);
    }
    if progress.steps.iter().any(|stand| stand.state == StepState::UndoRefused) {
        return (Progress { stuck: true, ..progress }, Vec::new());
    }
    (Progress { phase: Phase::Closing, ..progress }, vec![Command::Close])
}

/// Streams lose nothing, so asking again is a last resort, and bounded.
fn ask_again(definition: &Definition, progress: Progress) -> (Progress, Vec<Command>) {
    let Some(asked) = progress.asked() else { return (progress, Vec::new()) };
    if progress.resent >= definition.resends_max {
        return (Progress { stuck: true, ..progress }, Vec::new());
    }
    (Progress { resent: progress.resent + 1, ..progress }, vec![asked])
}

fn set(progress: &mut Progress, step: usize, state: StepState) {
    if let Some(stand) = progress.steps.get_mut(step) {
        stand.state = state;
    }
}

#[cfg(test)]
mod tests;
