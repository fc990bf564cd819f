//! The stock, one piece of it, and what the order has set aside.

use std::collections::BTreeMap;

use contracts::common::v1::Line;
use inventory::{
    Refusal,
    reservation::{Ask, Reservation, Said, State},
    stock::Stock,
};
use saga::Command;
use uuid::Uuid;

use super::{
    Model,
    messages::{Message, Move, What},
    rows::{Heard, Participant},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Goods {
    /// By the command that they answer.
    pub(super) rows: BTreeMap<Uuid, Reservation>,
    pub(super) stock: Stock,
}

impl Goods {
    pub(super) fn new() -> Self {
        Self { rows: BTreeMap::new(), stock: Stock { on_hand: 1, ..Stock::default() } }
    }

    pub(super) fn has(&self, wanted: &State) -> bool {
        self.rows.values().any(|row| row.state == *wanted)
    }

    /// Of all reservations: none is held, nor did any take a piece.
    pub(super) fn holds_nothing(&self) -> bool {
        self.stock.reserved == 0 && !self.has(&State::Held) && !self.has(&State::Committed)
    }

    fn settled(&self, model: &Model, key: Uuid, ask: &Ask, answers: Option<Command>) -> Heard<Self> {
        let mut after = self.clone();
        match (model.rules.stock)(self.rows.get(&key), ask, &|_: &str| Some(self.stock)) {
            Ok(turn) => {
                after.rows.extend(turn.row.map(|row| (key, row)));
                after.stock = turn.stock.last().map_or(after.stock, |(_, stock)| *stock);
                let says = answers.zip(answer(&turn.said)).map(|(command, says)| says(command));
                Heard::says(after, says)
            }
            // It waits, and is tried again.
            Err(Refusal::NotYet) => Heard::says(after, []),
            Err(_) => Heard::says(after, []).with_flaw(Some("inventory is never told what cannot be")),
        }
    }
}

fn answer(said: &Said) -> Option<fn(Command) -> Message> {
    match said {
        Said::Reserved(_) | Said::Released => Some(Message::Done),
        Said::Failed(_) => Some(Message::Refused),
        Said::Nothing => None,
    }
}

impl Participant for Goods {
    fn hear(&self, model: &Model, what: What) -> Heard<Self> {
        match what {
            What::Message(Message::Ask(command)) => {
                let id = model.id(command);
                let (key, ask) = match model.undone_by(command) {
                    Some(undoes) => (undoes, Ask::Release { command: id, undoes }),
                    None => (id, Ask::Reserve { command: id, lines: vec![Line { sku: "one".to_owned(), quantity: 1 }] }),
                };
                self.settled(model, key, &ask, Some(command))
            }
            // The order completed.
            What::Message(Message::Done(_)) => match model.first("ReserveStock") {
                Some(command) => self.settled(model, model.id(command), &Ask::Commit, None),
                None => Heard::says(self.clone(), []),
            },
            What::Move(Move::SoldOut) if self.rows.is_empty() => Heard::says(Self { stock: Stock::default(), ..self.clone() }, []),
            What::Message(_) | What::Move(_) => Heard::says(self.clone(), []),
        }
    }

    fn told(&self) -> String {
        let rows: Vec<String> = self.rows.values().map(|row| format!("{}, ", row.state.name())).collect();
        format!("{}{} on hand, {} reserved", rows.concat(), self.stock.on_hand, self.stock.reserved)
    }
}
