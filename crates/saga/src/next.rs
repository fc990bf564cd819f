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
        /// From [`Command::FIRST_ATTEMPT`]; only the [`Operation::Retry`] of a refusal raises it.
        attempt: u8,
    },
    /// Undoes the step, in whatever attempt it was taken and whatever became of it.
    Undo {
        /// Its place in the definition, from 0.
        step: usize,
        /// From [`Command::FIRST_ATTEMPT`]; only the [`Operation::Retry`] of a refusal raises it.
        attempt: u8,
    },
    /// Everything is undone: end it.
    Close {
        /// From [`Command::FIRST_ATTEMPT`]; only the [`Operation::Retry`] of a refusal raises it.
        attempt: u8,
    },
}

impl Command {
    /// Attempts count from here; 0 stands for none.
    pub const FIRST_ATTEMPT: u8 = 1;

    /// UUIDv5 of the saga and `step/do|undo/attempt`: the same ask has the same id, after any crash and however often it is sent.
    /// The close is `close`, then `close/2` and so on.
    #[must_use]
    pub fn id(self, definition: &Definition, saga: Uuid) -> Uuid {
        let name = |step: usize| definition.steps.get(step).map_or("", |step| step.name);
        let text = match self {
            Self::Do { step, attempt } => format!("{}/do/{attempt}", name(step)),
            Self::Undo { step, attempt } => format!("{}/undo/{attempt}", name(step)),
            Self::Close { attempt: Self::FIRST_ATTEMPT } => "close".to_owned(),
            Self::Close { attempt } => format!("close/{attempt}"),
        };
        Uuid::new_v5(&saga, text.as_bytes())
    }

    /// What it is called in the definition, for example `ChargePayment`.
    #[must_use]
    pub fn name(self, definition: &Definition) -> &'static str {
        match self {
            Self::Do { step, .. } => definition.steps.get(step).map_or("", |step| step.command),
            Self::Undo { step, .. } => definition.undo_of(step).unwrap_or(""),
            Self::Close { .. } => definition.close,
        }
    }

    /// Which attempt it is.
    #[must_use]
    pub fn attempt(self) -> u8 {
        match self {
            Self::Do { attempt, .. } | Self::Undo { attempt, .. } | Self::Close { attempt } => attempt,
        }
    }

    pub(crate) fn with_attempt(self, attempt: u8) -> Self {
        match self {
            Self::Do { step, .. } => Self::Do { step, attempt },
            Self::Undo { step, .. } => Self::Undo { step, attempt },
            Self::Close { .. } => Self::Close { attempt },
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
    /// A participant cannot find out what became of a command: a person must look. No answer, but one may still come.
    Unknown {
        /// The command: see [`Progress::named`].
        to: Command,
    },
    /// Whoever decides the pivot has let a cancel through: the pivot will be refused from now on.
    Cancel,
    /// Nothing was heard for long.
    Deadline,
    /// A person acts.
    Operator(Operation),
}

/// What a person can do to a saga. [`Progress::allows`] tells whether it would change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Asks again, with a fresh budget of re-sends, what holds the saga up. What was refused is asked as a new attempt, to be
    /// decided anew: undos, the step behind the pivot, the close. What has no answer is asked with the id it always had: under
    /// another one it could be done twice, and undone once. Several undos are asked one after the other, the last step first. It
    /// need not be [`stuck`](Progress::stuck): a person may be quicker than a deadline.
    Retry,
    /// Goes on without what the saga is stuck on. A step before the pivot that is not answered: the saga unwinds, and undoes that
    /// step too, so that what lands later is taken back. Undos that are refused, and the one that is not answered: a person has
    /// settled them by hand, and the saga goes on as if they were done; one that waits for its turn is asked then. Not the pivot
    /// and nothing behind it, nor the close: there is no way around those.
    Skip,
    /// Asks nothing from now on. Answers are taken in, and the saga moves.
    Pause,
    /// Ends a pause: what is asked by now is sent, with the id it always had.
    Resume,
}

/// Pure and total: what makes no sense here, or was answered before, changes nothing and asks nothing.
#[must_use]
pub fn next(definition: &Definition, progress: Progress, input: Input) -> (Progress, Vec<Command>) {
    let (progress, commands) = decide(definition, progress, input);
    let commands = if progress.paused { Vec::new() } else { commands };
    (progress, commands)
}

fn decide(definition: &Definition, progress: Progress, input: Input) -> (Progress, Vec<Command>) {
    let forward = progress.phase == Phase::Forward;
    match input {
        Input::Started if forward && is_untouched(&progress) => advance(progress),
        Input::Cancel if forward && !progress.is_past_pivot(definition) => unwind(definition, progress, Cause::Cancelled),
        Input::Answer { to, answer } if progress.awaits(to, answer) => answered(definition, progress, to, answer),
        Input::Unknown { to } if progress.hangs_on(to) => (Progress { stuck: true, ..progress }, Vec::new()),
        Input::Deadline if !progress.stuck && !progress.paused => ask_again(definition, progress),
        Input::Operator(operation) if progress.allows(definition, operation) => operated(definition, progress, operation),
        Input::Started | Input::Cancel | Input::Answer { .. } | Input::Unknown { .. } | Input::Deadline | Input::Operator(_) => {
            (progress, Vec::new())
        }
    }
}

fn is_untouched(progress: &Progress) -> bool {
    progress.steps.iter().all(|stand| stand.state == StepState::Waiting)
}

fn answered(definition: &Definition, mut progress: Progress, to: Command, answer: Answer) -> (Progress, Vec<Command>) {
    let by_hand = matches!(to, Command::Undo { step, .. } if progress.is_settled_by_hand(step));
    if by_hand || progress.asked().is_some_and(|asked| asked.with_attempt(to.attempt()) != to) {
        // An undo that was refused, waits for its turn, or was taken for settled is done after all. What is asked is still asked.
        if let Command::Undo { step, .. } = to {
            set(&mut progress, step, StepState::Undone);
        }
        return (progress, Vec::new());
    }
    progress.stuck = false;
    match (to, answer) {
        (Command::Do { step, .. }, Answer::Done) => {
            set(&mut progress, step, StepState::Done);
            advance(progress)
        }
        (Command::Do { step, .. }, Answer::Refused) => {
            set(&mut progress, step, StepState::Refused);
            if progress.is_past_pivot(definition) {
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
        (Command::Close { .. }, Answer::Done) => (Progress { phase: Phase::Undone, ..progress }, Vec::new()),
        (Command::Close { .. }, Answer::Refused) => {
            let reclosed = progress.reclosed.saturating_add(1);
            (Progress { stuck: true, resent: 0, reclosed, ..progress }, Vec::new())
        }
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
/// arrived. Undos that wait for their turn go first; they are of later steps. When no step is left, closes; but with a refused
/// undo something is still held, and only a person can say what becomes of it.
fn undo_next(definition: &Definition, mut progress: Progress) -> (Progress, Vec<Command>) {
    if let Some(waits) = progress.asked() {
        return (progress, vec![waits]);
    }
    if let Some(step) = (0..progress.steps.len()).rev().find(|step| progress.is_to_undo(definition, *step)) {
        // Attempts of a step never fall, so that an answer to any of them is still known.
        let attempt = progress.steps[step].attempt.max(Command::FIRST_ATTEMPT);
        progress.steps[step] = Stand { state: StepState::Undoing, attempt };
        return (progress, vec![Command::Undo { step, attempt }]);
    }
    if progress.steps.iter().any(|stand| stand.state == StepState::UndoRefused) {
        return (Progress { stuck: true, ..progress }, Vec::new());
    }
    let progress = Progress { phase: Phase::Closing, ..progress };
    let close = progress.close();
    (progress, vec![close])
}

/// Streams lose nothing, so asking again is a last resort, and bounded.
fn ask_again(definition: &Definition, progress: Progress) -> (Progress, Vec<Command>) {
    let Some(asked) = progress.asked() else { return (progress, Vec::new()) };
    if progress.resent >= definition.resends_max {
        return (Progress { stuck: true, ..progress }, Vec::new());
    }
    (Progress { resent: progress.resent + 1, ..progress }, vec![asked])
}

/// Does what [`Progress::allows`].
fn operated(definition: &Definition, progress: Progress, operation: Operation) -> (Progress, Vec<Command>) {
    match (operation, progress.phase, progress.asked()) {
        (Operation::Retry, _, _) => {
            let progress = retried(progress);
            let asked = progress.asked();
            (progress, asked.into_iter().collect())
        }
        (Operation::Skip, Phase::Forward, Some(Command::Do { step, .. })) => unwind(definition, progress, Cause::Skipped { step }),
        (Operation::Skip, _, _) => undo_next(definition, settled_by_hand(progress)),
        (Operation::Pause, _, _) => (Progress { paused: true, ..progress }, Vec::new()),
        (Operation::Resume, _, asked) => (Progress { paused: false, ..progress }, asked.into_iter().collect()),
    }
}

/// A refused close has its next attempt already.
fn retried(mut progress: Progress) -> Progress {
    let state = if progress.phase == Phase::Forward { StepState::Asked } else { StepState::Undoing };
    for step in progress.refused() {
        let attempt = progress.steps[step].attempt.saturating_add(1);
        progress.steps[step] = Stand { state, attempt };
    }
    Progress { stuck: false, resent: 0, ..progress }
}

fn settled_by_hand(mut progress: Progress) -> Progress {
    for step in progress.skippable_undos() {
        set(&mut progress, step, StepState::Skipped);
    }
    Progress { stuck: false, ..progress }
}

fn set(progress: &mut Progress, step: usize, state: StepState) {
    if let Some(stand) = progress.steps.get_mut(step) {
        stand.state = state;
    }
}

#[cfg(test)]
mod tests;
