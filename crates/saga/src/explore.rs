//! The model checker: every state a saga can get into, over the very [`next()`](crate::next()) that runs in production.
//!
//! A model is a definition, a [`Role`] for each of its steps, and [`Bounds`]. Participants keep their answer in the row of the
//! effect and say it again; an undo that comes first leaves a mark; money has a provider behind it, which may decline, answer
//! too late, never, or after its key is forgotten. [`explore()`] walks all of it breadth first, so a [`Counterexample`] has the
//! shortest path there is.
//!
//! - **Messages** are a set that only grows: any of it may arrive late, out of order, again, or never. A runner that crashes is
//!   among this: where an input's progress, the new state and its messages are one transaction, a crash before it is an input that
//!   arrives later, and a crash after it one that arrives again. Only the attempts of one command keep their order, as the messages
//!   of one key do in a stream.
//! - **Calls to the provider** are outside of any transaction: they are done there and not written down here, until they are made
//!   again with the same key. They may be refused, and one of them a saga may stay unknown until after its key is forgotten.
//! - **Failures that pass** change nothing, so they are no step: whoever failed tries again.
//! - **Participants** may refuse, though never to put pieces back, and hear the same again for the same command. What is set aside
//!   or held is kept by the command that asked for it: another attempt makes it once more.
//! - **The customer** may cancel at any moment; the order's own row decides between that, the confirmation and the close.
//! - **The clock** lets a deadline pass at any moment. **A person** may retry, skip, pause and resume whenever it is allowed, and
//!   discard the close.
//!
//! Each state is held against the properties:
//!
//! - **I1**: an order is captured at most once.
//! - **I2**: refunds never exceed captures; what did not come off has all its money back, once, unless a person took it in hand.
//! - **I3**: stock is never negative, and none is reserved under an order that failed.
//! - **I6**: the order goes from status to status as published, and none follows an end.
//! - **I7**: the ledger is balanced, and revenue is what was captured less what was refunded.
//! - A saga ends done with every effect, undone and clean, or stuck and listed for a reason, where a person can act. Where all is
//!   heard and no call is open it has ended so; where nothing is heard, deadlines alone bring it there. Without a person it never
//!   stands where it stood before, so nothing runs in circles.
//!
//! It proves what it models and no more. [`Bug`]s can be planted to see that it would notice.

use std::fmt;

use crate::{Command, Definition, Input, Operation, Progress, StepState, Undo};

mod diagram;
mod hash;
mod money;
mod properties;
mod rows;
mod sagas;
mod spent;
mod walk;
mod wires;
mod world;

pub use diagram::{Counterexample, Happening};

/// What a step does in the model. The order's own row, which ends what is undone, needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes the money of the order, at once. Its undo gives back what was taken.
    Charge,
    /// Sets the money aside. Its undo lets it go, or gives back what was captured since.
    Authorize,
    /// Takes what is set aside. Its undo gives it back.
    Capture,
    /// Gives money back that was taken before the saga began. The pivot: the provider decides it.
    GiveBack,
    /// Sets pieces aside. Its undo puts them back.
    Reserve,
    /// Any other effect that is there or not, a shipment for example.
    Hold,
    /// The pivot that the order's own row decides: confirmed, unless a cancel came first.
    Decide,
    /// Writes down what came of it, behind the pivot.
    Record,
}

impl Role {
    fn is_money(self) -> bool {
        matches!(self, Self::Charge | Self::Authorize | Self::Capture | Self::GiveBack)
    }

    fn fits(self, undo: Undo) -> bool {
        match self {
            Self::Charge | Self::Authorize | Self::Capture | Self::Reserve => matches!(undo, Undo::By(_)),
            Self::Hold => matches!(undo, Undo::By(_) | Undo::None(_)),
            Self::GiveBack | Self::Decide => undo == Undo::Pivot,
            Self::Record => undo == Undo::Retriable,
        }
    }
}

/// What keeps a model finite. More of each means more states, about ten times as many for one more operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How often a saga asks again by itself; stands in for [`Definition::resends_max`].
    pub resends_max: u8,
    /// Operations of a person on one saga, of all kinds together.
    pub operations_max: u8,
    /// More states than this are taken for a model without an end.
    pub states_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { resends_max: 1, operations_max: 2, states_max: 5_000_000 }
    }
}

/// Known ways to get it wrong, planted in the model to show that it sees them. Nothing else can be told to do any of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An undo that comes before its command leaves no mark.
    NoMark,
    /// An answer is taken for one to whatever its step waits for, whichever command it names.
    AnswerByStep,
    /// A handler draws a new id for the effect each time a command arrives.
    FreshIdInHandler,
    /// A call whose answer was lost is made again with a new key.
    FreshProviderKey,
    /// A cancel looks at the order and then writes, without another look.
    BlindCancel,
    /// A retry asks a step that has no answer as a new attempt.
    FreshAttempt,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::NoMark, Self::AnswerByStep, Self::FreshIdInHandler, Self::FreshProviderKey, Self::BlindCancel, Self::FreshAttempt];
}

/// What an exploration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many there are within the bounds; those found so far, if there is a violation.
    pub states: u64,
    /// Ways from one to another.
    pub transitions: u64,
    /// Rare things that must be possible, and how many states were first found that way: 1 where each was found another way before.
    /// A zero means that the model did not test what it should.
    pub reached: Vec<(&'static str, u64)>,
    /// The shortest way to break a property, if there is one.
    pub violation: Option<Counterexample>,
}

impl Report {
    /// Every state was visited, every property holds, and everything that must be possible is.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violation.is_none() && self.never_reached().is_empty()
    }

    /// What should have been possible and is not.
    #[must_use]
    pub fn never_reached(&self) -> Vec<&'static str> {
        self.reached.iter().filter(|(_, times)| *times == 0).map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} states, {} transitions", self.states, self.transitions)?;
        for (name, times) in &self.reached {
            writeln!(f, "{times:>10}  {name}")?;
        }
        match &self.violation {
            Some(counterexample) => write!(f, "{counterexample}"),
            None => Ok(()),
        }
    }
}

/// Visits every state there is. `roles` has one a step, in the order of the definition.
#[must_use]
pub fn explore(definition: &Definition, roles: &[Role], bounds: &Bounds) -> Report {
    explore_model(definition, roles, bounds, None, None)
}

/// The same with a bug planted, to see what it leads to.
#[must_use]
pub fn explore_with(definition: &Definition, roles: &[Role], bounds: &Bounds, bug: Bug) -> Report {
    explore_model(definition, roles, bounds, Some(bug), None)
}

type Next = fn(&Definition, Progress, Input) -> (Progress, Vec<Command>);

fn explore_model(definition: &Definition, roles: &[Role], bounds: &Bounds, bug: Option<Bug>, wrong: Option<Next>) -> Report {
    match Model::new(definition, roles, bounds, bug, wrong) {
        Ok(model) => walk::walk(&model),
        Err(misfit) => {
            let violation = Counterexample { property: misfit, path: Vec::new(), end: format!("{roles:?}") };
            Report { states: 0, transitions: 0, reached: Vec::new(), violation: Some(violation) }
        }
    }
}

#[derive(Debug)]
struct Model<'a> {
    definition: Definition,
    roles: &'a [Role],
    bounds: Bounds,
    bug: Option<Bug>,
    /// Production's, unless a test wants to see what a wrong one leads to.
    next: Next,
    alphabet: wires::Alphabet,
    pivot: Option<usize>,
    /// Answers are never spent: to a wrong saga they may still mean something.
    keeps_all: bool,
}

impl<'a> Model<'a> {
    fn new(
        definition: &Definition,
        roles: &'a [Role],
        bounds: &Bounds,
        bug: Option<Bug>,
        wrong: Option<Next>,
    ) -> Result<Self, &'static str> {
        let steps = definition.steps;
        let place = |is: Role| roles.iter().position(|role| *role == is);
        let money = |role: &Role| matches!(role, Role::Charge | Role::Authorize | Role::GiveBack);
        if steps.len() != roles.len() || steps.len() > world::STEPS_MAX {
            return Err("each step has a role, and there is room for six of them");
        }
        if !steps.iter().zip(roles).all(|(step, role)| role.fits(step.undo)) {
            return Err("a role fits how its step is undone");
        }
        if roles.iter().filter(|role| money(role)).count() > 1
            || place(Role::Capture).is_some() != place(Role::Authorize).is_some()
            || place(Role::Capture) < place(Role::Authorize)
        {
            return Err("money is taken once: charged, or set aside and then captured");
        }
        let alphabet = bounds.operations_max.checked_add(Command::FIRST_ATTEMPT);
        let alphabet = alphabet.and_then(|attempts| wires::Alphabet::new(steps.len(), attempts));
        let alphabet = alphabet.ok_or("there is room for so many operations")?;
        let definition = Definition { resends_max: bounds.resends_max, ..*definition };
        let keeps_all = wrong.is_some() || bug == Some(Bug::AnswerByStep);
        let right = if bug == Some(Bug::FreshAttempt) { next_with_fresh_attempts } else { crate::next };
        let (next, pivot) = (wrong.unwrap_or(right), definition.pivot());
        Ok(Self { definition, roles, bounds: *bounds, bug, next, alphabet, pivot, keeps_all })
    }
}

/// Production's, with [`Bug::FreshAttempt`].
fn next_with_fresh_attempts(definition: &Definition, mut progress: Progress, input: Input) -> (Progress, Vec<Command>) {
    if input == Input::Operator(Operation::Retry) && progress.allows(definition, Operation::Retry) {
        for stand in progress.steps.iter_mut().filter(|stand| stand.state == StepState::Asked) {
            stand.attempt += 1;
        }
    }
    crate::next(definition, progress, input)
}

/// Nothing more has to happen, or a person has it in hand.
fn is_settled(progress: &Progress) -> bool {
    progress.is_over() || progress.stuck || progress.paused
}

#[cfg(test)]
mod tests;
