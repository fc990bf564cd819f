//! What must hold in every state, and what must be possible in some.

use super::{
    Model, Role,
    money::Row as MoneyRow,
    rows::{Kept, Order},
    sagas::Sagas,
    wires::Wire,
    world::{Actor, Event, Says, World},
};
use crate::{Cause, Command, Phase, Progress, StepState};

/// A state to look at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) model: &'a Model<'a>,
    pub(super) world: &'a World,
    pub(super) saga: &'a Progress,
}

impl<'a> View<'a> {
    pub(super) fn new(model: &'a Model<'a>, world: &'a World, sagas: &'a Sagas) -> Self {
        Self { model, world, saga: sagas.progress(world.saga) }
    }

    fn steps_of(self, is: impl Fn(Role) -> bool) -> impl Iterator<Item = usize> {
        self.model.roles.iter().enumerate().filter(move |(_, role)| is(**role)).map(|(step, _)| step)
    }

    /// A person has taken its undo for settled, and it was not done after all.
    fn settled_by_hand(self, step: usize) -> bool {
        self.world.by_hand >> step & 1 == 1 && self.saga.is_settled_by_hand(step)
    }

    /// A person has taken over what becomes of the money.
    fn money_by_hand(self) -> bool {
        self.steps_of(Role::is_money).any(|step| self.settled_by_hand(step))
    }

    fn gives_back(self) -> bool {
        self.model.roles.contains(&Role::GiveBack)
    }

    fn charges(self) -> bool {
        self.model.roles.iter().any(|role| matches!(role, Role::Charge | Role::Capture))
    }

    /// The effects of these steps are there.
    fn holds(self, steps: impl Iterator<Item = usize>) -> bool {
        steps.into_iter().all(|step| match self.model.roles[step] {
            Role::Hold | Role::Reserve | Role::Record => self.world.rows[step].is_held(),
            Role::Charge | Role::Capture => self.world.money.row == MoneyRow::Captured,
            Role::Authorize => matches!(self.world.money.row, MoneyRow::Authorized | MoneyRow::Captured),
            Role::GiveBack => self.world.money.row == MoneyRow::Given,
            Role::Decide => self.world.order == Order::Confirmed,
        })
    }
}

type Check = fn(View<'_>) -> bool;

/// What holds in every state, however late a message may still arrive. The first that is broken names the fault, so what is about
/// money and stock comes first.
pub(super) const ALWAYS: &[(&str, Check)] = &[
    ("I1: an order is captured at most once", |view| view.world.money.taken <= 1),
    ("I2: never more is given back than was taken", |view| view.world.money.given <= view.world.money.taken),
    ("I2: an order that did not come off has all its money back, once, and nothing set aside", |view| {
        let money = view.world.money;
        view.saga.phase != Phase::Undone
            || view.gives_back()
            || view.money_by_hand()
            || money.is_in_flight()
            || (money.given == money.taken && !money.authorized)
    }),
    ("I2: where a person gave up waiting and the money moves after all, it goes back", |view| {
        let money = view.world.money;
        view.saga.phase != Phase::Undone
            || !view.money_by_hand()
            || money.undo.is_none()
            || money.is_in_flight()
            || money.row == MoneyRow::RefundRefused
            || (money.given == money.taken && !money.authorized)
    }),
    ("I2: an order that came off has been paid, and a refund that came off has been given", |view| {
        let given = u8::from(view.gives_back());
        view.saga.phase != Phase::Done
            || !(view.charges() || view.gives_back())
            || (view.world.money.taken == 1 && view.world.money.given == given)
    }),
    ("I2: a refund that is refused gives nothing", |view| {
        view.saga.phase != Phase::Undone || !view.gives_back() || view.world.money.given == 0
    }),
    ("I3: stock is never negative, and never set aside twice", |view| {
        let mut reserves = view.steps_of(|role| role == Role::Reserve);
        reserves.all(|step| view.world.rows[step].taken <= 1 && view.world.rows[step].given <= view.world.rows[step].taken)
    }),
    ("I3: nothing is reserved under an order that failed", |view| {
        let mut reserves = view.steps_of(|role| role == Role::Reserve);
        view.saga.phase != Phase::Undone || reserves.all(|step| view.settled_by_hand(step) || !view.world.rows[step].is_held())
    }),
    ("I7: the ledger is balanced", |view| view.world.money.receivable + view.world.money.sales == 0),
    ("I7: revenue is what was captured less what was refunded", |view| {
        let (money, of) = (view.world.money, |n: u8| i8::try_from(n).unwrap_or(i8::MAX));
        money.is_in_flight() || -money.sales == of(money.taken) - of(money.given)
    }),
    ("an effect is made at most once and taken back at most once", |view| {
        view.world.rows.iter().all(|row| row.taken <= 1 && row.given <= row.taken)
    }),
    ("a saga that is done has every effect", |view| view.saga.phase != Phase::Done || view.holds(0..view.model.roles.len())),
    ("a saga that is undone holds nothing, and is closed", |view| {
        let mut held = view.steps_of(|role| role == Role::Hold).filter(|step| view.world.rows[*step].is_held());
        view.saga.phase != Phase::Undone
            || (view.world.order.is_closed()
                && held.all(|step| view.settled_by_hand(step) || view.model.definition.undo_of(step).is_none()))
    }),
    ("a confirmed order has every effect before its confirmation", |view| {
        view.world.order != Order::Confirmed || view.holds(0..view.model.pivot.unwrap_or(0))
    }),
    ("what is written down as done is not closed", |view| {
        !view.world.order.is_closed() || view.steps_of(|role| role == Role::Record).all(|step| !view.world.rows[step].is_held())
    }),
    ("a saga is listed for a reason", |view| {
        let saga = view.saga;
        !saga.stuck
            || saga.resent >= view.model.bounds.resends_max
            || saga.phase == Phase::Closing
            || has_step(view, StepState::UndoRefused)
            || (saga.phase == Phase::Forward && has_step(view, StepState::Refused))
            || view.world.sent.each().any(|wire| matches!(wire, Wire::Unknown(_)))
    }),
];

/// What a step from one state to the next must not do.
pub(super) fn is_illegal(before: &World, after: &World) -> Option<&'static str> {
    (!before.order.may_become(after.order))
        .then_some("I6: an order goes from one status to the next as published, and none follows an end")
}

pub(super) const COMES_TO_REST: &str =
    "where all that was said is heard and no call is open, the saga is done, undone, or listed for a person";
pub(super) const IS_FINITE: &str = "the model has an end within its bounds";

type Applies = fn(&Model<'_>) -> bool;
type Step = fn(View<'_>, &Event, View<'_>) -> bool;
pub(super) type Sometimes = (&'static str, Applies, Step);

/// Rare things that must be possible where they apply: else the model did not test what it should. Each is a step from one state to
/// the next.
pub(super) const SOMETIMES: &[Sometimes] = &[
    ("done", always, |before, _, after| after.saga.phase == Phase::Done && !before.saga.is_over()),
    ("undone after a refusal", always, |_, _, after| ended(after, |cause| matches!(cause, Cause::Refused { .. }))),
    ("undone after a cancel", can_cancel, |_, _, after| ended(after, |cause| cause == Cause::Cancelled)),
    ("undone after a skip", can_skip, |_, _, after| ended(after, |cause| matches!(cause, Cause::Skipped { .. }))),
    ("the cancel came while the confirmation was asked", can_cancel, |before, _, after| {
        let confirming = matches!(before.saga.asked(), Some(Command::Do { step, .. }) if before.model.roles[step] == Role::Decide);
        confirming && after.saga.cause == Some(Cause::Cancelled)
    }),
    ("the cancel came after the saga had turned back", can_cancel, |before, event, after| {
        event.from == Actor::Customer && after.world.order == Order::Cancelling && before.saga.phase != Phase::Forward
    }),
    ("asked again, since nobody answered", always, |before, _, after| after.saga.resent > before.saga.resent),
    ("listed: nobody answers", always, |before, event, after| event.from == Actor::Clock && listed(before, after)),
    ("listed: an undo is refused", has_undo, |before, _, after| listed(before, after) && has_step(after, StepState::UndoRefused)),
    ("listed: a step behind the pivot is refused", has_record, |before, _, after| {
        listed(before, after) && after.saga.phase == Phase::Forward && has_step(after, StepState::Refused)
    }),
    ("listed: the close is refused", always, |before, event, after| {
        event.from == Actor::Order && listed(before, after) && after.saga.phase == Phase::Closing
    }),
    ("listed: the outcome is unknown", has_money, |before, event, after| {
        matches!(event.says, Says::Wire(Wire::Unknown(_))) && listed(before, after)
    }),
    ("an unknown landed later", has_money, |before, event, after| {
        event.from == Actor::Provider && before.world.money.told_unknown && !after.world.money.is_in_flight()
    }),
    ("the money moved after a person had given up on it, and is going back", can_skip_money, |before, _, after| {
        matches!(before.saga.cause, Some(Cause::Skipped { .. }))
            && matches!(before.world.money.row, MoneyRow::Charging | MoneyRow::Capturing)
            && after.world.money.row == MoneyRow::Refunding
    }),
    ("the provider did it, and the answer was lost", has_money, |before, _, after| {
        after.world.money.has_landed() && !before.world.money.has_landed() && after.world.money.row == before.world.money.row
    }),
    ("a refused refund was made after all", has_undo_of_money, |before, event, after| {
        event.from == Actor::Provider
            && before.world.money.row == MoneyRow::RefundRefused
            && after.world.money.row == MoneyRow::Refunded
    }),
    ("an undo came before its command", has_undo, |_, _, after| {
        after.world.money.row == MoneyRow::Voided || after.world.rows.iter().any(|row| row.kept == Kept::Voided)
    }),
    ("a command met the mark of its undo", has_undo, |before, event, after| {
        let marked = |step: usize| match before.model.roles[step].is_money() {
            true => after.world.money.row == MoneyRow::Voided,
            false => after.world.rows[step].kept == Kept::Voided,
        };
        let has_asked = |step| after.world.sent.has(Wire::Ask(after.model.alphabet.code(Command::Do { step, attempt: 1 })));
        event.from == Actor::Saga && (0..before.model.roles.len()).any(|step| marked(step) && has_asked(step))
    }),
    ("a late answer moved a listed saga on", always, |before, event, after| {
        event.by_itself && before.saga.stuck && !after.saga.stuck
    }),
    ("a retry of a refused undo undid it", has_undo_and_operator, |before, event, after| {
        event.by_itself
            && before.saga.phase == Phase::Unwinding
            && after
                .saga
                .steps
                .iter()
                .zip(&before.saga.steps)
                .any(|(after, before)| after.state == StepState::Undone && before.state == StepState::Undoing && after.attempt > 1)
    }),
    ("a retry behind the pivot was done", has_record_and_operator, |_, _, after| {
        after.saga.phase == Phase::Done && after.saga.steps.iter().any(|stand| stand.attempt > 1)
    }),
    ("a retry of the close ended it", has_operator, |_, event, after| {
        let closed_again = |code| matches!(after.model.alphabet.command(code), Command::Close { attempt } if attempt > 1);
        after.saga.phase == Phase::Undone && matches!(event.says, Says::Wire(Wire::Done(code)) if closed_again(code))
    }),
    ("settled by hand", has_undo_and_operator, |_, _, after| {
        after.saga.phase == Phase::Undone && (0..after.saga.steps.len()).any(|step| after.settled_by_hand(step))
    }),
    ("what a person had taken for settled was undone after all", has_undo_and_operator, |before, event, after| {
        let mut steps = 0..after.saga.steps.len();
        event.by_itself && steps.any(|step| before.settled_by_hand(step) && after.saga.steps[step].state == StepState::Undone)
    }),
    ("a paused saga moved", has_operator, |before, event, _| before.saga.paused && event.by_itself),
    ("a pause was ended", has_operators, |before, _, after| before.saga.paused && !after.saga.paused),
];

fn ended(view: View<'_>, of: impl Fn(Cause) -> bool) -> bool {
    view.saga.phase == Phase::Undone && view.saga.cause.is_some_and(of)
}

fn listed(before: View<'_>, after: View<'_>) -> bool {
    after.saga.stuck && !before.saga.stuck
}

fn has_step(view: View<'_>, state: StepState) -> bool {
    view.saga.steps.iter().any(|stand| stand.state == state)
}

fn always(_: &Model<'_>) -> bool {
    true
}

fn can_cancel(model: &Model<'_>) -> bool {
    model.roles.contains(&Role::Decide)
}

fn has_operator(model: &Model<'_>) -> bool {
    model.bounds.operations_max > 0
}

fn has_operators(model: &Model<'_>) -> bool {
    model.bounds.operations_max > 1
}

fn has_undo(model: &Model<'_>) -> bool {
    (0..model.roles.len()).any(|step| model.definition.undo_of(step).is_some())
}

fn has_undo_and_operator(model: &Model<'_>) -> bool {
    has_undo(model) && has_operator(model)
}

fn can_skip(model: &Model<'_>) -> bool {
    has_operator(model) && model.pivot != Some(0)
}

fn has_money(model: &Model<'_>) -> bool {
    model.roles.iter().any(|role| role.is_money())
}

fn has_undo_of_money(model: &Model<'_>) -> bool {
    model.roles.iter().any(|role| matches!(role, Role::Charge | Role::Capture))
}

fn can_skip_money(model: &Model<'_>) -> bool {
    has_undo_of_money(model) && has_operator(model)
}

fn has_record(model: &Model<'_>) -> bool {
    model.roles.contains(&Role::Record)
}

fn has_record_and_operator(model: &Model<'_>) -> bool {
    has_record(model) && has_operator(model)
}
