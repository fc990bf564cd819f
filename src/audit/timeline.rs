//! The table of an order's states (PROTOCOL 2), written down a second time so that the order service is not its own judge. Pure.

/// Status and need of attention after these events, or the first that must not come where it does.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a str>) -> Result<(&'static str, bool), String> {
    let (mut status, mut attention) = ("", false);
    for event in events {
        status = next(status, event).ok_or_else(|| match status {
            "" => format!("{event} comes first"),
            status => format!("{event} while {status}"),
        })?;
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

        // Money of a confirmed order alone is given back by refunds.
        ("CONFIRMED", "OrderRefundRequested" | "OrderRefunded" | "OrderRefundRefused") => status,
        (_, "OrderRefundRequested" | "OrderRefunded" | "OrderRefundRefused") => return None,

        // A fact: it is written down, and moves nothing.
        _ => status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_followed() {
        let confirmed =
            ["OrderCreated", "SagaStarted", "PaymentSucceeded", "InventoryReserved", "ShippingScheduled", "OrderCompleted"];
        assert_eq!(replay(confirmed), Ok(("CONFIRMED", false)));
        let refunded = ["OrderRefundRequested", "PaymentRefunded", "SagaNeedsAttention", "SagaResumed", "OrderRefunded"];
        assert_eq!(replay(confirmed.into_iter().chain(refunded)), Ok(("CONFIRMED", false)));
        let stuck =
            ["OrderCreated", "SagaStarted", "PaymentSucceeded", "SagaCompensating", "PaymentRefundFailed", "SagaNeedsAttention"];
        assert_eq!(replay(stuck), Ok(("COMPENSATING", true)));
        let late = ["OrderCreated", "OrderCancelRequested", "SagaStarted", "OrderCancelled", "PaymentSucceeded"];
        assert_eq!(replay(late), Ok(("CANCELLED", false)));
        let reserved_first = ["OrderCreated", "SagaStarted", "InventoryReserved", "PaymentAuthorized", "PaymentCaptured"];
        assert_eq!(replay(reserved_first), Ok(("PAID", false)));
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
            &["OrderCreated", "OrderRefundRequested"],
            &["OrderCreated", "OrderFailed", "OrderRefunded"],
        ] {
            assert!(replay(events.iter().copied()).is_err(), "{events:?}");
        }
    }
}
