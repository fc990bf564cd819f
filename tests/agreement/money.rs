//! The provider's statement against payments, refunds, ledger and orders. The statement is the truth: money that moved is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contracts::ids;
use uuid::Uuid;

use super::facts::{End, Entry, Facts, Payment, Refund};

const RECEIVABLE: &str = "receivable:";

pub(super) fn check(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let charges: HashMap<&str, &Entry> =
        facts.statement.iter().filter(|entry| entry.is_opening()).map(|entry| (entry.key.as_str(), entry)).collect();
    known_to_us(facts, &mut found);
    given_back(facts, &charges, &mut found);
    for payment in &facts.payments {
        paid(facts, payment, &charges, &mut found);
    }
    let payers: BTreeSet<Uuid> = facts.payments.iter().map(|payment| payment.order_id).collect();
    let unpaid = facts.orders.values().filter(|order| order.end() == End::Confirmed && !payers.contains(&order.id));
    found.extend(unpaid.map(|order| format!("order {} is confirmed and has no payment", order.id)));
    refunded(facts, &mut found);
    ledger(facts, &mut found);
    found
}

/// The refunds of an order come to what its row says, and order, saga and payment agree on each.
fn refunded(facts: &Facts, found: &mut Vec<String>) {
    let mut sums: BTreeMap<Uuid, i64> = BTreeMap::new();
    for refund in &facts.refunds {
        let Refund { order_id, refund_id, amount, state } = refund;
        let mut note = |text: String| found.push(format!("refund {refund_id} of order {order_id}, {state}: {text}"));
        let saga = facts.refund_sagas.get(&ids::derive(*refund_id, "refund")).map_or("missing", String::as_str);
        let paid = facts.paid_back.get(refund_id).map(|(amount, state)| (*amount, state.as_str()));
        let expected = match state.as_str() {
            "REFUNDED" => {
                *sums.entry(*order_id).or_default() += amount;
                if paid != Some((*amount, "SUCCEEDED")) {
                    note(format!("{amount} are back, says the order, and payment {paid:?}"));
                }
                "DONE"
            }
            "REFUSED" => {
                if paid.is_some_and(|(_, state)| state != "REFUSED") {
                    note(format!("payment says {paid:?}"));
                }
                "UNDONE"
            }
            _ => "NEEDS_ATTENTION",
        };
        if saga != expected {
            note(format!("its saga is {saga}"));
        }
    }
    for order in facts.orders.values().filter(|order| order.end() == End::Confirmed) {
        let sum = sums.remove(&order.id).unwrap_or(0);
        if order.refunded_amount != sum {
            found.push(format!("order {} has {} refunded, its refunds come to {sum}", order.id, order.refunded_amount));
        }
        if order.refund_pending != 0 && !order.needs_attention {
            found.push(format!("order {} has {} set aside for refunds still", order.id, order.refund_pending));
        }
    }
    found.extend(sums.keys().map(|id| format!("{id} has refunds and is no confirmed order")));
}

/// The statement has nothing that our books don't.
fn known_to_us(facts: &Facts, found: &mut Vec<String>) {
    let payments: BTreeSet<String> = facts.payments.iter().map(|payment| payment.id.to_string()).collect();
    for entry in &facts.statement {
        let charge = entry.of.as_ref().unwrap_or(&entry.key);
        if !payments.contains(charge) {
            found.push(format!("the statement has the {} {} of charge {charge}, which is no payment", entry.kind, entry.key));
        }
        if entry.kind != "REFUND" {
            continue;
        }
        let ours = entry.key.parse().ok().and_then(|id: Uuid| facts.paid_back.get(&id));
        let state = ours.map_or("missing", |(_, state)| state.as_str());
        let expected = if entry.succeeded { "SUCCEEDED" } else { "REFUSED" };
        // What is asked for again after a refusal is a refund of its own.
        if state != expected {
            found.push(format!("refund {} of charge {charge} is {state}, the statement says {expected}", entry.key));
        }
    }
    let entered: BTreeSet<&str> = facts.statement.iter().map(|entry| entry.key.as_str()).collect();
    for (id, (_, state)) in &facts.paid_back {
        if state != "REFUSED" && !entered.contains(id.to_string().as_str()) {
            found.push(format!("refund {id} is {state} and not in the statement"));
        }
    }
}

/// What a charge has given back is the sum of its refunds.
fn given_back(facts: &Facts, charges: &HashMap<&str, &Entry>, found: &mut Vec<String>) {
    let mut refunds: HashMap<&str, i64> = HashMap::new();
    for entry in facts.statement.iter().filter(|entry| entry.kind == "REFUND" && entry.succeeded) {
        *refunds.entry(entry.of.as_deref().unwrap_or_default()).or_default() += entry.amount;
    }
    for (key, charge) in charges {
        let refunds = refunds.get(key).copied().unwrap_or(0);
        let taken = charge.taken();
        if charge.refunded != refunds || refunds > taken {
            found.push(format!("charge {key} of {taken} has given back {}, its refunds come to {refunds}", charge.refunded));
        }
    }
}

fn paid(facts: &Facts, payment: &Payment, charges: &HashMap<&str, &Entry>, found: &mut Vec<String>) {
    let id = payment.id.to_string();
    let charge = charges.get(id.as_str()).filter(|charge| charge.succeeded);
    let (taken, back) = charge.map_or((0, 0), |charge| (charge.taken(), charge.refunded));
    let mut note = |text: String| found.push(format!("payment {id} of order {}: {text}", payment.order_id));
    if (payment.captured, payment.refunded) != (taken, back) {
        note(format!("says taken {} and refunded {}, the statement says {taken} and {back}", payment.captured, payment.refunded));
    }
    if payment.refund_pending != 0 {
        note(format!("a refund of {} is still pending", payment.refund_pending));
    }
    let Some(order) = facts.orders.get(&payment.order_id) else { return note("there is no such order".to_owned()) };
    let states: &[&str] = match order.end() {
        End::Confirmed => {
            let (due, given) = (order.total, order.refunded_amount);
            if (taken, back) != (due, given) || charge.is_none_or(|charge| charge.currency != order.currency) {
                let currency = &order.currency;
                note(format!("the order is confirmed at {due} {currency} less {given}, taken is {taken}, refunded {back}"));
            }
            if back == taken { &["REFUNDED"] } else { &["CAPTURED"] }
        }
        End::Undone => {
            if taken != back {
                note(format!("the order is {}, and {} is held", order.status, taken - back));
            }
            if order.refunded_amount != back {
                note(format!("the customer was told of {} refunded, it was {back}", order.refunded_amount));
            }
            &["DECLINED", "VOIDED", "REFUNDED"]
        }
        End::Attention => &["CAPTURED", "DECLINED", "VOIDED", "REFUNDED", "REFUND_REFUSED"],
        End::NotYet => return,
    };
    if !states.contains(&payment.state.as_str()) {
        note(format!("it is {} and the order {}", payment.state, order.status));
    }
}

/// Every transfer belongs to a payment and comes to what the payment says; the accounts come to what the provider owes us.
fn ledger(facts: &Facts, found: &mut Vec<String>) {
    let mut moved: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
    let mut accounts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for transfer in &facts.ledger {
        let (taken, back) = moved.entry(transfer.payment_id).or_default();
        match (transfer.debit.starts_with(RECEIVABLE), transfer.credit.starts_with(RECEIVABLE)) {
            (true, false) => *taken += transfer.amount,
            (false, true) => *back += transfer.amount,
            _ => found
                .push(format!("the ledger moves {} of payment {} between strange accounts", transfer.amount, transfer.payment_id)),
        }
        *accounts.entry((transfer.debit.as_str(), transfer.currency.as_str())).or_default() += transfer.amount;
        *accounts.entry((transfer.credit.as_str(), transfer.currency.as_str())).or_default() -= transfer.amount;
    }
    for payment in &facts.payments {
        let (taken, back) = moved.remove(&payment.id).unwrap_or_default();
        if (taken, back) != (payment.captured, payment.refunded) {
            let Payment { id, captured, refunded, .. } = payment;
            found.push(format!("payment {id} has {captured} taken and {refunded} refunded, the ledger has {taken} and {back}"));
        }
    }
    found.extend(moved.keys().map(|id| format!("the ledger knows payment {id}, which there is not")));

    let mut net: BTreeMap<&str, i64> = BTreeMap::new();
    for entry in facts.statement.iter().filter(|entry| entry.is_opening() && entry.succeeded) {
        *net.entry(entry.currency.as_str()).or_default() += entry.taken() - entry.refunded;
    }
    let currencies: BTreeSet<&str> = accounts.keys().map(|(_, currency)| *currency).chain(net.keys().copied()).collect();
    for currency in currencies {
        let owed = net.get(currency).copied().unwrap_or(0);
        let of = |wanted: &dyn Fn(&str) -> bool| -> i64 {
            accounts.iter().filter(|((account, has), _)| *has == currency && wanted(account)).map(|(_, balance)| balance).sum()
        };
        let (receivable, sales) = (of(&|account: &str| account.starts_with(RECEIVABLE)), of(&|account: &str| account == "sales"));
        if (receivable, sales) != (owed, -owed) {
            found.push(format!("the ledger has {receivable} {currency} receivable and {sales} in sales, the provider owes {owed}"));
        }
    }
}
