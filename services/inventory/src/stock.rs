//! The pieces of a product, and what people do to them. Pure.

use crate::error::Refusal;

/// More pieces of a product are not counted.
pub(crate) const ON_HAND_MAX: i64 = 1_000_000_000_000;

/// The pieces of one product: on hand, and reserved of those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stock {
    pub on_hand: i64,
    pub reserved: i64,
    /// Nobody counts it: there is always enough, and nothing changes.
    pub unstocked: bool,
}

impl Stock {
    pub(crate) fn hold(self, quantity: i64) -> Option<Self> {
        let reserved = self.reserved.checked_add(quantity)?;
        (reserved <= self.on_hand).then_some(Self { reserved, ..self })
    }

    pub(crate) fn give_back(self, quantity: i64) -> Option<Self> {
        (quantity <= self.reserved).then(|| Self { reserved: self.reserved - quantity, ..self })
    }

    pub(crate) fn hand_out(self, quantity: i64) -> Option<Self> {
        let rest = self.give_back(quantity)?;
        Some(Self { on_hand: rest.on_hand - quantity, ..rest })
    }

    /// What a person does to the shelf.
    pub(crate) fn changed(self, sku: &str, change: &Change) -> Result<Self, Refusal> {
        let on_hand = match change {
            Change::Set { on_hand } => *on_hand,
            Change::Adjust { delta, .. } => self.on_hand.saturating_add(*delta),
        };
        let sku = || sku.to_owned();
        match self {
            Self { unstocked: true, .. } => Err(Refusal::Unstocked { sku: sku() }),
            Self { reserved, .. } if on_hand < reserved => Err(Refusal::BelowReserved { sku: sku(), on_hand, reserved }),
            _ if on_hand > ON_HAND_MAX => Err(Refusal::TooMany { sku: sku(), on_hand }),
            _ => Ok(Self { on_hand, ..self }),
        }
    }
}

/// A person changes what is on hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was counted.
    Set { on_hand: i64 },
    /// Pieces came, or went.
    Adjust { delta: i64, reason: String },
}

impl Change {
    /// As it is stored.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Set { .. } => "SET",
            Self::Adjust { .. } => "ADJUST",
        }
    }

    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Set { .. } => "",
            Self::Adjust { reason, .. } => reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(on_hand: i64, reserved: i64) -> Stock {
        Stock { on_hand, reserved, unstocked: false }
    }

    #[test]
    fn stock_is_never_counted_below_what_is_reserved_nor_beyond_all_bounds() {
        let set = |on_hand| Change::Set { on_hand };
        let adjust = |delta| Change::Adjust { delta, reason: String::new() };
        let stock = pieces(10, 4);
        for (change, on_hand) in [(set(4), 4), (adjust(-6), 4), (adjust(1), 11), (set(ON_HAND_MAX), ON_HAND_MAX)] {
            assert_eq!(stock.changed("a", &change), Ok(pieces(on_hand, 4)), "{change:?}");
        }
        for (change, on_hand) in [(set(3), 3), (adjust(-7), 3), (adjust(-11), -1), (adjust(i64::MIN), i64::MIN + 10)] {
            let below = Err(Refusal::BelowReserved { sku: "a".to_owned(), on_hand, reserved: 4 });
            assert_eq!(stock.changed("a", &change), below, "{change:?}");
        }
        for change in [adjust(ON_HAND_MAX), adjust(i64::MAX)] {
            assert!(matches!(stock.changed("a", &change), Err(Refusal::TooMany { .. })), "{change:?}");
        }
    }

    #[test]
    fn nobody_counts_what_is_not_counted() {
        let amount = Stock { unstocked: true, ..Stock::default() };
        for change in [Change::Set { on_hand: 0 }, Change::Adjust { delta: 1, reason: String::new() }] {
            assert_eq!(amount.changed("AMOUNT", &change), Err(Refusal::Unstocked { sku: "AMOUNT".to_owned() }));
        }
    }
}
