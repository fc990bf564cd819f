//! One state of the model, and what can happen in it.

use std::collections::BTreeSet;

use super::{Model, Participants};
use crate::{Answer, Command, Definition, Input, Progress, Undo};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) saga: Progress,
    pub(super) order: Order,
    /// One a step; that of the pivot is never used, the order stands in for it.
    pub(super) participants: Vec<Participant>,
    /// All that was ever sent: any of it may arrive, again and again.
    pub(super) network: BTreeSet<Wire>,
}

/// The order's row: the only arbiter between confirm and cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Order {
    Open,
    Cancelling,
    Confirmed,
    Closed,
    /// Confirmed and then closed: must never be.
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Wire {
    Started,
    Cancel,
    Command(Command),
    Answer(Command, Answer),
}

impl Wire {
    pub(super) fn done(command: Command) -> Self {
        Self::Answer(command, Answer::Done)
    }

    pub(super) fn refused(command: Command) -> Self {
        Self::Answer(command, Answer::Refused)
    }

    fn describe(self, definition: &Definition) -> String {
        match self {
            Self::Started => "the start".to_owned(),
            Self::Cancel => "the cancel".to_owned(),
            Self::Command(command) => command.name(definition).to_owned(),
            Self::Answer(command, Answer::Done) => format!("{}: done", command.name(definition)),
            Self::Answer(command, Answer::Refused) => format!("{}: refused", command.name(definition)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Participant {
    pub(super) effect: Effect,
    /// Will never say or do anything again.
    pub(super) silent: bool,
    pub(super) taken: u8,
    pub(super) given_back: u8,
}

/// The row a participant keeps of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    None,
    Held,
    Refused,
    /// Undone before it was asked.
    Marked,
    Undone,
    /// Still held: its undo was refused.
    UndoRefused,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    CustomerCancels,
    DeadlinePasses,
    SagaHears(Wire),
    Arrives(Command, &'static str),
}

impl Event {
    pub(super) fn describe(self, definition: &Definition) -> String {
        match self {
            Self::CustomerCancels => "the customer cancels".to_owned(),
            Self::DeadlinePasses => "a deadline passes".to_owned(),
            Self::SagaHears(wire) => format!("the saga hears {}", wire.describe(definition)),
            Self::Arrives(command, then) => format!("{} arrives: {then}", command.name(definition)),
        }
    }
}

impl World {
    pub(super) fn new(definition: &Definition) -> Self {
        let nothing = Participant { effect: Effect::None, silent: false, taken: 0, given_back: 0 };
        Self {
            saga: Progress::new(definition),
            order: Order::Open,
            participants: vec![nothing; definition.steps.len()],
            network: BTreeSet::from([Wire::Started]),
        }
    }

    /// Everything that can happen next. What changes nothing is among it.
    pub(super) fn successors(&self, model: &Model) -> Vec<(Event, Self)> {
        let mut all = vec![(Event::DeadlinePasses, self.saga_hears(model, Input::Deadline))];
        if self.order == Order::Open {
            let cancelled = Self { order: Order::Cancelling, ..self.clone() };
            all.push((Event::CustomerCancels, cancelled.sending([Wire::Cancel])));
        }
        for wire in &self.network {
            let input = match *wire {
                Wire::Started => Input::Started,
                Wire::Cancel => Input::Cancel,
                Wire::Answer(to, answer) => Input::Answer { to, answer },
                Wire::Command(command) => {
                    all.extend(self.arrives(model, command));
                    continue;
                }
            };
            all.push((Event::SagaHears(*wire), self.saga_hears(model, input)));
        }
        all
    }

    fn saga_hears(&self, model: &Model, input: Input) -> Self {
        let (saga, commands) = (model.next)(&model.definition, self.saga.clone(), input);
        Self { saga, ..self.clone() }.sending(commands.into_iter().map(Wire::Command))
    }

    fn sending(mut self, wires: impl IntoIterator<Item = Wire>) -> Self {
        self.network.extend(wires);
        self
    }

    fn arrives(&self, model: &Model, command: Command) -> Vec<(Event, Self)> {
        let (Command::Do { step, .. } | Command::Undo { step, .. }) = command else {
            return vec![self.order_closes()];
        };
        if model.definition.pivot() == Some(step) {
            return vec![self.order_confirms(command)];
        }
        let can_refuse = model.definition.steps[step].undo != Undo::Retriable;
        self.participants[step]
            .reactions(command, model.participants, can_refuse)
            .into_iter()
            .map(|(then, participant, answer)| {
                let mut after = self.clone();
                after.participants[step] = participant;
                (Event::Arrives(command, then), after.sending(answer.map(|answer| Wire::Answer(command, answer))))
            })
            .collect()
    }

    fn order_confirms(&self, command: Command) -> (Event, Self) {
        match self.order {
            Order::Open | Order::Confirmed => {
                let after = Self { order: Order::Confirmed, ..self.clone() };
                (Event::Arrives(command, "confirmed"), after.sending([Wire::done(command)]))
            }
            Order::Cancelling | Order::Closed | Order::Both => {
                (Event::Arrives(command, "refused"), self.clone().sending([Wire::refused(command)]))
            }
        }
    }

    fn order_closes(&self) -> (Event, Self) {
        let order = match self.order {
            Order::Open | Order::Cancelling | Order::Closed => Order::Closed,
            Order::Confirmed | Order::Both => Order::Both,
        };
        let after = Self { order, ..self.clone() };
        (Event::Arrives(Command::Close, "closed"), after.sending([Wire::done(Command::Close)]))
    }

    pub(super) fn describe(&self, definition: &Definition) -> String {
        let effects: Vec<String> = definition
            .steps
            .iter()
            .zip(&self.participants)
            .filter(|(step, _)| step.undo != Undo::Pivot)
            .map(|(step, participant)| {
                let silent = if participant.silent { ", silent" } else { "" };
                format!("{}: {:?}{silent}", step.name, participant.effect)
            })
            .collect();
        format!("saga {}; order {:?}; {}", self.saga, self.order, effects.join("; "))
    }
}

/// What a participant may do about a command: a word for it, how it is then, what it answers.
type Reaction = (&'static str, Participant, Option<Answer>);

impl Participant {
    pub(super) fn is_held(&self) -> bool {
        matches!(self.effect, Effect::Held | Effect::UndoRefused)
    }

    fn reactions(self, command: Command, promises: Participants, can_refuse: bool) -> Vec<Reaction> {
        if self.silent {
            return Vec::new();
        }
        match command {
            Command::Do { .. } => self.asked(promises, can_refuse),
            Command::Undo { .. } => self.undo_asked(promises),
            Command::Close => Vec::new(),
        }
    }

    fn asked(self, promises: Participants, can_refuse: bool) -> Vec<Reaction> {
        let taken = Self { effect: Effect::Held, taken: self.taken.saturating_add(1).min(2), ..self };
        match self.effect {
            Effect::None => {
                let mut all = vec![
                    ("accepted", taken, Some(Answer::Done)),
                    ("accepted, never answered", taken.falling_silent(), None),
                    ("never answered", self.falling_silent(), None),
                ];
                if can_refuse {
                    all.push(("refused", self.with(Effect::Refused), Some(Answer::Refused)));
                }
                all
            }
            Effect::Held | Effect::Undone | Effect::UndoRefused if !promises.keep_answers => {
                vec![("accepted once more", taken, Some(Answer::Done))]
            }
            Effect::Held | Effect::Undone | Effect::UndoRefused => vec![("said again", self, Some(Answer::Done))],
            Effect::Refused | Effect::Marked => vec![("refused", self, Some(Answer::Refused))],
        }
    }

    fn undo_asked(self, promises: Participants) -> Vec<Reaction> {
        let silent = ("never answered", self.falling_silent(), None);
        let given_back = Self { effect: Effect::Undone, given_back: self.given_back.saturating_add(1).min(2), ..self };
        match self.effect {
            Effect::None if !promises.leave_marks => vec![("nothing to undo, no mark left", self, Some(Answer::Done)), silent],
            Effect::None => vec![("marked", self.with(Effect::Marked), Some(Answer::Done)), silent],
            Effect::Held => vec![
                ("undone", given_back, Some(Answer::Done)),
                ("undo refused", self.with(Effect::UndoRefused), Some(Answer::Refused)),
                silent,
            ],
            Effect::Undone if !promises.keep_answers => vec![("undone once more", given_back, Some(Answer::Done))],
            Effect::Refused | Effect::Marked | Effect::Undone => vec![("said again", self, Some(Answer::Done))],
            Effect::UndoRefused => vec![("said again", self, Some(Answer::Refused))],
        }
    }

    fn with(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    fn falling_silent(self) -> Self {
        Self { silent: true, ..self }
    }
}
