//! The model checker over the rules that run in production: [`saga::next()`], and those of the order, the stock, the shipments and the
//! payment, as the services apply them.
//!
//! [`saga::explore`] walks any definition, with people who retry, skip and pause, among participants that are written there anew. Here it is
//! the services' own rules that are walked, in the checkouts of the shop: [`explore()`] visits every state within its [`Bounds`], breadth
//! first, so that the way to what is broken is the shortest there is.
//!
//! - **Messages** are a set that only grows: any of them may arrive late, out of order, again, or never; what is asked again is among them
//!   already. Progress, rows and news are one transaction, so a crash before it is a message that comes later, and one after it a message
//!   that comes again. Only that its saga has begun does an order read before all else of its saga: that opens its stream.
//! - **The provider** does a call of one key once. It may refuse, its answer may get lost, and its outcome may be unknown until later. A call
//!   that is undone before it was sent is withdrawn. What a payment goes through beyond that, its own walk visits (`services/payment`).
//! - **The customer** cancels at any moment, and deadlines pass at any moment. The last piece may be sold, and the parcel be one that no
//!   carrier takes. A person retries what is refused.

use inventory::reservation::{self, Reservation, Shelf};
use order::order::{self as orders, NotCancellable, Status};
use payment::payment::{self as payments, Opening, Payment, Refund, Undecided};
use saga::{
    Command, Definition, Input, Progress,
    explore::{Counterexample, Report},
};
use shipping::shipment::{self, Shipment};
use uuid::Uuid;

mod arbiter;
mod asker;
mod goods;
mod messages;
mod money;
mod parcels;
mod properties;
mod rows;
#[cfg(test)]
mod tests;
mod walk;

/// Of any saga: ids only have to differ from one another.
const SAGA: Uuid = Uuid::from_u128(1);

/// What keeps the model finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How often the saga asks again by itself; stands in for [`Definition::resends_max`].
    pub resends_max: u8,
    /// How often a person has it ask again.
    pub retries_max: u8,
    /// More states than this are taken for a model without an end.
    pub states_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { resends_max: 1, retries_max: 1, states_max: 2_000_000 }
    }
}

type Next = fn(&Definition, Progress, Input) -> (Progress, Vec<Command>);
type Arbitrate = fn(Status, orders::Input) -> Result<(Status, orders::Said), NotCancellable>;
type Reserve = fn(Option<&Reservation>, &reservation::Ask, Shelf<'_>) -> Result<reservation::Turn, inventory::Refusal>;
type Book = fn(Option<&Shipment>, &shipment::Ask) -> Result<shipment::Turn, shipping::Refusal>;
type Pay = fn(&Opening<'_>, Option<&Payment>, Option<&Refund>, &payments::Input) -> Result<payments::Step, Undecided>;

/// The rules that are walked.
#[derive(Clone, Copy, Debug)]
struct Rules {
    next: Next,
    order: Arbitrate,
    stock: Reserve,
    shipment: Book,
    payment: Pay,
    /// A cancel is decided on the row as it is when it is written. Production's is.
    cancels_what_it_sees: bool,
}

const PRODUCTION: Rules = Rules {
    next: saga::next,
    order: orders::next,
    stock: reservation::settle,
    shipment: shipment::settle,
    payment: payments::step,
    cancels_what_it_sees: true,
};

/// The definitions that settle an order, which are those that can be walked here.
pub fn checkouts() -> impl Iterator<Item = &'static Definition> {
    orchestrator::DEFINITIONS.iter().filter(|known| known.close == "CloseOrder")
}

/// Visits every state there is.
#[must_use]
pub fn explore(definition: &Definition, bounds: &Bounds) -> Report {
    explore_with(definition, bounds, PRODUCTION)
}

fn explore_with(definition: &Definition, bounds: &Bounds, rules: Rules) -> Report {
    let definition = Definition { resends_max: bounds.resends_max, ..*definition };
    let model = Model { definition, bounds: *bounds, rules };
    match model.misfit() {
        None => walk::walk(&model),
        Some(misfit) => {
            let violation = Counterexample { property: misfit, path: Vec::new(), end: definition.name.to_owned() };
            Report { states: 0, transitions: 0, reached: Vec::new(), violation: Some(violation) }
        }
    }
}

struct Model {
    definition: Definition,
    bounds: Bounds,
    rules: Rules,
}

impl Model {
    /// A command that nobody here would hear.
    fn misfit(&self) -> Option<&'static str> {
        let known = |command: Command| messages::addressee(&self.definition, command).is_some();
        let has = |name| self.first(name).is_some();
        let needed = has("ReserveStock")
            && has("ScheduleShipment")
            && has("ConfirmOrder")
            && (has("ChargePayment") || has("CapturePayment"));
        (!needed || !self.commands().all(known)).then_some("the model knows who hears each command of the definition")
    }

    fn id(&self, command: Command) -> Uuid {
        command.id(&self.definition, SAGA)
    }

    /// What an undo takes back, as it names it.
    fn undone_by(&self, command: Command) -> Option<Uuid> {
        match command {
            Command::Undo { step, .. } => Some(self.id(Command::Do { step, attempt: Command::FIRST_ATTEMPT })),
            Command::Do { .. } | Command::Close { .. } => None,
        }
    }

    /// The first attempt of the step that asks this.
    fn first(&self, name: &str) -> Option<Command> {
        let step = self.definition.steps.iter().position(|step| step.command == name)?;
        Some(Command::Do { step, attempt: Command::FIRST_ATTEMPT })
    }

    fn commands(&self) -> impl Iterator<Item = Command> {
        let attempts = Command::FIRST_ATTEMPT..=Command::FIRST_ATTEMPT.saturating_add(self.bounds.retries_max);
        attempts.flat_map(move |attempt| {
            let steps = 0..self.definition.steps.len();
            let undos = steps.clone().filter(move |step| self.definition.undo_of(*step).is_some());
            let dos = steps.map(move |step| Command::Do { step, attempt });
            dos.chain(undos.map(move |step| Command::Undo { step, attempt })).chain([Command::Close { attempt }])
        })
    }

    fn named(&self, id: Uuid) -> Option<Command> {
        self.commands().find(|command| self.id(*command) == id)
    }
}
