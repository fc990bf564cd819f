//! The shortest way to break a property, as text and as a sequence diagram.

use std::fmt;

/// The shortest way to break a property. [`Display`](fmt::Display) says which, and draws how in Mermaid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// The property.
    pub property: &'static str,
    /// What happened, from the start.
    pub path: Vec<Happening>,
    /// Where it ends.
    pub end: String,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Who says it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What, for example `ChargePayment`.
    pub says: String,
    /// What comes of it.
    pub then: String,
}

impl Counterexample {
    /// A Mermaid sequence diagram.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut lines = vec!["sequenceDiagram".to_owned()];
        let mut actors: Vec<&str> = Vec::new();
        for actor in self.path.iter().flat_map(|happening| [&happening.from, &happening.to]) {
            if !actors.contains(&actor.as_str()) {
                actors.push(actor);
                lines.push(format!("    participant {} as {actor}", identifier(actor)));
            }
        }
        for Happening { from, to, says, then } in &self.path {
            lines.push(format!("    {}->>{}: {}", identifier(from), identifier(to), plain(says)));
            if !then.is_empty() {
                lines.push(format!("    Note over {}: {}", identifier(to), plain(then)));
            }
        }
        if let (Some(first), Some(last)) = (actors.first(), actors.last()) {
            lines.push(format!("    Note over {},{}: BROKEN {}", identifier(first), identifier(last), plain(self.property)));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken after {} steps: {}", self.path.len(), self.property)?;
        writeln!(f, "there: {}", self.end)?;
        write!(f, "{}", self.mermaid())
    }
}

/// Mermaid has words of its own, `end` among them, and reads a `-` as the start of an arrow.
fn identifier(name: &str) -> String {
    format!("a_{}", name.replace('-', "_"))
}

/// A `;` ends a line in Mermaid, a `#` begins a character's number.
fn plain(text: &str) -> String {
    text.replace([';', '#'], ",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_who_says_what_to_whom_and_what_is_broken() {
        let says = |from: &str, to: &str, says: &str, then: &str| Happening {
            from: from.to_owned(),
            to: to.to_owned(),
            says: says.to_owned(),
            then: then.to_owned(),
        };
        let found = Counterexample {
            property: "I1: once",
            path: vec![says("saga", "pay-ment", "Charge", "twice; really"), says("clock", "saga", "late", "")],
            end: "there".to_owned(),
        };
        assert_eq!(
            found.to_string(),
            "broken after 2 steps: I1: once
there: there
sequenceDiagram
    participant a_saga as saga
    participant a_pay_ment as pay-ment
    participant a_clock as clock
    a_saga->>a_pay_ment: Charge
    Note over a_pay_ment: twice, really
    a_clock->>a_saga: late
    Note over a_saga,a_clock: BROKEN I1: once
"
        );
    }
}
