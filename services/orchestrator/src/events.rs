//! The handler: answers of all participants, the order's own events and deadlines, all decided against the same rows.

use std::collections::{BTreeSet, HashMap, HashSet};

use messaging::{Decision, Envelope, Handler, Heard, Record};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    checkout::{self, Means},
    error::Refusal,
    instance::Instance,
    store,
};

pub(crate) struct Orchestrator;

#[derive(Debug)]
pub(crate) enum Input {
    Heard {
        order_id: Uuid,
        means: Means,
    },
    /// The saga had this deadline when it was claimed.
    Due {
        order_id: Uuid,
        deadline_at: OffsetDateTime,
    },
}

impl Input {
    fn order_id(&self) -> Uuid {
        match self {
            Self::Heard { order_id, .. } | Self::Due { order_id, .. } => *order_id,
        }
    }
}

/// The sagas of a batch.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) sagas: HashMap<Uuid, Instance>,
    /// Rows of a definition or version that is not known here.
    pub(crate) unknown: HashSet<Uuid>,
    pub(crate) new: BTreeSet<Uuid>,
    pub(crate) changed: BTreeSet<Uuid>,
}

impl Book {
    fn find(&self, order_id: Uuid) -> Result<Option<&Instance>, Refusal> {
        if self.unknown.contains(&order_id) {
            return Err(Refusal::UnknownDefinition);
        }
        Ok(self.sagas.get(&order_id))
    }

    fn put(&mut self, saga: Instance) {
        let order_id = saga.order_id;
        if self.sagas.insert(order_id, saga).is_none() {
            self.new.insert(order_id);
        } else if !self.new.contains(&order_id) {
            self.changed.insert(order_id);
        }
    }
}

impl Handler for Orchestrator {
    type Input = Input;
    type Answer = ();
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        kit::hear(record, |message| {
            let heard = checkout::hear(message, &record.payload)?;
            Some(heard.map(|(order_id, means)| Input::Heard { order_id, means }))
        })
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        let order_ids: BTreeSet<Uuid> = batch.iter().map(|asked| asked.input.order_id()).collect();
        store::load(db, &Vec::from_iter(order_ids)).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<()>, Refusal> {
        let saga = match (&asked.input, book.find(asked.input.order_id())) {
            // Whoever knows this saga's definition will see to its deadline.
            (Input::Due { .. }, Err(Refusal::UnknownDefinition)) => return Ok(Decision::quiet(())),
            (_, found) => found?,
        };
        let turn = match (&asked.input, saga) {
            (Input::Heard { order_id, means: Means::Created { definition, payload } }, None) => {
                Instance::start(*order_id, definition, payload.clone(), asked.at, &asked.trace)?
            }
            (Input::Heard { .. }, None) => return Err(Refusal::NotStarted),
            (Input::Heard { means, .. }, Some(saga)) => saga.hear(means, asked.at, &asked.trace)?,
            (Input::Due { deadline_at, .. }, Some(saga)) => saga.due(*deadline_at, asked.at)?,
            (Input::Due { .. }, None) => None,
        };
        let Some((saga, messages)) = turn else { return Ok(Decision::quiet(())) };
        let news = messages.into_iter().map(|message| kit::news(saga.order_id, message)).collect();
        book.put(saga);
        Ok(Decision::new((), news))
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        let rows = |ids: &BTreeSet<Uuid>| ids.iter().filter_map(|id| book.sagas.get(id)).collect::<Vec<_>>();
        store::update(db, &rows(&book.changed)).await?;
        store::insert(db, &rows(&book.new)).await
    }
}
