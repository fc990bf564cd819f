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
    draft::Draft,
    error::Refusal,
    order::{self, Entry, Fact, Line, Order, Said, Status},
    pending::{Move, Pending, Told},
    store,
    watch::Watchers,
};

/// Which definition settles a new order.
const DEFINITION: &str = "checkout";

pub(crate) enum Input {
    Create(Box<Draft>),
    Cancel { order_id: Uuid, reason: String },
    Told { order_id: Uuid, command: Command },
    Priced { said_at: OffsetDateTime, product: ProductUpserted },
}

pub(crate) enum Command {
    Record { event: String, at: Option<OffsetDateTime>, detail: String },
    Confirm { confirm: proto::ConfirmOrder, given_up: bool },
    Close { command_id: String, reason: String, refunded_amount: i64 },
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
    /// Facts that are written down already: (order, cause).
    pub(crate) known: HashSet<(Uuid, Uuid)>,
    /// (sku, currency) → price.
    pub(crate) catalogue: HashMap<(String, String), i64>,
    pub(crate) new_orders: HashSet<Uuid>,
    pub(crate) new_lines: Vec<(Uuid, Vec<Line>)>,
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
        let told = |order_id: &str, command| match ids::parse(order_id) {
            Ok(order_id) => Heard::Input(Input::Told { order_id, command }),
            Err(error) => Heard::Undecodable(format!("order_id: {error}")),
        };
        match message {
            Err(error) => Heard::Undecodable(error.to_string()),
            Ok(Message::RecordProgress(m)) => told(
                &m.order_id,
                Command::Record { event: m.event, at: m.occurred_at.as_ref().and_then(from_proto), detail: m.detail },
            ),
            Ok(Message::ConfirmOrder(m)) => told(&m.order_id.clone(), Command::Confirm { confirm: m, given_up: false }),
            Ok(Message::CloseOrder(m)) => {
                told(&m.order_id, Command::Close { command_id: m.command_id, reason: m.reason, refunded_amount: m.refunded_amount })
            }
            Ok(Message::ProductUpserted(product)) => {
                let mut currencies = HashSet::new();
                match product.prices.iter().all(|price| currencies.insert(price.currency.as_str())) {
                    true => Heard::Input(Input::Priced { said_at: record.at, product }),
                    false => Heard::Undecodable("it has two prices in one currency".to_owned()),
                }
            }
            Ok(_) => Heard::Ignored,
        }
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        // What a batch left behind that was not committed.
        self.pending.stage(Told::default());
        let mut orders = Vec::with_capacity(batch.len());
        let mut facts = Vec::new();
        let mut unpriced = Vec::new();
        for asked in batch {
            match &asked.input {
                Input::Create(draft) => {
                    orders.push(draft.id);
                    let missing = draft.lines.iter().filter(|line| line.unit_price.is_none());
                    unpriced.extend(missing.map(|line| line.sku.as_str()));
                }
                Input::Cancel { order_id, .. } => orders.push(*order_id),
                Input::Told { order_id, .. } => {
                    orders.push(*order_id);
                    facts.push((*order_id, asked.id));
                }
                Input::Priced { .. } => {}
            }
        }
        store::load(db, orders, &facts, unpriced).await
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<Answer>, Refusal> {
        match &asked.input {
            Input::Create(draft) => book.create(asked, draft),
            Input::Cancel { order_id, reason } => book.cancel(asked, *order_id, reason),
            Input::Told { order_id, command } => book.told(asked, *order_id, command),
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
            let Message::ConfirmOrder(confirm) = message else { return None };
            Some(Input::Told {
                order_id: ids::parse(&confirm.order_id).ok()?,
                command: Command::Confirm { confirm, given_up: true },
            })
        })
    }

    fn committed(&self) {
        self.pending.committed(&self.watchers);
    }
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
        self.new_orders.insert(order.id);
        self.new_lines.push((order.id, lines));
        self.write(order, asked, asked.at, "OrderCreated", "");
        let answer = Answer { order_id: draft.id, status: Status::Pending, replayed: false };
        Ok(Decision::new(answer, vec![news(draft.id, created)]))
    }

    fn cancel(&mut self, asked: &Envelope<Input>, order_id: Uuid, reason: &str) -> Result<Decision<Answer>, Refusal> {
        let mut order = self.order(order_id)?;
        let (status, said) = order::next(order.status, order::Input::Cancel).map_err(|_| Refusal::NotCancellable(order.status))?;
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
        self.write(order, asked, asked.at, "OrderCancelRequested", &detail);
        Ok(Decision::new(answer, vec![news(order_id, requested)]))
    }

    fn told(&mut self, asked: &Envelope<Input>, order_id: Uuid, command: &Command) -> Result<Decision<Answer>, Refusal> {
        let mut order = self.order(order_id)?;
        let input = match command {
            Command::Record { event, .. } => order::Input::Fact(Fact::named(event)),
            Command::Confirm { given_up: false, .. } => order::Input::Confirm,
            Command::Confirm { given_up: true, .. } => order::Input::Refuse,
            Command::Close { .. } => order::Input::Close,
        };
        let (status, said) = order::next(order.status, input).map_err(|_| Refusal::NotCancellable(order.status))?;
        let known = self.known.contains(&(order_id, asked.id));
        let answer = Answer { order_id, status: order.status, replayed: known };
        let was = order.status;
        match command {
            Command::Record { event, at, detail } => {
                if known {
                    return Ok(Decision::quiet(answer));
                }
                order.status = status;
                match Fact::named(event) {
                    Fact::NeedsAttention => order.needs_attention = true,
                    Fact::Resumed => order.needs_attention = false,
                    _ => {}
                }
                if status == Status::Compensating && was != Status::Compensating {
                    order.reason.clone_from(detail);
                }
                self.write(order, asked, at.unwrap_or(asked.at), event, detail);
                Ok(Decision::quiet(answer))
            }
            Command::Confirm { confirm: proto::ConfirmOrder { command_id, reservation_id, shipment_id, .. }, .. } => {
                order.status = status;
                let (event, news) = match said {
                    Said::Completed => ("OrderCompleted", completed(&order, command_id, reservation_id, shipment_id)),
                    _ if status == was => ("OrderConfirmRefused", confirm_refused(&order, command_id)),
                    _ => {
                        order.reason = contracts::DISCARDED.to_owned();
                        ("OrderConfirmDiscarded", confirm_refused(&order, command_id))
                    }
                };
                if !known && (status != was || said == Said::ConfirmRefused) {
                    self.write(order, asked, asked.at, event, "");
                }
                Ok(Decision::new(answer, vec![news]))
            }
            Command::Close { command_id, reason, refunded_amount } => {
                order.status = status;
                if status != was {
                    order.needs_attention = false;
                    order.refunded_amount = (*refunded_amount).clamp(0, order.total);
                    if order.reason.is_empty() {
                        order.reason.clone_from(reason);
                    }
                }
                let (event, news) = match said {
                    Said::Cancelled => ("OrderCancelled", cancelled(&order, command_id)),
                    Said::Failed => ("OrderFailed", failed(&order, command_id)),
                    _ => ("OrderCompleted", completed(&order, command_id, "", "")),
                };
                if status != was {
                    let detail = order.reason.clone();
                    self.write(order, asked, asked.at, event, &detail);
                }
                Ok(Decision::new(answer, vec![news]))
            }
        }
    }

    fn order(&self, id: Uuid) -> Result<Order, Refusal> {
        self.orders.get(&id).cloned().ok_or(Refusal::Unknown(id))
    }

    /// Keeps the order with one more entry in its timeline.
    fn write(&mut self, mut order: Order, asked: &Envelope<Input>, at: OffsetDateTime, event: &str, detail: &str) {
        let (cause, from) = (asked.id, self.orders.get(&order.id).map(|order| order.status));
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

fn completed(order: &Order, command_id: &str, reservation_id: &str, shipment_id: &str) -> News {
    news(
        order.id,
        proto::OrderCompleted {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            currency: order.currency.clone(),
            total: order.total,
            reservation_id: reservation_id.to_owned(),
            shipment_id: shipment_id.to_owned(),
        },
    )
}

fn confirm_refused(order: &Order, command_id: &str) -> News {
    let status = crate::grpc::status(order.status);
    news(
        order.id,
        proto::OrderConfirmRefused {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            status: status.into(),
        },
    )
}

fn failed(order: &Order, command_id: &str) -> News {
    news(
        order.id,
        proto::OrderFailed {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            reason: order.reason.clone(),
            refunded_amount: order.refunded_amount,
            currency: order.currency.clone(),
        },
    )
}

fn cancelled(order: &Order, command_id: &str) -> News {
    news(
        order.id,
        proto::OrderCancelled {
            order_id: order.id.to_string(),
            customer_id: order.customer_id.clone(),
            command_id: command_id.to_owned(),
            reason: order.reason.clone(),
            refunded_amount: order.refunded_amount,
            currency: order.currency.clone(),
        },
    )
}
