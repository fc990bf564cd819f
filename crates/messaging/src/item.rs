//! What waits in a runner's queue: an input, or a record that is none, and where it comes from.

use std::{panic::AssertUnwindSafe, sync::Arc};

use tokio::sync::oneshot;

use crate::{CallError, Envelope, Handler, Heard, Parked, Position, Record, clock, reader, span::Processing};

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
    Poisoned(String),
}

pub(crate) struct Item<H: Handler> {
    pub(crate) key: String,
    pub(crate) work: Work<H::Input>,
    pub(crate) origin: Origin<H>,
    /// Ends with the item, after the commit.
    _span: Option<Processing>,
}

impl<H: Handler> Item<H> {
    pub(crate) fn called(envelope: Envelope<H::Input>, reply: Reply<H>) -> Box<Self> {
        Box::new(Self { key: envelope.key.clone(), work: Work::Input(envelope), origin: Origin::Call(reply), _span: None })
    }

    /// What the handler makes of the record that `origin` has.
    pub(crate) fn heard(handler: &H, group: &'static str, origin: Origin<H>) -> Box<Self> {
        let mut span = None;
        let mut key = String::new();
        let work = match origin.record() {
            None => Work::Ignored,
            Some(record) => {
                key.clone_from(&record.key);
                let heard = std::panic::catch_unwind(AssertUnwindSafe(|| handler.hear(record)));
                match heard.unwrap_or_else(|_| Heard::Undecodable("panicked while it was read".to_owned())) {
                    _ if record.type_name.is_empty() => Work::Poisoned("has no ce_type".to_owned()),
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
                    Heard::Undecodable(reason) => Work::Poisoned(reason),
                }
            }
        };
        Box::new(Self { key, work, origin, _span: span })
    }

    pub(crate) fn input(&self) -> Option<&Envelope<H::Input>> {
        match &self.work {
            Work::Input(envelope) => Some(envelope),
            Work::Ignored | Work::Poisoned(_) => None,
        }
    }

    pub(crate) fn record(&self) -> Option<&Record> {
        self.origin.record()
    }
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
