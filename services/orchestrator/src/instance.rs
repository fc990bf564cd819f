//! One saga: what it keeps, and the one step it takes for each thing it hears. Pure.

use bytes::Bytes;
use contracts::{
    Message, ids,
    order::v1::{self as order, OrderCreated, RecordProgress},
    saga::v1::{SagaCompensating, SagaCompleted, SagaNeedsAttention, SagaStarted},
    time::to_proto,
};
use messaging::Trace;
use prost::Message as _;
use saga::{Answer, Command, Definition, Input, Phase, Progress, StepState};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    checkout::{self, Answered, Fact, Keeps, Means, Said},
    error::Refusal,
};

/// No saga asks again earlier than this after it asked.
pub(crate) const DEADLINE_FIRST_MS: u64 = 2 * 60 * 1_000;
const DEADLINE_MAX_MS: u64 = 30 * 60 * 1_000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instance {
    pub(crate) order_id: Uuid,
    pub(crate) saga_id: Uuid,
    pub(crate) definition: &'static Definition,
    /// The OrderCreated it started with, as it came.
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
        order_id: Uuid,
        definition: &str,
        created: Bytes,
        at: OffsetDateTime,
        trace: &Trace,
    ) -> Result<Option<Turn>, Refusal> {
        let definition = checkout::newest(definition).ok_or(Refusal::UnknownDefinition)?;
        let new = Self {
            order_id,
            saga_id: ids::derive(order_id, definition.name),
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
            Means::Created { .. } => Ok(None),
            Means::CancelRequested { reason } => {
                after.give_reason(if reason.is_empty() { "CANCELLED" } else { reason });
                after.turn(Input::Cancel, None, at)
            }
            Means::Answered(answered) => {
                let Some(to) = self.command_named_by(answered) else { return Ok(None) };
                if self.progress.asked() != Some(to) {
                    return Ok(after.late(to, answered, at));
                }
                if let Some(fact) = &answered.fact {
                    after.kept.keep(&fact.keeps);
                }
                let answer = match (&answered.said, to) {
                    (Said::Done, _) => Answer::Done,
                    (Said::Refused { reason }, Command::Do { .. }) => {
                        after.give_reason(reason);
                        Answer::Refused
                    }
                    (Said::Refused { .. }, Command::Undo { .. } | Command::Close) => Answer::Refused,
                };
                after.turn(Input::Answer { to, answer }, answered.fact.as_ref(), at)
            }
        }
    }

    /// A deadline passed; `None` if it is not the one the saga has now.
    pub(crate) fn due(&self, deadline_at: OffsetDateTime, at: OffsetDateTime) -> Result<Option<Turn>, Refusal> {
        if self.deadline_at != Some(deadline_at) {
            return Ok(None);
        }
        self.clone().turn(Input::Deadline, None, at)
    }

    pub(crate) fn created(&self) -> Result<OrderCreated, Refusal> {
        Ok(OrderCreated::decode(&self.created[..])?)
    }

    /// The first reason is the one that counts.
    fn give_reason(&mut self, reason: &str) {
        if self.reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
    }

    fn command_named_by(&self, answered: &Answered) -> Option<Command> {
        let id = ids::parse(&answered.command_id).ok()?;
        self.progress.named(self.definition, self.saga_id, answered.like, id)
    }

    fn turn(mut self, input: Input, fact: Option<&Fact>, at: OffsetDateTime) -> Result<Option<Turn>, Refusal> {
        let (progress, commands) = saga::next(self.definition, self.progress.clone(), input);
        if progress == self.progress {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.progress, progress);
        self.touch(at);
        self.deadline_at = self.next_deadline(at);
        let mut facts: Vec<order::Fact> = fact.map(|fact| happened(fact.event, &fact.detail, at)).into_iter().collect();
        let mut news = Vec::new();
        self.tell_turns(&before, at, &mut facts, &mut news);
        for command in commands {
            let mut message = checkout::tell(&self, command)?;
            // A command to the order itself brings the facts along: one message, and one change of the order, instead of two. Asked
            // again it has none to bring: its first message is before it in the same stream.
            match &mut message {
                Message::ConfirmOrder(confirm) => confirm.facts.append(&mut facts),
                Message::CloseOrder(close) => close.facts.append(&mut facts),
                _ => {}
            }
            news.push(message);
        }
        if self.progress.is_over() {
            let (saga_id, order_id) = self.names();
            news.push(SagaCompleted { saga_id, order_id, outcome: self.progress.state().as_str().to_owned() }.into());
        }
        let news = facts.into_iter().map(|fact| self.record(fact)).chain(news).collect();
        Ok(Some((self, news)))
    }

    /// An answer nobody waits for any more. That something was done although its undo is asked is still told, once.
    fn late(mut self, to: Command, answered: &Answered, at: OffsetDateTime) -> Option<Turn> {
        let fact = answered.fact.as_ref()?;
        if !matches!(to, Command::Do { .. }) || !self.kept.keep(&fact.keeps) {
            return None;
        }
        self.touch(at);
        let news = vec![self.record(happened(fact.event, &fact.detail, at))];
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
                let reason = attention(self.definition, &self.progress);
                facts.push(happened("SagaNeedsAttention", &reason, at));
                news.push(SagaNeedsAttention { saga_id, order_id, reason }.into());
            }
            (true, false) => facts.push(happened("SagaResumed", "", at)),
            (true, true) | (false, false) => {}
        }
    }

    fn record(&self, order::Fact { event, occurred_at, detail }: order::Fact) -> Message {
        RecordProgress { order_id: self.order_id.to_string(), event, occurred_at, detail }.into()
    }

    fn names(&self) -> (String, String) {
        (self.saga_id.to_string(), self.order_id.to_string())
    }

    /// The wait doubles with each time it asked again. The jitter is derived, since a decision has no dice: the same step has
    /// the same deadline.
    fn next_deadline(&self, at: OffsetDateTime) -> Option<OffsetDateTime> {
        if self.progress.stuck {
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
            Keeps::Refunded(amount) => {
                self.refunded_amount = self.refunded_amount.saturating_add((*amount).max(0));
                return true;
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

fn happened(event: &str, detail: &str, at: OffsetDateTime) -> order::Fact {
    order::Fact { event: event.to_owned(), occurred_at: Some(to_proto(at)), detail: detail.to_owned() }
}

/// What a person has to look at; empty if nothing.
pub(crate) fn attention(definition: &Definition, progress: &Progress) -> String {
    if !progress.stuck {
        return String::new();
    }
    let refused = progress.steps.iter().enumerate().filter_map(|(step, stand)| match stand.state {
        StepState::UndoRefused => Some(Command::Undo { step, attempt: stand.attempt }),
        StepState::Refused if progress.phase == Phase::Forward => Some(Command::Do { step, attempt: stand.attempt }),
        _ => None,
    });
    let refused = refused.map(|command| format!("{} is refused", command.name(definition)));
    let unanswered = progress.asked().map(|command| format!("{} has no answer", command.name(definition)));
    refused.chain(unanswered).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
