//! A definition as a Mermaid flowchart.

use crate::{Definition, Undo};

/// Forward along the top, undos back below, and the two ends.
#[must_use]
pub fn mermaid(definition: &Definition) -> String {
    let mut lines = vec!["flowchart LR".to_owned(), "    started((started))".to_owned()];
    let mut before = "started".to_owned();
    // What unwinding begins with, where a step is refused: the undo nearest before it.
    let mut unwind = "close".to_owned();
    let mut past_pivot = false;
    for step in definition.steps {
        let node = format!("do_{}", identifier(step.name));
        let (open, shut, note) = match step.undo {
            Undo::Pivot => ("{{", "}}", " (pivot)"),
            Undo::By(_) | Undo::Retriable | Undo::None(_) => ("[", "]", ""),
        };
        lines.push(format!("    {node}{open}\"{}{note}<br/>{}\"{shut}", step.name, step.command));
        lines.push(format!("    {before} --> {node}"));
        lines.push(match past_pivot {
            true => format!("    {node} -. refused .-> attention"),
            false => format!("    {node} -. refused .-> {unwind}"),
        });
        if let Undo::By(command) = step.undo {
            let undo = format!("undo_{}", identifier(step.name));
            lines.push(format!("    {undo}[\"{command}\"]"));
            lines.push(format!("    {undo} --> {unwind}"));
            unwind = undo;
        }
        past_pivot |= step.undo == Undo::Pivot;
        before = node;
    }
    lines.push("    done((done))".to_owned());
    lines.push(format!("    {before} --> done"));
    lines.push(format!("    close[\"{}\"] --> undone((undone))", definition.close));
    if past_pivot && definition.steps.last().is_some_and(|step| step.undo == Undo::Retriable) {
        lines.push("    attention((needs attention))".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Mermaid reads a `-` in an identifier as the start of an arrow.
fn identifier(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step;

    #[test]
    fn the_picture_shows_steps_undos_and_both_ends() {
        let picture = mermaid(&Definition {
            name: "trip",
            version: 1,
            steps: const { &[step("flight", "BookFlight").undo("CancelFlight"), step("go-now", "Go").pivot()] },
            close: "EndTrip",
            resends_max: 1,
        });
        assert_eq!(
            picture,
            r#"flowchart LR
    started((started))
    do_flight["flight<br/>BookFlight"]
    started --> do_flight
    do_flight -. refused .-> close
    undo_flight["CancelFlight"]
    undo_flight --> close
    do_go_now{{"go-now (pivot)<br/>Go"}}
    do_flight --> do_go_now
    do_go_now -. refused .-> undo_flight
    done((done))
    do_go_now --> done
    close["EndTrip"] --> undone((undone))
"#
        );
    }
}
