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

pub(crate) fn definition(name: &str, version: i32) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|known| known.name == name && known.version == version)
}

/// The newest version, for a saga that begins.
pub(crate) fn newest(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().filter(|known| known.name == name).max_by_key(|known| known.version)
}

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

    #[test]
    fn a_definition_is_found_by_name_and_version() {
        for known in &DEFINITIONS {
            assert_eq!(definition(known.name, known.version), Some(known));
            assert_eq!(definition(known.name, known.version + 1), None);
            assert_eq!(newest(known.name).map(|newest| newest.name), Some(known.name));
        }
        assert_eq!(newest("checkin"), None);
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
