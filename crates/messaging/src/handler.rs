//! The one way to change anything: load the rows a batch touches, decide each input in memory, save what changed.

use std::{error::Error, future::Future};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{News, Record, Trace};

/// Decides inputs, a batch at a time. Calls, records of the bus, timers and outcomes of the outside world enter by the same door,
/// the [`Runner`](crate::Runner).
pub trait Handler: Send + Sync + 'static {
    type Input: Send + Sync + 'static;
    type Answer: Send + 'static;
    type Refusal: Refused;
    /// The rows of a batch.
    type State: Send;

    /// What a record of the bus means here. Pure.
    fn hear(&self, record: &Record) -> Heard<Self::Input>;

    /// Loads and locks the rows the batch touches, in key order.
    fn load(
        &self,
        db: &mut PgConnection,
        batch: &[&Envelope<Self::Input>],
    ) -> impl Future<Output = sqlx::Result<Self::State>> + Send;

    /// Pure; may run more than once for the same input (retry, bisect). A refusal leaves `state` as it was.
    fn decide(&self, state: &mut Self::State, asked: &Envelope<Self::Input>) -> Result<Decision<Self::Answer>, Self::Refusal>;

    /// Writes what changed, in key order. The transaction is committed by the runner.
    fn save(&self, db: &mut PgConnection, state: Self::State) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Called after each commit: wakes whoever waits for what [`Handler::save`] wrote.
    fn committed(&self) {}
}

/// An input with what a decision may know beside it. There is no clock in a decision: `at` is all the time there is.
#[derive(Clone, Debug)]
pub struct Envelope<I> {
    /// Made once, before the runner: repeated work has the same id.
    pub id: Uuid,
    pub key: String,
    pub at: OffsetDateTime,
    pub correlation: String,
    pub trace: Trace,
    pub input: I,
}

/// What a record means to a handler.
#[derive(Debug)]
pub enum Heard<I> {
    Input(I),
    /// Of no interest here; counted, and the stream goes on.
    Ignored,
    /// The bytes are not what their type says; the record is parked.
    Undecodable(String),
}

/// What a decision comes to: the answer to whoever asked, and the news.
#[derive(Debug)]
pub struct Decision<A> {
    pub answer: A,
    pub news: Vec<News>,
}

impl<A> Decision<A> {
    pub fn new(answer: A, news: Vec<News>) -> Self {
        Self { answer, news }
    }

    pub fn quiet(answer: A) -> Self {
        Self { answer, news: Vec::new() }
    }
}

/// Why an input was not decided. A business no to a *command* is news, not a refusal.
pub trait Refused: Error + Send + 'static {
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
