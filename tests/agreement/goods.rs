//! Stock, reservations and shipments against the orders.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::facts::{Booking, End, Facts};

pub(super) fn check(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    booked(facts, "reservation", &facts.reservations, "COMMITTED", &mut found);
    booked(facts, "shipment", &facts.shipments, "RELEASED", &mut found);
    shelves(facts, &mut found);
    found
}

/// A confirmed order has just one booking that was carried out, of its own lines; every other order none. Nothing ended is still held.
fn booked(facts: &Facts, what: &str, bookings: &[Booking], carried_out: &str, found: &mut Vec<String>) {
    let mut confirmed: BTreeSet<Uuid> = BTreeSet::new();
    for booking in bookings {
        let Booking { order_id, state, .. } = booking;
        let end = facts.end_of(*order_id);
        match (end, state == carried_out) {
            (None, _) => found.push(format!("a {what} of {order_id}, which is no order")),
            (Some(End::Confirmed), true) => {
                if !confirmed.insert(*order_id) {
                    found.push(format!("the {what} of order {order_id} is {carried_out} twice"));
                }
                let lines = facts.lines.get(order_id).cloned().unwrap_or_default();
                if booking.lines() != lines {
                    found.push(format!("the {what} of order {order_id} has {:?}, ordered was {lines:?}", booking.lines()));
                }
            }
            (Some(end), true) => found.push(format!("the {what} of order {order_id} is {carried_out}, the order {end:?}")),
            (Some(End::Confirmed | End::Undone), false) if state == "HELD" => {
                found.push(format!("the {what} of order {order_id} is still HELD"));
            }
            (Some(_), false) => {}
        }
    }
    let ended = facts.orders.values().filter(|order| order.end() == End::Confirmed && !confirmed.contains(&order.id));
    found.extend(ended.map(|order| format!("order {} is confirmed and has no {what} that is {carried_out}", order.id)));
}

/// What is on the shelves is what was counted less what has left, and what is set aside is what reservations hold.
fn shelves(facts: &Facts, found: &mut Vec<String>) {
    let (mut held, mut left): (BTreeMap<String, i64>, BTreeMap<String, i64>) = Default::default();
    for booking in &facts.reservations {
        let sum = match booking.state.as_str() {
            "HELD" => &mut held,
            "COMMITTED" => &mut left,
            _ => continue,
        };
        for (sku, quantity) in booking.lines() {
            *sum.entry(sku).or_default() += i64::from(quantity);
        }
    }
    for stock in &facts.stock {
        let held = held.remove(&stock.sku).unwrap_or(0);
        if stock.reserved != held {
            found.push(format!("{} of {} are reserved, reservations hold {held}", stock.reserved, stock.sku));
        }
        // Counted again later, nobody knows what had left by then.
        let first = match facts.counted.get(&stock.sku).map(Vec::as_slice) {
            None => 0,
            Some([first]) => *first,
            Some(_) => continue,
        };
        let left = left.get(&stock.sku).copied().unwrap_or(0);
        if stock.on_hand != first - left {
            found.push(format!("{} of {} are on hand: there were {first}, and {left} have left", stock.on_hand, stock.sku));
        }
    }
    found.extend(held.keys().map(|sku| format!("{sku} is reserved and has no stock")));
}
