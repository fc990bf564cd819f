//! The handler: answers of all participants, the order's own events, deadlines and operators, all decided against the same rows.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use messaging::{Decision, Envelope, Handler, Heard, Record};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    definitions,
    error::Refusal,
    hear::{self, Means},
    instance::{self, Instance, Turn, Unread},
    known::Known,
    operations::{Asked, Done},
    store,
};

pub(crate) struct Orchestrator {
    pub(crate) known: Known,
}

#[derive(Debug)]
pub(crate) enum Input {
    Heard {
        order_id: Uuid,
        means: Means,
    },
    /// The saga had this deadline when it was claimed.
    Due {
        order_id: Uuid,
        saga_id: Uuid,
        deadline_at: OffsetDateTime,
        unread: Arc<Unread>,
    },
    Operated(Asked),
}

impl Input {
    fn order_id(&self) -> Uuid {
        match self {
            Self::Heard { order_id, .. } | Self::Due { order_id, .. } | Self::Operated(Asked { order_id, .. }) => *order_id,
        }
    }
}

/// An order, and one of its sagas.
pub(crate) type Key = (Uuid, Uuid);

/// The sagas of the orders of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) sagas: BTreeMap<Key, Instance>,
    /// Rows of a definition or version that is not known here, or in another shape.
    pub(crate) unknown: BTreeSet<Key>,
    /// Calls of operators that are written down already.
    pub(crate) known: HashSet<Uuid>,
    pub(crate) new: BTreeSet<Key>,
    pub(crate) changed: BTreeSet<Key>,
    pub(crate) done: Vec<Done>,
}

impl Handler for Orchestrator {
    type Input = Input;
    type Answer = ();
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        kit::hear(record, |message| {
            let heard = hear::hear(message, &record.payload)?;
            Some(heard.map(|(order_id, means)| Input::Heard { order_id, means }))
        })
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        let order_ids: BTreeSet<Uuid> = batch.iter().map(|asked| asked.input.order_id()).collect();
        let operated = batch.iter().filter(|asked| matches!(asked.input, Input::Operated(_)));
        let calls: Vec<Uuid> = operated.map(|asked| asked.id).collect();
        store::load(db, &self.known, &Vec::from_iter(order_ids), &calls).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<()>, Refusal> {
        let turn = match &asked.input {
            Input::Heard { order_id, means: Means::Happened(fact) } => {
                if !book.has_sagas(*order_id) {
                    return Err(Refusal::NotStarted);
                }
                let news = kit::news(order_id, instance::record(*order_id, instance::happened(fact.event, &fact.detail, asked.at)));
                return Ok(Decision::new((), vec![news]));
            }
            Input::Heard { order_id, means: Means::Begins { refund_id, definition, payload } } => {
                let key = (*order_id, definitions::saga_id(refund_id.unwrap_or(*order_id), definition));
                match book.sagas.contains_key(&key) || book.unknown.contains(&key) {
                    true => None,
                    false => {
                        let newest = self.known.newest(definition).ok_or(Refusal::UnknownDefinition)?;
                        Instance::start(key, newest, payload.clone(), asked.at, &asked.trace)?
                    }
                }
            }
            Input::Heard { order_id, means } => match book.addressee(*order_id, means)? {
                Some(saga) => saga.hear(means, asked.at, &asked.trace)?,
                None => None,
            },
            // Whoever knows the definition of a saga that is not known here will see to its deadline.
            Input::Due { order_id, saga_id, deadline_at, unread } => match book.sagas.get(&(*order_id, *saga_id)) {
                Some(saga) => saga.due(*deadline_at, unread, asked.at)?,
                None => None,
            },
            // Its commit was in doubt, and had gone through.
            Input::Operated(_) if book.known.contains(&asked.id) => None,
            Input::Operated(wanted) => Some(book.operated(wanted, asked)?),
        };
        Ok(match turn {
            Some((saga, messages)) => {
                let order_id = saga.order_id;
                let mut news: Vec<_> = messages.into_iter().map(|message| kit::news(order_id, message)).collect();
                let flag = book.put(saga).map(|flag| instance::record(order_id, flag.needs_attention(asked.at)));
                news.extend(flag.map(|flag| kit::news(order_id, flag)));
                Decision::new((), news)
            }
            None => Decision::quiet(()),
        })
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        let rows = |keys: &BTreeSet<Key>| keys.iter().filter_map(|key| book.sagas.get(key)).collect::<Vec<_>>();
        store::update(db, &rows(&book.changed)).await?;
        store::insert(db, &rows(&book.new)).await?;
        store::insert_operations(db, &book.done).await
    }
}

impl Book {
    fn of(&self, order_id: Uuid) -> impl Iterator<Item = &Instance> {
        self.sagas.range((order_id, Uuid::nil())..=(order_id, Uuid::max())).map(|(_, saga)| saga)
    }

    fn has_unknown(&self, order_id: Uuid) -> bool {
        self.unknown.range((order_id, Uuid::nil())..=(order_id, Uuid::max())).next().is_some()
    }

    fn has_sagas(&self, order_id: Uuid) -> bool {
        self.has_unknown(order_id) || self.of(order_id).next().is_some()
    }

    /// The saga that a message is meant for; `None` if nobody asked for it.
    fn addressee(&self, order_id: Uuid, means: &Means) -> Result<Option<&Instance>, Refusal> {
        let (found, asked) = match means {
            Means::Answered(answered) => (self.of(order_id).find(|saga| saga.asked_for(answered)), true),
            Means::Begins { .. } | Means::CancelRequested { .. } | Means::Happened(_) => {
                (self.of(order_id).find(|saga| saga.settles_order()), false)
            }
        };
        match found {
            Some(saga) => Ok(Some(saga)),
            // It may be meant for one that a newer binary knows.
            None if self.has_unknown(order_id) => Err(Refusal::UnknownDefinition),
            None if asked && self.has_sagas(order_id) => Ok(None),
            None => Err(Refusal::NotStarted),
        }
    }

    fn operated(&mut self, wanted: &Asked, asked: &Envelope<Input>) -> Result<Turn, Refusal> {
        let Asked { order_id, saga_id, expected_version, operation, who, reason } = wanted;
        let found = match saga_id {
            Some(saga_id) => self.sagas.get(&(*order_id, *saga_id)),
            None => self.of(*order_id).find(|saga| saga.settles_order()),
        };
        let saga = match found {
            Some(saga) => saga,
            None if self.has_unknown(*order_id) => return Err(Refusal::UnknownDefinition),
            None => return Err(Refusal::NotStarted),
        };
        if expected_version.is_some_and(|expected| expected != saga.version) {
            return Err(Refusal::MovedOn(saga.version));
        }
        let turn = saga.operate(*operation, reason, asked.at, &asked.trace)?;
        let Some((after, messages)) = turn else { return Err(Refusal::MakesNoSense(saga.stands())) };
        self.done.push(Done {
            id: asked.id,
            order_id: after.order_id,
            saga_id: after.saga_id,
            version: after.version,
            operation: *operation,
            who: who.clone(),
            reason: reason.clone(),
            at: asked.at,
        });
        Ok((after, messages))
    }

    /// Keeps the saga. Where it has taken down the order's flag, gives one that needs it up: another saga of the order may be stuck, or
    /// this one is, though it is no longer paused.
    fn put(&mut self, saga: Instance) -> Option<&Instance> {
        let key = (saga.order_id, saga.saga_id);
        let (stuck, paused) = (saga.progress.stuck, saga.progress.paused);
        let before = self.sagas.insert(key, saga);
        if before.is_none() {
            self.new.insert(key);
        } else if !self.new.contains(&key) {
            self.changed.insert(key);
        }
        let before = before?.progress;
        let resumed = (before.stuck && !stuck) || (before.paused && !paused);
        self.of(key.0).find(|saga| resumed && saga.progress.stuck)
    }
}

#[cfg(test)]
mod tests;
