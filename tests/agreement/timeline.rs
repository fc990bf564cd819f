//! The table of an order's states (PROTOCOL 2), written down a second time so that the order service is not its own judge. Pure.

/// Status and need of attention after these events, or the first that must not come where it does.
pub(super) fn replay<'a>(events: impl Iterator<Item = &'a str>) -> Result<(&'static str, bool), String> {
    let (mut status, mut attention) = ("", false);
    for event in events {
        status = next(status, event).ok_or_else(|| format!("{event} while {status:?}"))?;
        attention = match event {
            "SagaNeedsAttention" => true,
            "SagaResumed" | "OrderFailed" | "OrderCancelled" => false,
            _ => attention,
        };
    }
    Ok((status, attention))
}

fn next(status: &'static str, event: &str) -> Option<&'static str> {
    Some(match (status, event) {
        ("", "OrderCreated") => "PENDING",
        ("", _) | (_, "OrderCreated") => return None,

        ("PENDING", "SagaStarted") => "PROCESSING",
        ("PROCESSING", "PaymentSucceeded" | "PaymentCaptured") => "PAID",
        ("PENDING" | "PROCESSING" | "PAID", "SagaCompensating") => "COMPENSATING",
        ("PENDING" | "PROCESSING" | "PAID", "OrderCancelRequested") => "CANCELLING",
        // A person gave the confirmation up.
        ("PENDING" | "PROCESSING" | "PAID", "OrderConfirmDiscarded") => "COMPENSATING",

        ("PROCESSING" | "PAID", "OrderCompleted") => "CONFIRMED",
        ("PENDING" | "PROCESSING" | "PAID" | "COMPENSATING", "OrderFailed") => "FAILED",
        ("CANCELLING", "OrderCancelled") => "CANCELLED",
        (_, "OrderCancelRequested" | "OrderCompleted" | "OrderFailed" | "OrderCancelled") => return None,
        ("PROCESSING" | "PAID" | "CONFIRMED", "OrderConfirmRefused") => return None,
        (_, "OrderConfirmDiscarded") => return None,

        // A fact: it is written down, and moves nothing.
        _ => status,
    })
}

#[test]
fn a_story_is_followed() {
    let confirmed = ["OrderCreated", "SagaStarted", "PaymentSucceeded", "InventoryReserved", "ShippingScheduled", "OrderCompleted"];
    assert_eq!(replay(confirmed.into_iter()), Ok(("CONFIRMED", false)));
    let stuck =
        ["OrderCreated", "SagaStarted", "PaymentSucceeded", "SagaCompensating", "PaymentRefundFailed", "SagaNeedsAttention"];
    assert_eq!(replay(stuck.into_iter()), Ok(("COMPENSATING", true)));
    let late = ["OrderCreated", "OrderCancelRequested", "SagaStarted", "OrderCancelled", "PaymentSucceeded"];
    assert_eq!(replay(late.into_iter()), Ok(("CANCELLED", false)));
}

#[test]
fn an_impossible_story_is_told() {
    for events in [
        &["SagaStarted"][..],
        &["OrderCreated", "OrderCreated"],
        &["OrderCreated", "OrderCompleted"],
        &["OrderCreated", "SagaStarted", "OrderCompleted", "OrderCompleted"],
        &["OrderCreated", "SagaStarted", "OrderCompleted", "OrderFailed"],
        &["OrderCreated", "OrderCancelRequested", "OrderFailed"],
        &["OrderCreated", "SagaStarted", "OrderConfirmRefused"],
        &["OrderCreated", "OrderFailed", "OrderCancelRequested"],
    ] {
        assert!(replay(events.iter().copied()).is_err(), "{events:?}");
    }
}
