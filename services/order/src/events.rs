//! The handler: every change of an order goes through here, from callers, commands and the catalogue alike.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use contracts::{Message, ids, inventory::v1::ProductUpserted, order::v1 as proto, time::from_proto};
use kit::news;
use messaging::{Decision, Envelope, Handler, Heard, News, Record};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    answers::{cancelled, completed, confirm_refused, failed},
    draft::Draft,
    error::Refusal,
    order::{self, Entry, Fact, Line, Order, Said, Status},
    pending::{Move, Pending, Told},
    store,
    watch::Watchers,
};

/// Which definition settles a new order.
const DEFINITION: &str = "checkout";
/// Facts of one command. A turn of a saga has three at most.
const FACTS_MAX: usize = 16;

/// `Told` has what happened elsewhere, in order, and then what is to be done.
pub(crate) enum Input {
    Create(Box<Draft>),
    Cancel { order_id: Uuid, reason: String },
    Told { order_id: Uuid, facts: Vec<proto::Fact>, command: Option<Command> },
    Priced { said_at: OffsetDateTime, product: ProductUpserted },
}

pub(crate) enum Command {
    Confirm { confirm: proto::ConfirmOrder, given_up: bool },
    Close(proto::CloseOrder),
}

/// What a caller is told.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) order_id: Uuid,
    pub(crate) status: Status,
    /// The same request was answered before.
    pub(crate) replayed: bool,
}

/// The rows of a batch, and what is new of them.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) orders: BTreeMap<Uuid, Order>,
    /// Entries that are written down already: (order, cause).
    pub(crate) known: HashSet<(Uuid, Uuid)>,
    /// (sku, currency) → price.
    pub(crate) catalogue: HashMap<(String, String), i64>,
    /// Those that are new, with their lines.
    pub(crate) new_orders: HashMap<Uuid, Vec<Line>>,
    pub(crate) changed: HashSet<Uuid>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) priced: BTreeMap<String, (OffsetDateTime, ProductUpserted)>,
    /// For the log.
    pub(crate) moves: Vec<Move>,
}

pub(crate) struct Orders {
    watchers: Arc<Watchers>,
    pending: Pending,
}

impl Orders {
    pub(crate) fn new(watchers: Arc<Watchers>) -> Self {
        Self { watchers, pending: Pending::default() }
    }
}

impl Handler for Orders {
    type Input = Input;
    type Answer = Answer;
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        let Some(message) = Message::decode(&record.type_name, &record.payload) else {
            use Message::{CloseOrder, ConfirmOrder, ProductUpserted, RecordProgress};
            let heard = |message| matches!(message, RecordProgress(_) | ConfirmOrder(_) | CloseOrder(_) | ProductUpserted(_));
            return kit::unknown(record, heard);
        };
        match message {
            Err(error) => Heard::Undecodable(error.to_string()),
            Ok(Message::ProductUpserted(product)) => {
                let mut currencies = HashSet::new();
                match product.prices.iter().all(|price| currencies.insert(price.currency.as_str())) {
                    true => Heard::Input(Input::Priced { said_at: record.at, product }),
                    false => Heard::Undecodable("it has two prices in one currency".to_owned()),
                }
            }
            Ok(message) => match told(message) {
                None => Heard::Ignored,
                Some(Ok(input)) => Heard::Input(input),
                Some(Err(unreadable)) => Heard::Undecodable(unreadable),
            },
        }
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        // What a batch left behind that was not committed.
        self.pending.stage(Told::default());
        let mut orders = Vec::with_capacity(batch.len());
        let mut causes = Vec::new();
        let mut unpriced = Vec::new();
        for asked in batch {
            match &asked.input {
                Input::Create(draft) => {
                    orders.push(draft.id);
                    let missing = draft.lines.iter().filter(|line| line.unit_price.is_none());
                    unpriced.extend(missing.map(|line| line.sku.as_str()));
                }
                Input::Cancel { order_id, .. } => orders.push(*order_id),
                Input::Told { order_id, facts, command } => {
                    orders.push(*order_id);
                    let entries = facts.len() + usize::from(command.is_some());
                    causes.extend((0..entries).map(|nth| (*order_id, cause(asked.id, nth))));
                }
                Input::Priced { .. } => {}
            }
        }
        store::load(db, orders, &causes, unpriced).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<Answer>, Refusal> {
        match &asked.input {
            Input::Create(draft) => book.create(asked, draft),
            Input::Cancel { order_id, reason } => book.cancel(asked, *order_id, reason),
            Input::Told { order_id, facts, command } => book.told(asked, *order_id, facts, command.as_ref()),
            Input::Priced { said_at, product } => {
                book.priced.insert(product.sku.clone(), (*said_at, product.clone()));
                Ok(Decision::quiet(Answer { order_id: Uuid::nil(), status: Status::Pending, replayed: false }))
            }
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
            let Input::Told { order_id, facts, command: Some(command) } = told(message)?.ok()? else { return None };
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

/// What a command tells an order, or why it cannot be read; `None` if it is not for orders.
fn told(message: Message) -> Option<Result<Input, String>> {
    let (order_id, facts, command) = match message {
        Message::RecordProgress(proto::RecordProgress { order_id, event, occurred_at, detail }) => {
            (order_id, vec![proto::Fact { event, occurred_at, detail }], None)
        }
        Message::ConfirmOrder(mut confirm) => {
            let facts = std::mem::take(&mut confirm.facts);
            (confirm.order_id.clone(), facts, Some(Command::Confirm { confirm, given_up: false }))
        }
        Message::CloseOrder(mut close) => {
            let facts = std::mem::take(&mut close.facts);
            (close.order_id.clone(), facts, Some(Command::Close(close)))
        }
        _ => return None,
    };
    if facts.len() > FACTS_MAX {
        return Some(Err(format!("facts: {} of them, more than {FACTS_MAX}", facts.len())));
    }
    let order_id = ids::parse(&order_id).map_err(|error| format!("order_id: {error}"));
    Some(order_id.map(|order_id| Input::Told { order_id, facts, command }))
}

/// The cause of the nth entry that an input makes: the first has the id of the input. The same input again has the same causes.
fn cause(input: Uuid, nth: usize) -> Uuid {
    if nth == 0 { input } else { ids::derive(input, &format!("entry/{nth}")) }
}

fn next(status: Status, input: order::Input) -> Result<(Status, Said), Refusal> {
    order::next(status, input).map_err(|_| Refusal::NotCancellable(status))
}

impl Book {
    fn create(&mut self, asked: &Envelope<Input>, draft: &Draft) -> Result<Decision<Answer>, Refusal> {
        if let Some(order) = self.orders.get(&draft.id) {
            if order.request_hash != draft.request_hash {
                return Err(Refusal::KeyReused);
            }
            // The first answer again, whatever has become of the order since.
            return Ok(Decision::quiet(Answer { order_id: order.id, status: Status::Pending, replayed: true }));
        }
        let price_of = |sku: &str| self.catalogue.get(&(sku.to_owned(), draft.currency.clone())).copied();
        let (lines, total) = draft.price(price_of).map_err(Refusal::Invalid)?;
        let order = Order {
            id: draft.id,
            customer_id: draft.customer_id.clone(),
            status: Status::Pending,
            currency: draft.currency.clone(),
            total,
            reason: String::new(),
            refunded_amount: 0,
            needs_attention: false,
            idempotency_key: draft.idempotency_key.clone(),
            request_hash: draft.request_hash.clone(),
            version: 0,
            created_at: asked.at,
            updated_at: asked.at,
        };
        let created = proto::OrderCreated {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            currency: order.currency.clone(),
            total,
            items: lines.iter().map(item).collect(),
            payment_token: draft.payment_token.clone(),
            definition: DEFINITION.to_owned(),
        };
        self.new_orders.insert(order.id, lines);
        self.write(order, asked, asked.id, asked.at, "OrderCreated", "");
        let answer = Answer { order_id: draft.id, status: Status::Pending, replayed: false };
        Ok(Decision::new(answer, vec![news(draft.id, created)]))
    }

    fn cancel(&mut self, asked: &Envelope<Input>, order_id: Uuid, reason: &str) -> Result<Decision<Answer>, Refusal> {
        let mut order = self.order(order_id)?;
        let (status, said) = next(order.status, order::Input::Cancel)?;
        let answer = Answer { order_id, status, replayed: said == Said::SameAgain };
        if said == Said::SameAgain {
            return Ok(Decision::quiet(answer));
        }
        order.status = status;
        order.reason = if reason.is_empty() { "CANCELLED_BY_CUSTOMER".to_owned() } else { reason.to_owned() };
        let requested = proto::OrderCancelRequested {
            order_id: order_id.to_string(),
            customer_id: order.customer_id.clone(),
            reason: order.reason.clone(),
        };
        let detail = order.reason.clone();
        self.write(order, asked, asked.id, asked.at, "OrderCancelRequested", &detail);
        Ok(Decision::new(answer, vec![news(order_id, requested)]))
    }

    /// What happened, then what is to be done. Nothing of it is refused: that is for callers.
    fn told(
        &mut self,
        asked: &Envelope<Input>,
        order_id: Uuid,
        facts: &[proto::Fact],
        command: Option<&Command>,
    ) -> Result<Decision<Answer>, Refusal> {
        self.order(order_id)?;
        for (nth, fact) in facts.iter().enumerate() {
            self.record(asked, order_id, cause(asked.id, nth), fact)?;
        }
        let cause = cause(asked.id, facts.len());
        let news = match command {
            None => Vec::new(),
            Some(Command::Confirm { confirm, given_up }) => vec![self.confirm(asked, order_id, cause, confirm, *given_up)?],
            Some(Command::Close(close)) => vec![self.close(asked, order_id, cause, close)?],
        };
        let status = self.order(order_id)?.status;
        Ok(Decision::new(Answer { order_id, status, replayed: false }, news))
    }

    fn record(&mut self, asked: &Envelope<Input>, order_id: Uuid, cause: Uuid, fact: &proto::Fact) -> Result<(), Refusal> {
        if self.known.contains(&(order_id, cause)) {
            return Ok(());
        }
        let mut order = self.order(order_id)?;
        let (was, kind) = (order.status, Fact::named(&fact.event));
        order.status = next(was, order::Input::Fact(kind))?.0;
        match kind {
            Fact::NeedsAttention => order.needs_attention = true,
            Fact::Resumed => order.needs_attention = false,
            _ => {}
        }
        if order.status == Status::Compensating && was != Status::Compensating {
            order.reason.clone_from(&fact.detail);
        }
        let at = fact.occurred_at.as_ref().and_then(from_proto).unwrap_or(asked.at);
        self.write(order, asked, cause, at, &fact.event, &fact.detail);
        Ok(())
    }

    fn confirm(
        &mut self,
        asked: &Envelope<Input>,
        order_id: Uuid,
        cause: Uuid,
        confirm: &proto::ConfirmOrder,
        given_up: bool,
    ) -> Result<News, Refusal> {
        let mut order = self.order(order_id)?;
        let was = order.status;
        let (status, said) = next(was, if given_up { order::Input::Refuse } else { order::Input::Confirm })?;
        order.status = status;
        let (event, news) = match said {
            Said::Completed => {
                ("OrderCompleted", completed(&order, &confirm.command_id, &confirm.reservation_id, &confirm.shipment_id))
            }
            _ if status == was => ("OrderConfirmRefused", confirm_refused(&order, &confirm.command_id)),
            _ => {
                order.reason = contracts::DISCARDED.to_owned();
                ("OrderConfirmDiscarded", confirm_refused(&order, &confirm.command_id))
            }
        };
        if status != was || (said == Said::ConfirmRefused && !self.known.contains(&(order_id, cause))) {
            self.write(order, asked, cause, asked.at, event, "");
        }
        Ok(news)
    }

    fn close(&mut self, asked: &Envelope<Input>, order_id: Uuid, cause: Uuid, close: &proto::CloseOrder) -> Result<News, Refusal> {
        let mut order = self.order(order_id)?;
        let was = order.status;
        let (status, said) = next(was, order::Input::Close)?;
        order.status = status;
        if status != was {
            order.needs_attention = false;
            order.refunded_amount = close.refunded_amount.clamp(0, order.total);
            if order.reason.is_empty() {
                order.reason.clone_from(&close.reason);
            }
        }
        let (event, news) = match said {
            Said::Cancelled => ("OrderCancelled", cancelled(&order, &close.command_id)),
            Said::Failed => ("OrderFailed", failed(&order, &close.command_id)),
            _ => ("OrderCompleted", completed(&order, &close.command_id, "", "")),
        };
        if status != was {
            let detail = order.reason.clone();
            self.write(order, asked, cause, asked.at, event, &detail);
        }
        Ok(news)
    }

    fn order(&self, id: Uuid) -> Result<Order, Refusal> {
        self.orders.get(&id).cloned().ok_or(Refusal::Unknown(id))
    }

    /// Keeps the order with one more entry in its timeline.
    fn write(&mut self, mut order: Order, asked: &Envelope<Input>, cause: Uuid, at: OffsetDateTime, event: &str, detail: &str) {
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

pub(crate) fn item(line: &Line) -> proto::OrderItem {
    proto::OrderItem { sku: line.sku.clone(), quantity: line.quantity, unit_price: Some(line.unit_price) }
}

#[cfg(test)]
mod tests;
