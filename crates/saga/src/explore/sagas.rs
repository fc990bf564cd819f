//! Every progress the sagas of a model get into, and what each hears: looked up once, by the very `next` that runs in production.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    Bug, Model,
    hash::Fast,
    spent,
    wires::{Code, Sent, Wire},
};
use crate::{Command, Input, Operation, Phase, Progress, StepState};

/// Of any saga: ids only have to differ from one another.
const SAGA: Uuid = Uuid::from_u128(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hears {
    Wire(Wire),
    Deadline,
    Operator(Operation),
}

/// What a saga does about what it hears.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) saga: u32,
    pub(super) asks: Option<Command>,
    /// It turns back, and tells the order so.
    pub(super) turned: bool,
    pub(super) flaw: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(super) struct Sagas {
    all: Vec<Known>,
    places: HashMap<Progress, u32, Fast>,
    turns: HashMap<(u32, Hears), Turn, Fast>,
}

#[derive(Debug)]
struct Known {
    progress: Progress,
    spent: Sent,
    flaw: Option<&'static str>,
}

const ONE_COMMAND: &str = "a saga asks one command at a time";
const PAUSED: &str = "a paused saga asks nothing";
const TWICE: &str = "what is heard twice changes nothing the second time";
const SPENT: &str = "an answer that no longer counts never counts again";
const MOVES: &str = "a saga asks only when it moves, or a person has it ask";
pub(super) const NO_HOT_LOOP: &str = "no hot loop: without a person, a saga never stands where it stood before";

impl Sagas {
    pub(super) fn progress(&self, saga: u32) -> &Progress {
        &self.known(saga).progress
    }

    pub(super) fn flaw(&self, saga: u32) -> Option<&'static str> {
        self.known(saga).flaw
    }

    /// What means nothing to it any more.
    pub(super) fn spent(&self, saga: u32) -> Sent {
        self.known(saga).spent
    }

    fn known(&self, saga: u32) -> &Known {
        &self.all[usize::try_from(saga).unwrap_or(usize::MAX)]
    }

    pub(super) fn place(&mut self, model: &Model, progress: Progress) -> u32 {
        if let Some(place) = self.places.get(&progress) {
            return *place;
        }
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let spent = spent::of(model, &progress);
        let flaw = if spent::is_true(model, &progress, spent) { flaw(model, &progress) } else { Some(SPENT) };
        self.all.push(Known { progress: progress.clone(), spent, flaw });
        self.places.insert(progress, place);
        place
    }

    pub(super) fn hear(&mut self, model: &Model, saga: u32, hears: Hears) -> Turn {
        if let Some(turn) = self.turns.get(&(saga, hears)) {
            return *turn;
        }
        let turn = self.turn(model, saga, hears);
        self.turns.insert((saga, hears), turn);
        turn
    }

    fn turn(&mut self, model: &Model, saga: u32, hears: Hears) -> Turn {
        let before = self.progress(saga).clone();
        let Some(input) = input(model, &before, hears) else {
            return Turn { saga, asks: None, turned: false, flaw: None };
        };
        let (after, commands) = (model.next)(&model.definition, before.clone(), input);
        let by_person = matches!(input, Input::Operator(_));
        let again_counts = by_person || input == Input::Deadline;
        let flaw = if commands.len() > 1 {
            Some(ONE_COMMAND)
        } else if after.paused && !commands.is_empty() {
            Some(PAUSED)
        } else if after == before && !commands.is_empty() && !by_person {
            Some(MOVES)
        } else if !again_counts && (model.next)(&model.definition, after.clone(), input) != (after.clone(), Vec::new()) {
            Some(TWICE)
        } else {
            None
        };
        let turned = before.phase == Phase::Forward && after.phase == Phase::Unwinding;
        let after = self.place(model, after);
        let revived = self.spent(saga).without(self.spent(after)).each().next();
        let flaw = flaw.or(revived.map(|_| SPENT));
        Turn { saga: after, asks: commands.first().copied(), turned, flaw }
    }

    /// A saga that comes back to where it was without a person: it could go on like that for ever.
    pub(super) fn that_goes_in_circles(&self) -> Option<u32> {
        let mut ways = vec![Vec::new(); self.all.len()];
        let mut into = vec![0_usize; self.all.len()];
        let place = |saga: u32| usize::try_from(saga).unwrap_or(usize::MAX);
        for ((from, hears), turn) in &self.turns {
            if turn.saga != *from && !matches!(hears, Hears::Operator(_)) {
                ways[place(*from)].push(place(turn.saga));
                into[place(turn.saga)] += 1;
            }
        }
        let mut free: Vec<usize> = (0..into.len()).filter(|at| into[*at] == 0).collect();
        while let Some(at) = free.pop() {
            for to in &ways[at] {
                into[*to] -= 1;
                if into[*to] == 0 {
                    free.push(*to);
                }
            }
        }
        into.iter().position(|into| *into > 0).and_then(|at| u32::try_from(at).ok())
    }
}

/// `None` if it is about a command that this saga never asked.
fn input(model: &Model, progress: &Progress, hears: Hears) -> Option<Input> {
    let answer = |code, answer| Some(Input::Answer { to: addressed(model, progress, code)?, answer });
    match hears {
        Hears::Deadline => Some(Input::Deadline),
        Hears::Operator(operation) => Some(Input::Operator(operation)),
        Hears::Wire(Wire::Started) => Some(Input::Started),
        Hears::Wire(Wire::Cancel) => Some(Input::Cancel),
        Hears::Wire(Wire::Done(code)) => answer(code, crate::Answer::Done),
        Hears::Wire(Wire::Refused(code)) => answer(code, crate::Answer::Refused),
        Hears::Wire(Wire::Unknown(code)) => Some(Input::Unknown { to: addressed(model, progress, code)? }),
        Hears::Wire(Wire::Turned | Wire::Ask(_)) => None,
    }
}

/// An answer says the id of its command and what kind of command that is, no more.
fn addressed(model: &Model, progress: &Progress, code: Code) -> Option<Command> {
    let command = model.alphabet.command(code);
    if model.bug == Some(Bug::AnswerByStep) {
        let step = |command: Command| match command {
            Command::Do { step, .. } | Command::Undo { step, .. } => Some(step),
            Command::Close { .. } => None,
        };
        return progress.asked().filter(|asked| step(*asked) == step(command));
    }
    let like = command.with_attempt(Command::FIRST_ATTEMPT);
    progress.named(&model.definition, SAGA, like, command.id(&model.definition, SAGA))
}

/// What is wrong with a progress by itself.
fn flaw(model: &Model, progress: &Progress) -> Option<&'static str> {
    const OPERATIONS: [Operation; 4] = [Operation::Retry, Operation::Skip, Operation::Pause, Operation::Resume];
    let definition = &model.definition;
    let remaining = progress.remaining(definition);
    let truthful = |operation: &Operation| {
        let (after, commands) = (model.next)(definition, progress.clone(), Input::Operator(*operation));
        progress.allows(definition, *operation) == (after != *progress || !commands.is_empty())
    };
    if progress.to_string().parse().as_ref() != Ok(progress) {
        Some("a progress is read as it was written")
    } else if progress.is_over() != remaining.is_empty() || progress.asked().is_some_and(|asked| !remaining.contains(&asked)) {
        Some("what is asked is among what remains, and nothing remains at the end")
    } else if !OPERATIONS.iter().all(truthful) {
        Some("an operation is allowed if and only if it changes something")
    } else if progress.stuck && (progress.is_over() || !progress.allows(definition, Operation::Retry)) {
        Some("where a saga is stuck, a person can do something about it")
    } else if !silence_is_noticed(model, progress) {
        Some("silence ends with a person: a saga that hears nothing asks again so often and no more, then it is listed")
    } else {
        None
    }
}

fn silence_is_noticed(model: &Model, progress: &Progress) -> bool {
    if progress.steps.iter().all(|stand| stand.state == StepState::Waiting) {
        return true; // not begun: streams lose nothing
    }
    let mut progress = progress.clone();
    let mut asks = 0;
    for _ in 0..=model.bounds.resends_max {
        let (after, commands) = (model.next)(&model.definition, progress, Input::Deadline);
        progress = after;
        asks += commands.len();
    }
    super::is_settled(&progress) && asks <= usize::from(model.bounds.resends_max)
}
