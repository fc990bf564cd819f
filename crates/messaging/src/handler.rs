//! The one way to change anything: load the rows a batch touches, decide each input in memory, save what changed.

use std::{error::Error, future::Future};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{News, Record, Trace};

/// Decides inputs, a batch at a time. Calls, records of the bus, timers and outcomes of the outside world enter by the same door,
/// the [`Runner`](crate::Runner).
///
/// The transaction is the runner's: it begins before [`load`](Handler::load) and is committed after [`save`](Handler::save), with the
/// progress that led to the effect and the news it makes. `load` and `save` are given a connection and should use nothing else of the
/// outside world: a call to elsewhere would neither be undone with the transaction nor be quick enough to be waited for in it.
///
/// Effects should be idempotent by a key of the business, such as [`Envelope::id`]: they then hold even where dedupe is switched off.
///
/// Patterns: functional core, imperative shell (Gary Bernhardt); unit of work (Martin Fowler), here around a whole batch.
pub trait Handler: Send + Sync + 'static {
    /// What comes in, whatever the door.
    type Input: Send + Sync + 'static;
    /// What a caller is told after the commit; `()` where nobody asks.
    type Answer: Send + 'static;
    /// Why an input is not decided.
    type Refusal: Refused;
    /// The rows of a batch.
    type State: Send;

    /// What a record of the bus means here. Pure. A panic parks the record.
    fn hear(&self, record: &Record) -> Heard<Self::Input>;

    /// Loads and locks the rows the batch touches, in key order: unsorted, two instances wait for each other.
    ///
    /// An error is no refusal. It is judged by its SQLSTATE as in [`save`](Handler::save).
    fn load(
        &self,
        db: &mut PgConnection,
        batch: &[&Envelope<Self::Input>],
    ) -> impl Future<Output = sqlx::Result<Self::State>> + Send;

    /// Pure; may run more than once for the same input (retry, bisect). A refusal leaves `state` as it was. Inputs are decided in the order
    /// they came, each on the state the one before left behind. A panic parks the record, or fails the call.
    fn decide(&self, state: &mut Self::State, asked: &Envelope<Self::Input>) -> Result<Decision<Self::Answer>, Self::Refusal>;

    /// Writes what changed, in key order. The transaction is committed by the runner.
    ///
    /// SQLSTATE 22 and 23 (also 21000 and 54000) blame an input: the batch is halved until it is found, and that one is parked, or its call
    /// fails. Any other error is an outage: the batch is tried again without end.
    fn save(&self, db: &mut PgConnection, state: Self::State) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// What refuses a command that a person gave up, so that whoever told it hears a no and goes on. It is decided and saved like any other
    /// input, and should leave a mark: the command may be told again. `None` for a record that nobody waits for. Pure.
    fn refuse(&self, _record: &Record) -> Option<Self::Input> {
        None
    }

    /// Called after each commit: wakes whoever waits for what [`Handler::save`] wrote. Not called for a commit whose answer was lost, so
    /// nothing may depend on it that a crash would not mend either.
    fn committed(&self) {}
}

/// An input with what a decision may know beside it. There is no clock in a decision: `at` is all the time there is.
#[derive(Clone, Debug)]
pub struct Envelope<I> {
    /// Made once, before the runner: repeated work has the same id.
    pub id: Uuid,
    /// What it is about, such as an order's id: inputs of one key are parked and brought back together.
    pub key: String,
    /// When it came in, to the microsecond. May differ when the same input comes again.
    pub at: OffsetDateTime,
    /// What all messages of one business transaction share; of a call it is the key.
    pub correlation: String,
    /// News made of this input carry it on.
    pub trace: Trace,
    /// What came.
    pub input: I,
}

/// What a record means to a handler.
#[derive(Debug)]
pub enum Heard<I> {
    /// To be decided.
    Input(I),
    /// Of no interest here; counted, and the stream goes on.
    Ignored,
    /// Of a type that nobody here has heard of; counted by itself, and the stream goes on.
    UnknownType,
    /// A newer version of a type that is known here: waits without limit for a binary that knows it.
    NewerVersion,
    /// The bytes are not what their type says; the record is parked.
    Undecodable(String),
}

/// What a decision comes to: the answer to whoever asked, and the news.
#[derive(Debug)]
pub struct Decision<A> {
    /// Given after the commit.
    pub answer: A,
    /// Said in this order, in the same transaction as the effect.
    pub news: Vec<News>,
}

impl<A> Decision<A> {
    /// An answer, and something to say.
    pub fn new(answer: A, news: Vec<News>) -> Self {
        Self { answer, news }
    }

    /// An answer, and nothing to say.
    pub fn quiet(answer: A) -> Self {
        Self { answer, news: Vec::new() }
    }
}

/// Why an input was not decided. A business no to a *command* is news, not a refusal.
pub trait Refused: Error + Send + 'static {
    /// What becomes of the record. A caller is given the refusal itself, whatever the verdict.
    fn verdict(&self) -> Verdict;
}

/// What becomes of a refused record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Has no effect here; counted, and the stream goes on.
    Skip,
    /// Needs something that is not there yet; tried again when its key moves on.
    Early,
    /// Is of a version that this binary does not know; tried again without limit, by this one or a newer one.
    Unknown,
    /// Can never be applied; parked, with every later record of its key behind it.
    Poison,
}
