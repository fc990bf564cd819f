use super::*;
use crate::{Answer, Phase, Step, step};

mod bugs;
mod wrong;

/// Money first: a stock-out gives it back.
const CHECKOUT: Definition = Definition {
    name: "checkout",
    version: 1,
    steps: &[
        step("charge", "ChargePayment").undo("RefundPayment"),
        step("reserve", "ReserveStock").undo("ReleaseStock"),
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("confirm", "ConfirmOrder").pivot(),
    ],
    close: "CloseOrder",
    resends_max: 10,
};
const CHECKOUT_ROLES: &[Role] = &[Role::Charge, Role::Reserve, Role::Hold, Role::Decide];

/// Money is set aside, and taken when all else is there.
const RESERVE_FIRST: Definition = Definition {
    name: "reserve-first",
    steps: &[
        step("reserve", "ReserveStock").undo("ReleaseStock"),
        step("authorize", "AuthorizePayment").undo("RefundPayment"),
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("capture", "CapturePayment").undo("RefundPayment"),
        step("confirm", "ConfirmOrder").pivot(),
    ],
    ..CHECKOUT
};
const RESERVE_FIRST_ROLES: &[Role] = &[Role::Reserve, Role::Authorize, Role::Hold, Role::Capture, Role::Decide];

/// Once the money is given, nothing is taken back.
const REFUND: Definition = Definition {
    name: "refund",
    steps: &[step("give-back", "RefundCapture").pivot(), step("settle", "SettleRefund").retriable()],
    close: "RefuseRefund",
    ..CHECKOUT
};
const REFUND_ROLES: &[Role] = &[Role::GiveBack, Role::Record];

fn settles(definition: &Definition, roles: &[Role], bounds: Bounds) -> Report {
    let report = explore(definition, roles, &bounds);
    println!("{} within {bounds:?}: {report}", definition.name);
    assert_eq!(report.violation, None, "{report}");
    assert_eq!(report.never_reached(), [""; 0], "{report}");
    assert!(report.holds());
    report
}

#[test]
fn every_checkout_settles() {
    let report = settles(&CHECKOUT, CHECKOUT_ROLES, Bounds::default());
    assert!(report.states > 100_000, "{} states", report.states);
    settles(&CHECKOUT, CHECKOUT_ROLES, Bounds { operations_max: 0, resends_max: 3, ..Bounds::default() });
}

/// One operation, not two: with two it is a million states, which is for a build that is optimised.
#[test]
fn every_checkout_that_reserves_first_settles() {
    let report = settles(&RESERVE_FIRST, RESERVE_FIRST_ROLES, Bounds { operations_max: 1, ..Bounds::default() });
    assert!(report.states > 100_000, "{} states", report.states);
}

#[test]
fn every_refund_settles() {
    settles(&REFUND, REFUND_ROLES, Bounds { operations_max: 3, resends_max: 2, ..Bounds::default() });
}

#[test]
fn other_shapes_settle_too() {
    const SHAPES: &[(&[Step], &[Role])] = &[
        (&[step("go", "Go").pivot()], &[Role::Decide]),
        (
            &[step("look", "Look").no_undo("only reads"), step("take", "Take").undo("Return"), step("go", "Go").pivot()],
            &[Role::Hold, Role::Reserve, Role::Decide],
        ),
        (
            &[
                step("take", "Take").undo("Return"),
                step("go", "Go").pivot(),
                step("mail", "Mail").retriable(),
                step("log", "Log").retriable(),
            ],
            &[Role::Hold, Role::Decide, Role::Record, Role::Record],
        ),
        (&[step("take", "Take").undo("Return"), step("pay", "Pay").undo("Repay")], &[Role::Hold, Role::Charge]),
    ];
    for (steps, roles) in SHAPES {
        let definition = Definition { steps, ..CHECKOUT };
        definition.check().unwrap();
        let report = explore(&definition, roles, &Bounds::default());
        assert_eq!(report.violation, None, "{report}");
        assert!(report.states > 100, "{} states", report.states);
    }
}

#[test]
fn the_same_model_is_walked_the_same_way() {
    let bounds = Bounds { operations_max: 1, ..Bounds::default() };
    assert_eq!(explore(&REFUND, REFUND_ROLES, &bounds), explore(&REFUND, REFUND_ROLES, &bounds));
}

#[test]
fn what_is_no_model_is_not_walked() {
    let few = Bounds { states_max: 100, ..Bounds::default() };
    let many = Bounds { operations_max: 30, ..Bounds::default() };
    for (definition, roles, bounds, why) in [
        (&CHECKOUT, REFUND_ROLES, Bounds::default(), "each step has a role"),
        (&CHECKOUT, &[Role::Charge, Role::Reserve, Role::Decide, Role::Hold][..], Bounds::default(), "a role fits"),
        (&CHECKOUT, &[Role::Charge, Role::Charge, Role::Hold, Role::Decide], Bounds::default(), "money is taken once"),
        (&CHECKOUT, &[Role::Capture, Role::Authorize, Role::Hold, Role::Decide], Bounds::default(), "money is taken once"),
        (&CHECKOUT, CHECKOUT_ROLES, many, "there is room"),
        (&CHECKOUT, CHECKOUT_ROLES, few, "the model has an end"),
    ] {
        let report = explore(definition, roles, &bounds);
        assert!(!report.holds());
        let found = report.violation.unwrap();
        assert!(found.property.starts_with(why), "{found}");
    }
}

/// Whether these happen in this order, among other things; each is who, to whom and what.
fn tells(found: &Counterexample, steps: &[(&str, &str, &str)]) -> bool {
    let mut path = found.path.iter();
    steps.iter().all(|step| path.any(|one| (one.from.as_str(), one.to.as_str(), one.says.as_str()) == *step))
}
