//! The model checker: every state a saga can get into, over the very [`next()`](crate::next()) that runs in production.
//!
//! A [`Model`] is a definition, a `next`, and participants of which each may accept, refuse or fall silent, with or without the
//! effect. The network is a set: whatever was sent may arrive late, in any order and any number of times. The customer may
//! cancel and a deadline pass at any moment. [`explore`] walks all of it breadth first, so a [`Counterexample`] has the
//! shortest path there is.
//!
//! It proves what it models and no more: an attempt is always the first, and operators do nothing.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use crate::{Cause, Command, Definition, Input, Phase, Progress, State, StepState};

mod world;

use world::{Effect, Event, Order, Wire, World};

/// More states than this are taken for a model that never ends.
const STATES_MAX: usize = 1_000_000;

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The saga.
    pub definition: Definition,
    /// Production's, unless somebody wants to see what a wrong one leads to.
    pub next: fn(&Definition, Progress, Input) -> (Progress, Vec<Command>),
    /// What may be relied on.
    pub participants: Participants,
}

/// The promises of participants. Each can be broken, to see what it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Participants {
    /// An undo that arrives before its command leaves a mark, which refuses the command.
    pub leave_marks: bool,
    /// The same command gets the same answer and has its effect once.
    pub keep_answers: bool,
}

impl Model {
    /// Participants that keep their promises.
    #[must_use]
    pub fn new(definition: Definition) -> Self {
        Self { definition, next: crate::next, participants: Participants { leave_marks: true, keep_answers: true } }
    }
}

/// Every state was visited and every property holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many there are.
    pub states: usize,
    /// Ways from one to another.
    pub transitions: usize,
    /// Rare things that must be possible, and in how many states they are. A zero means that the model did not test what it should.
    pub sometimes: Vec<(&'static str, usize)>,
}

/// The shortest way to break a property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Counterexample {
    /// The property.
    pub broken: &'static str,
    /// What happened, from the start.
    pub path: Vec<String>,
    /// Where it ends.
    pub world: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {}", self.broken)?;
        for (at, event) in self.path.iter().enumerate() {
            writeln!(f, "{:3}. {event}", at + 1)?;
        }
        write!(f, "then: {}", self.world)
    }
}

type Check = fn(&Definition, &World) -> bool;

/// What holds in every state, however late a message may still arrive.
const ALWAYS: &[(&str, Check)] = &[
    ("an order is never both confirmed and closed", |_, world| world.order != Order::Both),
    ("an effect is taken at most once and given back at most once", |_, world| {
        world.participants.iter().all(|participant| participant.taken <= 1 && participant.given_back <= 1)
    }),
    ("what is given back was taken", |_, world| {
        world.participants.iter().all(|participant| participant.given_back <= participant.taken)
    }),
    ("a saga that is done holds every effect", |definition, world| {
        world.saga.phase != Phase::Done || steps_with_effect(definition).all(|step| world.participants[step].is_held())
    }),
    ("a saga that is done has its order confirmed", |definition, world| {
        world.saga.phase != Phase::Done || definition.pivot().is_none() || world.order == Order::Confirmed
    }),
    ("a saga that is undone holds nothing and has its order closed", |definition, world| {
        world.saga.phase != Phase::Undone || (holds_nothing(definition, world) && world.order == Order::Closed)
    }),
    ("a confirmed order holds every effect before the pivot", |definition, world| {
        world.order != Order::Confirmed
            || steps_with_effect(definition)
                .filter(|step| Some(*step) < definition.pivot())
                .all(|step| world.participants[step].is_held())
    }),
];

const COMES_TO_REST: &str = "where nothing can happen any more, the saga is done, undone, or listed for a person";
const CAN_SETTLE: &str = "from everywhere the saga can still get done, undone, or listed for a person";
const IS_FINITE: &str = "the model has an end";

/// What must be possible.
const SOMETIMES: &[(&str, Check)] = &[
    ("done", |_, world| world.saga.phase == Phase::Done),
    ("undone after a refusal", |_, world| {
        world.saga.phase == Phase::Undone && matches!(world.saga.cause, Some(Cause::Refused { .. }))
    }),
    ("undone after a cancel", |_, world| world.saga.phase == Phase::Undone && world.saga.cause == Some(Cause::Cancelled)),
    ("needs attention: an undo is refused", |_, world| {
        is_listed(world) && world.saga.steps.iter().any(|stand| stand.state == StepState::UndoRefused)
    }),
    ("needs attention: nobody answers", |_, world| is_listed(world) && world.saga.asked().is_some()),
    ("asked again", |_, world| world.saga.resent > 0),
    ("an undo came before its command", |_, world| {
        world.participants.iter().any(|participant| participant.effect == Effect::Marked)
    }),
    ("a mark refused a command", |_, world| {
        world.participants.iter().enumerate().any(|(step, participant)| {
            participant.effect == Effect::Marked && world.network.contains(&Wire::refused(Command::Do { step, attempt: 1 }))
        })
    }),
    ("an answer that comes too late", |_, world| {
        world.saga.phase == Phase::Undone
            && (0..world.saga.steps.len()).any(|step| world.network.contains(&Wire::done(Command::Do { step, attempt: 1 })))
    }),
    ("the cancel came while the pivot was asked", |definition, world| {
        let pivot = definition.pivot().and_then(|pivot| world.saga.steps.get(pivot));
        world.saga.cause == Some(Cause::Cancelled) && pivot.is_some_and(|pivot| pivot.state == StepState::Refused)
    }),
];

/// Visits every state there is.
///
/// # Errors
/// The shortest way to a state that breaks a property.
pub fn explore(model: &Model) -> Result<Report, Counterexample> {
    let mut graph = Graph::default();
    let mut todo = VecDeque::from([graph.add(World::new(&model.definition), None)]);
    let mut transitions = 0;
    while let Some(at) = todo.pop_front() {
        let world = graph.worlds[at].clone();
        if let Some(&(broken, _)) = ALWAYS.iter().find(|(_, holds)| !holds(&model.definition, &world)) {
            return Err(graph.path_to(at, broken, model));
        }
        let mut at_rest = true;
        for (event, after) in world.successors(model) {
            if after == world {
                continue;
            }
            at_rest = false;
            transitions += 1;
            let (to, new) = match graph.index.get(&after).copied() {
                Some(to) => (to, false),
                None => (graph.add(after, Some((at, event))), true),
            };
            graph.before[to].push(at);
            if new {
                todo.push_back(to);
            }
        }
        if at_rest && !is_settled(&world) {
            return Err(graph.path_to(at, COMES_TO_REST, model));
        }
        if graph.worlds.len() > STATES_MAX {
            return Err(graph.path_to(at, IS_FINITE, model));
        }
    }
    if let Some(lost) = graph.first_that_cannot_settle() {
        return Err(graph.path_to(lost, CAN_SETTLE, model));
    }
    let count = |check: &Check| graph.worlds.iter().filter(|world| check(&model.definition, world)).count();
    let mut sometimes: Vec<_> = SOMETIMES.iter().map(|(name, check)| (*name, count(check))).collect();
    sometimes.push(("a late answer moved a listed saga on", graph.count_edges(|from, to| is_listed(from) && !is_listed(to))));
    Ok(Report { states: graph.worlds.len(), transitions, sometimes })
}

/// The states found so far, how each was found first, and all ways into it.
#[derive(Default)]
struct Graph {
    worlds: Vec<World>,
    index: HashMap<World, usize>,
    found: Vec<Option<(usize, Event)>>,
    before: Vec<Vec<usize>>,
}

impl Graph {
    fn add(&mut self, world: World, found: Option<(usize, Event)>) -> usize {
        let at = self.worlds.len();
        self.index.insert(world.clone(), at);
        self.worlds.push(world);
        self.found.push(found);
        self.before.push(Vec::new());
        at
    }

    fn path_to(&self, mut at: usize, broken: &'static str, model: &Model) -> Counterexample {
        let world = self.worlds[at].describe(&model.definition);
        let mut path = Vec::new();
        while let Some((before, event)) = self.found[at] {
            path.push(event.describe(&model.definition));
            at = before;
        }
        path.reverse();
        Counterexample { broken, path, world }
    }

    fn first_that_cannot_settle(&self) -> Option<usize> {
        let mut can: Vec<bool> = self.worlds.iter().map(is_settled).collect();
        let mut todo: Vec<usize> = (0..can.len()).filter(|at| can[*at]).collect();
        while let Some(at) = todo.pop() {
            for before in &self.before[at] {
                if !can[*before] {
                    can[*before] = true;
                    todo.push(*before);
                }
            }
        }
        can.iter().position(|can| !can)
    }

    fn count_edges(&self, is: impl Fn(&World, &World) -> bool) -> usize {
        let into = |to: usize| self.before[to].iter().filter(|from| is(&self.worlds[**from], &self.worlds[to])).count();
        (0..self.worlds.len()).map(into).sum()
    }
}

fn is_settled(world: &World) -> bool {
    world.saga.is_over() || is_listed(world)
}

fn is_listed(world: &World) -> bool {
    world.saga.state() == State::NeedsAttention
}

/// The pivot has no effect of its own: the order is confirmed, or not.
fn steps_with_effect(definition: &Definition) -> impl Iterator<Item = usize> + use<> {
    let pivot = definition.pivot();
    (0..definition.steps.len()).filter(move |step| Some(*step) != pivot)
}

fn holds_nothing(definition: &Definition, world: &World) -> bool {
    (0..definition.steps.len()).filter(|step| definition.undo_of(*step).is_some()).all(|step| !world.participants[step].is_held())
}

#[cfg(test)]
mod tests;
