//! The order's own row, its timeline, its saga and what the customer was told.

use std::collections::HashMap;

use uuid::Uuid;

use super::facts::{End, Facts, Order};

pub(super) fn check(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let since = told_since(facts);
    for order in facts.orders.values() {
        status(order, &mut found);
        story(facts, order, &mut found);
        saga(facts, order, &mut found);
        told(facts, order, &since, &mut found);
        let announced = facts.announced.get(&order.id.to_string()).copied().unwrap_or(0);
        if announced != 1 {
            found.push(format!("order {} has {announced} OrderCreated", order.id));
        }
    }
    let ghosts = facts.announced.keys().filter(|key| key.parse::<Uuid>().is_ok_and(|id| !facts.orders.contains_key(&id)));
    found.extend(ghosts.map(|key| format!("OrderCreated of {key}, which is no order")));
    for id in facts.sagas.keys().chain(facts.notifications.keys()).chain(facts.timelines.keys()) {
        if !facts.orders.contains_key(id) {
            found.push(format!("{id} has a saga, a notification or a timeline but is no order"));
        }
    }
    found
}

fn status(order: &Order, found: &mut Vec<String>) {
    if order.end() == End::NotYet {
        found.push(format!("order {} is {}: it has not ended", order.id, order.status));
    }
    if order.needs_attention && order.end() != End::Attention {
        found.push(format!("order {} is {} and needs attention", order.id, order.status));
    }
}

fn story(facts: &Facts, order: &Order, found: &mut Vec<String>) {
    let Some(entries) = facts.timelines.get(&order.id) else {
        return found.push(format!("order {} has no timeline", order.id));
    };
    let versions: Vec<i32> = entries.iter().map(|(version, _)| *version).collect();
    if versions != (1..=order.version).collect::<Vec<_>>() {
        found.push(format!("the timeline of order {} has a hole: {versions:?} of {}", order.id, order.version));
    }
    match settle::audit::replay(entries.iter().map(|(_, event)| event.as_str())) {
        Ok(end) if end == (order.status.as_str(), order.needs_attention) => {}
        Ok((status, attention)) => found.push(format!(
            "the timeline of order {} leads to {status} (attention {attention}), not to {} (attention {})",
            order.id, order.status, order.needs_attention
        )),
        Err(illegal) => found.push(format!("the timeline of order {} is illegal: {illegal}", order.id)),
    }
}

fn saga(facts: &Facts, order: &Order, found: &mut Vec<String>) {
    let state = facts.sagas.get(&order.id).map_or("missing", String::as_str);
    let expected = match order.end() {
        End::Confirmed => "DONE",
        End::Undone => "UNDONE",
        End::Attention => "NEEDS_ATTENTION",
        End::NotYet => return,
    };
    if state != expected {
        found.push(format!("order {} is {} but its saga is {state}", order.id, order.status));
    }
}

/// What customers were told after the end: of every refund that is done, and where the parcel is.
fn told_since(facts: &Facts) -> HashMap<Uuid, Vec<&'static str>> {
    let mut since: HashMap<Uuid, Vec<&'static str>> = HashMap::new();
    for refund in facts.refunds.iter().filter(|refund| refund.state == "REFUNDED") {
        since.entry(refund.order_id).or_default().push("ORDER_REFUNDED");
    }
    for shipment in &facts.shipments {
        let kinds: &[&str] = match shipment.state.as_str() {
            "DISPATCHED" => &["ORDER_DISPATCHED"],
            "DELIVERED" => &["ORDER_DISPATCHED", "ORDER_DELIVERED"],
            _ => continue,
        };
        since.entry(shipment.order_id).or_default().extend(kinds);
    }
    since
}

fn told(facts: &Facts, order: &Order, since: &HashMap<Uuid, Vec<&str>>, found: &mut Vec<String>) {
    let mut kinds = facts.notifications.get(&order.id).cloned().unwrap_or_default();
    let mut expected = match order.end() {
        End::Confirmed | End::Undone => vec![format!("ORDER_{}", order.status)],
        End::Attention | End::NotYet => vec![],
    };
    expected.extend(since.get(&order.id).into_iter().flatten().map(|kind| (*kind).to_owned()));
    kinds.sort();
    expected.sort();
    if kinds != expected {
        found.push(format!("the customer of order {}, which is {}, was told {kinds:?}", order.id, order.status));
    }
}
