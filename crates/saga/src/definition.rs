//! What a saga is: named steps, each a command with its undo or the reason it has none.

/// A saga as data. The executor, the picture, the remaining-steps view and the model checker all read this and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Of what the saga settles: `a-z`, `0-9` and `-`.
    pub name: &'static str,
    /// An instance finishes on the version it was started with.
    pub version: i32,
    /// Asked one after another, in this order; undone in the reverse.
    pub steps: &'static [Step],
    /// The command that ends a saga whose steps are all undone.
    pub close: &'static str,
    /// How often, in all its life or since an operator's last retry, a saga may ask again before it needs a person.
    pub resends_max: u8,
}

/// One command to one participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Part of its commands' ids, so it never changes: `a-z`, `0-9` and `-`.
    pub name: &'static str,
    /// What the command is called, for example `ChargePayment`.
    pub command: &'static str,
    /// How it is taken back.
    pub undo: Undo,
}

/// How a step is taken back, or why it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The command that undoes it.
    By(&'static str),
    /// The point of no return: once it is done, nothing is undone. It has no effect of its own but the decision, and whoever
    /// decides it also decides whether a cancel still comes through.
    Pivot,
    /// Behind the pivot: cannot be refused, so never needs an undo.
    Retriable,
    /// Leaves nothing behind that would have to be undone; says why.
    None(&'static str),
}

/// A step whose undo is still to be named.
#[derive(Clone, Copy, Debug)]
pub struct StepDraft {
    name: &'static str,
    command: &'static str,
}

/// Begins a step. What undoes it must be said before it is one.
#[must_use]
pub const fn step(name: &'static str, command: &'static str) -> StepDraft {
    StepDraft { name, command }
}

impl StepDraft {
    /// Taken back by this command.
    #[must_use]
    pub const fn undo(self, command: &'static str) -> Step {
        self.with(Undo::By(command))
    }

    /// The point of no return: [`Undo::Pivot`].
    #[must_use]
    pub const fn pivot(self) -> Step {
        self.with(Undo::Pivot)
    }

    /// Behind the pivot: [`Undo::Retriable`].
    #[must_use]
    pub const fn retriable(self) -> Step {
        self.with(Undo::Retriable)
    }

    /// Leaves nothing behind, for this reason.
    #[must_use]
    pub const fn no_undo(self, reason: &'static str) -> Step {
        self.with(Undo::None(reason))
    }

    const fn with(self, undo: Undo) -> Step {
        Step { name: self.name, command: self.command, undo }
    }
}

/// Why a definition is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// There is nothing to settle.
    #[error("a saga without steps")]
    NoSteps,
    /// Of the saga or of a step.
    #[error("a name is empty or has a character that is not a-z, 0-9 or -")]
    BadName,
    /// Their commands would have the same ids.
    #[error("two steps have the same name")]
    SameName,
    /// A step, its undo or the close has none.
    #[error("a command without a name")]
    NoCommand,
    /// There is one point of no return.
    #[error("two pivots")]
    TwoPivots,
    /// Or a step that says why it has none: it could still be refused.
    #[error("a step behind the pivot must be retriable: nothing is undone from there on")]
    UndoBehindPivot,
    /// Nothing would take it back.
    #[error("a retriable step must be behind the pivot: before it, it would have to be undone")]
    RetriableBeforePivot,
    /// Whoever reads the definition must not have to guess.
    #[error("a step without an undo does not say why")]
    NoReason,
}

impl Definition {
    /// Refuses what can't work. `const`, so that a definition can be checked where it stands:
    /// `const _: () = assert!(CHECKOUT.check().is_ok());`
    ///
    /// # Errors
    /// The first [`Nonsense`] there is.
    pub const fn check(&self) -> Result<(), Nonsense> {
        if self.steps.is_empty() {
            return Err(Nonsense::NoSteps);
        }
        if !is_name(self.name) {
            return Err(Nonsense::BadName);
        }
        if self.close.is_empty() {
            return Err(Nonsense::NoCommand);
        }
        let mut behind_pivot = false;
        let mut at = 0;
        while at < self.steps.len() {
            let step = self.steps[at];
            if !is_name(step.name) {
                return Err(Nonsense::BadName);
            }
            if step.command.is_empty() {
                return Err(Nonsense::NoCommand);
            }
            let mut before = 0;
            while before < at {
                if same(self.steps[before].name, step.name) {
                    return Err(Nonsense::SameName);
                }
                before += 1;
            }
            match step.undo {
                Undo::Pivot if behind_pivot => return Err(Nonsense::TwoPivots),
                Undo::Pivot => behind_pivot = true,
                Undo::By(_) | Undo::None(_) if behind_pivot => return Err(Nonsense::UndoBehindPivot),
                Undo::By(command) if command.is_empty() => return Err(Nonsense::NoCommand),
                Undo::None(reason) if reason.is_empty() => return Err(Nonsense::NoReason),
                Undo::Retriable if !behind_pivot => return Err(Nonsense::RetriableBeforePivot),
                Undo::By(_) | Undo::None(_) | Undo::Retriable => {}
            }
            at += 1;
        }
        Ok(())
    }

    /// In one line all that the meaning of a saga's progress hangs on: the steps in their order, what each asks, how it is undone, and
    /// the close. A version keeps its shape for as long as there are sagas of it; another shape is another version.
    #[must_use]
    pub fn shape(&self) -> String {
        let steps = self.steps.iter().map(|Step { name, command, undo }| match undo {
            Undo::By(undo) => format!("{name}: {command} undo {undo}; "),
            Undo::Pivot => format!("{name}: {command} pivot; "),
            Undo::Retriable => format!("{name}: {command} retriable; "),
            Undo::None(_) => format!("{name}: {command} no undo; "),
        });
        steps.chain([format!("close: {}", self.close)]).collect()
    }

    /// Place of the pivot among the steps.
    #[must_use]
    pub fn pivot(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.undo == Undo::Pivot)
    }

    /// The command that undoes this step, if there is one.
    #[must_use]
    pub fn undo_of(&self, step: usize) -> Option<&'static str> {
        match self.steps.get(step)?.undo {
            Undo::By(command) => Some(command),
            Undo::Pivot | Undo::Retriable | Undo::None(_) => None,
        }
    }
}

/// Names become part of command ids, of the picture and of a database column: plain and without separators.
const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(steps: &'static [Step]) -> Definition {
        Definition { name: "trip", version: 1, steps, close: "EndTrip", resends_max: 3 }
    }

    const A: Step = step("flight", "BookFlight").undo("CancelFlight");
    const B: Step = step("look", "LookAround").no_undo("only reads");
    const PIVOT: Step = step("go", "Go").pivot();
    const LAST: Step = step("mail", "SendMail").retriable();

    #[test]
    fn a_sensible_definition_passes_at_compile_time() {
        const TRIP: Definition = of(&[A, B, PIVOT, LAST]);
        const _: () = assert!(TRIP.check().is_ok());
        assert_eq!(TRIP.pivot(), Some(2));
        assert_eq!((TRIP.undo_of(0), TRIP.undo_of(1), TRIP.undo_of(9)), (Some("CancelFlight"), None, None));
    }

    #[test]
    fn a_shape_is_all_that_progress_hangs_on_and_nothing_else() {
        const TRIP: Definition = of(&[A, B, PIVOT, LAST]);
        const SHAPE: &str = "flight: BookFlight undo CancelFlight; look: LookAround no undo; go: Go pivot; mail: SendMail retriable; \
                             close: EndTrip";
        const SAME: &[Step] = &[A, step("look", "LookAround").no_undo("why not"), PIVOT, LAST];
        const OTHERS: &[&[Step]] = &[
            &[B, A, PIVOT, LAST],
            &[A, B, PIVOT],
            &[step("train", "BookFlight").undo("CancelFlight"), B, PIVOT, LAST],
            &[step("flight", "BookTrain").undo("CancelFlight"), B, PIVOT, LAST],
            &[step("flight", "BookFlight").undo("CancelTrain"), B, PIVOT, LAST],
            &[A, B, step("go", "Go").no_undo("why not"), LAST],
        ];
        assert_eq!(TRIP.shape(), SHAPE);
        assert_eq!(Definition { resends_max: 9, ..of(SAME) }.shape(), SHAPE);
        assert_ne!(Definition { close: "End", ..TRIP }.shape(), SHAPE);
        for steps in OTHERS {
            assert_ne!(of(steps).shape(), SHAPE);
        }
    }

    #[test]
    fn nonsense_is_named() {
        const CASES: &[(&[Step], Nonsense)] = &[
            (&[], Nonsense::NoSteps),
            (&[step("", "X").pivot()], Nonsense::BadName),
            (&[step("a/b", "X").pivot()], Nonsense::BadName),
            (&[A, A], Nonsense::SameName),
            (&[step("a", "").pivot()], Nonsense::NoCommand),
            (&[step("a", "X").undo("")], Nonsense::NoCommand),
            (&[PIVOT, step("again", "Again").pivot()], Nonsense::TwoPivots),
            (&[PIVOT, A], Nonsense::UndoBehindPivot),
            (&[PIVOT, B], Nonsense::UndoBehindPivot),
            (&[LAST, PIVOT], Nonsense::RetriableBeforePivot),
            (&[step("a", "X").no_undo("")], Nonsense::NoReason),
        ];
        for (steps, nonsense) in CASES {
            assert_eq!(of(steps).check(), Err(*nonsense));
        }
    }
}
