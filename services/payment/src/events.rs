//! The payment service's handler: commands of the saga and answers of the provider, decided by [`payment::step`].

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use contracts::{
    Message, ids,
    payment::v1::{
        ChargePayment, PaymentFailed, PaymentRefundFailed, PaymentRefunded, PaymentSucceeded, PaymentVoided, RefundPayment,
    },
};
use messaging::{Decision, Envelope, Handler, Heard, News, Record};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    dispatcher::Handover,
    error::Refusal,
    payment::{self, Answer, Effect, Opening, Payment, Refund, Said, State, Transfer},
    results::{Charged, Results},
    store::{self, Kind, NewCall},
};

#[derive(Debug)]
pub(crate) enum Input {
    Change {
        order_id: Uuid,
        input: payment::Input,
    },
    /// A command whose field is not what it must be.
    Unreadable(&'static str),
}

pub(crate) struct Payments {
    provider: &'static str,
    handover: Handover,
    results: Results,
    lease_ms: i64,
}

impl Payments {
    pub(crate) fn new(provider: &'static str, handover: Handover, lease_ms: i64) -> Self {
        Self { provider, handover, results: Results::default(), lease_ms }
    }
}

/// The payments a batch touches, by order, with what is to be written beside them.
#[derive(Default)]
pub(crate) struct Book {
    pages: BTreeMap<Uuid, Page>,
    refunds: BTreeMap<Uuid, (Refund, OffsetDateTime)>,
    transfers: Vec<(Transfer, OffsetDateTime)>,
    charged: Vec<Charged>,
}

struct Page {
    payment: Payment,
    new: bool,
    changed: bool,
    /// The stored call is to be deleted.
    ends_call: bool,
    /// The call to be stored.
    call: Option<NewCall>,
}

impl Handler for Payments {
    type Input = Input;
    type Answer = ();
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        kit::hear(record, |message| match message {
            Message::ChargePayment(told) => Some(Ok::<_, Infallible>(charge(told).unwrap_or_else(Input::Unreadable))),
            Message::RefundPayment(told) => Some(Ok(undo(&told).unwrap_or_else(Input::Unreadable))),
            _ => None,
        })
    }

    fn refuse(&self, record: &Record) -> Option<Input> {
        kit::refuse(record, |message| {
            let id = |text: &str| ids::parse(text).ok();
            let (order_id, input) = match message {
                Message::ChargePayment(told) => (told.order_id, payment::Input::RefuseCharge { command_id: id(&told.command_id)? }),
                Message::RefundPayment(told) => {
                    let (command_id, undoes) = (id(&told.command_id)?, id(&told.undoes)?);
                    (told.order_id, payment::Input::RefuseUndo { command_id, undoes })
                }
                _ => return None,
            };
            Some(Input::Change { order_id: id(&order_id)?, input })
        })
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        // By order, with whether an undo is among its inputs.
        let mut asked: BTreeMap<Uuid, bool> = BTreeMap::new();
        for envelope in batch {
            if let Input::Change { order_id, input } = &envelope.input {
                *asked.entry(*order_id).or_default() |= matches!(input, payment::Input::Undo { .. });
            }
        }
        let order_ids: Vec<Uuid> = asked.keys().copied().collect();
        let mut payments = store::lock_payments(&mut *db, &order_ids).await?;

        // Only an undo needs to know whether the charge was sent. Locking the call keeps the dispatcher from sending it meanwhile.
        let undone = |payment: &&Payment| payment.state == State::InFlight && asked.get(&payment.order_id) == Some(&true);
        let mut undone: Vec<Uuid> = payments.iter().filter(undone).map(|payment| payment.id).collect();
        if !undone.is_empty() {
            undone.sort_unstable();
            let sent: HashMap<Uuid, bool> = store::lock_calls(&mut *db, &undone).await?.into_iter().collect();
            for payment in &mut payments {
                payment.charge_sent = sent.get(&payment.id).copied().unwrap_or(true);
            }
        }
        let page = |payment: Payment| Page { payment, new: false, changed: false, ends_call: false, call: None };
        let pages = payments.into_iter().map(|payment| (payment.order_id, page(payment))).collect();
        Ok(Book { pages, ..Book::default() })
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<()>, Refusal> {
        let (order_id, input) = match &asked.input {
            Input::Change { order_id, input } => (*order_id, input),
            Input::Unreadable(field) => return Err(Refusal::Unreadable(field)),
        };
        let opening = Opening { order_id, provider: self.provider, at: asked.at };
        let payment = book.pages.get(&order_id).map(|page| &page.payment);
        let before = payment.map(|payment| payment.state);
        let step = payment::step(&opening, payment, input)?;
        book.charged.extend(Charged::of(order_id, before, input, &asked.trace));
        if let Some(payment) = step.payment {
            book.put(payment);
        }
        let mut news = Vec::new();
        for effect in step.effects {
            match effect {
                Effect::Say(said) => news.push(news_of(order_id, said)),
                other => book.note(order_id, other, asked),
            }
        }
        Ok(Decision::new((), news))
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        let (mut new, mut changed, mut ended, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for page in book.pages.into_values() {
            if page.ends_call {
                ended.push(page.payment.id);
            }
            calls.extend(page.call);
            if page.new {
                new.push(page.payment);
            } else if page.changed {
                changed.push(page.payment);
            }
        }
        store::insert_payments(&mut *db, &new).await?;
        store::update_payments(&mut *db, &changed).await?;
        store::put_refunds(&mut *db, &book.refunds.into_values().collect::<Vec<_>>()).await?;
        store::insert_transfers(&mut *db, &book.transfers).await?;
        store::delete_calls(&mut *db, &ended).await?;
        self.results.stage(book.charged);
        let leased = self.handover.stage(calls.iter().map(|call| call.payment_id));
        store::insert_calls(&mut *db, &calls, leased, self.lease_ms).await
    }

    fn committed(&self) {
        self.handover.committed();
        self.results.committed();
    }
}

impl Book {
    fn put(&mut self, payment: Payment) {
        match self.pages.get_mut(&payment.order_id) {
            Some(page) if page.payment == payment => {}
            Some(page) => {
                page.payment = payment;
                page.changed = true;
            }
            None => {
                let page = Page { payment, new: true, changed: true, ends_call: false, call: None };
                self.pages.insert(page.payment.order_id, page);
            }
        }
    }

    fn note(&mut self, order_id: Uuid, effect: Effect, asked: &Envelope<Input>) {
        match effect {
            Effect::Refund(refund) => {
                self.refunds.insert(refund.id, (refund, asked.at));
            }
            Effect::Transfer(transfer) => self.transfers.push((transfer, asked.at)),
            Effect::CallCharge { token } => {
                self.open_call(order_id, asked, |payment| (Kind::Charge, payment.id, token, payment.amount))
            }
            Effect::CallRefund { refund_id, amount } => {
                self.open_call(order_id, asked, |_| (Kind::Refund, refund_id, String::new(), amount));
            }
            Effect::EndCall => {
                if let Some(page) = self.pages.get_mut(&order_id) {
                    // A call of this very batch is not stored yet: it is simply forgotten.
                    page.ends_call |= page.call.take().is_none() && !page.new;
                }
            }
            Effect::Say(_) => {}
        }
    }

    fn open_call(&mut self, order_id: Uuid, asked: &Envelope<Input>, what: impl FnOnce(&Payment) -> (Kind, Uuid, String, i64)) {
        let Some(page) = self.pages.get_mut(&order_id) else { return };
        let (kind, key, token, amount) = what(&page.payment);
        page.call = Some(NewCall {
            payment_id: page.payment.id,
            id: ids::derive(asked.id, "provider call"),
            order_id,
            kind,
            key,
            token,
            amount,
            currency: page.payment.currency.clone(),
            correlation: asked.correlation.clone(),
            trace: asked.trace.clone(),
        });
    }
}

fn charge(told: ChargePayment) -> Result<Input, &'static str> {
    let order_id = id("order_id", &told.order_id)?;
    let command_id = id("command_id", &told.command_id)?;
    let input = payment::Input::Charge { command_id, amount: told.amount, currency: told.currency, token: told.payment_token };
    Ok(Input::Change { order_id, input })
}

fn undo(told: &RefundPayment) -> Result<Input, &'static str> {
    let order_id = id("order_id", &told.order_id)?;
    let command_id = id("command_id", &told.command_id)?;
    let undoes = id("undoes", &told.undoes)?;
    Ok(Input::Change { order_id, input: payment::Input::Undo { command_id, undoes } })
}

fn id(field: &'static str, text: &str) -> Result<Uuid, &'static str> {
    ids::parse(text).map_err(|_| field)
}

fn news_of(order: Uuid, said: Said) -> News {
    let order_id = order.to_string();
    let command_id = said.command_id.map(|id| id.to_string()).unwrap_or_default();
    let payment_id = said.payment_id.to_string();
    match said.answer {
        Answer::Succeeded { amount, currency, provider, auth_code } => {
            kit::news(order, PaymentSucceeded { order_id, command_id, payment_id, amount, currency, provider, auth_code })
        }
        Answer::Failed { reason } => kit::news(order, PaymentFailed { order_id, command_id, payment_id, reason }),
        Answer::Voided => kit::news(order, PaymentVoided { order_id, command_id, payment_id }),
        Answer::Refunded { refund_id, amount, currency } => {
            let refund_id = refund_id.to_string();
            kit::news(order, PaymentRefunded { order_id, command_id, payment_id, refund_id, amount, currency })
        }
        Answer::RefundFailed { refund_id, reason } => {
            let refund_id = refund_id.to_string();
            kit::news(order, PaymentRefundFailed { order_id, command_id, payment_id, refund_id, reason })
        }
    }
}
