//! What must always hold, and what a look at one thing comes to. Pure.

/// Of docs/runbooks/audit.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    I1,
    I2,
    I3,
    I6,
    I7,
}

impl Invariant {
    pub const ALL: [Self; 5] = [Self::I1, Self::I2, Self::I3, Self::I6, Self::I7];

    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::I1 => "I1",
            Self::I2 => "I2",
            Self::I3 => "I3",
            Self::I6 => "I6",
            Self::I7 => "I7",
        }
    }

    #[must_use]
    pub fn statement(self) -> &'static str {
        match self {
            Self::I1 => "no order is charged twice, and no money is taken that we do not know of",
            Self::I2 => "what was taken of an order that is not completed is given back once, in full, and never more",
            Self::I3 => {
                "what came in is on hand or has left, what is set aside is held by orders, and goods follow the orders' ends"
            }
            Self::I6 => "every order's story is legal, without holes, and leads to where the order stands",
            Self::I7 => "revenue is what was taken less what was given back, in payments, ledger and statement, to the minor unit",
        }
    }
}

/// What a look at an order, a charge or a product comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Must never be so.
    pub(super) wrong: Vec<(Invariant, String)>,
    /// On its way: must not be so when everything is at rest.
    pub(super) open: Vec<(Invariant, String)>,
    /// Waits for a person, or was settled by one.
    pub(super) attention: Vec<String>,
}

impl Found {
    pub(super) fn wrong(&mut self, invariant: Invariant, says: impl Into<String>) {
        self.wrong.push((invariant, says.into()));
    }

    pub(super) fn open(&mut self, invariant: Invariant, says: impl Into<String>) {
        self.open.push((invariant, says.into()));
    }

    pub(super) fn attention(&mut self, says: impl Into<String>) {
        self.attention.push(says.into());
    }

    /// Whether it is worth another look.
    pub(super) fn is_suspect(&self, at_rest: bool) -> bool {
        !self.wrong.is_empty() || (at_rest && !self.open.is_empty())
    }
}
