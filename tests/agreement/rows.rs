//! The order's own row, its timeline, its saga and what the customer was told.

use uuid::Uuid;

use super::{
    facts::{End, Facts, Order},
    timeline,
};

pub(super) fn check(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for order in facts.orders.values() {
        status(order, &mut found);
        story(facts, order, &mut found);
        saga(facts, order, &mut found);
        told(facts, order, &mut found);
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
    match timeline::replay(entries.iter().map(|(_, event)| event.as_str())) {
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

fn told(facts: &Facts, order: &Order, found: &mut Vec<String>) {
    let kinds = facts.notifications.get(&order.id).map(Vec::as_slice).unwrap_or_default();
    let expected = match order.end() {
        End::Confirmed | End::Undone => vec![format!("ORDER_{}", order.status)],
        End::Attention | End::NotYet => vec![],
    };
    if kinds != expected {
        found.push(format!("the customer of order {}, which is {}, was told {kinds:?}", order.id, order.status));
    }
}
