//! Where a shipment stands and what an ask comes to. Pure.

use contracts::{DISCARDED, common::v1::Line};
use uuid::Uuid;

use crate::error::Refusal;

/// The SKU that no carrier takes.
const UNSHIPPABLE_SKU: &str = "SKU-UNSHIPPABLE";
const UNSHIPPABLE: &str = "UNSHIPPABLE";
const VOIDED: &str = "VOIDED";

/// Where a shipment stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Booked; leaves only when the order completes.
    Held,
    /// May leave.
    Released,
    /// Has left.
    Dispatched,
    /// Has arrived.
    Delivered,
    Cancelled,
    /// With the reason.
    Refused(String),
    /// Its undo came first: a mark that refuses the command.
    Voided,
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Released => "RELEASED",
            Self::Dispatched => "DISPATCHED",
            Self::Delivered => "DELIVERED",
            Self::Cancelled => "CANCELLED",
            Self::Refused(_) => "REFUSED",
            Self::Voided => "VOIDED",
        }
    }

    pub(crate) fn named(name: &str, reason: Option<String>) -> Option<Self> {
        match (name, reason) {
            ("HELD", None) => Some(Self::Held),
            ("RELEASED", None) => Some(Self::Released),
            ("DISPATCHED", None) => Some(Self::Dispatched),
            ("DELIVERED", None) => Some(Self::Delivered),
            ("CANCELLED", None) => Some(Self::Cancelled),
            ("REFUSED", Some(reason)) => Some(Self::Refused(reason)),
            ("VOIDED", None) => Some(Self::Voided),
            _ => None,
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::Held | Self::Released | Self::Dispatched | Self::Delivered | Self::Cancelled | Self::Voided => None,
        }
    }

    /// The order completed: there is no way back.
    pub(crate) fn is_released(&self) -> bool {
        matches!(self, Self::Released | Self::Dispatched | Self::Delivered)
    }
}

/// What one ScheduleShipment led to. Its answer is kept here and said again when it is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shipment {
    pub customer: String,
    pub command: Uuid,
    pub state: State,
    pub lines: Vec<Line>,
    pub undone_by: Option<Uuid>,
    /// The carrier's; empty before it has left, and where there is none.
    pub tracking_number: String,
}

impl Shipment {
    fn new(customer: &str, command: Uuid, state: State, lines: &[Line]) -> Self {
        let (customer, lines) = (customer.to_owned(), lines.to_vec());
        Self { customer, command, state, lines, undone_by: None, tracking_number: String::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Schedule {
        customer: String,
        command: Uuid,
        lines: Vec<Line>,
    },
    Cancel {
        customer: String,
        command: Uuid,
        undoes: Uuid,
    },
    /// A person gave the Schedule up.
    Refuse {
        customer: String,
        command: Uuid,
    },
    /// The order completed.
    Release,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Scheduled,
    /// With the reason.
    Failed(String),
    Cancelled,
    Nothing,
}

/// What an ask comes to: the row as it is to be, `None` if it stays as it is, and what is said.
pub type Turn = (Option<Shipment>, Said);

pub fn settle(standing: Option<&Shipment>, ask: &Ask) -> Result<Turn, Refusal> {
    use State::{Cancelled, Delivered, Dispatched, Held, Refused, Released, Voided};

    match (standing.map(|row| (&row.state, row)), ask) {
        (None, Ask::Schedule { customer, command, lines }) => {
            let (state, said) = match lines.iter().any(|line| line.sku == UNSHIPPABLE_SKU) {
                true => (Refused(UNSHIPPABLE.to_owned()), Said::Failed(UNSHIPPABLE.to_owned())),
                false => (Held, Said::Scheduled),
            };
            Ok((Some(Shipment::new(customer, *command, state, lines)), said))
        }
        // The mark that refuses the Schedule, should it come again.
        (None, Ask::Refuse { customer, command }) => {
            let row = Shipment::new(customer, *command, Refused(DISCARDED.to_owned()), &[]);
            Ok((Some(row), Said::Failed(DISCARDED.to_owned())))
        }
        (Some((Held | Released | Dispatched | Delivered | Cancelled, _)), Ask::Schedule { .. } | Ask::Refuse { .. }) => {
            Ok((None, Said::Scheduled))
        }
        (Some((Refused(reason), _)), Ask::Schedule { .. } | Ask::Refuse { .. }) => Ok((None, Said::Failed(reason.clone()))),
        (Some((Voided, _)), Ask::Schedule { .. } | Ask::Refuse { .. }) => Ok((None, Said::Failed(VOIDED.to_owned()))),

        (None, Ask::Cancel { customer, command, undoes }) => {
            let mark = Shipment { undone_by: Some(*command), ..Shipment::new(customer, *undoes, Voided, &[]) };
            Ok((Some(mark), Said::Cancelled))
        }
        (Some((Held, row)), Ask::Cancel { command, .. }) => {
            Ok((Some(Shipment { state: Cancelled, undone_by: Some(*command), ..row.clone() }), Said::Cancelled))
        }
        (Some((Cancelled | Refused(_) | Voided, _)), Ask::Cancel { .. }) => Ok((None, Said::Cancelled)),
        // The saga undoes nothing after its pivot, and the parcel may be on its way.
        (Some((Released | Dispatched | Delivered, _)), Ask::Cancel { .. }) => Err(Refusal::Released),

        (None, Ask::Release) => Err(Refusal::NotYet),
        (Some((Held, row)), Ask::Release) => Ok((Some(Shipment { state: Released, ..row.clone() }), Said::Nothing)),
        (Some((Released | Dispatched | Delivered, _)), Ask::Release) => Ok((None, Said::Nothing)),
        (Some((Cancelled | Refused(_) | Voided, _)), Ask::Release) => Err(Refusal::Undone),
    }
}

/// What a person says of a shipment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Dispatched { tracking_number: String },
    Delivered,
}

/// The row as it is to be; `None` if that was said before.
pub(crate) fn mark(row: &Shipment, mark: &Mark) -> Result<Option<Shipment>, Refusal> {
    use State::{Cancelled, Delivered, Dispatched, Held, Refused, Released, Voided};

    match (&row.state, mark) {
        (Released, Mark::Dispatched { tracking_number }) => {
            Ok(Some(Shipment { state: Dispatched, tracking_number: tracking_number.clone(), ..row.clone() }))
        }
        (Dispatched | Delivered, Mark::Dispatched { tracking_number }) if *tracking_number == row.tracking_number => Ok(None),
        (Dispatched | Delivered, Mark::Dispatched { .. }) => {
            Err(Refusal::DispatchedOtherwise { tracking_number: row.tracking_number.clone() })
        }
        (Dispatched, Mark::Delivered) => Ok(Some(Shipment { state: Delivered, ..row.clone() })),
        (Delivered, Mark::Delivered) => Ok(None),
        (Released, Mark::Delivered) => Err(Refusal::NotDispatched),
        (Held | Cancelled | Refused(_) | Voided, Mark::Dispatched { .. } | Mark::Delivered) => {
            Err(Refusal::NotReleased { state: row.state.name() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DO: Uuid = Uuid::from_u128(1);
    const UNDO: Uuid = Uuid::from_u128(2);

    const RELEASED: [State; 3] = [State::Released, State::Dispatched, State::Delivered];

    fn schedule(sku: &str) -> Ask {
        let lines = vec![Line { sku: "SKU-123".to_owned(), quantity: 1 }, Line { sku: sku.to_owned(), quantity: 2 }];
        Ask::Schedule { customer: "c".to_owned(), command: DO, lines }
    }

    fn cancel() -> Ask {
        Ask::Cancel { customer: "c".to_owned(), command: UNDO, undoes: DO }
    }

    fn refused() -> State {
        State::Refused(UNSHIPPABLE.to_owned())
    }

    fn row(state: State) -> Shipment {
        Shipment::new("c", DO, state, &[])
    }

    fn turn(standing: Option<State>, ask: &Ask) -> Result<(Option<State>, Said), Refusal> {
        let (row, said) = settle(standing.map(row).as_ref(), ask)?;
        Ok((row.map(|row| row.state), said))
    }

    #[test]
    fn a_shipment_is_held_unless_no_carrier_takes_it() {
        assert_eq!(turn(None, &schedule("prod-A")), Ok((Some(State::Held), Said::Scheduled)));
        assert_eq!(turn(None, &schedule(UNSHIPPABLE_SKU)), Ok((Some(refused()), Said::Failed(UNSHIPPABLE.to_owned()))));
    }

    #[test]
    fn a_command_asked_again_gets_its_answer_again() {
        for state in [State::Held, State::Released, State::Dispatched, State::Delivered, State::Cancelled] {
            assert_eq!(turn(Some(state), &schedule("prod-A")), Ok((None, Said::Scheduled)));
        }
        assert_eq!(turn(Some(refused()), &schedule("prod-A")), Ok((None, Said::Failed(UNSHIPPABLE.to_owned()))));
    }

    #[test]
    fn an_undo_before_its_command_refuses_the_command() {
        let (mark, said) = settle(None, &cancel()).unwrap();
        let mark = mark.unwrap();
        assert_eq!((&mark.state, mark.command, mark.undone_by, said), (&State::Voided, DO, Some(UNDO), Said::Cancelled));
        assert_eq!(turn(Some(State::Voided), &schedule("prod-A")), Ok((None, Said::Failed(VOIDED.to_owned()))));
    }

    #[test]
    fn a_command_that_was_given_up_is_refused_ever_after() {
        let give_up = Ask::Refuse { customer: "c".to_owned(), command: DO };
        let discarded = || State::Refused(DISCARDED.to_owned());
        assert_eq!(turn(None, &give_up), Ok((Some(discarded()), Said::Failed(DISCARDED.to_owned()))));
        assert_eq!(turn(Some(discarded()), &schedule("prod-A")), Ok((None, Said::Failed(DISCARDED.to_owned()))));
        assert_eq!(turn(Some(discarded()), &cancel()), Ok((None, Said::Cancelled)));
        assert_eq!(turn(Some(State::Held), &give_up), Ok((None, Said::Scheduled)), "it was done before");
    }

    #[test]
    fn an_undo_cancels_what_is_held_and_is_answered_again() {
        let (row, said) = settle(Some(&row(State::Held)), &cancel()).unwrap();
        assert_eq!(row.map(|row| (row.state, row.undone_by)), Some((State::Cancelled, Some(UNDO))));
        assert_eq!(said, Said::Cancelled);
        for state in [State::Cancelled, refused(), State::Voided] {
            assert_eq!(turn(Some(state), &cancel()), Ok((None, Said::Cancelled)));
        }
        for state in RELEASED {
            assert_eq!(turn(Some(state), &cancel()), Err(Refusal::Released));
        }
    }

    #[test]
    fn a_completed_order_releases_once() {
        assert_eq!(turn(Some(State::Held), &Ask::Release), Ok((Some(State::Released), Said::Nothing)));
        for state in RELEASED {
            assert_eq!(turn(Some(state), &Ask::Release), Ok((None, Said::Nothing)));
        }
    }

    #[test]
    fn a_completed_order_without_its_shipment_waits_or_is_an_alarm() {
        assert_eq!(turn(None, &Ask::Release), Err(Refusal::NotYet));
        for state in [State::Cancelled, refused(), State::Voided] {
            assert_eq!(turn(Some(state), &Ask::Release), Err(Refusal::Undone));
        }
    }

    fn dispatched(tracking_number: &str) -> Mark {
        Mark::Dispatched { tracking_number: tracking_number.to_owned() }
    }

    #[test]
    fn a_released_shipment_leaves_and_arrives_once() {
        let gone = mark(&row(State::Released), &dispatched("T-1")).unwrap().unwrap();
        assert_eq!((&gone.state, gone.tracking_number.as_str()), (&State::Dispatched, "T-1"));
        let there = mark(&gone, &Mark::Delivered).unwrap().unwrap();
        assert_eq!((&there.state, there.tracking_number.as_str()), (&State::Delivered, "T-1"));
        for row in [&gone, &there] {
            assert_eq!(mark(row, &dispatched("T-1")), Ok(None), "it was said before");
            let otherwise = Refusal::DispatchedOtherwise { tracking_number: "T-1".to_owned() };
            assert_eq!(mark(row, &dispatched("T-2")), Err(otherwise));
        }
        assert_eq!(mark(&there, &Mark::Delivered), Ok(None), "it was said before");
    }

    #[test]
    fn nothing_leaves_before_it_is_released_nor_arrives_before_it_has_left() {
        for state in [State::Held, State::Cancelled, refused(), State::Voided] {
            for said in [dispatched(""), Mark::Delivered] {
                assert_eq!(mark(&row(state.clone()), &said), Err(Refusal::NotReleased { state: state.name() }));
            }
        }
        assert_eq!(mark(&row(State::Released), &Mark::Delivered), Err(Refusal::NotDispatched));
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in [State::Held, State::Cancelled, refused(), State::Voided].into_iter().chain(RELEASED) {
            assert_eq!(State::named(state.name(), state.reason().map(str::to_owned)), Some(state));
        }
        assert_eq!(State::named("REFUSED", None), None);
    }
}
