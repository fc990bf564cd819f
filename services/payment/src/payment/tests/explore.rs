//! Everything that can happen to a payment, up to a few commands: each of them at any time and again, calls that are sent or not yet,
//! or withdrawn and perhaps made in a history that was lost, outcomes in any order and twice, outcomes that nobody knows, and a provider that changes a no to a yes.

use std::collections::{HashSet, VecDeque};

use super::*;

/// What a payment goes through, and what may happen beside the commands.
struct Model {
    commands: Vec<Input>,
    /// Calls may be unknown.
    unknown: bool,
    /// So many refusals of the provider may become a yes.
    late_max: u32,
}

/// A call that is open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    kind: Kind,
    amount: i64,
    sent: bool,
    withdrawn: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    payment: Option<Payment>,
    refunds: BTreeMap<Uuid, Refund>,
    calls: BTreeMap<Uuid, Open>,
    /// The provider's books: what became of a key, and what it was.
    decided: BTreeMap<Uuid, (bool, Kind, i64)>,
    /// What we were told of a key last.
    delivered: BTreeMap<Uuid, bool>,
    lates: u32,
    booked: BTreeSet<Uuid>,
    /// Commands that were given, with the last answer to each.
    told: BTreeMap<Uuid, Option<Told>>,
}

/// An answer, as far as it must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Done,
    Failed,
    Voided,
    Refunded,
    RefundFailed,
    Unknown,
}

#[derive(Clone, Debug)]
enum Move {
    Command(usize),
    Send(Uuid),
    Decide(Uuid, bool),
    Deliver(Uuid),
    Unknown(Uuid),
    /// The provider does not know the key of a call that was withdrawn.
    Absent(Uuid),
}

fn command_of(input: &Input) -> Uuid {
    match input {
        Input::Charge(ask) | Input::Authorize(ask) => ask.command_id,
        Input::Capture { command_id } | Input::Refund { command_id, .. } | Input::Undo { command_id, .. } => *command_id,
        other => panic!("{other:?} is no command"),
    }
}

fn class(answer: &Answer) -> Told {
    match answer {
        Answer::Succeeded { .. } | Answer::Authorized { .. } | Answer::Captured { .. } => Told::Done,
        Answer::Failed { .. } => Told::Failed,
        Answer::Voided => Told::Voided,
        Answer::Refunded { .. } => Told::Refunded,
        Answer::RefundFailed { .. } => Told::RefundFailed,
        Answer::Unknown { .. } => Told::Unknown,
    }
}

impl World {
    fn moves(&self, model: &Model) -> Vec<Move> {
        let mut moves: Vec<Move> = (0..model.commands.len()).map(Move::Command).collect();
        for (key, call) in &self.calls {
            if !call.sent && !call.withdrawn {
                moves.push(Move::Send(*key));
            } else if !self.decided.contains_key(key) {
                moves.push(Move::Decide(*key, false));
                if self.grants(call.kind, call.amount) {
                    moves.push(Move::Decide(*key, true));
                }
                if call.withdrawn {
                    moves.push(Move::Absent(*key));
                }
                if model.unknown {
                    moves.push(Move::Unknown(*key));
                }
            }
        }
        for (key, (yes, kind, amount)) in &self.decided {
            moves.push(Move::Deliver(*key));
            if !yes && self.lates < model.late_max && self.grants(*kind, *amount) {
                moves.push(Move::Decide(*key, true));
            }
        }
        moves
    }

    /// Minor units that the provider took, and gave back.
    fn moved(&self) -> (i64, i64) {
        let sum = |kinds: &[Kind]| {
            let granted = self.decided.values().filter(|(yes, kind, _)| *yes && kinds.contains(kind));
            granted.map(|(_, _, amount)| amount).sum()
        };
        (sum(&[Kind::Charge, Kind::Capture]), sum(&[Kind::Refund]))
    }

    fn has(&self, wanted: Kind) -> bool {
        self.decided.values().any(|(yes, kind, _)| *yes && *kind == wanted)
    }

    /// Whether the provider's own books allow it.
    fn grants(&self, kind: Kind, amount: i64) -> bool {
        let (taken, back) = self.moved();
        match kind {
            Kind::Charge | Kind::Authorize => true,
            Kind::Capture => self.has(Kind::Authorize) && !self.has(Kind::Void),
            Kind::Void => !self.has(Kind::Capture),
            Kind::Refund => back + amount <= taken,
        }
    }

    fn go(&self, model: &Model, next: &Move) -> Self {
        let mut world = self.clone();
        match next {
            Move::Command(index) => {
                let input = &model.commands[*index];
                let before = world.told.insert(command_of(input), world.told.get(&command_of(input)).copied().flatten());
                if !world.step(model, input) && before.is_none() {
                    world.told.remove(&command_of(input)); // it comes again, as if it came for the first time
                }
            }
            Move::Send(key) => world.calls.get_mut(key).expect("open").sent = true,
            Move::Decide(key, yes) => {
                let before = world.decided.get(key).copied();
                world.lates += u32::from(before.is_some());
                let (kind, amount) =
                    before.map_or_else(|| (world.calls[key].kind, world.calls[key].amount), |(_, kind, amount)| (kind, amount));
                world.decided.insert(*key, (*yes, kind, amount));
            }
            Move::Deliver(key) => {
                let (yes, kind, amount) = world.decided[key];
                world.delivered.insert(*key, yes);
                let known = if yes { super::yes() } else { no("NO") };
                assert!(world.step(model, &Input::Answered { call: made_of(*key, kind, amount), known }));
            }
            Move::Absent(key) => {
                let Open { kind, amount, .. } = world.calls[key];
                // What lands all the same is a no that becomes a yes.
                world.decided.insert(*key, (false, kind, amount));
                world.delivered.insert(*key, false);
                assert!(world.step(model, &Input::Answered { call: made_of(*key, kind, amount), known: no(VOIDED) }));
            }
            Move::Unknown(key) => {
                let Open { kind, amount, .. } = world.calls[key];
                assert!(world.step(model, &Input::Unknown { call: made_of(*key, kind, amount) }));
            }
        }
        world
    }

    /// Whether it was decided.
    fn step(&mut self, model: &Model, input: &Input) -> bool {
        // As the handler loads it.
        if let Some(payment) = &mut self.payment {
            payment.sent = payment.open_key().and_then(|key| self.calls.get(&key)).is_none_or(|call| call.sent);
        }
        let refund = input.refund_id().and_then(|id| self.refunds.get(&id));
        let step = match step(&opening(), self.payment.as_ref(), refund, input) {
            Ok(step) => step,
            Err(Undecided::NotKnownYet) => return false,
            Err(error) => panic!("{error}: {input:?}"),
        };
        self.payment = step.payment;
        for effect in step.effects {
            self.carry_out(model, effect);
        }
        if let Some(payment) = &mut self.payment {
            promised(payment, self.refunds.values());
            payment.sent = true;
        }
        true
    }

    fn carry_out(&mut self, model: &Model, effect: Effect) {
        match effect {
            Effect::Call(Call { kind, key, amount, .. }) => {
                assert_ne!(self.delivered.get(&key), Some(&true), "it was done, and is asked for again: {kind:?}");
                let undo = kind == Kind::Void || (kind == Kind::Refund && self.refunds[&key].command_id.is_none());
                assert!(!undo || !self.delivered.contains_key(&key), "an undo that was refused is asked for under the same key");
                let others = self.calls.values().filter(|open| kind == Kind::Void && open.kind == kind).count();
                assert_eq!(others, 0, "two keys of one undo");
                let before = self.calls.insert(key, Open { kind, amount, sent: false, withdrawn: false });
                assert_eq!(before, None, "it is open already");
            }
            Effect::EndCall { key } => drop(self.calls.remove(&key)),
            Effect::Withdraw { key } => {
                let call = self.calls.get_mut(&key).expect("what is withdrawn is open");
                assert!(!call.sent, "it was sent");
                call.withdrawn = true;
            }
            Effect::SetAside { key, .. } => assert!(self.calls.contains_key(&key), "nothing waits for a person"),
            Effect::Refund(refund) => drop(self.refunds.insert(refund.id, refund)),
            Effect::Transfer(transfer) => assert!(self.booked.insert(transfer.id), "booked twice"),
            Effect::Say(Said { command_id: Some(command_id), answer, .. }) => {
                let (now, before) = (class(&answer), self.told.insert(command_id, Some(class(&answer))));
                let before = before.expect("it answers a command that was given");
                let undo = [UNDO, UNDO_AGAIN, UNCAPTURE].contains(&command_id);
                let changes = match (before, now) {
                    (None | Some(Told::Unknown), _) => true,
                    (Some(before), now) if before == now => true,
                    // Another undo has tried again.
                    (Some(Told::RefundFailed), Told::Refunded | Told::Voided | Told::Unknown) if undo => true,
                    // Money that moved late.
                    (Some(Told::Voided), Told::Refunded | Told::RefundFailed | Told::Unknown) => self.lates > 0,
                    (Some(Told::RefundFailed), Told::Refunded) => self.lates > 0,
                    _ => false,
                };
                assert!(changes, "{command_id} was told {before:?} and now {answer:?}, of {:?}", model.commands);
            }
            Effect::Say(Said { command_id: None, .. }) => {}
        }
    }

    /// Nothing is under way, and we know all that the provider knows.
    fn is_at_rest(&self) -> bool {
        self.calls.is_empty() && self.decided.iter().all(|(key, (yes, ..))| self.delivered.get(key) == Some(yes))
    }

    /// What holds once nothing is under way.
    fn settled(&self, model: &Model) {
        let Some(payment) = &self.payment else { return };
        let (taken, back) = self.moved();
        assert_eq!((payment.captured, payment.refunded), (taken, back), "our books are the provider's: {payment:?}");
        assert_eq!(payment.refund_pending, 0, "{payment:?}");
        let set_aside = self.has(Kind::Authorize) && !self.has(Kind::Capture) && !self.has(Kind::Void);
        let refused = !payment.refund_reason.is_empty();
        let undone = [UNDO, UNDO_AGAIN].iter().any(|command_id| self.told.contains_key(command_id));
        if undone && !refused {
            assert!(taken == back && !set_aside, "undone, and money is held: {payment:?}");
        }
        for (index, command) in model.commands.iter().enumerate() {
            let command_id = command_of(command);
            if !self.told.contains_key(&command_id) {
                continue;
            }
            let mut again = self.clone();
            again.told.insert(command_id, None);
            let again = again.go(model, &Move::Command(index));
            assert!(again.told[&command_id].is_some(), "{command:?} has no answer: {payment:?}");
            assert_eq!(again.calls.len(), 0, "{command:?} has a second effect: {payment:?}");
        }
    }
}

fn made_of(key: Uuid, kind: Kind, amount: i64) -> Made {
    Made { kind, key, amount, currency: "USD".into() }
}

/// Visits every state there is; those that were reached, and how many worlds.
fn explore(model: &Model) -> (HashSet<State>, usize) {
    let mut seen = HashSet::from([World::default()]);
    let mut open = VecDeque::from([World::default()]);
    let mut states = HashSet::new();
    let mut rests = 0;
    while let Some(world) = open.pop_front() {
        states.extend(world.payment.as_ref().map(|payment| payment.state));
        if world.is_at_rest() {
            rests += 1;
            world.settled(model);
        }
        for next in world.moves(model) {
            let after = world.go(model, &next);
            if !seen.contains(&after) {
                seen.insert(after.clone());
                open.push_back(after);
            }
        }
    }
    assert!(rests > 1, "it never comes to rest");
    (states, seen.len())
}

#[test]
fn s8_s13_one_charge_its_undos_and_its_refunds_in_any_order() {
    let commands = vec![charge(), undo(UNDO), undo(UNDO_AGAIN), refund(1, 1_000), refund(2, 1_500), refund(3, 900)];
    let (states, worlds) = explore(&Model { commands, unknown: false, late_max: 0 });
    println!("{worlds} worlds");
    for state in
        [State::InFlight, State::Captured, State::Declined, State::Voided, State::Refunding, State::Refunded, State::RefundRefused]
    {
        assert!(states.contains(&state), "{state:?} is never reached");
    }
}

#[test]
fn s3_s11_unknown_and_late_outcomes_of_a_charge_in_any_order() {
    let commands = vec![charge(), undo(UNDO), undo(UNDO_AGAIN), refund(1, 1_000), refund(2, 1_500)];
    let (states, worlds) = explore(&Model { commands, unknown: true, late_max: 1 });
    println!("{worlds} worlds");
    assert!(states.contains(&State::Refunded) && states.contains(&State::RefundRefused));
}

#[test]
fn s8_two_steps_and_both_undos_in_any_order() {
    let commands = vec![authorize(), capture(), uncapture(), undo(UNDO)];
    let (states, worlds) = explore(&Model { commands, unknown: false, late_max: 0 });
    println!("{worlds} worlds");
    for (state, _) in State::NAMES {
        assert!(states.contains(&state), "{state:?} is never reached");
    }
}

#[test]
fn s3_s11_unknown_and_late_outcomes_of_two_steps_in_any_order() {
    let commands = vec![authorize(), capture(), uncapture(), undo(UNDO), refund(1, 1_000)];
    let (states, worlds) = explore(&Model { commands, unknown: true, late_max: 1 });
    println!("{worlds} worlds");
    assert_eq!(states.len(), State::NAMES.len());
}

#[test]
fn s3_s6_s11_unknown_and_late_outcomes_of_two_steps_undone_again_in_any_order() {
    let commands = vec![authorize(), capture(), undo(UNDO), undo(UNDO_AGAIN)];
    let (states, worlds) = explore(&Model { commands, unknown: true, late_max: 1 });
    println!("{worlds} worlds");
    assert_eq!(states.len(), State::NAMES.len());
}

#[test]
fn s3_s6_late_outcomes_of_two_steps_and_both_undos_asked_again_in_any_order() {
    let commands = vec![authorize(), capture(), uncapture(), undo(UNDO), undo(UNDO_AGAIN)];
    let (states, worlds) = explore(&Model { commands, unknown: false, late_max: 1 });
    println!("{worlds} worlds");
    assert_eq!(states.len(), State::NAMES.len());
}

#[test]
fn s6_s11_unknown_outcomes_of_two_steps_with_a_refund_undone_again_in_any_order() {
    let commands = vec![authorize(), capture(), uncapture(), undo(UNDO), undo(UNDO_AGAIN), refund(1, 1_000)];
    let (states, worlds) = explore(&Model { commands, unknown: true, late_max: 0 });
    println!("{worlds} worlds");
    assert_eq!(states.len(), State::NAMES.len());
}

#[test]
fn s13_two_steps_with_refunds_and_undos_in_any_order() {
    let commands = vec![authorize(), capture(), uncapture(), undo(UNDO), refund(1, 1_000), refund(2, 1_500)];
    let (states, worlds) = explore(&Model { commands, unknown: false, late_max: 0 });
    println!("{worlds} worlds");
    assert!(states.contains(&State::Refunding));
}
