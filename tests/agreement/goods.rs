//! Stock, reservations and shipments against the orders.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::facts::{Booking, End, Facts};

pub(super) fn check(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    booked(facts, "reservation", &facts.reservations, &["COMMITTED"], &mut found);
    booked(facts, "shipment", &facts.shipments, &["RELEASED", "DISPATCHED", "DELIVERED"], &mut found);
    shelves(facts, &mut found);
    found
}

/// A confirmed order has just one booking that was carried out, of its own lines; every other order none. Nothing ended is still held.
fn booked(facts: &Facts, what: &str, bookings: &[Booking], carried_out: &[&str], found: &mut Vec<String>) {
    let mut confirmed: BTreeSet<Uuid> = BTreeSet::new();
    for booking in bookings {
        let Booking { order_id, state, .. } = booking;
        let end = facts.end_of(*order_id);
        match (end, carried_out.contains(&state.as_str())) {
            (None, _) => found.push(format!("a {what} of {order_id}, which is no order")),
            (Some(End::Confirmed), true) => {
                if !confirmed.insert(*order_id) {
                    found.push(format!("the {what} of order {order_id} is {state} twice"));
                }
                let lines = facts.lines.get(order_id).cloned().unwrap_or_default();
                if booking.lines() != lines {
                    found.push(format!("the {what} of order {order_id} has {:?}, ordered was {lines:?}", booking.lines()));
                }
            }
            (Some(end), true) => found.push(format!("the {what} of order {order_id} is {state}, the order {end:?}")),
            (Some(End::Confirmed | End::Undone), false) if state == "HELD" => {
                found.push(format!("the {what} of order {order_id} is still HELD"));
            }
            (Some(_), false) => {}
        }
    }
    let ended = facts.orders.values().filter(|order| order.end() == End::Confirmed && !confirmed.contains(&order.id));
    found.extend(ended.map(|order| format!("order {} is confirmed and has no {what} that is {}", order.id, carried_out[0])));
}

/// What is on the shelves, and what is set aside of it, is what the journal says: what people brought and took, less what has left with orders.
fn shelves(facts: &Facts, found: &mut Vec<String>) {
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    for booking in facts.reservations.iter().filter(|booking| booking.state == "HELD") {
        for (sku, quantity) in booking.lines() {
            *held.entry(sku).or_default() += i64::from(quantity);
        }
    }
    for stock in &facts.stock {
        let held = held.remove(&stock.sku).unwrap_or(0);
        // Nobody counts it, however much of it is held.
        if stock.unstocked {
            continue;
        }
        if stock.reserved != held {
            found.push(format!("{} of {} are reserved, reservations hold {held}", stock.reserved, stock.sku));
        }
        let (on_hand, reserved) = facts.journal.get(&stock.sku).copied().unwrap_or_default();
        if (stock.on_hand, stock.reserved) != (on_hand, reserved) {
            let (sku, is, was) = (&stock.sku, stock.on_hand, stock.reserved);
            found.push(format!("{is} of {sku} are on hand and {was} reserved, the journal comes to {on_hand} and {reserved}"));
        }
    }
    found.extend(held.keys().map(|sku| format!("{sku} is reserved and has no stock")));
}
