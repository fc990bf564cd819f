//! The walk: breadth first, to a fixpoint.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
};

use saga::{
    Progress,
    explore::{Counterexample, Happening, Report},
};

use super::{
    Model,
    arbiter::Arbiter,
    goods::Goods,
    messages::{Actor, Place, Post, Sent, What},
    money::Money,
    parcels::Parcels,
    properties::{ALWAYS, ENDS, IS_FINITE, NO_END, SOMETIMES, View},
    rows::{Participant, Rows, Turn},
};

/// Everybody by the place of his row, all that was sent, and how often a person had the saga ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct World {
    saga: u32,
    order: u32,
    goods: u32,
    parcels: u32,
    money: u32,
    sent: Sent,
    retries: u8,
}

/// By hand, in few words: most of the walk is looking states up.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let two = |one: u32, other: u32| u64::from(one) << 32 | u64::from(other);
        let [low, high] = self.sent.words();
        state.write_u64(two(self.saga, self.order << 8 | u32::from(self.retries)));
        state.write_u64(two(self.goods << 16 | self.parcels, self.money));
        state.write_u64(low);
        state.write_u64(high);
    }
}

struct Cast {
    post: Post,
    saga: Rows<Progress>,
    order: Rows<Arbiter>,
    goods: Rows<Goods>,
    parcels: Rows<Parcels>,
    money: Rows<Money>,
}

#[derive(Clone, Copy)]
struct Way {
    what: Place,
    to: Actor,
    after: World,
    flaw: Option<&'static str>,
}

impl Cast {
    fn new(model: &Model) -> Self {
        Self {
            post: Post::new(model),
            saga: Rows::from(Progress::new(&model.definition)),
            order: Rows::from(Arbiter::new()),
            goods: Rows::from(Goods::new()),
            parcels: Rows::from(Parcels::default()),
            money: Rows::from(Money::default()),
        }
    }

    fn first() -> World {
        let mut sent = Sent::default();
        sent.add(Post::CREATED);
        World { saga: 0, order: 0, goods: 0, parcels: 0, money: 0, sent, retries: 0 }
    }

    fn view<'a>(&'a self, model: &'a Model, world: &World) -> View<'a> {
        View {
            model,
            saga: self.saga.get(world.saga),
            order: self.order.get(world.order),
            goods: self.goods.get(world.goods),
            parcels: self.parcels.get(world.parcels),
            money: self.money.get(world.money),
            sent: world.sent,
        }
    }

    /// Everything that can happen next. What changes nothing is among it: so is any failure that passes.
    fn ways(&mut self, model: &Model, world: &World, ways: &mut Vec<Way>) {
        ways.clear();
        let heard: Vec<(Place, Actor)> = self.post.heard(world.sent).chain(Post::moves()).collect();
        for (what, to) in heard {
            ways.extend(self.way(model, world, what, to));
        }
    }

    fn way(&mut self, model: &Model, world: &World, what: Place, to: Actor) -> Option<Way> {
        let mut after = *world;
        if what == Post::RETRY {
            after.retries += 1;
            if after.retries > model.bounds.retries_max {
                return None;
            }
        }
        let post = &mut self.post;
        let (row, turn): (&mut u32, Turn) = match to {
            Actor::Saga => (&mut after.saga, self.saga.hear(model, post, world.saga, what)),
            Actor::Order => (&mut after.order, self.order.hear(model, post, world.order, what)),
            Actor::Inventory => (&mut after.goods, self.goods.hear(model, post, world.goods, what)),
            Actor::Shipping => (&mut after.parcels, self.parcels.hear(model, post, world.parcels, what)),
            Actor::Payment => (&mut after.money, self.money.hear(model, post, world.money, what)),
            Actor::Provider | Actor::Customer | Actor::Operator | Actor::Clock => return None,
        };
        let moved = *row != turn.to;
        *row = turn.to;
        after.sent = world.sent.and(turn.says);
        // A retry that is not allowed is none.
        (moved || what != Post::RETRY).then_some(Way { what, to, after, flaw: turn.flaw })
    }

    fn told(&self, to: Actor, world: &World) -> String {
        match to {
            Actor::Saga => self.saga.get(world.saga).told(),
            Actor::Order => self.order.get(world.order).told(),
            Actor::Inventory => self.goods.get(world.goods).told(),
            Actor::Shipping => self.parcels.get(world.parcels).told(),
            Actor::Payment => self.money.get(world.money).told(),
            Actor::Provider | Actor::Customer | Actor::Operator | Actor::Clock => String::new(),
        }
    }
}

pub(super) fn walk(model: &Model) -> Report {
    let mut walk = Walk {
        model,
        cast: Cast::new(model),
        places: HashMap::default(),
        found: Vec::new(),
        transitions: 0,
        ends: vec![0; ENDS.len()],
        sometimes: vec![0; SOMETIMES.len()],
    };
    let violation = walk.run().err();
    let names = ENDS.iter().map(|(name, _)| *name).chain(SOMETIMES.iter().map(|(name, _)| *name));
    let reached = names.zip(walk.ends.iter().chain(&walk.sometimes).copied());
    let reached = reached.filter(|(name, _)| model.bounds.retries_max > 0 || !name.contains("had it asked again")).collect();
    let states = u64::try_from(walk.found.len()).unwrap_or(u64::MAX);
    Report { states, transitions: walk.transitions, reached, violation }
}

struct Walk<'a> {
    model: &'a Model,
    cast: Cast,
    places: HashMap<World, u32, BuildHasherDefault<DefaultHasher>>,
    /// From where each state was found first, and how; the first one from itself.
    found: Vec<(u32, Place, Actor)>,
    transitions: u64,
    ends: Vec<u64>,
    sometimes: Vec<u64>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Counterexample> {
        let first = Cast::first();
        let mut frontier = vec![(self.add(first, (0, Post::CREATED, Actor::Saga)), first)];
        let mut found = Vec::new();
        let mut ways = Vec::new();
        while !frontier.is_empty() {
            for (at, world) in frontier.drain(..) {
                self.cast.ways(self.model, &world, &mut ways);
                let mut goes_on = false;
                for way in &ways {
                    let broken = |property| (property, at, Some((way.what, way.to)));
                    if let Some(flaw) = way.flaw {
                        return Err(self.counterexample(broken(flaw)));
                    }
                    if way.after == world {
                        continue;
                    }
                    self.transitions += 1;
                    goes_on |= self.cast.post.is_by_itself(way.what);
                    let new = !self.places.contains_key(&way.after);
                    self.count(new, &world, way);
                    if !new {
                        continue;
                    }
                    if let Some(property) = self.broken(&way.after) {
                        return Err(self.counterexample(broken(property)));
                    }
                    found.push((self.add(way.after, (at, way.what, way.to)), way.after));
                }
                if !goes_on && !self.is_end(&world) {
                    return Err(self.counterexample((NO_END, at, None)));
                }
            }
            std::mem::swap(&mut frontier, &mut found);
        }
        Ok(())
    }

    fn add(&mut self, world: World, from: (u32, Place, Actor)) -> u32 {
        let at = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        self.places.insert(world, at);
        self.found.push(from);
        at
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        let view = self.cast.view(self.model, world);
        let broken = ALWAYS.iter().find(|(_, holds)| !holds(view)).map(|(name, _)| *name);
        broken.or_else(|| (self.found.len() >= self.model.bounds.states_max).then_some(IS_FINITE))
    }

    fn is_end(&mut self, world: &World) -> bool {
        let view = self.cast.view(self.model, world);
        let end = ENDS.iter().position(|(_, is_end)| is_end(view));
        end.and_then(|end| self.ends.get_mut(end)).map(|times| *times += 1).is_some()
    }

    /// Counts ways to new states; any other way counts only where none was found yet.
    fn count(&mut self, new: bool, before: &World, way: &Way) {
        let what = self.cast.post.what(way.what);
        let [before, after] = [before, &way.after].map(|world| self.cast.view(self.model, world));
        for (times, (_, happens)) in self.sometimes.iter_mut().zip(SOMETIMES) {
            if new || *times == 0 {
                *times += u64::from(happens(before, what, after));
            }
        }
    }

    /// The way to a state, and one step further.
    fn counterexample(&mut self, (property, at, last): (&'static str, u32, Option<(Place, Actor)>)) -> Counterexample {
        let mut way = Vec::from_iter(last);
        let mut place = at;
        while place > 0 {
            let Some((from, what, to)) = usize::try_from(place).ok().and_then(|place| self.found.get(place)) else { break };
            way.push((*what, *to));
            place = *from;
        }
        let mut world = Cast::first();
        let mut path: Vec<Happening> = Vec::new();
        for (what, to) in way.into_iter().rev() {
            if let Some(way) = self.cast.way(self.model, &world, what, to) {
                world = way.after;
            }
            let (from, mut says) = self.cast.post.told(&self.model.definition, what);
            let (from, to, then) = (name(from), name(to), self.cast.told(to, &world));
            let is_message = matches!(self.cast.post.what(what), What::Message(_));
            if is_message && path.iter().any(|earlier| (&earlier.from, &earlier.to, &earlier.says) == (&from, &to, &says)) {
                says.push_str(" (again)");
            }
            path.push(Happening { from, to, says, then });
        }
        let all = [Actor::Saga, Actor::Order, Actor::Payment, Actor::Inventory, Actor::Shipping];
        let end = all.map(|actor| format!("{} {}", name(actor), self.cast.told(actor, &world))).join("; ");
        Counterexample { property, path, end }
    }
}

fn name(actor: Actor) -> String {
    format!("{actor:?}").to_lowercase()
}
