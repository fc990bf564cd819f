//! The shipments of the order.

use std::collections::BTreeMap;

use contracts::common::v1::Line;
use saga::Command;
use shipping::{
    Refusal,
    shipment::{Ask, Said, Shipment, State},
};
use uuid::Uuid;

use super::{
    Model,
    messages::{Message, Move, What},
    rows::{Heard, Participant},
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Parcels {
    /// By the command that they answer.
    pub(super) rows: BTreeMap<Uuid, Shipment>,
    unshippable: bool,
}

impl Parcels {
    pub(super) fn has(&self, wanted: &State) -> bool {
        self.rows.values().any(|row| row.state == *wanted)
    }

    pub(super) fn holds_nothing(&self) -> bool {
        !self.has(&State::Held) && !self.has(&State::Released)
    }

    fn settled(&self, model: &Model, key: Uuid, ask: &Ask, answers: Option<Command>) -> Heard<Self> {
        let mut after = self.clone();
        match (model.rules.shipment)(self.rows.get(&key), ask) {
            Ok((row, said)) => {
                after.rows.extend(row.map(|row| (key, row)));
                let says = answers.zip(answer(&said)).map(|(command, says)| says(command));
                Heard::says(after, says)
            }
            // It waits, and is tried again.
            Err(Refusal::NotYet) => Heard::says(after, []),
            Err(_) => Heard::says(after, []).with_flaw(Some("shipping is never told what cannot be")),
        }
    }
}

fn answer(said: &Said) -> Option<fn(Command) -> Message> {
    match said {
        Said::Scheduled | Said::Cancelled => Some(Message::Done),
        Said::Failed(_) => Some(Message::Refused),
        Said::Nothing => None,
    }
}

impl Participant for Parcels {
    fn hear(&self, model: &Model, what: What) -> Heard<Self> {
        let customer = || "c".to_owned();
        match what {
            What::Message(Message::Ask(command)) => {
                let id = model.id(command);
                let (key, ask) = match model.undone_by(command) {
                    Some(undoes) => (undoes, Ask::Cancel { customer: customer(), command: id, undoes }),
                    None => {
                        let sku = if self.unshippable { "SKU-UNSHIPPABLE" } else { "one" };
                        let lines = vec![Line { sku: sku.to_owned(), quantity: 1 }];
                        (id, Ask::Schedule { customer: customer(), command: id, lines })
                    }
                };
                self.settled(model, key, &ask, Some(command))
            }
            // The order completed.
            What::Message(Message::Done(_)) => match model.first("ScheduleShipment") {
                Some(command) => self.settled(model, model.id(command), &Ask::Release, None),
                None => Heard::says(self.clone(), []),
            },
            What::Move(Move::NoCarrier) if self.rows.is_empty() => Heard::says(Self { unshippable: true, ..self.clone() }, []),
            What::Message(_) | What::Move(_) => Heard::says(self.clone(), []),
        }
    }

    fn told(&self) -> String {
        let rows: Vec<&str> = self.rows.values().map(|row| row.state.name()).collect();
        if rows.is_empty() { "nothing".to_owned() } else { rows.join(", ") }
    }
}
