//! One saga: what it keeps, and the one step it takes for each thing it hears. Pure.

use std::collections::HashMap;

use bytes::Bytes;
use contracts::{
    Message, ids,
    order::v1::{self as order, OrderCreated, OrderRefundRequested, RecordProgress},
    saga::v1::{SagaCompensating, SagaCompleted, SagaNeedsAttention, SagaStarted},
    time::to_proto,
};
use messaging::Trace;
use prost::Message as _;
use saga::{Answer, Command, Definition, Input, Operation, Phase, Progress, StepState};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    definitions,
    error::Refusal,
    hear::{Answered, Fact, Keeps, Means, Said, why_denied},
    operations,
    tell::tell,
};

/// No saga asks again earlier than this after it asked.
pub(crate) const DEADLINE_FIRST_MS: u64 = 2 * 60 * 1_000;
const DEADLINE_MAX_MS: u64 = 30 * 60 * 1_000;
/// A command that its participant has not read yet is not asked again. After this time it is all the same: the participant may never
/// come back, and a person must hear of it.
const BEHIND_MS_MAX: i64 = 60 * 60 * 1_000;

/// By topic: since when there is a record that its service has not read, in the partition of the order.
pub(crate) type Unread = HashMap<String, OffsetDateTime>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instance {
    pub(crate) order_id: Uuid,
    pub(crate) saga_id: Uuid,
    pub(crate) definition: &'static Definition,
    /// The OrderCreated or OrderRefundRequested it started with, as it came.
    pub(crate) created: Bytes,
    pub(crate) progress: Progress,
    pub(crate) kept: Kept,
    /// Why it unwinds.
    pub(crate) reason: String,
    pub(crate) deadline_at: Option<OffsetDateTime>,
    /// Of the latest cause.
    pub(crate) trace: Trace,
    pub(crate) started_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
    pub(crate) version: i64,
}

/// What answers brought that is needed later.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Kept {
    pub(crate) payment_id: String,
    pub(crate) reservation_id: String,
    pub(crate) shipment_id: String,
    pub(crate) refunded_amount: i64,
}

/// The saga after a step, and what it says.
pub(crate) type Turn = (Instance, Vec<Message>);

impl Instance {
    pub(crate) fn start(
        (order_id, saga_id): (Uuid, Uuid),
        definition: &'static Definition,
        created: Bytes,
        at: OffsetDateTime,
        trace: &Trace,
    ) -> Result<Option<Turn>, Refusal> {
        let new = Self {
            order_id,
            saga_id,
            definition,
            created,
            progress: Progress::new(definition),
            kept: Kept::default(),
            reason: String::new(),
            deadline_at: None,
            trace: trace.clone(),
            started_at: at,
            updated_at: at,
            version: 0,
        };
        let fact = Fact { event: "SagaStarted", detail: String::new(), keeps: Keeps::Nothing };
        let Some((saga, mut news)) = new.turn(Input::Started, Some(&fact), at)? else { return Ok(None) };
        let (saga_id, order_id) = saga.names();
        let (definition, definition_version) = (saga.definition.name.to_owned(), saga.definition.version);
        news.push(SagaStarted { saga_id, order_id, definition, definition_version }.into());
        Ok(Some((saga, news)))
    }

    /// `None` if it changes nothing: it was answered before, or is asked of nobody.
    pub(crate) fn hear(&self, means: &Means, at: OffsetDateTime, trace: &Trace) -> Result<Option<Turn>, Refusal> {
        let mut after = Self { trace: trace.clone(), ..self.clone() };
        match means {
            Means::Begins { .. } | Means::Happened(_) => Ok(None),
            Means::CancelRequested { reason } => {
                after.give_reason(if reason.is_empty() { "CANCELLED" } else { reason });
                after.turn(Input::Cancel, None, at)
            }
            Means::Answered(answered) => {
                let Some(to) = self.command_named_by(answered) else { return Ok(None) };
                let answer = match &answered.said {
                    Said::Done if answered.denies == Some(to.name(self.definition)) => Answer::Refused,
                    Said::Done => Answer::Done,
                    Said::Refused { .. } => Answer::Refused,
                    Said::Unknown => return after.turn(Input::Unknown { to }, answered.fact.as_ref(), at),
                };
                if !self.progress.awaits(to, answer) {
                    return Ok(after.late(to, answered, at));
                }
                if let Some(fact) = &answered.fact {
                    after.kept.keep(&fact.keeps);
                }
                if let (Said::Refused { reason }, Command::Do { .. }) = (&answered.said, to) {
                    after.give_reason(reason);
                }
                after.turn(Input::Answer { to, answer }, answered.fact.as_ref(), at)
            }
        }
    }

    /// A deadline passed; `None` if it is not the one the saga has now.
    pub(crate) fn due(&self, deadline_at: OffsetDateTime, unread: &Unread, at: OffsetDateTime) -> Result<Option<Turn>, Refusal> {
        if self.deadline_at != Some(deadline_at) {
            return Ok(None);
        }
        if self.is_unread(unread, at)? {
            let waits = Self { deadline_at: self.next_deadline(at), ..self.clone() };
            return Ok(Some((waits, Vec::new())));
        }
        self.clone().turn(Input::Deadline, None, at)
    }

    /// An operator acts; `None` if that would change nothing now.
    pub(crate) fn operate(
        &self,
        operation: Operation,
        reason: &str,
        at: OffsetDateTime,
        trace: &Trace,
    ) -> Result<Option<Turn>, Refusal> {
        let mut after = Self { trace: trace.clone(), ..self.clone() };
        if operation == Operation::Skip {
            after.give_reason("SKIPPED_BY_OPERATOR");
        }
        let fact = Fact { event: operations::event(operation), detail: reason.to_owned(), keeps: Keeps::Nothing };
        after.turn(Input::Operator(operation), Some(&fact), at)
    }

    /// In words, for an operator who wanted it otherwise.
    pub(crate) fn stands(&self) -> String {
        format!("{}{}", self.progress.state().as_str(), if self.progress.paused { " and paused" } else { "" })
    }

    /// Whether it is the saga that settles the order itself, and not one of its refunds.
    pub(crate) fn settles_order(&self) -> bool {
        self.saga_id == definitions::saga_id(self.order_id, self.definition.name)
    }

    /// Whether it was this saga that asked.
    pub(crate) fn asked_for(&self, answered: &Answered) -> bool {
        self.command_named_by(answered).is_some()
    }

    pub(crate) fn created(&self) -> Result<OrderCreated, Refusal> {
        Ok(OrderCreated::decode(&self.created[..])?)
    }

    pub(crate) fn refund_requested(&self) -> Result<OrderRefundRequested, Refusal> {
        Ok(OrderRefundRequested::decode(&self.created[..])?)
    }

    /// The first reason is the one that counts.
    fn give_reason(&mut self, reason: &str) {
        if self.reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
    }

    fn command_named_by(&self, answered: &Answered) -> Option<Command> {
        let id = ids::parse(&answered.command_id).ok()?;
        definitions::commands(self.definition)
            .filter(|command| answered.may_answer(command.name(self.definition)))
            .find_map(|like| self.progress.named(self.definition, self.saga_id, like, id))
    }

    /// Whether what is asked may not have been read yet: its participant has a record before it that is no younger.
    fn is_unread(&self, unread: &Unread, at: OffsetDateTime) -> Result<bool, Refusal> {
        let Some(asked) = self.progress.asked().filter(|_| !unread.is_empty()) else { return Ok(false) };
        if at - self.updated_at >= Duration::milliseconds(BEHIND_MS_MAX) {
            return Ok(false);
        }
        let since = unread.get(tell(self, asked)?.topic());
        Ok(since.is_some_and(|since| *since <= self.updated_at))
    }

    fn turn(mut self, input: Input, fact: Option<&Fact>, at: OffsetDateTime) -> Result<Option<Turn>, Refusal> {
        let (progress, commands) = saga::next(self.definition, self.progress.clone(), input);
        if progress == self.progress && commands.is_empty() {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.progress, progress);
        self.touch(at);
        self.deadline_at = self.next_deadline(at);
        let mut facts: Vec<order::Fact> = fact.map(|fact| happened(fact.event, &fact.detail, at)).into_iter().collect();
        let mut news = Vec::new();
        self.tell_turns(&before, at, &mut facts, &mut news);
        for command in commands {
            let mut message = tell(&self, command)?;
            // A command that confirms or closes the order brings the facts along: one message, and one change of the order, instead of
            // two. Asked again by a deadline it has none to bring: its first message is before it in the same stream.
            match &mut message {
                Message::ConfirmOrder(confirm) => confirm.facts.append(&mut facts),
                Message::CloseOrder(close) => close.facts.append(&mut facts),
                _ => {}
            }
            news.push(message);
        }
        // What happens after the end does not end it again.
        if self.progress.is_over() && !before.is_over() {
            let (saga_id, order_id) = self.names();
            news.push(SagaCompleted { saga_id, order_id, outcome: self.progress.state().as_str().to_owned() }.into());
        }
        let news = facts.into_iter().map(|fact| record(self.order_id, fact)).chain(news).collect();
        Ok(Some((self, news)))
    }

    /// An answer nobody waits for any more. That something was done although its undo is asked is still told, once.
    fn late(mut self, to: Command, answered: &Answered, at: OffsetDateTime) -> Option<Turn> {
        let fact = answered.fact.as_ref()?;
        if !matches!(to, Command::Do { .. }) || !self.kept.keep(&fact.keeps) {
            return None;
        }
        self.touch(at);
        let news = vec![record(self.order_id, happened(fact.event, &fact.detail, at))];
        Some((self, news))
    }

    fn touch(&mut self, at: OffsetDateTime) {
        self.updated_at = at;
        self.version += 1;
    }

    /// Turning back, and coming to need a person, are news by themselves. With nothing to undo there is no turning back, only
    /// an end.
    fn tell_turns(&self, before: &Progress, at: OffsetDateTime, facts: &mut Vec<order::Fact>, news: &mut Vec<Message>) {
        if before.phase == Phase::Forward && self.progress.phase == Phase::Unwinding {
            let (saga_id, order_id) = self.names();
            facts.push(happened("SagaCompensating", &self.reason, at));
            news.push(SagaCompensating { saga_id, order_id, reason: self.reason.clone() }.into());
        }
        match (before.stuck, self.progress.stuck) {
            (false, true) => {
                let (saga_id, order_id) = self.names();
                let fact = self.needs_attention(at);
                let reason = fact.detail.clone();
                facts.push(fact);
                news.push(SagaNeedsAttention { saga_id, order_id, reason }.into());
            }
            (true, false) => facts.push(happened("SagaResumed", "", at)),
            (true, true) | (false, false) => {}
        }
    }

    /// Puts up the order's flag.
    pub(crate) fn needs_attention(&self, at: OffsetDateTime) -> order::Fact {
        happened("SagaNeedsAttention", &attention(self.definition, &self.progress), at)
    }

    fn names(&self) -> (String, String) {
        (self.saga_id.to_string(), self.order_id.to_string())
    }

    /// The wait doubles with each time it asked again. The jitter is derived, since a decision has no dice: the same step has
    /// the same deadline.
    fn next_deadline(&self, at: OffsetDateTime) -> Option<OffsetDateTime> {
        if self.progress.stuck || self.progress.paused {
            return None;
        }
        self.progress.asked()?;
        let resent = self.progress.resent;
        let spread_ms = (DEADLINE_FIRST_MS << resent.min(16)).min(DEADLINE_MAX_MS - DEADLINE_FIRST_MS);
        let (_, dice) = ids::derive(self.saga_id, &format!("deadline/{resent}")).as_u64_pair();
        let wait_ms = DEADLINE_FIRST_MS + dice % (spread_ms + 1);
        Some(at + Duration::milliseconds(i64::try_from(wait_ms).unwrap_or(i64::MAX)))
    }
}

impl Kept {
    /// Whether it was not known before.
    fn keep(&mut self, keeps: &Keeps) -> bool {
        let (place, id) = match keeps {
            Keeps::Nothing => return false,
            // A saga gives back once: two undos of one payment may both tell of the same refund.
            Keeps::Refunded(amount) => {
                let new = *amount > self.refunded_amount;
                self.refunded_amount = self.refunded_amount.max(*amount);
                return new;
            }
            Keeps::Payment(id) => (&mut self.payment_id, id),
            Keeps::Reservation(id) => (&mut self.reservation_id, id),
            Keeps::Shipment(id) => (&mut self.shipment_id, id),
        };
        let new = place.is_empty() && !id.is_empty();
        if new {
            place.clone_from(id);
        }
        new
    }
}

/// A fact for the order's timeline.
pub(crate) fn happened(event: &str, detail: &str, at: OffsetDateTime) -> order::Fact {
    order::Fact { event: event.to_owned(), occurred_at: Some(to_proto(at)), detail: detail.to_owned() }
}

/// A fact that goes by itself.
pub(crate) fn record(order_id: Uuid, order::Fact { event, occurred_at, detail }: order::Fact) -> Message {
    RecordProgress { order_id: order_id.to_string(), event, occurred_at, detail }.into()
}

/// What a person has to look at; empty if nothing. An undo that only waits for its turn is not among it, and no skip settles it.
pub(crate) fn attention(definition: &Definition, progress: &Progress) -> String {
    if !progress.stuck {
        return String::new();
    }
    let refused = progress.steps.iter().enumerate().filter_map(|(step, stand)| match stand.state {
        StepState::UndoRefused => Some(Command::Undo { step, attempt: stand.attempt }),
        StepState::Refused if progress.phase == Phase::Forward => Some(Command::Do { step, attempt: stand.attempt }),
        _ => None,
    });
    let asked = progress.asked();
    let (refused_close, unanswered) = if progress.is_close_refused() { (asked, None) } else { (None, asked) };
    let refused = refused.chain(refused_close).map(|command| {
        let name = command.name(definition);
        match why_denied(name) {
            "" => format!("{name} is refused"),
            why => format!("{name} is refused: {why}"),
        }
    });
    let unanswered = unanswered.map(|command| format!("{} has no answer", command.name(definition)));
    refused.chain(unanswered).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
