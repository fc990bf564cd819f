//! An order as all services have it: where it stands, what was taken and set aside for it, and who settles it.

use uuid::Uuid;

use super::{
    charge::Payment,
    found::{
        Found,
        Invariant::{I1, I2, I3, I6, I7},
    },
    saga::Saga,
    timeline,
};

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Order {
    pub(super) id: Uuid,
    pub(super) status: String,
    pub(super) currency: String,
    pub(super) total: i64,
    pub(super) refunded_amount: i64,
    pub(super) refund_pending: i64,
    pub(super) needs_attention: bool,
    pub(super) version: i32,
    /// Its timeline, in the order of versions.
    pub(super) versions: Vec<i32>,
    pub(super) events: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Reservation {
    pub(super) order_id: Uuid,
    pub(super) state: String,
}

/// Something of it is there at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) id: Uuid,
    pub(super) order: Option<Order>,
    pub(super) payment: Option<Payment>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) sagas: Vec<Saga>,
}

/// Steps that take money, that set it aside, and that set goods aside. Where a person has settled the undo of one of them by hand, what is
/// still there is listed; what another step did is as wrong as ever.
const TAKE: &[&str] = &["ChargePayment", "AuthorizePayment", "CapturePayment"];
const AUTHORIZE: &[&str] = &["AuthorizePayment"];
const RESERVE: &[&str] = &["ReserveStock"];

/// How an order ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Confirmed,
    /// Failed or cancelled.
    Undone,
    NotYet,
}

impl Order {
    fn end(&self) -> End {
        match self.status.as_str() {
            "CONFIRMED" => End::Confirmed,
            "FAILED" | "CANCELLED" => End::Undone,
            _ => End::NotYet,
        }
    }
}

impl Story {
    pub(super) fn check(&self) -> Found {
        let mut found = Found::default();
        self.attention(&mut found);
        match &self.order {
            None => self.nobodys(&mut found),
            Some(order) => {
                told(order, &mut found);
                self.money(order, &mut found);
                self.goods(order, &mut found);
                self.on_its_way(order, &mut found);
            }
        }
        found
    }

    fn attention(&self, found: &mut Found) {
        let of_sagas: Vec<String> = self.sagas.iter().filter_map(Saga::attention).collect();
        if of_sagas.is_empty() && self.is_flagged() {
            found.attention("it needs attention, and no saga says why");
        }
        of_sagas.into_iter().for_each(|says| found.attention(says));
    }

    fn is_flagged(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.needs_attention)
    }

    /// Whether a person must act before it goes on.
    fn waits_for_a_person(&self) -> bool {
        let call = self.payment.as_ref().is_some_and(|payment| !payment.attention.is_empty());
        call || self.is_flagged() || self.sagas.iter().any(|saga| saga.attention().is_some())
    }

    /// Money and goods of an order that there is not.
    fn nobodys(&self, found: &mut Found) {
        if let Some(payment) = &self.payment {
            found.wrong(I1, format!("a payment that is {}, {} taken, and no such order", payment.state, payment.captured));
        }
        let set_aside = self.reservations_that_are("HELD") + self.reservations_that_are("COMMITTED");
        if set_aside > 0 {
            found.wrong(I3, format!("{set_aside} reservations, and no such order"));
        }
    }

    fn money(&self, order: &Order, found: &mut Found) {
        let Some(payment) = &self.payment else {
            match order.end() {
                End::Confirmed => found.wrong(I7, "it is CONFIRMED, and nothing was taken"),
                End::Undone if order.refunded_amount > 0 => {
                    found.wrong(I7, format!("the customer was told of {} given back, nothing was taken", order.refunded_amount));
                }
                End::Undone | End::NotYet => {}
            }
            return;
        };
        if payment.currency != order.currency && payment.captured > 0 {
            found.wrong(I7, format!("it is in {}, the payment in {}", order.currency, payment.currency));
        }
        match order.end() {
            End::Confirmed => self.kept(order, payment, found),
            End::Undone => self.given_back(order, payment, found),
            End::NotYet if payment.captured > order.total => {
                found.wrong(I7, format!("{} was taken of {}", payment.captured, order.total));
            }
            End::NotYet => {}
        }
        if order.refunded_amount > payment.refunded {
            let Order { refunded_amount: told, .. } = order;
            found.wrong(I7, format!("the customer was told of {told} given back, it was {}", payment.refunded));
        }
    }

    /// A confirmed order is paid, but for what its refunds give back.
    fn kept(&self, order: &Order, payment: &Payment, found: &mut Found) {
        if payment.captured != order.total {
            found.wrong(I7, format!("it is CONFIRMED at {}, {} was taken", order.total, payment.captured));
        }
        let asked = order.refunded_amount.saturating_add(order.refund_pending);
        let back = payment.refunded.saturating_add(payment.refund_pending);
        if back > asked {
            found.wrong(I2, format!("it is CONFIRMED, {back} of it goes back, and {asked} was asked for"));
        } else if (order.refunded_amount, order.refund_pending) != (payment.refunded, 0) && !self.waits_for_a_person() {
            found.open(I2, format!("{} of {asked} asked for is given back", payment.refunded));
        }
    }

    fn given_back(&self, order: &Order, payment: &Payment, found: &mut Found) {
        let (steps, says) = match payment.state.as_str() {
            _ if payment.captured > payment.refunded => {
                (TAKE, format!("it is {}, and {} is held", order.status, payment.captured - payment.refunded))
            }
            "AUTHORIZED" => (AUTHORIZE, format!("it is {}, and its money is still set aside at the provider", order.status)),
            _ if payment.calls_open > 0 => (TAKE, format!("it is {}, and its payment {}", order.status, payment.state)),
            _ => return,
        };
        if payment.calls_open > 0 {
            // A charge that came late, or a call that a person looks at.
            if payment.attention.is_empty() {
                found.open(I2, says);
            }
        } else if self.is_settled_by_hand(steps) {
            found.attention(format!("{says}: a person has settled it by hand"));
        } else {
            found.wrong(I2, says);
        }
    }

    fn goods(&self, order: &Order, found: &mut Found) {
        let (held, left) = (self.reservations_that_are("HELD"), self.reservations_that_are("COMMITTED"));
        if held + left > 1 {
            found.wrong(I3, format!("{held} reservations are HELD and {left} COMMITTED"));
        }
        match order.end() {
            End::Confirmed if held + left == 0 => found.wrong(I3, "it is CONFIRMED, and nothing is set aside for it"),
            End::Confirmed if left == 0 => found.open(I3, "it is CONFIRMED, and its goods have not left"),
            End::Confirmed => {}
            End::Undone | End::NotYet if left > 0 => found.wrong(I3, format!("it is {}, and its goods have left", order.status)),
            End::Undone if held > 0 => {
                let says = format!("it is {}, and its goods are still set aside", order.status);
                if self.is_settled_by_hand(RESERVE) {
                    found.attention(format!("{says}: a person has settled it by hand"));
                } else {
                    found.wrong(I3, says);
                }
            }
            End::Undone | End::NotYet => {}
        }
    }

    /// An operator took the undo of one of these steps, which was refused or had no answer, for done.
    fn is_settled_by_hand(&self, steps: &[&str]) -> bool {
        self.sagas.iter().flat_map(Saga::settled_by_hand).any(|step| steps.contains(&step))
    }

    fn reservations_that_are(&self, state: &str) -> usize {
        self.reservations.iter().filter(|reservation| reservation.state == state).count()
    }

    fn on_its_way(&self, order: &Order, found: &mut Found) {
        if self.waits_for_a_person() {
            return;
        }
        if order.end() == End::NotYet {
            found.open(I2, format!("it is {}", order.status));
        } else if let Some(saga) = self.sagas.iter().find(|saga| saga.is_open()) {
            found.open(I2, format!("it is {}, and its saga {} {}", order.status, saga.definition, saga.state));
        }
    }
}

fn told(order: &Order, found: &mut Found) {
    if order.versions != (1..=order.version).collect::<Vec<_>>() {
        found.wrong(I6, format!("its story has a hole or a page too many: {:?} of {}", order.versions, order.version));
    }
    match timeline::replay(order.events.iter().map(String::as_str)) {
        Ok(end) if end == (order.status.as_str(), order.needs_attention) => {}
        Ok((status, attention)) => {
            let flag = |up| if up { " and needs attention" } else { "" };
            let (told, is) = (flag(attention), flag(order.needs_attention));
            found.wrong(I6, format!("its story leads to {status}{told}, it is {}{is}", order.status));
        }
        Err(illegal) => found.wrong(I6, format!("its story is illegal: {illegal}")),
    }
}

#[cfg(test)]
mod tests;
