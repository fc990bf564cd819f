//! Six known ways to get it wrong. The walk finds each, says which property it breaks, and its picture names the steps.

use super::*;

const SHAPES: [(&Definition, &[Role]); 2] = [(&CHECKOUT, CHECKOUT_ROLES), (&RESERVE_FIRST, RESERVE_FIRST_ROLES)];

type Told = &'static [(&'static str, &'static str, &'static str)];

/// In a checkout, and in one that reserves first.
fn finds(bug: Bug, expected: [(&str, Told); 2]) {
    for ((definition, roles), (property, steps)) in SHAPES.into_iter().zip(expected) {
        let report = explore_with(definition, roles, &Bounds::default(), bug);
        let found = report.violation.unwrap_or_else(|| panic!("{bug:?} in {} is not found", definition.name));
        println!("{bug:?} in {}: {found}", definition.name);
        assert!(found.property.starts_with(property), "{found}");
        assert!(tells(&found, steps), "{found}");
        for (_, to, says) in steps {
            let arrow = found.mermaid().lines().any(|line| line.contains(&format!("->>a_{to}: ")) && line.ends_with(says));
            assert!(arrow, "{says} is not in the picture: {found}");
        }
    }
}

#[test]
fn an_early_undo_that_leaves_no_mark() {
    finds(
        Bug::NoMark,
        [
            ("I2", &[("saga", "payment", "RefundPayment"), ("saga", "payment", "ChargePayment"), ("provider", "payment", "yes")]),
            ("I3", &[("saga", "reserve", "ReleaseStock"), ("saga", "reserve", "ReserveStock")]),
        ],
    );
}

#[test]
fn an_answer_that_is_matched_by_its_step_and_not_by_its_command() {
    finds(
        Bug::AnswerByStep,
        [
            ("I2", &[("order", "saga", "cancelled"), ("payment", "saga", "ChargePayment: done"), ("saga", "order", "CloseOrder")]),
            ("I3", &[("order", "saga", "cancelled"), ("reserve", "saga", "ReserveStock: done"), ("saga", "order", "CloseOrder")]),
        ],
    );
}

#[test]
fn a_fresh_id_in_a_handler() {
    finds(
        Bug::FreshIdInHandler,
        [
            ("I1", &[("saga", "payment", "ChargePayment"), ("saga", "payment", "ChargePayment (again)")]),
            ("I3", &[("saga", "reserve", "ReserveStock"), ("saga", "reserve", "ReserveStock (again)")]),
        ],
    );
}

#[test]
fn a_retry_with_a_fresh_key_of_the_provider() {
    finds(
        Bug::FreshProviderKey,
        [
            ("I1", &[("saga", "payment", "ChargePayment"), ("provider", "payment", "yes, to a fresh key")]),
            ("I1", &[("saga", "payment", "CapturePayment"), ("provider", "payment", "yes, to a fresh key")]),
        ],
    );
}

#[test]
fn a_cancel_without_compare_and_set() {
    let cancelled: Told = &[("customer", "order", "cancel"), ("customer", "order", "cancel")];
    finds(Bug::BlindCancel, [("I6", cancelled), ("I6", cancelled)]);
}

#[test]
fn a_fresh_attempt_for_an_unanswered_command() {
    let told: Told =
        &[("operator", "saga", "retry"), ("saga", "reserve", "ReserveStock"), ("saga", "reserve", "ReserveStock (attempt 2)")];
    finds(Bug::FreshAttempt, [("I3", told), ("I3", told)]);
}

#[test]
fn a_fresh_key_gives_a_refund_twice_too() {
    for bug in [Bug::FreshProviderKey, Bug::FreshIdInHandler] {
        let found = explore_with(&REFUND, REFUND_ROLES, &Bounds::default(), bug).violation.unwrap();
        assert!(found.property.starts_with("I2") && tells(&found, &[("saga", "payment", "RefundCapture")]), "{found}");
    }
}
