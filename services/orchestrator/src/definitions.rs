//! The sagas as one reads them aloud: what each asks, in order, and how it is taken back. Pure.

use contracts::ids;
use saga::{Command, Definition, explore::Role, step};
use uuid::Uuid;

/// Settles an order: the money first.
pub const CHECKOUT: Definition = Definition {
    name: "checkout",
    version: 1,
    steps: &[
        step("charge", "ChargePayment").undo("RefundPayment"),
        step("reserve", "ReserveStock").undo("ReleaseStock"),
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("confirm", "ConfirmOrder").pivot(), // the order row decides: confirmed, or cancelled a moment before
    ],
    close: "CloseOrder",
    resends_max: 10,
};
const _: () = assert!(CHECKOUT.check().is_ok());

/// Settles an order: nobody's money is taken for what is not there.
pub const CHECKOUT_RESERVE_FIRST: Definition = Definition {
    name: "checkout-reserve-first",
    version: 1,
    steps: &[
        step("reserve", "ReserveStock").undo("ReleaseStock"),
        step("authorize", "AuthorizePayment").undo("RefundPayment"),
        step("schedule", "ScheduleShipment").undo("CancelShipment"),
        step("capture", "CapturePayment").undo("RefundPayment"),
        step("confirm", "ConfirmOrder").pivot(),
    ],
    close: "CloseOrder",
    resends_max: 10,
};
const _: () = assert!(CHECKOUT_RESERVE_FIRST.check().is_ok());

/// Gives money of a confirmed order back.
pub const REFUND: Definition = Definition {
    name: "refund",
    version: 1,
    steps: &[
        step("give-back", "RefundCapture").pivot(), // money that is given is not taken back
        step("settle", "SettleRefund").retriable(),
    ],
    close: "RefuseRefund",
    resends_max: 10,
};
const _: () = assert!(REFUND.check().is_ok());

/// Every version a running saga may still be of.
pub static DEFINITIONS: [Definition; 3] = [CHECKOUT, CHECKOUT_RESERVE_FIRST, REFUND];

/// All that a saga may ask, each in its first attempt.
pub(crate) fn commands(definition: &Definition) -> impl Iterator<Item = Command> + '_ {
    const ATTEMPT: u8 = Command::FIRST_ATTEMPT;
    let steps = 0..definition.steps.len();
    let undos = steps.clone().filter(|step| definition.undo_of(*step).is_some());
    let dos = steps.map(|step| Command::Do { step, attempt: ATTEMPT });
    dos.chain(undos.map(|step| Command::Undo { step, attempt: ATTEMPT })).chain([Command::Close { attempt: ATTEMPT }])
}

/// What each step is in the world of the model checker.
#[must_use]
pub fn roles(definition: &Definition) -> Vec<Role> {
    let role = |command| match command {
        "ChargePayment" => Role::Charge,
        "AuthorizePayment" => Role::Authorize,
        "CapturePayment" => Role::Capture,
        "RefundCapture" => Role::GiveBack,
        "ReserveStock" => Role::Reserve,
        "ConfirmOrder" => Role::Decide,
        "SettleRefund" => Role::Record,
        _ => Role::Hold,
    };
    definition.steps.iter().map(|step| role(step.command)).collect()
}

/// The saga that settles `cause`, an order or a refund: the same however often it is announced.
pub(crate) fn saga_id(cause: Uuid, definition: &str) -> Uuid {
    ids::derive(cause, definition)
}

#[cfg(test)]
mod tests {
    use saga::explore::{Bounds, explore};

    use super::*;

    /// Every version there has been, and its shape. Lines are added, and never changed.
    const SHAPES: &[(&str, i32, &str)] = &[
        (
            "checkout",
            1,
            "charge: ChargePayment undo RefundPayment; reserve: ReserveStock undo ReleaseStock; \
             schedule: ScheduleShipment undo CancelShipment; confirm: ConfirmOrder pivot; close: CloseOrder",
        ),
        (
            "checkout-reserve-first",
            1,
            "reserve: ReserveStock undo ReleaseStock; authorize: AuthorizePayment undo RefundPayment; \
             schedule: ScheduleShipment undo CancelShipment; capture: CapturePayment undo RefundPayment; \
             confirm: ConfirmOrder pivot; close: CloseOrder",
        ),
        ("refund", 1, "give-back: RefundCapture pivot; settle: SettleRefund retriable; close: RefuseRefund"),
    ];

    #[test]
    fn s15_a_version_keeps_its_shape() {
        for Definition { name, version, .. } in &DEFINITIONS {
            assert!(
                SHAPES.iter().any(|(pinned, of, _)| (pinned, of) == (name, version)),
                "{name} v{version} is new: add its shape to SHAPES"
            );
        }
        for (name, version, shape) in SHAPES {
            let here = DEFINITIONS.iter().find(|here| (here.name, here.version) == (*name, *version));
            assert!(
                here.is_none_or(|here| here.shape() == *shape),
                "{name} v{version} has changed. Sagas that began on it are read by the places of its steps: leave it as it was, and add \
                 a definition of version {} beside it in DEFINITIONS",
                version + 1
            );
        }
    }

    #[test]
    fn the_model_of_each_of_them_settles() {
        for known in &DEFINITIONS {
            let bounds = Bounds { operations_max: 0, ..Bounds::default() };
            let report = explore(known, &roles(known), &bounds);
            assert!(report.holds(), "{}: {report}\nnever reached: {:?}", known.name, report.never_reached());
        }
    }

    #[test]
    fn every_command_is_there_once() {
        let names = |definition| commands(definition).map(|command| command.name(definition)).collect::<Vec<_>>();
        assert_eq!(
            names(&CHECKOUT_RESERVE_FIRST),
            [
                "ReserveStock",
                "AuthorizePayment",
                "ScheduleShipment",
                "CapturePayment",
                "ConfirmOrder",
                "ReleaseStock",
                "RefundPayment",
                "CancelShipment",
                "RefundPayment",
                "CloseOrder"
            ]
        );
        assert_eq!(names(&REFUND), ["RefundCapture", "SettleRefund", "RefuseRefund"]);
    }
}
