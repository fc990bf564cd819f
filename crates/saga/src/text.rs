//! A progress as one short line, for a database column that people read too: `D1,A1,W0,W0 forward` is a saga whose first step
//! is done and whose second is asked, each in its first attempt.

use std::{fmt, str::FromStr};

use crate::{Cause, Phase, Progress, Stand, StepState};

/// The text is no progress; perhaps it was written by a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the progress of a saga")]
pub struct Unreadable(String);

const STEPS: &[(StepState, char)] = &[
    (StepState::Waiting, 'W'),
    (StepState::Asked, 'A'),
    (StepState::Done, 'D'),
    (StepState::Refused, 'R'),
    (StepState::Undoing, 'U'),
    (StepState::Undone, 'B'),
    (StepState::UndoRefused, 'X'),
    (StepState::Skipped, 'S'),
];

const PHASES: &[(Phase, &str)] = &[
    (Phase::Forward, "forward"),
    (Phase::Unwinding, "unwinding"),
    (Phase::Closing, "closing"),
    (Phase::Done, "done"),
    (Phase::Undone, "undone"),
];

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = STEPS.iter().find(|(state, _)| *state == self.state).map_or('?', |(_, letter)| *letter);
        write!(f, "{letter}{}", self.attempt)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, stand) in self.steps.iter().enumerate() {
            write!(f, "{}{stand}", if at == 0 { "" } else { "," })?;
        }
        let phase = PHASES.iter().find(|(phase, _)| *phase == self.phase).map_or("?", |(_, word)| *word);
        write!(f, " {phase}")?;
        match self.cause {
            Some(Cause::Cancelled) => write!(f, " cancelled")?,
            Some(Cause::Refused { step }) => write!(f, " refused={step}")?,
            Some(Cause::Skipped { step }) => write!(f, " skipped={step}")?,
            None => {}
        }
        if self.stuck {
            write!(f, " stuck")?;
        }
        if self.paused {
            write!(f, " paused")?;
        }
        if self.resent > 0 {
            write!(f, " resent={}", self.resent)?;
        }
        if self.reclosed > 0 {
            write!(f, " reclosed={}", self.reclosed)?;
        }
        Ok(())
    }
}

impl FromStr for Progress {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        read(text).ok_or_else(|| Unreadable(text.chars().take(200).collect()))
    }
}

fn read(text: &str) -> Option<Progress> {
    let mut words = text.split(' ');
    let steps = words.next()?.split(',').map(read_stand).collect::<Option<Vec<_>>>()?;
    let phase = words.next()?;
    let (phase, _) = PHASES.iter().find(|(_, word)| *word == phase)?;
    let mut progress = Progress { steps, phase: *phase, cause: None, stuck: false, paused: false, resent: 0, reclosed: 0 };
    let steps = progress.steps.len();
    let place = |step: &str| step.parse().ok().filter(|step| *step < steps);
    for word in words {
        match word.split_once('=') {
            None if word == "cancelled" => progress.cause = Some(Cause::Cancelled),
            None if word == "stuck" => progress.stuck = true,
            None if word == "paused" => progress.paused = true,
            Some(("refused", step)) => progress.cause = Some(Cause::Refused { step: place(step)? }),
            Some(("skipped", step)) => progress.cause = Some(Cause::Skipped { step: place(step)? }),
            Some(("resent", times)) => progress.resent = times.parse().ok()?,
            Some(("reclosed", times)) => progress.reclosed = times.parse().ok()?,
            _ => return None,
        }
    }
    Some(progress)
}

fn read_stand(text: &str) -> Option<Stand> {
    let mut letters = text.chars();
    let letter = letters.next()?;
    let (state, _) = STEPS.iter().find(|(_, known)| *known == letter)?;
    Some(Stand { state: *state, attempt: letters.as_str().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_is_read_as_it_was_written() {
        for (_, word) in PHASES {
            for extra in [
                "",
                " cancelled",
                " refused=1",
                " skipped=7 paused",
                " stuck",
                " cancelled stuck paused resent=3 reclosed=2",
                " resent=255",
            ] {
                let text = format!("D1,A1,W0,R1,U1,B2,X1,S0 {word}{extra}");
                let progress: Progress = text.parse().unwrap();
                assert_eq!(progress.to_string(), text);
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "D1",
            "D1 ",
            "D1 sideways",
            "D forward",
            "D1,,D1 forward",
            "Q1 forward",
            "D300 forward",
            "D1 forward resent=300",
            "D1 forward refused=1",
            "D1 forward skipped=1",
            "D1 forward reclosed=-1",
            "D1 forward later",
            "D1  forward",
        ] {
            assert_eq!(bad.parse::<Progress>(), Err(Unreadable(bad.to_owned())), "{bad}");
        }
    }
}
