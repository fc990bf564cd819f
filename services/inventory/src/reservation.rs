//! Reservations of stock: what an ask comes to. Pure.

use std::collections::BTreeMap;

use contracts::{DISCARDED, common::v1::Line};
use uuid::Uuid;

use crate::{error::Refusal, stock::Stock};

const OUT_OF_STOCK: &str = "OUT_OF_STOCK";
const UNKNOWN_SKU: &str = "UNKNOWN_SKU";
const VOIDED: &str = "VOIDED";

/// Why nothing was set aside, and the first line that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct No {
    pub reason: String,
    pub sku: String,
}

impl No {
    fn new(reason: &str, sku: &str) -> Self {
        Self { reason: reason.to_owned(), sku: sku.to_owned() }
    }
}

/// Where a reservation stands. Only HELD changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Held,
    /// The order completed; the pieces have left.
    Committed,
    Released,
    Refused(No),
    /// Its undo came first: a mark that refuses the command.
    Voided,
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Committed => "COMMITTED",
            Self::Released => "RELEASED",
            Self::Refused(_) => "REFUSED",
            Self::Voided => "VOIDED",
        }
    }

    pub(crate) fn named(name: &str, no: Option<No>) -> Option<Self> {
        match (name, no) {
            ("HELD", None) => Some(Self::Held),
            ("COMMITTED", None) => Some(Self::Committed),
            ("RELEASED", None) => Some(Self::Released),
            ("REFUSED", Some(no)) => Some(Self::Refused(no)),
            ("VOIDED", None) => Some(Self::Voided),
            _ => None,
        }
    }

    pub(crate) fn no(&self) -> Option<&No> {
        match self {
            Self::Refused(no) => Some(no),
            Self::Held | Self::Committed | Self::Released | Self::Voided => None,
        }
    }
}

/// What one ReserveStock led to. Its answer is kept here and said again when it is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    pub command: Uuid,
    pub state: State,
    pub lines: Vec<Line>,
    pub undone_by: Option<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Reserve {
        command: Uuid,
        lines: Vec<Line>,
    },
    Release {
        command: Uuid,
        undoes: Uuid,
    },
    /// A person gave the Reserve up.
    Refuse {
        command: Uuid,
    },
    /// The order completed.
    Commit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Reserved(Vec<Line>),
    Failed(No),
    Released,
    Nothing,
}

/// What an ask comes to: what is written, and what is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// `None` leaves the row as it is.
    pub row: Option<Reservation>,
    pub stock: Vec<(String, Stock)>,
    pub said: Said,
}

impl Turn {
    fn to(row: Reservation, stock: Vec<(String, Stock)>, said: Said) -> Self {
        Self { row: Some(row), stock, said }
    }

    fn again(said: Said) -> Self {
        Self { row: None, stock: Vec::new(), said }
    }
}

/// Looks up the stock of a SKU; `None` if nobody knows it.
pub type Shelf<'a> = &'a dyn Fn(&str) -> Option<Stock>;

pub fn settle(standing: Option<&Reservation>, ask: &Ask, shelf: Shelf<'_>) -> Result<Turn, Refusal> {
    use State::{Committed, Held, Refused, Released, Voided};

    let unbalanced = |no: No| Refusal::Unbalanced { sku: no.sku };
    match (standing.map(|row| (&row.state, row)), ask) {
        (None, Ask::Reserve { command, lines }) => {
            let row = |state| Reservation { command: *command, state, lines: lines.clone(), undone_by: None };
            Ok(match moved(lines, shelf, Stock::hold) {
                Ok(stock) => Turn::to(row(Held), stock, Said::Reserved(lines.clone())),
                Err(no) => Turn::to(row(Refused(no.clone())), Vec::new(), Said::Failed(no)),
            })
        }
        // The mark that refuses the Reserve, should it come again.
        (None, Ask::Refuse { command }) => {
            let no = No::new(DISCARDED, "");
            let row = Reservation { command: *command, state: Refused(no.clone()), lines: Vec::new(), undone_by: None };
            Ok(Turn::to(row, Vec::new(), Said::Failed(no)))
        }
        (Some((Held | Committed | Released, row)), Ask::Reserve { .. } | Ask::Refuse { .. }) => {
            Ok(Turn::again(Said::Reserved(row.lines.clone())))
        }
        (Some((Refused(no), _)), Ask::Reserve { .. } | Ask::Refuse { .. }) => Ok(Turn::again(Said::Failed(no.clone()))),
        (Some((Voided, _)), Ask::Reserve { .. } | Ask::Refuse { .. }) => Ok(Turn::again(Said::Failed(No::new(VOIDED, "")))),

        (None, Ask::Release { command, undoes }) => {
            let row = Reservation { command: *undoes, state: Voided, lines: Vec::new(), undone_by: Some(*command) };
            Ok(Turn::to(row, Vec::new(), Said::Released))
        }
        (Some((Held, row)), Ask::Release { command, .. }) => {
            let stock = moved(&row.lines, shelf, Stock::give_back).map_err(unbalanced)?;
            let row = Reservation { state: Released, undone_by: Some(*command), ..row.clone() };
            Ok(Turn::to(row, stock, Said::Released))
        }
        (Some((Released | Refused(_) | Voided, _)), Ask::Release { .. }) => Ok(Turn::again(Said::Released)),
        // The saga undoes nothing after its pivot, and the pieces are not there to give back.
        (Some((Committed, _)), Ask::Release { .. }) => Err(Refusal::Committed),

        (None, Ask::Commit) => Err(Refusal::NotYet),
        (Some((Held, row)), Ask::Commit) => {
            let stock = moved(&row.lines, shelf, Stock::hand_out).map_err(unbalanced)?;
            Ok(Turn::to(Reservation { state: Committed, ..row.clone() }, stock, Said::Nothing))
        }
        (Some((Committed, _)), Ask::Commit) => Ok(Turn::again(Said::Nothing)),
        (Some((Released | Refused(_) | Voided, _)), Ask::Commit) => Err(Refusal::Undone),
    }
}

/// The stock of all lines after a step, or the first line that cannot take it. A SKU may come more than once.
fn moved(lines: &[Line], shelf: Shelf<'_>, step: fn(Stock, i64) -> Option<Stock>) -> Result<Vec<(String, Stock)>, No> {
    let mut after: BTreeMap<&str, Stock> = BTreeMap::new();
    for Line { sku, quantity } in lines {
        let before = after.get(sku.as_str()).copied().or_else(|| shelf(sku)).ok_or_else(|| No::new(UNKNOWN_SKU, sku))?;
        if before.unstocked {
            continue;
        }
        let next = step(before, i64::from(*quantity)).ok_or_else(|| No::new(OUT_OF_STOCK, sku))?;
        after.insert(sku, next);
    }
    Ok(after.into_iter().map(|(sku, stock)| (sku.to_owned(), stock)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DO: Uuid = Uuid::from_u128(1);
    const UNDO: Uuid = Uuid::from_u128(2);

    fn line(sku: &str, quantity: i32) -> Line {
        Line { sku: sku.to_owned(), quantity }
    }

    fn pieces(on_hand: i64, reserved: i64) -> Stock {
        Stock { on_hand, reserved, unstocked: false }
    }

    fn stock(sku: &str, on_hand: i64, reserved: i64) -> (String, Stock) {
        (sku.to_owned(), pieces(on_hand, reserved))
    }

    /// 10 of `a` with 4 reserved, 2 of `b`, none of `empty`; `amount` is not counted.
    fn shelf(sku: &str) -> Option<Stock> {
        match sku {
            "a" => Some(pieces(10, 4)),
            "b" => Some(pieces(2, 0)),
            "empty" => Some(Stock::default()),
            "amount" => Some(Stock { unstocked: true, ..Stock::default() }),
            _ => None,
        }
    }

    fn reserve(lines: &[Line]) -> Ask {
        Ask::Reserve { command: DO, lines: lines.to_vec() }
    }

    fn release() -> Ask {
        Ask::Release { command: UNDO, undoes: DO }
    }

    fn row(state: State) -> Reservation {
        Reservation { command: DO, state, lines: vec![line("a", 3)], undone_by: None }
    }

    fn out_of_stock() -> No {
        No::new(OUT_OF_STOCK, "a")
    }

    fn said(standing: &State, ask: &Ask) -> Said {
        let turn = settle(Some(&row(standing.clone())), ask, &shelf).unwrap();
        assert_eq!((turn.row, turn.stock), (None, Vec::new()), "{standing:?} {ask:?} changes nothing");
        turn.said
    }

    #[test]
    fn all_lines_are_set_aside() {
        let turn = settle(None, &reserve(&[line("b", 2), line("a", 6)]), &shelf).unwrap();
        assert_eq!(turn.stock, [stock("a", 10, 10), stock("b", 2, 2)]);
        assert_eq!(turn.row.map(|row| row.state), Some(State::Held));
        assert_eq!(turn.said, Said::Reserved(vec![line("b", 2), line("a", 6)]));
    }

    #[test]
    fn or_none_and_the_first_that_could_not_be_had_is_named() {
        for (lines, reason, sku) in [
            (vec![line("b", 1), line("a", 7), line("gone", 1)], OUT_OF_STOCK, "a"),
            (vec![line("b", 1), line("gone", 1), line("a", 7)], UNKNOWN_SKU, "gone"),
            (vec![line("empty", 1)], OUT_OF_STOCK, "empty"),
            (vec![line("b", 1), line("b", 2)], OUT_OF_STOCK, "b"),
        ] {
            let turn = settle(None, &reserve(&lines), &shelf).unwrap();
            let no = No::new(reason, sku);
            assert!(turn.stock.is_empty(), "{lines:?}");
            assert_eq!(turn.row.map(|row| row.state), Some(State::Refused(no.clone())));
            assert_eq!(turn.said, Said::Failed(no));
        }
    }

    #[test]
    fn a_command_asked_again_gets_its_answer_again() {
        let again = reserve(&[line("a", 3)]);
        for state in [State::Held, State::Committed, State::Released] {
            assert_eq!(said(&state, &again), Said::Reserved(vec![line("a", 3)]));
        }
        assert_eq!(said(&State::Refused(out_of_stock()), &again), Said::Failed(out_of_stock()));
    }

    #[test]
    fn a_command_that_was_given_up_is_refused_ever_after() {
        let (give_up, no) = (Ask::Refuse { command: DO }, No::new(DISCARDED, ""));
        let turn = settle(None, &give_up, &shelf).unwrap();
        assert_eq!((turn.row.map(|row| row.state), turn.stock), (Some(State::Refused(no.clone())), Vec::new()));
        assert_eq!(said(&State::Refused(no.clone()), &reserve(&[line("a", 3)])), Said::Failed(no.clone()));
        assert_eq!(said(&State::Refused(no), &release()), Said::Released);
        assert_eq!(said(&State::Held, &give_up), Said::Reserved(vec![line("a", 3)]), "it was done before");
    }

    #[test]
    fn an_undo_before_its_command_refuses_the_command() {
        let turn = settle(None, &release(), &shelf).unwrap();
        let mark = turn.row.unwrap();
        assert_eq!((&mark.state, mark.command, mark.undone_by), (&State::Voided, DO, Some(UNDO)));
        assert_eq!(turn.said, Said::Released);
        assert_eq!(said(&State::Voided, &reserve(&[line("a", 3)])), Said::Failed(No::new(VOIDED, "")));
    }

    #[test]
    fn an_undo_gives_back_what_is_held_once() {
        let turn = settle(Some(&row(State::Held)), &release(), &shelf).unwrap();
        assert_eq!(turn.stock, [stock("a", 10, 1)]);
        assert_eq!(turn.row.map(|row| (row.state, row.undone_by)), Some((State::Released, Some(UNDO))));
        for state in [State::Released, State::Refused(out_of_stock()), State::Voided] {
            assert_eq!(said(&state, &release()), Said::Released);
        }
        assert_eq!(settle(Some(&row(State::Committed)), &release(), &shelf), Err(Refusal::Committed));
    }

    #[test]
    fn a_completed_order_takes_what_is_held_once() {
        let turn = settle(Some(&row(State::Held)), &Ask::Commit, &shelf).unwrap();
        assert_eq!(turn.stock, [stock("a", 7, 1)]);
        assert_eq!(turn.row.map(|row| row.state), Some(State::Committed));
        assert_eq!(turn.said, Said::Nothing);
        assert_eq!(said(&State::Committed, &Ask::Commit), Said::Nothing);
    }

    #[test]
    fn a_completed_order_without_its_reservation_waits_or_is_an_alarm() {
        assert_eq!(settle(None, &Ask::Commit, &shelf), Err(Refusal::NotYet));
        for state in [State::Released, State::Refused(out_of_stock()), State::Voided] {
            assert_eq!(settle(Some(&row(state)), &Ask::Commit, &shelf), Err(Refusal::Undone));
        }
    }

    #[test]
    fn stock_that_does_not_hold_what_was_reserved_is_an_alarm() {
        let held = Reservation { lines: vec![line("b", 1)], ..row(State::Held) };
        for ask in [release(), Ask::Commit] {
            assert_eq!(settle(Some(&held), &ask, &shelf), Err(Refusal::Unbalanced { sku: "b".to_owned() }));
        }
    }

    #[test]
    fn what_is_not_counted_is_always_there_and_stays_as_it_is() {
        let lines = [line("amount", 10_000), line("a", 6)];
        let turn = settle(None, &reserve(&lines), &shelf).unwrap();
        assert_eq!((turn.stock, turn.said), (vec![stock("a", 10, 10)], Said::Reserved(lines.to_vec())));
        let held = Reservation { lines: vec![line("amount", 1)], ..row(State::Held) };
        for (ask, state) in [(release(), State::Released), (Ask::Commit, State::Committed)] {
            let turn = settle(Some(&held), &ask, &shelf).unwrap();
            assert_eq!((turn.stock, turn.row.map(|row| row.state)), (Vec::new(), Some(state)));
        }
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in [State::Held, State::Committed, State::Released, State::Refused(out_of_stock()), State::Voided] {
            assert_eq!(State::named(state.name(), state.no().cloned()), Some(state));
        }
        assert_eq!(State::named("REFUSED", None), None);
    }
}
