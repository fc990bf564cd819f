//! A product: what came in, what is there, what has left. All of it is in one database.

use super::found::{Found, Invariant::I3};

/// Pieces of one product.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Shelf {
    pub(super) sku: String,
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
    /// What people counted, put there and took away, from the first day on.
    pub(super) came: i64,
    /// Of orders that were confirmed.
    pub(super) left: i64,
    /// Set aside for orders that are under way.
    pub(super) held: i64,
}

impl Shelf {
    pub(super) fn check(&self) -> Found {
        let Self { on_hand, reserved, came, left, held, .. } = *self;
        let mut found = Found::default();
        // Sums of what is in the database; one that does not fit is no sum of pieces.
        if came.checked_sub(left) != Some(on_hand) {
            found.wrong(I3, format!("{on_hand} are on hand: {came} came in, {left} have left"));
        }
        if reserved != held {
            found.wrong(I3, format!("{reserved} are set aside, reservations hold {held}"));
        }
        if reserved < 0 || on_hand < reserved {
            found.wrong(I3, format!("{on_hand} are on hand and {reserved} of them set aside"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(on_hand: i64, reserved: i64, came: i64, left: i64, held: i64) -> usize {
        Shelf { sku: "A".into(), on_hand, reserved, came, left, held }.check().wrong.len()
    }

    #[test]
    fn pieces_are_neither_lost_nor_made() {
        assert_eq!(shelf(90, 5, 100, 10, 5), 0);
        assert_eq!(shelf(0, 0, 0, 0, 0), 0);
        assert_eq!(shelf(91, 5, 100, 10, 5), 1, "one too many");
        assert_eq!(shelf(90, 4, 100, 10, 5), 1, "one is held that is not set aside");
        assert_eq!(shelf(-1, 0, 9, 10, 0), 1, "more have left than came");
        assert_eq!(shelf(3, 4, 10, 7, 4), 1, "more is set aside than is there");
        assert_eq!(shelf(0, 0, i64::MIN, 1, 0), 1);
    }
}
