//! A saga, as far as an audit asks: whether it is over, and whether a person must act.

use orchestrator::DEFINITIONS;
use saga::Progress;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Saga {
    pub(super) order_id: Uuid,
    pub(super) definition: String,
    pub(super) definition_version: i32,
    pub(super) state: String,
    pub(super) progress: String,
    /// An operator went on without an answer.
    pub(super) is_skipped: bool,
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
        let Self { definition, definition_version: version, state, progress, .. } = self;
        let known = DEFINITIONS.iter().find(|known| known.name == definition && known.version == *version);
        let (Some(known), Ok(progress)) = (known, progress.parse::<Progress>()) else {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attention(state: &str, progress: &str) -> Option<String> {
        Saga {
            order_id: Uuid::nil(),
            definition: "checkout".into(),
            definition_version: 1,
            state: state.into(),
            progress: progress.into(),
            is_skipped: false,
        }
        .attention()
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
    }
}
