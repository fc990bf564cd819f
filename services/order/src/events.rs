//! The handler: every change of an order goes through here, from callers, commands and the catalogue alike.

mod told;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use contracts::{
    Message,
    ids::{self, NotAnId},
    inventory::v1::ProductUpserted,
    order::v1 as proto,
};
use messaging::{Decision, Envelope, Handler, Heard, Record};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use self::told::{Command, FACTS_MAX, cause};
use crate::{
    catalogue::{self, Catalogue},
    draft::Draft,
    error::Refusal,
    order::{self, Entry, Line, Order, Said, Status},
    pending::{Move, Pending, Told},
    refund::{Ask, Closing, Refund},
    said, store,
    watch::Watchers,
};

pub(crate) enum Input {
    Create(Box<Draft>),
    Cancel {
        order_id: Uuid,
        reason: String,
    },
    Refund(Ask),
    /// What happened elsewhere, in order, and then what is to be done.
    Told {
        order_id: Uuid,
        facts: Vec<proto::Fact>,
        command: Option<Command>,
    },
    /// The saga of a refund is over.
    CloseRefund {
        order_id: Uuid,
        refund_id: Uuid,
        command_id: String,
        how: Closing,
    },
    Priced {
        said: catalogue::Said,
        product: ProductUpserted,
    },
}

/// What a caller is told.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) order_id: Uuid,
    pub(crate) status: Status,
    /// The same request was answered before.
    pub(crate) replayed: bool,
    /// Id, minor units and currency of a refund that was asked for.
    pub(crate) refund: Option<(Uuid, i64, String)>,
    /// The call that says once more that a refund is asked for, which nobody seems to have heard.
    pub(crate) say_again: Option<Uuid>,
}

impl Answer {
    pub(crate) fn of(order_id: Uuid, status: Status, replayed: bool) -> Self {
        Self { order_id, status, replayed, refund: None, say_again: None }
    }
}

/// The rows of a batch, and what is new of them.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) orders: BTreeMap<Uuid, Order>,
    /// Entries that are written down already: (order, cause).
    pub(crate) known: HashSet<(Uuid, Uuid)>,
    pub(crate) catalogue: Catalogue,
    /// By order and refund.
    pub(crate) refunds: BTreeMap<(Uuid, Uuid), Refund>,
    /// What was heard last of the products that are spoken of.
    pub(crate) heard: HashMap<String, catalogue::Said>,
    /// Those that are new, with their lines.
    pub(crate) new_orders: HashMap<Uuid, Vec<Line>>,
    pub(crate) changed: HashSet<Uuid>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) changed_refunds: BTreeSet<(Uuid, Uuid)>,
    pub(crate) priced: BTreeMap<String, ProductUpserted>,
    /// For the log.
    pub(crate) moves: Vec<Move>,
}

pub(crate) struct Orders {
    watchers: Arc<Watchers>,
    pending: Pending,
    /// Which definition settles a new order.
    checkout: &'static str,
}

impl Orders {
    pub(crate) fn new(watchers: Arc<Watchers>, checkout: &'static str) -> Self {
        Self { watchers, pending: Pending::default(), checkout }
    }
}

/// What a message means here; `None` if nothing.
fn pick(message: Message, place: catalogue::Said) -> Option<Result<Input, Unreadable>> {
    let closed = |order_id: &str, refund_id: &str, command_id, how| -> Result<Input, Unreadable> {
        Ok(Input::CloseRefund { order_id: id("order_id", order_id)?, refund_id: id("refund_id", refund_id)?, command_id, how })
    };
    Some(match message {
        Message::SettleRefund(m) => closed(&m.order_id, &m.refund_id, m.command_id, Closing::Settled),
        Message::RefuseRefund(m) => closed(&m.order_id, &m.refund_id, m.command_id, Closing::Refused { reason: m.reason }),
        Message::ProductUpserted(product) => {
            let mut currencies = HashSet::new();
            match product.prices.iter().all(|price| currencies.insert(price.currency.as_str())) {
                true => Ok(Input::Priced { said: place, product }),
                false => Err(Unreadable::TwoPrices),
            }
        }
        message => return told::read(message),
    })
}

impl Handler for Orders {
    type Input = Input;
    type Answer = Answer;
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        let place = catalogue::Said { seq: record.place.map_or(0, |place| place.seq), at: record.at };
        kit::hear(record, |message| pick(message, place))
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        // What a batch left behind that was not committed.
        self.pending.stage(Told::default());
        let mut wanted = store::Wanted::default();
        for asked in batch {
            match &asked.input {
                Input::Create(draft) => {
                    wanted.orders.push(draft.id);
                    wanted.prices.extend(draft.lines.iter().map(|line| (line.sku.as_str(), draft.currency.as_str())));
                }
                Input::Cancel { order_id, .. } => wanted.orders.push(*order_id),
                Input::Refund(ask) => {
                    wanted.orders.push(ask.order_id);
                    wanted.refunds.push((ask.order_id, ask.id));
                }
                Input::Told { order_id, facts, command } => {
                    wanted.orders.push(*order_id);
                    let entries = facts.len() + usize::from(command.is_some());
                    wanted.causes.extend((0..entries).map(|nth| (*order_id, cause(asked.id, nth))));
                }
                Input::CloseRefund { order_id, refund_id, .. } => {
                    wanted.orders.push(*order_id);
                    wanted.refunds.push((*order_id, *refund_id));
                }
                Input::Priced { product, .. } => wanted.products.push(product.sku.as_str()),
            }
        }
        store::load(db, wanted).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<Answer>, Refusal> {
        match &asked.input {
            Input::Create(draft) => book.create(asked, draft, self.checkout),
            Input::Cancel { order_id, reason } => book.cancel(asked, *order_id, reason),
            Input::Refund(ask) => book.refund(asked, ask),
            Input::Told { order_id, facts, command } => book.told(asked, *order_id, facts, command.as_ref()),
            Input::CloseRefund { order_id, refund_id, command_id, how } => {
                book.close_refund(asked, (*order_id, *refund_id), command_id, how)
            }
            Input::Priced { said, product } => Ok(book.price(*said, product)),
        }
    }

    async fn save(&self, db: &mut PgConnection, mut book: Book) -> sqlx::Result<()> {
        let watched = self.watchers.pick(&book);
        let told = Told { watched, submitted: book.new_orders.len(), moves: std::mem::take(&mut book.moves) };
        store::save(db, book).await?;
        self.pending.stage(told);
        Ok(())
    }

    fn refuse(&self, record: &Record) -> Option<Input> {
        kit::refuse(record, |message| {
            let Input::Told { order_id, facts, command: Some(command) } = told::read(message)?.ok()? else { return None };
            match command {
                Command::Confirm { confirm, .. } => {
                    let command = Some(Command::Confirm { confirm, given_up: true });
                    Some(Input::Told { order_id, facts, command })
                }
                // It has no answer but its own. What it brings along is told by nobody else.
                Command::Close(_) => (!facts.is_empty()).then_some(Input::Told { order_id, facts, command: None }),
            }
        })
    }

    fn committed(&self) {
        self.pending.committed(&self.watchers);
    }
}

fn next(status: Status, input: order::Input) -> Result<(Status, Said), Refusal> {
    order::next(status, input).map_err(|_| Refusal::NotCancellable(status))
}

impl Book {
    fn create(&mut self, asked: &Envelope<Input>, draft: &Draft, definition: &str) -> Result<Decision<Answer>, Refusal> {
        if let Some(order) = self.orders.get(&draft.id) {
            if order.request_hash != draft.request_hash {
                return Err(Refusal::KeyReused);
            }
            // The first answer again, whatever has become of the order since.
            return Ok(Decision::quiet(Answer::of(order.id, Status::Pending, true)));
        }
        let (lines, total) = draft.price(&self.catalogue)?;
        let order = Order {
            id: draft.id,
            customer_id: draft.customer_id.clone(),
            status: Status::Pending,
            currency: draft.currency.clone(),
            total,
            reason: String::new(),
            refunded_amount: 0,
            refund_pending: 0,
            needs_attention: false,
            idempotency_key: draft.idempotency_key.clone(),
            request_hash: draft.request_hash.clone(),
            version: 0,
            created_at: asked.at,
            updated_at: asked.at,
        };
        let created = said::created(&order, draft, &lines, definition);
        self.new_orders.insert(order.id, lines);
        self.write(order, asked, asked.id, asked.at, "OrderCreated", "");
        Ok(Decision::new(Answer::of(draft.id, Status::Pending, false), vec![created]))
    }

    fn cancel(&mut self, asked: &Envelope<Input>, order_id: Uuid, reason: &str) -> Result<Decision<Answer>, Refusal> {
        let mut order = self.order(order_id)?;
        let (status, said) = next(order.status, order::Input::Cancel)?;
        let answer = Answer::of(order_id, status, said == Said::SameAgain);
        if said == Said::SameAgain {
            return Ok(Decision::quiet(answer));
        }
        order.status = status;
        order.reason = if reason.is_empty() { "CANCELLED_BY_CUSTOMER".to_owned() } else { reason.to_owned() };
        let (requested, detail) = (said::cancel_requested(&order), order.reason.clone());
        self.write(order, asked, asked.id, asked.at, "OrderCancelRequested", &detail);
        Ok(Decision::new(answer, vec![requested]))
    }

    /// What was said before of this product changes nothing any more.
    fn price(&mut self, said: catalogue::Said, product: &ProductUpserted) -> Decision<Answer> {
        if self.heard.get(&product.sku).is_none_or(|last| said.is_after(*last)) {
            self.heard.insert(product.sku.clone(), said);
            self.priced.insert(product.sku.clone(), product.clone());
        }
        Decision::quiet(Answer::of(Uuid::nil(), Status::Pending, false))
    }

    pub(crate) fn order(&self, id: Uuid) -> Result<Order, Refusal> {
        self.orders.get(&id).cloned().ok_or(Refusal::Unknown(id))
    }

    /// Keeps the order with one more entry in its timeline.
    pub(crate) fn write(
        &mut self,
        mut order: Order,
        asked: &Envelope<Input>,
        cause: Uuid,
        at: OffsetDateTime,
        event: &str,
        detail: &str,
    ) {
        let from = self.orders.get(&order.id).map(|order| order.status);
        self.moves.extend(Move::of(asked, order.id, from, order.status));
        order.version += 1;
        order.updated_at = order.updated_at.max(at);
        self.entries.push(Entry {
            order_id: order.id,
            cause,
            version: order.version,
            at,
            event: event.to_owned(),
            detail: detail.to_owned(),
        });
        self.known.insert((order.id, cause));
        self.changed.insert(order.id);
        self.orders.insert(order.id, order);
    }
}

/// Why a message cannot be what its type says.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{0}: {1}")]
    Id(&'static str, NotAnId),
    #[error("facts: {0} of them, more than {FACTS_MAX}")]
    Facts(usize),
    #[error("it has two prices in one currency")]
    TwoPrices,
}

fn id(field: &'static str, text: &str) -> Result<Uuid, Unreadable> {
    ids::parse(text).map_err(|error| Unreadable::Id(field, error))
}

#[cfg(test)]
mod tests;
