//! What the saga of an order tells it: facts, and then a command.

use contracts::{Message, ids, order::v1 as proto, time::from_proto};
use messaging::{Decision, Envelope, News};
use uuid::Uuid;

use super::{Answer, Book, Input, Unreadable, id, next};
use crate::{
    error::Refusal,
    order::{self, Fact, Said, Status},
    said,
};

/// Facts of one command. A turn of a saga has three at most.
pub(super) const FACTS_MAX: usize = 16;

pub(crate) enum Command {
    Confirm { confirm: proto::ConfirmOrder, given_up: bool },
    Close(proto::CloseOrder),
}

/// What a command tells an order, or why it cannot be read; `None` if it is not for orders.
pub(super) fn read(message: Message) -> Option<Result<Input, Unreadable>> {
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
        return Some(Err(Unreadable::Facts(facts.len())));
    }
    Some(id("order_id", &order_id).map(|order_id| Input::Told { order_id, facts, command }))
}

/// The cause of the nth entry that an input makes: the first has the id of the input. The same input again has the same causes.
pub(super) fn cause(input: Uuid, nth: usize) -> Uuid {
    if nth == 0 { input } else { ids::derive(input, &format!("entry/{nth}")) }
}

impl Book {
    /// What happened, then what is to be done. Nothing of it is refused: that is for callers.
    pub(super) fn told(
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
        Ok(Decision::new(Answer::of(order_id, status, false), news))
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
                ("OrderCompleted", said::completed(&order, &confirm.command_id, &confirm.reservation_id, &confirm.shipment_id))
            }
            _ if status == was => ("OrderConfirmRefused", said::confirm_refused(&order, &confirm.command_id)),
            _ => {
                order.reason = contracts::DISCARDED.to_owned();
                ("OrderConfirmDiscarded", said::confirm_refused(&order, &confirm.command_id))
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
            Said::Cancelled => ("OrderCancelled", said::cancelled(&order, &close.command_id)),
            Said::Failed => ("OrderFailed", said::failed(&order, &close.command_id)),
            _ => ("OrderCompleted", said::completed(&order, &close.command_id, "", "")),
        };
        if status != was {
            let detail = order.reason.clone();
            self.write(order, asked, cause, asked.at, event, &detail);
        }
        Ok(news)
    }
}
