//! One state of the model, and what can happen in it.

use std::hash::{Hash, Hasher};

use super::{
    Bug, Model, Role,
    money::{Deed, Money},
    rows::{Order, Reaction, Row},
    sagas::{Hears, Sagas},
    wires::{Sent, Wire},
};
use crate::{Command, Operation, Phase};

/// More steps than this have no room in a state.
pub(super) const STEPS_MAX: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct World {
    /// Its place among [`Sagas`].
    pub(super) saga: u32,
    pub(super) order: Order,
    /// Somebody has looked at the order to cancel it, and has not written yet. Only with [`Bug::BlindCancel`].
    cancel_read: bool,
    pub(super) money: Money,
    /// One a step; those of money and of the order's own steps are never used.
    pub(super) rows: [Row; STEPS_MAX],
    pub(super) sent: Sent,
    pub(super) operations: u8,
    /// Steps whose undo a person gave up on, a bit each.
    pub(super) by_hand: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Customer,
    Operator,
    Clock,
    Saga,
    Order,
    Payment,
    Provider,
    Step(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Wire(Wire),
    Operation(Operation),
    Word(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) from: Actor,
    pub(super) to: Actor,
    pub(super) says: Says,
    /// What comes of it; empty where that is seen in the saga's progress.
    pub(super) then: &'static str,
    /// Messages arrive and calls end by themselves; all else needs a fault, a clock, a customer or a person.
    pub(super) by_itself: bool,
    /// What is wrong with it by itself.
    pub(super) flaw: Option<&'static str>,
}

impl World {
    pub(super) fn first(model: &Model, sagas: &mut Sagas) -> Self {
        let money = if model.roles.contains(&Role::GiveBack) { Money::captured_before() } else { Money::default() };
        let mut sent = Sent::default();
        sent.add(Wire::Started);
        let saga = sagas.place(model, crate::Progress::new(&model.definition));
        let rows = [Row::default(); STEPS_MAX];
        Self { saga, order: Order::default(), cancel_read: false, money, rows, sent, operations: 0, by_hand: 0 }
    }

    fn sending(mut self, says: [Option<Wire>; 2]) -> Self {
        for wire in says.into_iter().flatten() {
            self.sent.add(wire);
        }
        self
    }
}

/// By hand, in few words: most of the walk is looking states up.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let rest = [self.order as u8, u8::from(self.cancel_read), self.operations, self.by_hand];
        state.write_u64(u64::from(self.saga) << 32 | u64::from(u32::from_le_bytes(rest)));
        state.write_u64(self.money.packed());
        for three in self.rows.chunks(3) {
            state.write_u64(three.iter().fold(0, |word, row| word << 20 | row.packed()));
        }
        self.sent.hash(state);
    }
}

/// Where what can happen is written to.
pub(super) type Ways = Vec<(Event, World)>;

impl Model<'_> {
    /// Everything that can happen next. What changes nothing is among it: so is any failure that passes.
    pub(super) fn ways(&self, sagas: &mut Sagas, world: &World, ways: &mut Ways) {
        ways.clear();
        self.all_ways(sagas, world, ways);
        for (_, after) in ways {
            after.sent = after.sent.without(sagas.spent(after.saga));
        }
    }

    fn all_ways(&self, sagas: &mut Sagas, world: &World, ways: &mut Ways) {
        self.hears(sagas, world, (Actor::Clock, Says::Word("a deadline passes"), Hears::Deadline), ways);
        if world.operations < self.bounds.operations_max {
            for operation in [Operation::Retry, Operation::Skip, Operation::Pause, Operation::Resume] {
                let saga = sagas.progress(world.saga);
                if saga.allows(&self.definition, operation) {
                    let mut asked = World { operations: world.operations + 1, ..*world };
                    if operation == Operation::Skip && saga.phase == Phase::Unwinding {
                        asked.by_hand |= saga.skippable_undos().into_iter().fold(0, |steps, step| steps | 1 << step);
                    }
                    let hears = (Actor::Operator, Says::Operation(operation), Hears::Operator(operation));
                    self.hears(sagas, &asked, hears, ways);
                }
            }
        }
        if self.roles.contains(&Role::Decide) {
            self.customer(world, ways);
        }
        for (says, reaction) in world.money.outcomes(self.bug) {
            let event = event(Actor::Provider, Actor::Payment, Says::Word(says), &reaction);
            ways.push((event, World { money: reaction.row, ..*world }.sending(reaction.says)));
        }
        for wire in world.sent.each() {
            self.arrives(sagas, world, wire, ways);
        }
    }

    fn hears(&self, sagas: &mut Sagas, world: &World, (from, says, hears): (Actor, Says, Hears), ways: &mut Ways) {
        let turn = sagas.hear(self, world.saga, hears);
        let mut after = World { saga: turn.saga, ..*world };
        if let Some(command) = turn.asks {
            after.sent.add(Wire::Ask(self.alphabet.code(command)));
        }
        if turn.turned && self.roles.contains(&Role::Decide) {
            after.sent.add(Wire::Turned);
        }
        let by_itself = matches!(hears, Hears::Wire(_));
        ways.push((Event { from, to: Actor::Saga, says, then: "", by_itself, flaw: turn.flaw }, after));
    }

    fn customer(&self, world: &World, ways: &mut Ways) {
        let cancels = |then| Event {
            from: Actor::Customer,
            to: Actor::Order,
            says: Says::Word("cancel"),
            then,
            by_itself: false,
            flaw: None,
        };
        let cancelling = |order| World { order, cancel_read: false, ..*world }.sending([Some(Wire::Cancel), None]);
        match (self.bug, world.order.cancelled()) {
            (Some(Bug::BlindCancel), _) if world.cancel_read => {
                ways.push((cancels("written without another look: cancelling"), cancelling(Order::Cancelling)));
            }
            (Some(Bug::BlindCancel), Some(_)) => ways.push((cancels("looked at: open"), World { cancel_read: true, ..*world })),
            (_, Some(order)) => ways.push((cancels("cancelling"), cancelling(order))),
            (_, None) => {}
        }
    }

    fn arrives(&self, sagas: &mut Sagas, world: &World, wire: Wire, ways: &mut Ways) {
        let says = Says::Wire(wire);
        match wire {
            Wire::Ask(code) => {
                // Streams keep the order of a key: no earlier attempt comes after this one.
                let mut world = *world;
                for earlier in self.alphabet.earlier(code) {
                    world.sent.take(Wire::Ask(earlier));
                }
                self.asked(&world, wire, self.alphabet.command(code), ways);
            }
            Wire::Turned => {
                let reaction = world.order.turned();
                ways.push((event(Actor::Saga, Actor::Order, says, &reaction), World { order: reaction.row, ..*world }));
            }
            Wire::Done(code) | Wire::Refused(code) | Wire::Unknown(code) => {
                self.hears(sagas, world, (self.actor_of(self.alphabet.command(code)), says, Hears::Wire(wire)), ways);
            }
            Wire::Started | Wire::Cancel => self.hears(sagas, world, (Actor::Order, says, Hears::Wire(wire)), ways),
        }
    }

    fn asked(&self, world: &World, wire: Wire, command: Command, ways: &mut Ways) {
        let (to, says, code) = (self.actor_of(command), Says::Wire(wire), self.alphabet.code(command));
        let mut order = |reaction: Reaction<Order>, from| {
            let after = World { order: reaction.row, ..*world }.sending(reaction.says);
            ways.push((event(from, to, says, &reaction), after));
        };
        let (step, undo) = match command {
            Command::Do { step, .. } => (step, false),
            Command::Undo { step, .. } => (step, true),
            Command::Close { .. } => {
                order(world.order.close(code), Actor::Saga);
                if !world.order.is_closed() {
                    // Somebody discards the message: it is answered all the same.
                    let discarded = Reaction::new("discarded: refused", world.order, [Some(Wire::Refused(code)), None]);
                    order(discarded.faulty(), Actor::Operator);
                }
                return;
            }
        };
        let deed = match self.roles[step] {
            Role::Decide => return order(world.order.confirm(code), Actor::Saga),
            Role::Hold | Role::Reserve | Role::Record => {
                let row = world.rows[step];
                let reactions = match undo {
                    false => row.asked(code, command.attempt(), self.roles[step] == Role::Record, self.bug),
                    // Pieces can always be put back.
                    true => row.undo_asked(code, self.roles[step] != Role::Reserve, self.bug),
                };
                for reaction in reactions {
                    let mut after = world.sending(reaction.says);
                    after.rows[step] = reaction.row;
                    ways.push((event(Actor::Saga, to, says, &reaction), after));
                }
                return;
            }
            Role::Charge => Deed::Charge,
            Role::Authorize => Deed::Authorize,
            Role::Capture => Deed::Capture,
            Role::GiveBack => Deed::GiveBack,
        };
        let reaction = world.money.arrives(if undo { Deed::Undo } else { deed }, code, self.bug);
        let after = World { money: reaction.row, ..*world }.sending(reaction.says);
        ways.push((event(Actor::Saga, to, says, &reaction), after));
    }

    fn actor_of(&self, command: Command) -> Actor {
        match command {
            Command::Close { .. } => Actor::Order,
            Command::Do { step, .. } | Command::Undo { step, .. } => match self.roles[step] {
                Role::Decide => Actor::Order,
                Role::Charge | Role::Authorize | Role::Capture | Role::GiveBack => Actor::Payment,
                Role::Hold | Role::Reserve | Role::Record => Actor::Step(step),
            },
        }
    }
}

fn event<R>(from: Actor, to: Actor, says: Says, reaction: &Reaction<R>) -> Event {
    Event { from, to, says, then: reaction.then, by_itself: !reaction.fault, flaw: None }
}
