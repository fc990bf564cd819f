//! What the customer reads. Pure.

use uuid::Uuid;

/// What a customer is told about an order, at most once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Confirmed,
    Failed,
    Cancelled,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Confirmed, Self::Failed, Self::Cancelled];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "ORDER_CONFIRMED",
            Self::Failed => "ORDER_FAILED",
            Self::Cancelled => "ORDER_CANCELLED",
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

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Confirmed { charged: Amount },
    Failed { reason: String, refunded: Amount },
    Cancelled { refunded: Amount },
}

impl Ending {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Confirmed { .. } => Kind::Confirmed,
            Self::Failed { .. } => Kind::Failed,
            Self::Cancelled { .. } => Kind::Cancelled,
        }
    }
}

pub(crate) fn text(order: Uuid, ending: &Ending) -> String {
    match ending {
        Ending::Confirmed { charged } => format!("Your order {order} is confirmed. You paid {}.", readable(charged)),
        Ending::Failed { reason, refunded } => {
            let why = explained(reason).map(|why| format!(": {why}")).unwrap_or_default();
            format!("Your order {order} could not be completed{why}.{}", refund(refunded))
        }
        Ending::Cancelled { refunded } => format!("Your order {order} is cancelled.{}", refund(refunded)),
    }
}

/// Nothing is said of money where none came back: whether none was taken is not known here.
fn refund(refunded: &Amount) -> String {
    match refunded.minor {
        0 => String::new(),
        _ => format!(" We refunded {}.", readable(refunded)),
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

/// An amount as people write it: `1234` minor units are 12.34 USD, 1234 JPY and 1.234 KWD.
fn readable(amount: &Amount) -> String {
    let Amount { minor, currency } = amount;
    let sign = if *minor < 0 { "-" } else { "" };
    let digits = minor_digits(currency);
    if digits == 0 {
        return format!("{minor} {currency}");
    }
    let unit = 10_u64.pow(digits);
    let (whole, rest) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    format!("{sign}{whole}.{rest:0width$} {currency}", width = digits as usize)
}

/// Digits after the point, from ISO 4217.
fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV" | "XAF" | "XOF"
        | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(minor: i64, currency: &str) -> Amount {
        Amount { minor, currency: currency.to_owned() }
    }

    fn failed(reason: &str, refunded: i64) -> String {
        text(Uuid::from_u128(1), &Ending::Failed { reason: reason.to_owned(), refunded: amount(refunded, "USD") })
    }

    const ORDER: &str = "Your order 00000000-0000-0000-0000-000000000001";

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        for (minor, currency, expected) in [
            (1234, "USD", "12.34 USD"),
            (5, "EUR", "0.05 EUR"),
            (0, "USD", "0.00 USD"),
            (1234, "JPY", "1234 JPY"),
            (1234, "KWD", "1.234 KWD"),
            (-1, "USD", "-0.01 USD"),
            (i64::MIN, "USD", "-92233720368547758.08 USD"),
        ] {
            assert_eq!(readable(&amount(minor, currency)), expected);
        }
    }

    #[test]
    fn a_confirmed_order_says_what_was_paid() {
        let told = text(Uuid::from_u128(1), &Ending::Confirmed { charged: amount(2400, "USD") });
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
        let told = text(Uuid::from_u128(1), &Ending::Cancelled { refunded: amount(100, "JPY") });
        assert_eq!(told, format!("{ORDER} is cancelled. We refunded 100 JPY."));
    }

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
        assert_eq!(Kind::named("ORDER_LOST"), None);
    }
}
