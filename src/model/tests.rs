//! The production rules settle every checkout, and rules that are wrong in a known way do not.

use inventory::reservation;
use order::order::Input;
use saga::explore::Counterexample;
use shipping::shipment;

use super::*;

fn settles(bounds: Bounds) {
    for definition in checkouts() {
        let report = explore(definition, &bounds);
        println!("{} within {bounds:?}: {report}", definition.name);
        assert_eq!(report.violation, None, "{report}");
        assert_eq!(report.never_reached(), [""; 0], "{report}");
        assert!(report.states > 1_000, "{report}");
    }
}

#[test]
fn every_checkout_of_the_shop_settles_by_the_services_own_rules() {
    assert_eq!(checkouts().map(|known| known.name).collect::<Vec<_>>(), ["checkout", "checkout-reserve-first"]);
    settles(Bounds::default());
}

#[test]
fn it_settles_without_a_person_and_with_more_that_is_asked_again() {
    settles(Bounds { resends_max: 2, retries_max: 0, ..Bounds::default() });
}

/// The rules break this property in each checkout, in a way that tells of these: who, to whom and what, in this order.
fn breaks(rules: Rules, property: &str, steps: &[(&str, &str, &str)]) {
    for definition in checkouts() {
        let report = explore_with(definition, &Bounds::default(), rules);
        let found = report.violation.unwrap_or_else(|| panic!("{property} holds in {}", definition.name));
        println!("{}: {found}", definition.name);
        assert!(found.property.starts_with(property), "{found}");
        assert!(tells(&found, steps), "{found}");
        assert!(found.to_string().contains("sequenceDiagram"), "{found}");
    }
}

fn tells(found: &Counterexample, steps: &[(&str, &str, &str)]) -> bool {
    let mut path = found.path.iter();
    steps.iter().all(|step| path.any(|one| (one.from.as_str(), one.to.as_str(), one.says.as_str()) == *step))
}

/// As without the arm that marks.
fn stock_without_a_mark(
    standing: Option<&Reservation>,
    ask: &reservation::Ask,
    shelf: Shelf<'_>,
) -> Result<reservation::Turn, inventory::Refusal> {
    let turn = reservation::settle(standing, ask, shelf)?;
    let early = standing.is_none() && matches!(ask, reservation::Ask::Release { .. });
    Ok(if early { reservation::Turn { row: None, ..turn } } else { turn })
}

#[test]
fn an_early_release_of_stock_that_leaves_no_mark_is_found() {
    let steps = [("saga", "inventory", "ReleaseStock"), ("saga", "inventory", "ReserveStock")];
    breaks(Rules { stock: stock_without_a_mark, ..PRODUCTION }, "I3", &steps);
}

fn shipment_without_a_mark(standing: Option<&Shipment>, ask: &shipment::Ask) -> Result<shipment::Turn, shipping::Refusal> {
    let (row, said) = shipment::settle(standing, ask)?;
    let early = standing.is_none() && matches!(ask, shipment::Ask::Cancel { .. });
    Ok((row.filter(|_| !early), said))
}

#[test]
fn an_early_cancel_of_a_shipment_that_leaves_no_mark_is_found() {
    let steps = [("saga", "shipping", "CancelShipment"), ("saga", "shipping", "ScheduleShipment")];
    breaks(Rules { shipment: shipment_without_a_mark, ..PRODUCTION }, "nothing is shipped", &steps);
}

fn payment_without_a_mark(
    opening: &Opening<'_>,
    payment: Option<&Payment>,
    refund: Option<&Refund>,
    input: &payments::Input,
) -> Result<payments::Step, Undecided> {
    let step = payments::step(opening, payment, refund, input)?;
    let early = payment.is_none() && matches!(input, payments::Input::Undo { .. });
    Ok(payments::Step { payment: step.payment.filter(|_| !early), ..step })
}

#[test]
fn an_early_undo_of_money_that_leaves_no_mark_is_found() {
    breaks(Rules { payment: payment_without_a_mark, ..PRODUCTION }, "I2", &[("saga", "payment", "RefundPayment")]);
}

#[test]
fn a_cancel_without_compare_and_set_is_found() {
    let steps = [("customer", "order", "looks, to cancel"), ("customer", "order", "cancel")];
    breaks(Rules { cancels_what_it_sees: false, ..PRODUCTION }, "I6", &steps);
}

fn order_that_is_never_too_late(status: Status, input: Input) -> Result<(Status, orders::Said), NotCancellable> {
    match (status, input) {
        (Status::Confirmed, Input::Cancel) => Ok((Status::Cancelling, orders::Said::CancelRequested)),
        _ => orders::next(status, input),
    }
}

#[test]
fn a_cancel_of_a_confirmed_order_is_found() {
    let steps = [("saga", "order", "ConfirmOrder"), ("customer", "order", "cancel")];
    breaks(Rules { order: order_that_is_never_too_late, ..PRODUCTION }, "I6", &steps);
}

#[test]
fn what_is_no_checkout_or_has_no_end_is_not_walked() {
    let few = Bounds { states_max: 100, ..Bounds::default() };
    for (definition, bounds, why) in [
        (&orchestrator::REFUND, Bounds::default(), "the model knows who hears each command"),
        (&orchestrator::CHECKOUT, few, "the model has an end"),
    ] {
        let found = explore(definition, &bounds).violation.expect("it is not walked to an end");
        assert!(found.property.starts_with(why), "{found}");
    }
}
