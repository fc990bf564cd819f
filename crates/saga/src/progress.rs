//! Where a saga stands: small, comparable, and all that has to be kept.

use uuid::Uuid;

use crate::{Answer, Command, Definition, Operation};

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
    /// It asks nothing until it is resumed. Answers are taken in, and it moves.
    pub paused: bool,
    /// How often it asked again by itself, in all its life or since the last [`Operation::Retry`]; of its close, since that was refused.
    pub resent: u8,
    /// How often its close was refused: it is asked again as the next attempt.
    pub reclosed: u8,
}

/// Where one step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stand {
    /// What became of it.
    pub state: StepState,
    /// Of the command asked last, do or undo; 0 before the first. It never falls: the undo of a second attempt is a second one.
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
    /// Its undo is asked, or asked again as soon as those of later steps are answered.
    Undoing,
    /// Its effect is taken back, or never was.
    Undone,
    /// Its effect is there and stays: a person must act.
    UndoRefused,
    /// Never asked, and now never will be. With an attempt: its undo was given up, a person has settled it by hand. Should that undo
    /// be done after all, the step is [`Undone`](Self::Undone).
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
    /// An operator did not wait for this step any longer.
    Skipped {
        /// Its place in the definition, from 0.
        step: usize,
    },
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
            paused: false,
            resent: 0,
            reclosed: 0,
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

    /// The command that is asked and not answered; there is never more than one. Where several undos are asked again, it is that
    /// of the last step.
    #[must_use]
    pub fn asked(&self) -> Option<Command> {
        let in_state = |state: StepState| move |(_, stand): &(usize, &Stand)| stand.state == state;
        let mut steps = self.steps.iter().enumerate();
        match self.phase {
            Phase::Forward => {
                steps.find(in_state(StepState::Asked)).map(|(step, stand)| Command::Do { step, attempt: stand.attempt })
            }
            Phase::Unwinding => {
                steps.rfind(in_state(StepState::Undoing)).map(|(step, stand)| Command::Undo { step, attempt: stand.attempt })
            }
            Phase::Closing => Some(self.close()),
            Phase::Done | Phase::Undone => None,
        }
    }

    /// The command that an answer with this id names, if it is `like` in some attempt.
    #[must_use]
    pub fn named(&self, definition: &Definition, saga: Uuid, like: Command, id: Uuid) -> Option<Command> {
        let attempts = self.attempts(like)?;
        (1..=attempts).map(|attempt| like.with_attempt(attempt)).find(|command| command.id(definition, saga) == id)
    }

    /// Whether this answer counts: [`next()`](crate::next()) moves on it.
    ///
    /// *Done* counts of any attempt, and of what was refused before: however it came about, the effect is the same. *Refused*
    /// counts of the last attempt alone: an earlier refusal may be the very one that a person has had asked again, and the last
    /// attempt is answered in any case. *Done* of an undo counts even where a person took it for settled by hand, and be it after the
    /// end: it is written down, and nothing follows.
    #[must_use]
    pub fn awaits(&self, to: Command, answer: Answer) -> bool {
        match (answer, to) {
            (Answer::Refused, _) => self.asked() == Some(to),
            (Answer::Done, Command::Do { step, .. }) => {
                self.phase == Phase::Forward && self.was_asked(to) && self.is_held_up_by(step)
            }
            (Answer::Done, Command::Undo { step, .. }) => {
                let held_up = self.phase == Phase::Unwinding && self.is_held_up_by(step);
                self.was_asked(to) && (held_up || self.is_settled_by_hand(step))
            }
            (Answer::Done, Command::Close { .. }) => self.phase == Phase::Closing && self.was_asked(to),
        }
    }

    /// Whether the operation would change anything now.
    #[must_use]
    pub fn allows(&self, definition: &Definition, operation: Operation) -> bool {
        match (operation, self.phase) {
            (_, Phase::Done | Phase::Undone) | (Operation::Skip, Phase::Closing) => false,
            // The undo that it would take as settled may never have been sent.
            (Operation::Skip, _) if self.paused => false,
            (Operation::Pause, _) => !self.paused,
            (Operation::Resume, _) => self.paused,
            (Operation::Retry, _) => {
                let refused = self.refused();
                let has_attempts = self.reclosed < u8::MAX && refused.iter().all(|step| self.steps[*step].attempt < u8::MAX);
                let asks_again = self.asked().is_some() && (!self.paused || self.stuck || self.resent > 0);
                has_attempts && (!refused.is_empty() || asks_again)
            }
            (Operation::Skip, Phase::Unwinding) => self.stuck && !self.skippable_undos().is_empty(),
            (Operation::Skip, Phase::Forward) => match self.asked() {
                Some(Command::Do { step, .. }) => self.stuck && definition.pivot() != Some(step) && !self.is_past_pivot(definition),
                Some(Command::Undo { .. } | Command::Close { .. }) | None => false,
            },
        }
    }

    /// Whether it is stuck because its close was refused: what it would close has ended another way.
    #[must_use]
    pub fn is_close_refused(&self) -> bool {
        self.phase == Phase::Closing && self.stuck && self.reclosed > 0 && self.resent == 0
    }

    /// The close, in its attempt of now.
    pub(crate) fn close(&self) -> Command {
        Command::Close { attempt: Command::FIRST_ATTEMPT.saturating_add(self.reclosed) }
    }

    pub(crate) fn is_past_pivot(&self, definition: &Definition) -> bool {
        let pivot = definition.pivot().and_then(|pivot| self.steps.get(pivot));
        pivot.is_some_and(|pivot| pivot.state == StepState::Done)
    }

    /// The steps of which an answer is missing or was not the right one.
    pub(crate) fn held_up_by(&self) -> Vec<usize> {
        (0..self.steps.len()).filter(|step| self.is_held_up_by(*step)).collect()
    }

    /// Of these, those that were refused. Going forward, that is one behind the pivot: any other turns the saga back.
    pub(crate) fn refused(&self) -> Vec<usize> {
        let is_refused = |step: &usize| matches!(self.steps[*step].state, StepState::Refused | StepState::UndoRefused);
        self.held_up_by().into_iter().filter(is_refused).collect()
    }

    /// The steps whose undo a skip takes for settled: those that were refused, and the one that is asked. Nobody was told of one that
    /// waits for its turn, and it was never sent.
    pub(crate) fn skippable_undos(&self) -> Vec<usize> {
        let is_asked = |step: usize| matches!(self.asked(), Some(Command::Undo { step: asked, .. }) if asked == step);
        let refused = |step: usize| self.steps[step].state == StepState::UndoRefused;
        self.held_up_by().into_iter().filter(|step| refused(*step) || is_asked(*step)).collect()
    }

    /// Whether a person took the undo of this step for settled.
    pub(crate) fn is_settled_by_hand(&self, step: usize) -> bool {
        let stand = self.steps.get(step);
        stand.is_some_and(|stand| stand.state == StepState::Skipped && stand.attempt >= Command::FIRST_ATTEMPT)
    }

    fn is_held_up_by(&self, step: usize) -> bool {
        let state = self.steps.get(step).map(|stand| stand.state);
        match self.phase {
            Phase::Forward => matches!(state, Some(StepState::Asked | StepState::Refused)),
            Phase::Unwinding => matches!(state, Some(StepState::Undoing | StepState::UndoRefused)),
            Phase::Closing | Phase::Done | Phase::Undone => false,
        }
    }

    /// Whether the answer to what is asked waits for the outcome of this command. That of an undo waits for what it undoes, too.
    pub(crate) fn hangs_on(&self, command: Command) -> bool {
        match (self.asked(), command) {
            (Some(Command::Undo { step: undone, .. }), Command::Do { step, .. }) => undone == step && self.was_asked(command),
            (asked, _) => asked == Some(command),
        }
    }

    fn was_asked(&self, command: Command) -> bool {
        let attempt = command.attempt();
        attempt >= Command::FIRST_ATTEMPT && self.attempts(command).is_some_and(|last| attempt <= last)
    }

    fn attempts(&self, like: Command) -> Option<u8> {
        match like {
            Command::Do { step, .. } | Command::Undo { step, .. } => self.steps.get(step).map(|stand| stand.attempt),
            Command::Close { .. } => Some(self.close().attempt()),
        }
    }

    /// Whether the step has to be undone when the saga unwinds: it is done, or may be.
    pub(crate) fn is_to_undo(&self, definition: &Definition, step: usize) -> bool {
        let held = self.steps.get(step).is_some_and(|stand| matches!(stand.state, StepState::Done | StepState::Asked));
        held && definition.undo_of(step).is_some()
    }

    /// Commands that still have to be done, in order, if nothing else goes wrong: what is asked, what is still to be asked, and what
    /// was refused and waits for a person. What was skipped or settled by hand is not among them.
    #[must_use]
    pub fn remaining(&self, definition: &Definition) -> Vec<Command> {
        let steps = self.steps.iter().enumerate();
        match self.phase {
            Phase::Forward => steps
                .filter(|(_, stand)| matches!(stand.state, StepState::Waiting | StepState::Asked | StepState::Refused))
                .map(|(step, stand)| Command::Do { step, attempt: stand.attempt.max(Command::FIRST_ATTEMPT) })
                .collect(),
            Phase::Unwinding => steps
                .rev()
                .filter_map(|(step, stand)| match stand.state {
                    StepState::Undoing | StepState::UndoRefused => Some(Command::Undo { step, attempt: stand.attempt }),
                    _ if self.is_to_undo(definition, step) => {
                        Some(Command::Undo { step, attempt: stand.attempt.max(Command::FIRST_ATTEMPT) })
                    }
                    _ => None,
                })
                .chain([self.close()])
                .collect(),
            Phase::Closing => vec![self.close()],
            Phase::Done | Phase::Undone => Vec::new(),
        }
    }
}
