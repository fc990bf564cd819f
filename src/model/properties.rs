//! What holds in every state, the ends there are, and what must be possible.

use inventory::reservation::State as Reserved;
use order::order::Status;
use payment::payment::State as Paid;
use saga::{Cause, Command, Phase, Progress, StepState};
use shipping::shipment::State as Booked;

use super::{
    Model,
    arbiter::Arbiter,
    goods::Goods,
    messages::{Message, Move, Post, Sent, What},
    money::{AMOUNT, Money},
    parcels::Parcels,
};

/// A state to look at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) model: &'a Model,
    pub(super) saga: &'a Progress,
    pub(super) order: &'a Arbiter,
    pub(super) goods: &'a Goods,
    pub(super) parcels: &'a Parcels,
    pub(super) money: &'a Money,
    pub(super) sent: Sent,
}

impl View<'_> {
    fn is_confirmed(self) -> bool {
        self.order.status == Status::Confirmed
    }

    fn is_closed(self) -> bool {
        matches!(self.order.status, Status::Failed | Status::Cancelled)
    }

    fn is_undone(self) -> bool {
        self.saga.phase == Phase::Undone
    }

    fn nothing_is_held(self) -> bool {
        self.goods.holds_nothing() && self.parcels.holds_nothing() && self.money.holds_nothing()
    }

    fn asks(self, name: &str) -> bool {
        self.saga.asked().is_some_and(|asked| asked.name(&self.model.definition) == name)
    }

    fn was_refused(self, names: &[&str]) -> bool {
        let name = |step: usize| self.model.definition.steps.get(step).map_or("", |step| step.command);
        matches!(self.saga.cause, Some(Cause::Refused { step }) if names.contains(&name(step)))
    }

    fn has_step(self, state: StepState) -> bool {
        self.saga.steps.iter().any(|stand| stand.state == state)
    }
}

type Check = fn(View<'_>) -> bool;

/// What holds in every state, however late a message may still come.
pub(super) const ALWAYS: &[(&str, Check)] = &[
    ("I1: an order is captured at most once", |view| view.money.taken <= AMOUNT),
    ("I2: never more is given back than was taken", |view| view.money.given <= view.money.taken),
    ("I2: a saga that is undone holds no money", |view| !view.is_undone() || view.money.holds_nothing()),
    ("I3: stock is never negative, nor more of it reserved than there is", |view| {
        let stock = view.goods.stock;
        0 <= stock.reserved && stock.reserved <= stock.on_hand
    }),
    ("I3: nothing is reserved under an order that failed", |view| !view.is_undone() || view.goods.holds_nothing()),
    ("nothing is shipped of an order that failed", |view| !view.is_undone() || view.parcels.holds_nothing()),
    ("I7: the ledger, the payment and the provider agree", |view| view.money.is_balanced()),
    ("one winner: an order whose cancel was accepted never completes", |view| {
        !(view.sent.has(Post::CANCEL_REQUESTED) && (view.sent.has(Post::COMPLETED) || view.is_confirmed()))
    }),
    ("a confirmed order is paid, and its stock and its shipment are there", |view| {
        let there = view.goods.has(&Reserved::Held) || view.goods.has(&Reserved::Committed);
        let booked = view.parcels.has(&Booked::Held) || view.parcels.has(&Booked::Released);
        !view.is_confirmed() || (view.money.is_taken() && there && booked)
    }),
    ("what has left is of a confirmed order", |view| {
        view.is_confirmed() || !(view.goods.has(&Reserved::Committed) || view.parcels.has(&Booked::Released))
    }),
    ("a saga that is done has confirmed its order, one that is undone has closed it", |view| match view.saga.phase {
        Phase::Done => view.is_confirmed(),
        Phase::Undone => view.is_closed(),
        Phase::Forward | Phase::Unwinding | Phase::Closing => true,
    }),
];

/// Where all that was said is heard and no call is open. Every such state is one of these.
pub(super) const ENDS: &[(&str, Check)] = &[
    ("end: confirmed, and captured, committed and released", |view| {
        let left = view.goods.has(&Reserved::Committed) && view.parcels.has(&Booked::Released);
        let (done, stock) = (view.saga.phase == Phase::Done, view.goods.stock);
        done && view.is_confirmed() && view.money.is_taken() && left && (stock.on_hand, stock.reserved) == (0, 0)
    }),
    ("end: failed, and nothing is held", |view| view.is_undone() && view.order.status == Status::Failed && view.nothing_is_held()),
    ("end: cancelled, and nothing is held", |view| {
        view.is_undone() && view.order.status == Status::Cancelled && view.nothing_is_held()
    }),
    ("end: a person is told that the provider gives nothing back, and nothing else is held", |view| {
        let turned_back = matches!(view.order.status, Status::Compensating | Status::Cancelling);
        let told = view.saga.stuck && view.has_step(StepState::UndoRefused) && view.money.is_refused();
        told && turned_back && view.goods.holds_nothing() && view.parcels.holds_nothing()
    }),
];

pub(super) const NO_END: &str = "where all that was said is heard and no call is open, order, payment, stock and shipment agree";
pub(super) const IS_FINITE: &str = "the model has an end within its bounds";

type Step = fn(View<'_>, What, View<'_>) -> bool;

/// What must be possible, else the model did not test what it should: each is a step from one state to the next.
pub(super) const SOMETIMES: &[(&str, Step)] = &[
    ("undone: the money was refused", |_, _, after| {
        after.is_undone() && after.was_refused(&["ChargePayment", "AuthorizePayment", "CapturePayment"])
    }),
    ("undone: out of stock", |_, _, after| after.is_undone() && after.was_refused(&["ReserveStock"])),
    ("undone: no carrier takes it", |_, _, after| after.is_undone() && after.was_refused(&["ScheduleShipment"])),
    ("undone: the confirmation was refused, for a cancel", |_, _, after| {
        after.is_undone() && after.was_refused(&["ConfirmOrder"]) && after.order.status == Status::Cancelled
    }),
    ("the cancel came before the saga began", |before, what, after| {
        what == What::Move(Move::Cancel) && before.order.status == Status::Pending && after.order.status == Status::Cancelling
    }),
    ("the cancel came while the confirmation was asked", |before, _, after| {
        before.asks("ConfirmOrder") && after.saga.cause == Some(Cause::Cancelled)
    }),
    ("the cancel came after the saga had turned back", |before, what, _| {
        what == What::Move(Move::Cancel) && before.saga.phase != Phase::Forward
    }),
    ("asked again, since nobody answered", |before, _, after| after.saga.resent > before.saga.resent),
    ("a person is told that nobody answers", |before, what, after| {
        what == What::Move(Move::Deadline) && after.saga.stuck && !before.saga.stuck
    }),
    ("a person is told that nobody knows", |before, what, after| {
        matches!(what, What::Message(Message::Unknown(_))) && after.saga.stuck && !before.saga.stuck
    }),
    ("what was unknown became known", |before, what, after| {
        matches!(what, What::Move(Move::Yes | Move::No)) && before.money.is_unknown() && !after.money.is_unknown()
    }),
    ("the provider did it, and the answer was lost", |before, _, after| after.money.is_lost() && !before.money.is_lost()),
    ("a call was withdrawn before it went out", |before, _, after| after.money.is_withdrawn() && !before.money.is_withdrawn()),
    ("an undo of money came before its command", |before, _, after| {
        before.money.state().is_none() && after.money.state() == Some(Paid::Voided)
    }),
    ("an undo of stock came before its command", |before, _, after| {
        before.goods.rows.is_empty() && after.goods.has(&Reserved::Voided)
    }),
    ("an undo of a shipment came before its command", |before, _, after| {
        before.parcels.rows.is_empty() && after.parcels.has(&Booked::Voided)
    }),
    ("a command met the mark of its undo", |before, what, after| {
        let name = |command: Command| command.name(&before.model.definition);
        let reserves = matches!(what, What::Message(Message::Ask(command)) if name(command) == "ReserveStock");
        reserves && before.goods.has(&Reserved::Voided) && after.sent != before.sent
    }),
    ("the provider refused a refund, and gave it when a person had it asked again", |before, what, after| {
        let again = |command: Command| matches!(command, Command::Undo { attempt, .. } if attempt > Command::FIRST_ATTEMPT);
        matches!(what, What::Message(Message::Done(command)) if again(command)) && after.saga.phase != before.saga.phase
    }),
];
