//! What waits in a runner's queue: an input, or a record that is none, and where it comes from.

use std::{panic::AssertUnwindSafe, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{CallError, Envelope, Handler, Heard, Held, Parked, Position, Record, clock, reader, span::Processing};

/// Who waits for the answer to a call.
pub(crate) type Reply<H> = oneshot::Sender<Result<<H as Handler>::Answer, CallError<<H as Handler>::Refusal>>>;

/// Where an item comes from.
pub(crate) enum Origin<H: Handler> {
    Call(Reply<H>),
    /// A record that moves its stream from here to there.
    Stream {
        record: Arc<Record>,
        before: Position,
        after: Position,
        restart: reader::Restart,
    },
    /// A record once more, where dedupe is switched off.
    Again(Arc<Record>),
    /// A record that was held back and is tried again.
    Held(Box<Parked>),
}

pub(crate) enum Work<I> {
    Input(Envelope<I>),
    Ignored,
    UnknownType,
    /// Of a version that is not known here.
    Waits,
    Poisoned(String),
}

pub(crate) struct Item<H: Handler> {
    pub(crate) key: String,
    pub(crate) work: Work<H::Input>,
    pub(crate) origin: Origin<H>,
    /// A mark names it, which goes with its commit: see [`crash`](crate::crash).
    pub(crate) marked: bool,
    /// What its payload takes up of the runner's bound, given back with the item.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    /// Ends with the item, after the commit.
    _span: Option<Processing>,
}

impl<H: Handler> Item<H> {
    pub(crate) fn called(envelope: Envelope<H::Input>, reply: Reply<H>) -> Box<Self> {
        let (key, work) = (envelope.key.clone(), Work::Input(envelope));
        Box::new(Self { key, work, origin: Origin::Call(reply), marked: false, room: None, _span: None })
    }

    /// What the handler makes of the record that `origin` has.
    pub(crate) fn heard(handler: &H, group: &'static str, origin: Origin<H>) -> Box<Self> {
        let mut span = None;
        let mut key = String::new();
        let work = match origin.record() {
            None => Work::Ignored,
            Some(record) => {
                key.clone_from(&record.key);
                let given_up = matches!(&origin, Origin::Held(row) if row.held == Held::Discard);
                match meaning(handler, record, given_up) {
                    Heard::Input(input) => {
                        span = Processing::of(group, record);
                        Work::Input(Envelope {
                            id: record.id,
                            key: key.clone(),
                            at: clock::now(),
                            correlation: record.correlation.clone(),
                            trace: span.as_ref().map_or_else(|| record.trace.clone(), Processing::trace),
                            input,
                        })
                    }
                    Heard::Ignored => Work::Ignored,
                    Heard::UnknownType => Work::UnknownType,
                    Heard::NewerVersion => Work::Waits,
                    Heard::Undecodable(reason) => Work::Poisoned(reason),
                }
            }
        };
        Box::new(Self { key, work, origin, marked: false, room: None, _span: span })
    }

    pub(crate) fn input(&self) -> Option<&Envelope<H::Input>> {
        match &self.work {
            Work::Input(envelope) => Some(envelope),
            Work::Ignored | Work::UnknownType | Work::Waits | Work::Poisoned(_) => None,
        }
    }

    pub(crate) fn record(&self) -> Option<&Record> {
        self.origin.record()
    }
}

/// What the handler makes of a record; of one that a person gave up, what refuses it.
pub(crate) fn meaning<H: Handler>(handler: &H, record: &Record, given_up: bool) -> Heard<H::Input> {
    if record.type_name.is_empty() && !given_up {
        return Heard::Undecodable("has no ce_type".to_owned());
    }
    let hear = || match given_up {
        true => handler.refuse(record).map_or(Heard::Ignored, Heard::Input),
        false => handler.hear(record),
    };
    std::panic::catch_unwind(AssertUnwindSafe(hear)).unwrap_or_else(|_| Heard::Undecodable("panicked while it was read".to_owned()))
}

impl<H: Handler> Origin<H> {
    fn record(&self) -> Option<&Record> {
        match self {
            Self::Call(_) => None,
            Self::Stream { record, .. } | Self::Again(record) => Some(record),
            Self::Held(row) => Some(&row.record),
        }
    }
}
