//! The states of a payment, and their names. Pure.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The charge or the authorization is asked of the provider, not answered yet.
    InFlight,
    /// Set aside at the provider, not taken.
    Authorized,
    /// What is set aside is being taken.
    Capturing,
    /// Taken. A part of it may be back, or on its way.
    Captured,
    Declined,
    /// What is set aside is being given free.
    Voiding,
    /// Undone before money moved; refuses the charge for ever.
    Voided,
    /// All that remains is on its way back, as soon as earlier refunds are known.
    Refunding,
    /// All of it is back.
    Refunded,
    /// The provider refuses to give the rest back: a person must act.
    RefundRefused,
}

impl State {
    pub(super) const NAMES: [(Self, &str); 10] = [
        (Self::InFlight, "IN_FLIGHT"),
        (Self::Authorized, "AUTHORIZED"),
        (Self::Capturing, "CAPTURING"),
        (Self::Captured, "CAPTURED"),
        (Self::Declined, "DECLINED"),
        (Self::Voiding, "VOIDING"),
        (Self::Voided, "VOIDED"),
        (Self::Refunding, "REFUNDING"),
        (Self::Refunded, "REFUNDED"),
        (Self::RefundRefused, "REFUND_REFUSED"),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}
