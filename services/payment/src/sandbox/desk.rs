//! The sandbox's one desk: takes all asks that wait and enters them in the statement together.

use std::collections::{HashMap, HashSet};

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    auth_code, refuses_refunds,
    store::{self, ChargeRow, Entry, EntryKind},
    verdict_on_charge,
};
use crate::provider::{Charge, Known, Refund, Unreachable};

pub(super) type Reply<T> = oneshot::Sender<Result<T, Unreachable>>;

pub(super) enum Ask {
    Charge(Charge, Reply<Entered>),
    Refund(Refund, Reply<Entered>),
    Query(Uuid, Reply<Option<Known>>),
}

/// An entry of the statement, and whether this ask made it.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) known: Known,
    pub(super) fresh: bool,
}

/// Asks in one batch, at most.
const BATCH_ASKS_MAX: usize = 1_024;

/// Serves until every handle on the sandbox is gone. It is never cancelled, so no transaction is left half-way.
pub(super) async fn serve(pool: PgPool, mut asks: mpsc::Receiver<Ask>) {
    let mut batch = Vec::with_capacity(BATCH_ASKS_MAX);
    while asks.recv_many(&mut batch, BATCH_ASKS_MAX).await > 0 {
        let (mut charges, mut refunds, mut queries) = (Vec::new(), Vec::new(), Vec::new());
        for ask in batch.drain(..) {
            match ask {
                Ask::Charge(charge, reply) => charges.push((charge, reply)),
                Ask::Refund(refund, reply) => refunds.push((refund, reply)),
                Ask::Query(key, reply) => queries.push((key.to_string(), reply)),
            }
        }
        if !charges.is_empty() {
            let (charges, replies): (Vec<_>, Vec<_>) = charges.into_iter().unzip();
            answer(replies, enter_charges(&pool, &charges).await);
        }
        if !refunds.is_empty() {
            let (refunds, replies): (Vec<_>, Vec<_>) = refunds.into_iter().unzip();
            answer(replies, enter_refunds(&pool, &refunds).await);
        }
        if !queries.is_empty() {
            let (keys, replies): (Vec<_>, Vec<_>) = queries.into_iter().unzip();
            let found = store::outcomes(&pool, &keys).await;
            answer(replies, found.map(|found| keys.iter().map(|key| found.get(key).cloned()).collect()));
        }
    }
}

/// Answers each ask with its own, or all of them with what went wrong.
fn answer<T>(replies: Vec<Reply<T>>, answers: sqlx::Result<Vec<T>>) {
    match answers {
        // An asker that went away has timed out; the statement keeps the outcome for its query.
        Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| drop(reply.send(Ok(answer)))),
        Err(error) => {
            tracing::warn!(%error, "the sandbox cannot reach its statement");
            let error = Unreachable(error.to_string());
            replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
        }
    }
}

/// One statement where all keys are new, as they are unless a call was repeated.
async fn enter_charges(pool: &PgPool, charges: &[Charge]) -> sqlx::Result<Vec<Entered>> {
    let entry = |charge: &Charge| Entry {
        key: charge.key.to_string(),
        kind: EntryKind::Charge,
        of: None,
        token: charge.token.clone(),
        amount: charge.amount,
        currency: charge.currency.clone(),
        known: verdict_on_charge(charge.key, &charge.token),
    };
    let entries: Vec<Entry> = charges.iter().map(entry).collect();
    let mut fresh: HashSet<String> = store::enter(pool, &entries).await?.into_iter().collect();
    let fresh: Vec<bool> = entries.iter().map(|entry| fresh.remove(&entry.key)).collect();

    let repeated = entries.iter().zip(&fresh).filter(|(_, fresh)| !**fresh);
    let repeated: Vec<String> = repeated.map(|(entry, _)| entry.key.clone()).collect();
    let stored = if repeated.is_empty() { HashMap::new() } else { store::outcomes(pool, &repeated).await? };
    let entered = entries
        .into_iter()
        .zip(fresh)
        .map(|(entry, fresh)| Entered { known: stored.get(&entry.key).filter(|_| !fresh).cloned().unwrap_or(entry.known), fresh });
    Ok(entered.collect())
}

/// Refunds against their locked charges, so that no two of them share the same money.
async fn enter_refunds(pool: &PgPool, refunds: &[Refund]) -> sqlx::Result<Vec<Entered>> {
    let mut charge_keys: Vec<String> = refunds.iter().map(|refund| refund.charge_key.to_string()).collect();
    charge_keys.sort_unstable();
    charge_keys.dedup();
    let keys: Vec<String> = refunds.iter().map(|refund| refund.key.to_string()).collect();

    let mut tx = pool.begin().await?;
    let mut charges = store::lock_charges(&mut tx, &charge_keys).await?;
    let mut stored = store::outcomes(&mut *tx, &keys).await?;
    let (mut entries, mut entered, mut given_back) = (Vec::new(), Vec::new(), HashMap::new());
    for (refund, key) in refunds.iter().zip(keys) {
        if let Some(known) = stored.get(&key) {
            entered.push(Entered { known: known.clone(), fresh: false });
            continue;
        }
        let charge_key = refund.charge_key.to_string();
        let known = judge(refund, charges.get_mut(&charge_key));
        if let Known::Succeeded { .. } = known {
            *given_back.entry(charge_key.clone()).or_insert(0_i64) += refund.amount;
        }
        stored.insert(key.clone(), known.clone());
        entered.push(Entered { known: known.clone(), fresh: true });
        entries.push(Entry {
            key,
            kind: EntryKind::Refund,
            of: Some(charge_key),
            token: String::new(),
            amount: refund.amount,
            currency: refund.currency.clone(),
            known,
        });
    }
    if !entries.is_empty() {
        store::enter(&mut *tx, &entries).await?;
    }
    if !given_back.is_empty() {
        let (charge_keys, amounts): (Vec<String>, Vec<i64>) = given_back.into_iter().unzip();
        store::add_refunded(&mut tx, &charge_keys, &amounts).await?;
    }
    tx.commit().await?;
    Ok(entered)
}

/// Whether a refund is made; if so the charge has that much less to give.
fn judge(refund: &Refund, charge: Option<&mut ChargeRow>) -> Known {
    let refused = |reason: &str| Known::Declined { reason: reason.to_owned() };
    let Some(charge) = charge.filter(|charge| charge.succeeded && charge.currency == refund.currency) else {
        return refused("NO_SUCH_CHARGE");
    };
    if refuses_refunds(&charge.token) {
        return refused("REFUND_REFUSED");
    }
    if refund.amount > charge.amount - charge.refunded {
        return refused("REFUND_EXCEEDS_CHARGE");
    }
    charge.refunded += refund.amount;
    Known::Succeeded { auth_code: auth_code(refund.key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refund(amount: i64) -> Refund {
        Refund { key: Uuid::from_u128(1), charge_key: Uuid::from_u128(2), amount, currency: "USD".into() }
    }

    fn charge(token: &str) -> ChargeRow {
        ChargeRow { amount: 100, refunded: 0, currency: "USD".into(), token: token.into(), succeeded: true }
    }

    fn reason(known: &Known) -> Option<&str> {
        match known {
            Known::Declined { reason } => Some(reason),
            Known::Succeeded { .. } => None,
        }
    }

    #[test]
    fn no_more_is_given_back_than_was_taken() {
        let mut charge = charge("");
        assert_eq!(reason(&judge(&refund(60), Some(&mut charge))), None);
        assert_eq!(reason(&judge(&refund(60), Some(&mut charge))), Some("REFUND_EXCEEDS_CHARGE"));
        assert_eq!(reason(&judge(&refund(40), Some(&mut charge))), None);
        assert_eq!(charge.refunded, 100);
    }

    #[test]
    fn a_refund_needs_a_charge_that_can_be_refunded() {
        assert_eq!(reason(&judge(&refund(1), None)), Some("NO_SUCH_CHARGE"));
        let mut declined = ChargeRow { succeeded: false, ..charge("tok_declined") };
        assert_eq!(reason(&judge(&refund(1), Some(&mut declined))), Some("NO_SUCH_CHARGE"));
        let mut other = ChargeRow { currency: "EUR".into(), ..charge("") };
        assert_eq!(reason(&judge(&refund(1), Some(&mut other))), Some("NO_SUCH_CHARGE"));
        assert_eq!(reason(&judge(&refund(1), Some(&mut charge("tok_refund_refused")))), Some("REFUND_REFUSED"));
    }
}
