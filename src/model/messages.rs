//! Who there is, what they say to each other, and what else moves them.

use saga::{Command, Definition};

use super::Model;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Saga,
    Order,
    Inventory,
    Shipping,
    Payment,
    Provider,
    Customer,
    Operator,
    Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Created,
    CancelRequested,
    SagaStarted,
    Paid,
    TurnedBack,
    Ask(Command),
    Done(Command),
    Refused(Command),
    Unknown(Command),
}

/// What happens without a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Deadline,
    Retry,
    /// Somebody looks at the order, to cancel it by what he sees. Only where [`Rules`](super::Rules) cancel so.
    Look,
    Cancel,
    SoldOut,
    NoCarrier,
    /// The call that is open goes out.
    Send,
    Yes,
    /// It is done, and nobody hears of it: the call stays open.
    Lost,
    No,
    /// The provider knows nothing of a call that was withdrawn.
    Absent,
    Unknown,
}

impl Move {
    /// Whom it comes from, whom it moves, and in words.
    pub(super) const ALL: [(Self, Actor, Actor, &'static str); 12] = [
        (Self::Deadline, Actor::Clock, Actor::Saga, "a deadline passes"),
        (Self::Retry, Actor::Operator, Actor::Saga, "retry"),
        (Self::Look, Actor::Customer, Actor::Order, "looks, to cancel"),
        (Self::Cancel, Actor::Customer, Actor::Order, "cancel"),
        (Self::SoldOut, Actor::Operator, Actor::Inventory, "the last piece is gone"),
        (Self::NoCarrier, Actor::Operator, Actor::Shipping, "no carrier takes it"),
        (Self::Send, Actor::Payment, Actor::Payment, "the call goes out"),
        (Self::Yes, Actor::Provider, Actor::Payment, "yes"),
        (Self::Lost, Actor::Provider, Actor::Payment, "yes, and the answer is lost"),
        (Self::No, Actor::Provider, Actor::Payment, "no"),
        (Self::Absent, Actor::Provider, Actor::Payment, "never heard of it"),
        (Self::Unknown, Actor::Provider, Actor::Payment, "nothing, and the key is too old to ask with"),
    ];

    /// Calls go out and end by themselves; all else needs a fault, a clock, a customer or a person.
    fn is_by_itself(self) -> bool {
        matches!(self, Self::Send | Self::Yes | Self::No | Self::Absent)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Message(Message),
    Move(Move),
}

/// A message or a move, by its place: messages first.
pub(super) type Place = u8;

/// More messages than this have no room in a state.
const MESSAGES_MAX: u8 = 128;

/// All that was ever sent: a bit each, which stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sent(u128);

impl Sent {
    pub(super) fn add(&mut self, message: Place) {
        self.0 |= 1_u128.checked_shl(message.into()).unwrap_or(0);
    }

    pub(super) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(super) fn has(self, message: Place) -> bool {
        self.0.checked_shr(message.into()).is_some_and(|rest| rest & 1 == 1)
    }

    /// In two words, to hash.
    pub(super) fn words(self) -> [u64; 2] {
        [u64::try_from(self.0 & u128::from(u64::MAX)).unwrap_or(0), u64::try_from(self.0 >> 64).unwrap_or(0)]
    }
}

const _: () = assert!(matches!(Move::ALL[1].0, Move::Retry), "its place is known");

/// Every message there was so far, and who hears it.
pub(super) struct Post {
    known: Vec<(Message, &'static [Actor])>,
}

impl Post {
    pub(super) const CREATED: Place = 0;
    pub(super) const CANCEL_REQUESTED: Place = 1;
    pub(super) const COMPLETED: Place = 2;
    pub(super) const RETRY: Place = MESSAGES_MAX + 1;

    pub(super) fn new(model: &Model) -> Self {
        let mut post = Self { known: Vec::new() };
        let confirmed = model.first("ConfirmOrder").map(Message::Done);
        for message in [Some(Message::Created), Some(Message::CancelRequested), confirmed].into_iter().flatten() {
            post.place(&model.definition, message);
        }
        post
    }

    /// `None` if there is no room for it.
    pub(super) fn place(&mut self, definition: &Definition, message: Message) -> Option<Place> {
        let known = self.known.iter().position(|(known, _)| *known == message);
        let place = Place::try_from(known.unwrap_or(self.known.len())).ok().filter(|place| *place < MESSAGES_MAX)?;
        if known.is_none() {
            self.known.push((message, hearers(definition, message)));
        }
        Some(place)
    }

    /// What there may be now, with who hears it.
    pub(super) fn heard(&self, sent: Sent) -> impl Iterator<Item = (Place, Actor)> {
        let places = (0..MESSAGES_MAX).zip(&self.known).filter(move |(place, _)| sent.has(*place));
        places.flat_map(|(place, (_, hearers))| hearers.iter().map(move |actor| (place, *actor)))
    }

    pub(super) fn moves() -> impl Iterator<Item = (Place, Actor)> {
        (MESSAGES_MAX..).zip(Move::ALL).map(|(place, (_, _, to, _))| (place, to))
    }

    pub(super) fn what(&self, place: Place) -> What {
        match place.checked_sub(MESSAGES_MAX) {
            Some(at) => What::Move(Move::ALL[usize::from(at)].0),
            None => What::Message(self.known[usize::from(place)].0),
        }
    }

    pub(super) fn is_by_itself(&self, place: Place) -> bool {
        match self.what(place) {
            What::Move(by) => by.is_by_itself(),
            What::Message(_) => true,
        }
    }

    /// Whom it comes from, and in words.
    pub(super) fn told(&self, definition: &Definition, place: Place) -> (Actor, String) {
        let name = |command: Command| match command.attempt() {
            Command::FIRST_ATTEMPT => command.name(definition).to_owned(),
            attempt => format!("{} (attempt {attempt})", command.name(definition)),
        };
        let asked = |command| addressee(definition, command).unwrap_or(Actor::Saga);
        match self.what(place) {
            What::Move(by) => {
                let told = Move::ALL.iter().find(|(one, ..)| *one == by);
                told.map_or((Actor::Clock, String::new()), |(_, from, _, words)| (*from, (*words).to_owned()))
            }
            What::Message(Message::Created) => (Actor::Order, "begin".to_owned()),
            What::Message(Message::CancelRequested) => (Actor::Order, "cancelled".to_owned()),
            What::Message(Message::SagaStarted) => (Actor::Saga, "begun".to_owned()),
            What::Message(Message::Paid) => (Actor::Saga, "paid".to_owned()),
            What::Message(Message::TurnedBack) => (Actor::Saga, "turned back".to_owned()),
            What::Message(Message::Ask(command)) => (Actor::Saga, name(command)),
            What::Message(Message::Done(command)) => (asked(command), format!("{}: done", name(command))),
            What::Message(Message::Refused(command)) => (asked(command), format!("{}: refused", name(command))),
            What::Message(Message::Unknown(command)) => (asked(command), format!("{}: unknown", name(command))),
        }
    }
}

fn hearers(definition: &Definition, message: Message) -> &'static [Actor] {
    match message {
        Message::SagaStarted | Message::Paid | Message::TurnedBack => &[Actor::Order],
        Message::Ask(command) => match addressee(definition, command) {
            Some(Actor::Inventory) => &[Actor::Inventory],
            Some(Actor::Shipping) => &[Actor::Shipping],
            Some(Actor::Order) => &[Actor::Order],
            _ => &[Actor::Payment],
        },
        // What an order says when it completes, stock and shipments act on too.
        Message::Done(command) if command.name(definition) == "ConfirmOrder" => &[Actor::Saga, Actor::Inventory, Actor::Shipping],
        _ => &[Actor::Saga],
    }
}

/// Who is asked.
pub(super) fn addressee(definition: &Definition, command: Command) -> Option<Actor> {
    match command.name(definition) {
        "ReserveStock" | "ReleaseStock" => Some(Actor::Inventory),
        "ScheduleShipment" | "CancelShipment" => Some(Actor::Shipping),
        "ConfirmOrder" | "CloseOrder" => Some(Actor::Order),
        "ChargePayment" | "AuthorizePayment" | "CapturePayment" | "RefundPayment" => Some(Actor::Payment),
        _ => None,
    }
}
