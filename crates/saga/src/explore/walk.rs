//! The walk: breadth first, to a fixpoint.

use std::collections::HashMap;

use super::{
    Counterexample, Happening, Model, Report,
    hash::Fast,
    is_settled,
    properties::{ALWAYS, COMES_TO_REST, IS_FINITE, SOMETIMES, Sometimes, View, is_illegal},
    sagas::{NO_HOT_LOOP, Sagas},
    wires::Wire,
    world::{Actor, Event, Says, Ways, World},
};

pub(super) fn walk(model: &Model<'_>) -> Report {
    let mut walk = Walk::new(model);
    let violation = walk.run().err();
    let states = u64::try_from(walk.parents.len()).unwrap_or(u64::MAX);
    Report { states, transitions: walk.transitions, reached: walk.reached, violation }
}

struct Walk<'a> {
    model: &'a Model<'a>,
    sagas: Sagas,
    places: HashMap<World, u32, Fast>,
    /// From where each state was found first; the first one from itself.
    parents: Vec<u32>,
    transitions: u64,
    /// One for each of [`SOMETIMES`] that applies.
    reached: Vec<(&'static str, u64)>,
}

impl<'a> Walk<'a> {
    fn new(model: &'a Model<'a>) -> Self {
        let reached = SOMETIMES.iter().filter(|(_, applies, _)| applies(model)).map(|(name, _, _)| (*name, 0)).collect();
        Self { model, sagas: Sagas::default(), places: HashMap::default(), parents: Vec::new(), transitions: 0, reached }
    }

    fn run(&mut self) -> Result<(), Counterexample> {
        let sometimes: Vec<_> = SOMETIMES.iter().filter(|(_, applies, _)| applies(self.model)).collect();
        let first = World::first(self.model, &mut self.sagas);
        let mut frontier = vec![(self.add(first, 0), first)];
        let mut found = Vec::new();
        let mut ways = Ways::new();
        while !frontier.is_empty() {
            for (at, world) in frontier.drain(..) {
                let mut goes_on = false;
                self.model.ways(&mut self.sagas, &world, &mut ways);
                for (event, after) in &ways {
                    let last = Some((*event, *after));
                    if let Some(broken) = event.flaw.or_else(|| is_illegal(&world, after)) {
                        return Err(self.counterexample(broken, at, last));
                    }
                    if *after == world {
                        continue;
                    }
                    self.transitions += 1;
                    goes_on |= event.by_itself;
                    let new = !self.places.contains_key(after);
                    self.count(&sometimes, new, &world, event, after);
                    if !new {
                        continue;
                    }
                    if let Some(broken) = self.broken(after) {
                        return Err(self.counterexample(broken, at, last));
                    }
                    found.push((self.add(*after, at), *after));
                }
                if !goes_on && !is_settled(self.sagas.progress(world.saga)) {
                    return Err(self.counterexample(COMES_TO_REST, at, None));
                }
            }
            std::mem::swap(&mut frontier, &mut found);
        }
        let Some(saga) = self.sagas.that_goes_in_circles() else { return Ok(()) };
        let at = self.places.iter().filter(|(world, _)| world.saga == saga).map(|(_, at)| *at).min();
        Err(self.counterexample(NO_HOT_LOOP, at.unwrap_or(0), None))
    }

    /// Counts ways to new states; any other way counts only where none was found yet.
    fn count(&mut self, sometimes: &[&Sometimes], new: bool, before: &World, event: &Event, after: &World) {
        let [before, after] = [before, after].map(|world| View::new(self.model, world, &self.sagas));
        for ((_, times), (_, _, happens)) in self.reached.iter_mut().zip(sometimes) {
            if new || *times == 0 {
                *times += u64::from(happens(before, event, after));
            }
        }
    }

    fn add(&mut self, world: World, parent: u32) -> u32 {
        let at = u32::try_from(self.parents.len()).unwrap_or(u32::MAX);
        self.places.insert(world, at);
        self.parents.push(parent);
        at
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        let view = View::new(self.model, world, &self.sagas);
        let broken = ALWAYS.iter().find(|(_, holds)| !holds(view)).map(|(name, _)| *name);
        let broken = broken.or_else(|| self.sagas.flaw(world.saga));
        broken.or_else(|| (self.parents.len() >= self.model.bounds.states_max).then_some(IS_FINITE))
    }

    /// The way to a state, and one step further.
    fn counterexample(&mut self, property: &'static str, at: u32, last: Option<(Event, World)>) -> Counterexample {
        let mut way = Vec::new();
        let mut place = at;
        while place > 0 {
            way.push(place);
            place = usize::try_from(place).ok().and_then(|place| self.parents.get(place)).copied().unwrap_or(0);
        }
        // What is on the way is walked again, rather than kept of every state there is.
        let mut world = World::first(self.model, &mut self.sagas);
        let mut path: Vec<Happening> = Vec::new();
        let mut ways = Ways::new();
        for to in way.into_iter().rev() {
            self.model.ways(&mut self.sagas, &world, &mut ways);
            let step = ways.iter().find(|(_, after)| self.places.get(after) == Some(&to));
            let Some((event, after)) = step else { break };
            path.push(self.told(event, after));
            world = *after;
        }
        if let Some((event, after)) = last {
            path.push(self.told(&event, &after));
            world = after;
        }
        for at in 1..path.len() {
            let (before, now) = path.split_at_mut(at);
            let same = |earlier: &Happening| earlier.from == "saga" && (&earlier.to, &earlier.says) == (&now[0].to, &now[0].says);
            if before.iter().any(same) {
                now[0].says.push_str(" (again)");
            }
        }
        Counterexample { property, path, end: self.described(&world) }
    }

    fn told(&self, event: &Event, after: &World) -> Happening {
        let saga = || self.sagas.progress(after.saga).to_string();
        Happening {
            from: self.name(event.from),
            to: self.name(event.to),
            says: match event.says {
                Says::Word(word) => word.to_owned(),
                Says::Operation(operation) => format!("{operation:?}").to_lowercase(),
                Says::Wire(wire) => self.wire(wire),
            },
            then: if event.to == Actor::Saga { saga() } else { event.then.to_owned() },
        }
    }

    fn wire(&self, wire: Wire) -> String {
        let command = |code| {
            let command = self.model.alphabet.command(code);
            let name = command.name(&self.model.definition);
            if command.attempt() > 1 { format!("{name} (attempt {})", command.attempt()) } else { name.to_owned() }
        };
        match wire {
            Wire::Started => "begin".to_owned(),
            Wire::Cancel => "cancelled".to_owned(),
            Wire::Turned => "turned back".to_owned(),
            Wire::Ask(code) => command(code),
            Wire::Done(code) => format!("{}: done", command(code)),
            Wire::Refused(code) => format!("{}: refused", command(code)),
            Wire::Unknown(code) => format!("{}: unknown", command(code)),
        }
    }

    fn name(&self, actor: Actor) -> String {
        match actor {
            Actor::Step(step) => self.model.definition.steps[step].name.to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn described(&self, world: &World) -> String {
        let money = world.money;
        let mut parts = vec![format!("saga {}", self.sagas.progress(world.saga)), format!("order {:?}", world.order)];
        if self.model.roles.iter().any(|role| role.is_money()) {
            parts.push(format!("payment {:?}, taken {}, given {}", money.row, money.taken, money.given));
        }
        for (step, row) in self.model.definition.steps.iter().zip(&world.rows) {
            if row.taken > 0 || row.given > 0 {
                parts.push(format!("{} {:?}, taken {}, given {}", step.name, row.kept, row.taken, row.given));
            }
        }
        parts.join("; ")
    }
}
