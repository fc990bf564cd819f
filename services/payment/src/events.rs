//! The payment service's handler: commands of the sagas and answers of the provider, decided by [`payment::step`].

mod commands;
mod news;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contracts::ids;
use messaging::{Decision, Envelope, Handler, Heard, Record};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    dispatcher::{
        Handover,
        store::{self as calls, NewCall},
    },
    error::Refusal,
    ledger,
    payment::{self, Aside, Call, Effect, Opening, Payment, Refund, State, Transfer},
    results::{Charged, Results},
    store,
};

#[derive(Debug)]
pub(crate) enum Input {
    Change {
        order_id: Uuid,
        input: payment::Input,
        /// When the command was said, however late it is heard; of what became of a call, what the call has.
        asked_at: OffsetDateTime,
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
    /// Those that inputs name, and those they make, by id.
    refunds: BTreeMap<Uuid, RefundPage>,
    transfers: Vec<(Transfer, OffsetDateTime)>,
    /// Calls to be stored, by key.
    calls: BTreeMap<Uuid, NewCall>,
    /// Keys of stored calls that are over.
    ended: BTreeSet<Uuid>,
    /// Keys of stored calls that are not to be sent any more.
    withdrawn: BTreeSet<Uuid>,
    /// Keys of stored calls that wait for a person, and why.
    set_aside: BTreeMap<Uuid, Aside>,
    charged: Vec<Charged>,
}

struct Page {
    payment: Payment,
    new: bool,
    changed: bool,
}

struct RefundPage {
    refund: Refund,
    changed_at: Option<OffsetDateTime>,
}

impl Handler for Payments {
    type Input = Input;
    type Answer = ();
    type Refusal = Refusal;
    type State = Book;

    fn hear(&self, record: &Record) -> Heard<Input> {
        kit::hear(record, |message| commands::heard(message, record.at))
    }

    fn refuse(&self, record: &Record) -> Option<Input> {
        kit::refuse(record, |message| commands::given_up(message, record.at))
    }

    async fn load(&self, db: &mut PgConnection, batch: &[&Envelope<Input>]) -> sqlx::Result<Book> {
        // By order, with whether an undo is among its inputs.
        let mut asked: BTreeMap<Uuid, bool> = BTreeMap::new();
        let mut refund_ids = BTreeSet::new();
        for envelope in batch {
            if let Input::Change { order_id, input, .. } = &envelope.input {
                *asked.entry(*order_id).or_default() |= matches!(input, payment::Input::Undo { .. });
                refund_ids.extend(input.refund_id());
            }
        }
        let order_ids: Vec<Uuid> = asked.keys().copied().collect();
        let mut payments = store::lock_payments(&mut *db, &order_ids).await?;

        // Only an undo needs to know whether the open call was sent. Locking the call keeps the dispatcher from sending it meanwhile.
        let undone = |payment: &&Payment| {
            matches!(payment.state, State::InFlight | State::Capturing) && asked.get(&payment.order_id) == Some(&true)
        };
        let undone: Vec<Uuid> = payments.iter().filter(undone).filter_map(Payment::open_key).collect();
        if !undone.is_empty() {
            let sent: HashMap<Uuid, bool> = calls::lock_calls(&mut *db, &undone).await?.into_iter().collect();
            for payment in &mut payments {
                payment.sent = payment.open_key().and_then(|key| sent.get(&key).copied()).unwrap_or(true);
            }
        }
        let refunds = if refund_ids.is_empty() {
            Vec::new()
        } else {
            store::refunds(&mut *db, &refund_ids.into_iter().collect::<Vec<_>>()).await?
        };
        let page = |payment: Payment| (payment.order_id, Page { payment, new: false, changed: false });
        let refund_page = |refund: Refund| (refund.id, RefundPage { refund, changed_at: None });
        Ok(Book {
            pages: payments.into_iter().map(page).collect(),
            refunds: refunds.into_iter().map(refund_page).collect(),
            ..Book::default()
        })
    }

    fn decide(&self, book: &mut Book, asked: &Envelope<Input>) -> Result<Decision<()>, Refusal> {
        let (order_id, input, asked_at) = match &asked.input {
            Input::Change { order_id, input, asked_at } => (*order_id, input, *asked_at),
            Input::Unreadable(field) => return Err(Refusal::Unreadable(field)),
        };
        let opening = Opening { order_id, provider: self.provider, at: asked.at };
        let payment = book.pages.get(&order_id).map(|page| &page.payment);
        let refund = input.refund_id().and_then(|id| book.refunds.get(&id)).map(|page| &page.refund);
        let before = payment.map(|payment| payment.state);
        let step = payment::step(&opening, payment, refund, input)?;
        book.charged.extend(Charged::of(order_id, before, input, &asked.trace));
        if let Some(payment) = step.payment {
            book.put(payment);
        }
        let mut said = Vec::new();
        for effect in step.effects {
            match effect {
                Effect::Say(answer) => said.push(news::of(order_id, answer)),
                other => book.note(order_id, other, asked, asked_at),
            }
        }
        Ok(Decision::new((), said))
    }

    async fn save(&self, db: &mut PgConnection, book: Book) -> sqlx::Result<()> {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for page in book.pages.into_values() {
            if page.new {
                new.push(page.payment);
            } else if page.changed {
                changed.push(page.payment);
            }
        }
        let refunds = book.refunds.into_values().filter_map(|page| Some((page.refund, page.changed_at?)));
        store::insert_payments(&mut *db, &new).await?;
        store::update_payments(&mut *db, &changed).await?;
        store::put_refunds(&mut *db, &refunds.collect::<Vec<_>>()).await?;
        ledger::store::insert_transfers(&mut *db, &book.transfers).await?;
        calls::withdraw_calls(&mut *db, &book.withdrawn.into_iter().collect::<Vec<_>>()).await?;
        calls::delete_calls(&mut *db, &book.ended.into_iter().collect::<Vec<_>>()).await?;
        calls::set_aside_by_decision(&mut *db, &book.set_aside.into_iter().collect::<Vec<_>>()).await?;
        self.results.stage(book.charged);
        let new_calls: Vec<NewCall> = book.calls.into_values().collect();
        let leased = self.handover.stage(new_calls.iter().map(|call| call.key));
        calls::insert_calls(&mut *db, &new_calls, leased, self.lease_ms).await
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
                self.pages.insert(payment.order_id, Page { payment, new: true, changed: true });
            }
        }
    }

    fn note(&mut self, order_id: Uuid, effect: Effect, asked: &Envelope<Input>, asked_at: OffsetDateTime) {
        match effect {
            Effect::Call(call) => self.open_call(order_id, call, asked, asked_at),
            Effect::EndCall { key } => {
                // A call of this very batch is not stored yet: it is simply forgotten.
                if self.calls.remove(&key).is_none() {
                    self.ended.insert(key);
                }
            }
            Effect::Withdraw { key } => match self.calls.get_mut(&key) {
                Some(new) => new.withdrawn = true,
                None => drop(self.withdrawn.insert(key)),
            },
            Effect::SetAside { key, why } => {
                self.set_aside.insert(key, why);
            }
            Effect::Refund(refund) => {
                self.refunds.insert(refund.id, RefundPage { refund, changed_at: Some(asked.at) });
            }
            Effect::Transfer(transfer) => self.transfers.push((transfer, asked.at)),
            Effect::Say(_) => {}
        }
    }

    fn open_call(&mut self, order_id: Uuid, call: Call, asked: &Envelope<Input>, asked_at: OffsetDateTime) {
        let Some(page) = self.pages.get(&order_id) else { return };
        let new = NewCall {
            payment_id: page.payment.id,
            // One input opens one call at most.
            id: ids::derive(asked.id, "provider call"),
            order_id,
            kind: call.kind,
            key: call.key,
            token: call.token,
            amount: call.amount,
            currency: page.payment.currency.clone(),
            asked_at,
            withdrawn: false,
            correlation: asked.correlation.clone(),
            trace: asked.trace.clone(),
        };
        self.calls.insert(call.key, new);
    }
}
