//! The saga, which asks.

use saga::{Answer, Command, Input, Operation, Phase, Progress, StepState};

use super::{
    Model, SAGA,
    messages::{Message, Move, What},
    rows::{Heard, Participant},
};

impl Participant for Progress {
    fn hear(&self, model: &Model, what: What) -> Heard<Self> {
        let definition = &model.definition;
        // An answer names its command by id, and counts only if this saga asked it.
        let named = |command: Command| self.named(definition, SAGA, command, model.id(command));
        let answered = |command, answer| named(command).map(|to| Input::Answer { to, answer });
        let input = match what {
            What::Message(Message::Created) => Some(Input::Started),
            What::Message(Message::CancelRequested) => Some(Input::Cancel),
            What::Message(Message::Done(command)) => answered(command, Answer::Done),
            What::Message(Message::Refused(command)) => answered(command, Answer::Refused),
            What::Message(Message::Unknown(command)) => named(command).map(|to| Input::Unknown { to }),
            What::Move(Move::Deadline) => Some(Input::Deadline),
            What::Move(Move::Retry) => Some(Input::Operator(Operation::Retry)),
            What::Message(_) | What::Move(_) => None,
        };
        let Some(input) = input else { return Heard::says(self.clone(), []) };
        let (after, commands) = (model.rules.next)(definition, self.clone(), input);
        let untouched = |progress: &Self| progress.steps.iter().all(|stand| stand.state == StepState::Waiting);
        let begun = (untouched(self) && !untouched(&after)).then_some(Message::SagaStarted);
        // With nothing to undo there is no turning back, only an end.
        let turned = (self.phase == Phase::Forward && after.phase == Phase::Unwinding).then_some(Message::TurnedBack);
        let paid = match what {
            What::Message(Message::Done(command)) => {
                ["ChargePayment", "CapturePayment"].contains(&command.name(definition)).then_some(Message::Paid)
            }
            _ => None,
        };
        let flaw = (commands.len() > 1).then_some("a saga asks one command at a time");
        let facts = [begun, turned, paid].into_iter().flatten();
        Heard::says(after, facts.chain(commands.into_iter().map(Message::Ask))).with_flaw(flaw)
    }

    fn told(&self) -> String {
        self.to_string()
    }
}
