//! What the customer reads. Pure.

use std::fmt;

use contracts::money;
use uuid::Uuid;

/// What a customer is told about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Confirmed,
    Failed,
    Cancelled,
    Refunded,
    Dispatched,
    Delivered,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Confirmed, Self::Failed, Self::Cancelled, Self::Refunded, Self::Dispatched, Self::Delivered];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "ORDER_CONFIRMED",
            Self::Failed => "ORDER_FAILED",
            Self::Cancelled => "ORDER_CANCELLED",
            Self::Refunded => "ORDER_REFUNDED",
            Self::Dispatched => "ORDER_DISPATCHED",
            Self::Delivered => "ORDER_DELIVERED",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Minor units of a currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) minor: i64,
    pub(crate) currency: String,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&money::readable(self.minor, &self.currency))
    }
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    Confirmed {
        charged: Amount,
    },
    Failed {
        reason: String,
        refunded: Amount,
    },
    Cancelled {
        refunded: Amount,
    },
    Refunded {
        refund: Uuid,
        refunded: Amount,
        /// With all refunds before.
        in_all: Amount,
    },
    Dispatched {
        tracking_number: String,
    },
    Delivered,
}

impl Occasion {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Confirmed { .. } => Kind::Confirmed,
            Self::Failed { .. } => Kind::Failed,
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Refunded { .. } => Kind::Refunded,
            Self::Dispatched { .. } => Kind::Dispatched,
            Self::Delivered => Kind::Delivered,
        }
    }

    /// Which of several of its kind; nil where an order has one.
    pub(crate) fn subject(&self) -> Uuid {
        match self {
            Self::Refunded { refund, .. } => *refund,
            Self::Confirmed { .. } | Self::Failed { .. } | Self::Cancelled { .. } | Self::Dispatched { .. } | Self::Delivered => {
                Uuid::nil()
            }
        }
    }
}

pub(crate) fn text(order: Uuid, occasion: &Occasion) -> String {
    match occasion {
        Occasion::Confirmed { charged } => format!("Your order {order} is confirmed. You paid {charged}."),
        Occasion::Failed { reason, refunded } => {
            let why = explained(reason).map(|why| format!(": {why}")).unwrap_or_default();
            format!("Your order {order} could not be completed{why}.{}", refund(refunded))
        }
        Occasion::Cancelled { refunded } => format!("Your order {order} is cancelled.{}", refund(refunded)),
        Occasion::Refunded { refunded, in_all, .. } if refunded == in_all => {
            format!("We refunded {refunded} of your order {order}.")
        }
        Occasion::Refunded { refunded, in_all, .. } => {
            format!("We refunded {refunded} of your order {order}, {in_all} in all.")
        }
        Occasion::Dispatched { tracking_number } => match tracking_number.as_str() {
            "" => format!("Your order {order} is on its way."),
            number => format!("Your order {order} is on its way. The carrier knows it as {number}."),
        },
        Occasion::Delivered => format!("Your order {order} has arrived."),
    }
}

/// Nothing is said of money where none came back: whether none was taken is not known here.
fn refund(refunded: &Amount) -> String {
    match refunded.minor {
        0 => String::new(),
        _ => format!(" We refunded {refunded}."),
    }
}

/// The reasons that mean something to a customer.
fn explained(reason: &str) -> Option<&'static str> {
    match reason {
        "CARD_DECLINED" => Some("the payment was declined"),
        "INSUFFICIENT_FUNDS" => Some("the payment was declined for lack of funds"),
        "OUT_OF_STOCK" => Some("an item is out of stock"),
        "UNKNOWN_SKU" => Some("an item is no longer sold"),
        "UNSHIPPABLE" => Some("an item cannot be shipped"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(minor: i64, currency: &str) -> Amount {
        Amount { minor, currency: currency.to_owned() }
    }

    fn failed(reason: &str, refunded: i64) -> String {
        text(Uuid::from_u128(1), &Occasion::Failed { reason: reason.to_owned(), refunded: amount(refunded, "USD") })
    }

    const ORDER: &str = "Your order 00000000-0000-0000-0000-000000000001";

    #[test]
    fn a_confirmed_order_says_what_was_paid() {
        let told = text(Uuid::from_u128(1), &Occasion::Confirmed { charged: amount(2400, "USD") });
        assert_eq!(told, format!("{ORDER} is confirmed. You paid 24.00 USD."));
    }

    #[test]
    fn a_failed_order_says_why_where_that_helps_and_what_came_back() {
        assert_eq!(
            failed("OUT_OF_STOCK", 2400),
            format!("{ORDER} could not be completed: an item is out of stock. We refunded 24.00 USD.")
        );
        assert_eq!(failed("CARD_DECLINED", 0), format!("{ORDER} could not be completed: the payment was declined."));
        assert_eq!(failed("VOIDED", 0), format!("{ORDER} could not be completed."));
    }

    #[test]
    fn a_cancelled_order_says_what_came_back() {
        let told = text(Uuid::from_u128(1), &Occasion::Cancelled { refunded: amount(100, "JPY") });
        assert_eq!(told, format!("{ORDER} is cancelled. We refunded 100 JPY."));
    }

    #[test]
    fn a_refund_says_what_came_back_and_what_in_all() {
        let told = |minor, in_all| {
            let refund = Uuid::from_u128(2);
            text(Uuid::from_u128(1), &Occasion::Refunded { refund, refunded: amount(minor, "KWD"), in_all: amount(in_all, "KWD") })
        };
        assert_eq!(told(1_500, 1_500), "We refunded 1.500 KWD of your order 00000000-0000-0000-0000-000000000001.");
        assert_eq!(
            told(1_500, 2_000),
            "We refunded 1.500 KWD of your order 00000000-0000-0000-0000-000000000001, 2.000 KWD in all."
        );
    }

    #[test]
    fn a_shipment_is_told_as_it_goes() {
        let gone = |number: &str| text(Uuid::from_u128(1), &Occasion::Dispatched { tracking_number: number.to_owned() });
        assert_eq!(gone(""), format!("{ORDER} is on its way."));
        assert_eq!(gone("T-1"), format!("{ORDER} is on its way. The carrier knows it as T-1."));
        assert_eq!(text(Uuid::from_u128(1), &Occasion::Delivered), format!("{ORDER} has arrived."));
    }

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        assert_eq!(Kind::named("ORDER_LOST"), None);
    }
}
