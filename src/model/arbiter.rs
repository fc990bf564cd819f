//! The order's row, which decides between the confirmation, the cancel and the close.

use order::order::{Fact, Input, Said, Status};

use super::{
    Model,
    messages::{Message, Move, What},
    rows::{Heard, Participant},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Arbiter {
    pub(super) status: Status,
    /// What somebody saw who is about to cancel.
    seen: Option<Status>,
}

impl Arbiter {
    pub(super) fn new() -> Self {
        Self { status: Status::Pending, seen: None }
    }

    /// Facts of a saga come before its commands, and the first of them is the first.
    fn has_read(&self) -> bool {
        self.status != Status::Pending
    }

    /// `None` if it is refused.
    fn decided(&self, model: &Model, seen: Status, input: Input) -> Option<(Heard<Self>, Said)> {
        let (status, said) = (model.rules.order)(seen, input).ok()?;
        let flaw = (!may_become(self.status, status))
            .then_some("I6: an order goes from one status to the next as published, and none follows an end");
        Some((Heard::says(Self { status, seen: None }, []).with_flaw(flaw), said))
    }

    fn cancel(&self, model: &Model, seen: Status) -> Option<Heard<Self>> {
        let (heard, said) = self.decided(model, seen, Input::Cancel)?;
        (said == Said::CancelRequested).then(|| Heard { says: vec![Message::CancelRequested], ..heard })
    }
}

impl Participant for Arbiter {
    fn hear(&self, model: &Model, what: What) -> Heard<Self> {
        let of_fact = |fact| self.decided(model, self.status, Input::Fact(fact)).map(|(heard, _)| heard);
        let heard = match what {
            What::Message(Message::SagaStarted) => of_fact(Fact::SagaStarted),
            What::Message(Message::Paid) if self.has_read() => of_fact(Fact::Paid),
            What::Message(Message::TurnedBack) if self.has_read() => of_fact(Fact::Compensating),
            What::Message(Message::Ask(command)) if self.has_read() => {
                let confirms = command.name(&model.definition) == "ConfirmOrder";
                let input = if confirms { Input::Confirm } else { Input::Close };
                self.decided(model, self.status, input).map(|(heard, said)| {
                    let says = match said {
                        Said::Completed if confirms => Some(Message::Done(command)),
                        Said::ConfirmRefused | Said::Completed => Some(Message::Refused(command)),
                        Said::Failed | Said::Cancelled => Some(Message::Done(command)),
                        Said::Nothing | Said::SameAgain | Said::CancelRequested => None,
                    };
                    let flaw = says.is_none().then_some("a command of the saga has an answer");
                    Heard { says: says.into_iter().collect(), ..heard }.with_flaw(flaw)
                })
            }
            What::Move(Move::Cancel) if model.rules.cancels_what_it_sees => self.cancel(model, self.status),
            What::Move(Move::Cancel) => self.seen.and_then(|seen| self.cancel(model, seen)),
            What::Move(Move::Look) if !model.rules.cancels_what_it_sees => {
                let would = self.cancel(model, self.status);
                would.map(|_| Heard::says(Self { seen: Some(self.status), ..self.clone() }, []))
            }
            What::Message(_) | What::Move(_) => None,
        };
        // Whoever looked is still about to cancel, whatever comes between.
        let cancels = what == What::Move(Move::Cancel);
        let mut heard = heard.unwrap_or_else(|| Heard::says(self.clone(), []));
        if !cancels && heard.after.seen.is_none() {
            heard.after.seen = self.seen;
        }
        heard
    }

    fn told(&self) -> String {
        self.status.name().to_owned()
    }
}

/// What may follow what.
fn may_become(before: Status, after: Status) -> bool {
    use Status::{Cancelled, Cancelling, Compensating, Confirmed, Failed, Paid, Pending, Processing};
    before == after
        || match before {
            Pending => after != Confirmed && after != Cancelled && after != Paid,
            Processing => !matches!(after, Pending | Cancelled),
            Paid => !matches!(after, Pending | Processing | Cancelled),
            Compensating => after == Failed,
            Cancelling => after == Cancelled,
            Confirmed | Failed | Cancelled => false,
        }
}
