//! A saga, as far as an audit asks: whether it is over, whether a person must act, and what one has settled by hand.

use orchestrator::DEFINITIONS;
use saga::{Definition, Progress, StepState};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Saga {
    pub(super) order_id: Uuid,
    pub(super) definition: String,
    pub(super) definition_version: i32,
    pub(super) state: String,
    pub(super) progress: String,
}

impl Saga {
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state.as_str(), "DONE" | "UNDONE")
    }

    /// Why a person must act, and what remains.
    pub(super) fn attention(&self) -> Option<String> {
        if !self.is_open() {
            return None;
        }
        let Self { definition, definition_version: version, state, .. } = self;
        let Some((known, progress)) = self.read() else {
            return Some(format!("its saga {definition} v{version} is {state}, and not of a kind that this binary knows"));
        };
        let why = match (state.as_str(), progress.paused) {
            ("NEEDS_ATTENTION", _) => "NEEDS_ATTENTION",
            (_, true) => "paused",
            (_, false) => return None,
        };
        let remaining: Vec<&str> = progress.remaining(known).into_iter().map(|command| command.name(known)).collect();
        Some(format!("its saga {definition} is {why}, and remaining are {}", remaining.join(", ")))
    }

    /// The steps whose undo a person has settled by hand: what they did may still be there, and nothing else is excused. Of a kind that this
    /// binary does not know nobody can tell.
    pub(super) fn settled_by_hand(&self) -> Vec<&'static str> {
        let Some((known, progress)) = self.read() else { return Vec::new() };
        let steps = known.steps.iter().zip(progress.steps);
        // Without an attempt it was never asked: there is nothing to undo.
        steps.filter(|(_, stand)| stand.state == StepState::Skipped && stand.attempt > 0).map(|(step, _)| step.command).collect()
    }

    fn read(&self) -> Option<(&'static Definition, Progress)> {
        let known = DEFINITIONS.iter().find(|known| known.name == self.definition && known.version == self.definition_version)?;
        Some((known, self.progress.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saga(definition: &str, state: &str, progress: &str) -> Saga {
        Saga {
            order_id: Uuid::nil(),
            definition: definition.into(),
            definition_version: 1,
            state: state.into(),
            progress: progress.into(),
        }
    }

    fn attention(state: &str, progress: &str) -> Option<String> {
        saga("checkout", state, progress).attention()
    }

    #[test]
    fn who_must_act_is_told_what_remains() {
        assert_eq!(attention("RUNNING", "D1,A1,W0,W0 forward"), None);
        assert_eq!(attention("UNDONE", "B1,R1,S0,S0 undone refused=1"), None);
        let stuck = attention("NEEDS_ATTENTION", "X1,R1,S0,S0 unwinding refused=1 stuck").expect("it is told");
        assert!(stuck.contains("NEEDS_ATTENTION") && stuck.ends_with("RefundPayment, CloseOrder"), "{stuck}");
        let paused = attention("RUNNING", "D1,A1,W0,W0 forward paused").expect("it is told");
        assert!(paused.contains("paused") && paused.ends_with("ReserveStock, ScheduleShipment, ConfirmOrder"), "{paused}");
    }

    #[test]
    fn what_is_not_known_waits_for_a_newer_binary() {
        for progress in ["D1,A1 sideways", ""] {
            assert!(attention("RUNNING", progress).is_some_and(|says| says.contains("v1")), "{progress}");
        }
        assert!(saga("checkin", "UNDONE", "S1 undone").settled_by_hand().is_empty());
    }

    #[test]
    fn only_an_undo_that_was_given_up_is_settled_by_hand() {
        for (definition, progress, expected) in [
            ("checkout", "S1,R1,S0,S0 undone refused=1", &["ChargePayment"][..]),
            ("checkout", "S1,S1,R1,S0 undone refused=2", &["ChargePayment", "ReserveStock"]),
            ("checkout", "B1,R1,S0,S0 undone refused=1", &[]),
            // A person went on without the step's answer: its undo was asked, and answered.
            ("checkout", "B1,S0,S0,S0 undone skipped=0", &[]),
            ("checkout-reserve-first", "B1,S1,B1,B1,R1 undone refused=4", &["AuthorizePayment"]),
            ("refund", "D1,D1 done", &[]),
        ] {
            assert_eq!(saga(definition, "UNDONE", progress).settled_by_hand(), expected, "{definition} {progress}");
        }
    }
}
