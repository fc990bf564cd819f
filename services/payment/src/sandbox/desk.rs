//! The sandbox's one desk: takes all asks that wait and enters them in the statement together.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    auth_code,
    claims::Claim,
    script::Script,
    store::{self, Entry, Stored},
    webhooks::Webhooks,
};
use crate::provider::{Charge, Known, StatementKind, Unreachable};

pub(super) type Reply<T> = oneshot::Sender<Result<T, Unreachable>>;

pub(super) enum Ask {
    /// A charge, or an authorization.
    Take(StatementKind, Charge, Script, Reply<Entered>),
    Claim(Claim, Script, Reply<Entered>),
    Query(Uuid, Reply<Option<Known>>),
}

/// An entry of the statement, and whether this ask made it.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) known: Known,
    /// Whether anybody may know it yet.
    pub(super) landed: bool,
    pub(super) fresh: bool,
}

impl Entered {
    fn again(Stored { known, landed }: Stored) -> Self {
        Self { known, landed, fresh: false }
    }
}

/// Asks in one batch, at most.
const BATCH_ASKS_MAX: usize = 1_024;

/// Serves until every handle on the sandbox is gone. It is never cancelled, so no transaction is left half-way.
pub(super) async fn serve(pool: PgPool, webhooks: Option<Webhooks>, mut asks: mpsc::Receiver<Ask>) {
    let mut batch = Vec::with_capacity(BATCH_ASKS_MAX);
    while asks.recv_many(&mut batch, BATCH_ASKS_MAX).await > 0 {
        let (mut takes, mut claims, mut queries) = (Vec::new(), Vec::new(), Vec::new());
        for ask in batch.drain(..) {
            match ask {
                Ask::Take(kind, charge, script, reply) => takes.push(((kind, charge, script), reply)),
                Ask::Claim(claim, script, reply) => claims.push(((claim, script), reply)),
                Ask::Query(key, reply) => queries.push((key.to_string(), reply)),
            }
        }
        if !takes.is_empty() {
            let (takes, replies): (Vec<_>, Vec<_>) = takes.into_iter().unzip();
            let entered = enter_takes(&pool, &takes).await;
            let told = takes.iter().map(|(kind, charge, script)| (*kind, charge.key, script));
            tell(webhooks.as_ref(), told, &entered);
            answer(replies, entered);
        }
        if !claims.is_empty() {
            let (claims, replies): (Vec<_>, Vec<_>) = claims.into_iter().unzip();
            let entered = enter_claims(&pool, &claims).await;
            let told = claims.iter().map(|(claim, script)| (claim.kind(), claim.key(), script));
            tell(webhooks.as_ref(), told, &entered);
            answer(replies, entered);
        }
        if !queries.is_empty() {
            let (keys, replies): (Vec<_>, Vec<_>) = queries.into_iter().unzip();
            let found = store::outcomes(&pool, &keys).await;
            let known = |found: HashMap<String, Stored>| {
                keys.iter().map(|key| found.get(key).filter(|stored| stored.landed).map(|stored| stored.known.clone())).collect()
            };
            answer(replies, found.map(known));
        }
    }
}

/// What was booked just now is told.
fn tell<'a>(
    webhooks: Option<&Webhooks>,
    asked: impl Iterator<Item = (StatementKind, Uuid, &'a Script)>,
    entered: &sqlx::Result<Vec<Entered>>,
) {
    let (Some(webhooks), Ok(entered)) = (webhooks, entered) else { return };
    for ((kind, key, script), entered) in asked.zip(entered).filter(|(_, entered)| entered.fresh) {
        webhooks.tell(kind, key, &entered.known, script);
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
async fn enter_takes(pool: &PgPool, takes: &[(StatementKind, Charge, Script)]) -> sqlx::Result<Vec<Entered>> {
    let entry = |(kind, charge, script): &(StatementKind, Charge, Script)| Entry {
        key: charge.key.to_string(),
        kind: *kind,
        of: None,
        token: charge.token.clone(),
        amount: charge.amount,
        currency: charge.currency.clone(),
        known: match script.decline {
            None => Known::Succeeded { auth_code: auth_code(charge.key) },
            Some(reason) => Known::Declined { reason: reason.to_owned() },
        },
        lands_after_ms: script.lands_after_ms(),
    };
    let entries: Vec<Entry> = takes.iter().map(entry).collect();
    let mut fresh: HashSet<String> = store::enter(pool, &entries).await?.into_iter().collect();
    let fresh: Vec<bool> = entries.iter().map(|entry| fresh.remove(&entry.key)).collect();

    let repeated = entries.iter().zip(&fresh).filter(|(_, fresh)| !**fresh);
    let repeated: Vec<String> = repeated.map(|(entry, _)| entry.key.clone()).collect();
    let stored = if repeated.is_empty() { HashMap::new() } else { store::outcomes(pool, &repeated).await? };
    let entered = entries.into_iter().zip(fresh).map(|(entry, fresh)| match stored.get(&entry.key).filter(|_| !fresh) {
        Some(stored) => Entered::again(stored.clone()),
        None => Entered { known: entry.known, landed: entry.lands_after_ms == 0, fresh },
    });
    Ok(entered.collect())
}

/// Captures, voids and refunds against their locked charges and authorizations, so that no two of them share the same money.
async fn enter_claims(pool: &PgPool, claims: &[(Claim, Script)]) -> sqlx::Result<Vec<Entered>> {
    let sorted = |mut keys: Vec<String>| {
        keys.sort_unstable();
        keys.dedup();
        keys
    };
    let keys: Vec<String> = claims.iter().map(|(claim, _)| claim.key().to_string()).collect();
    let parents = sorted(claims.iter().map(|(claim, _)| claim.of().to_string()).collect());
    let voids = claims.iter().filter(|(claim, _)| claim.kind() == StatementKind::Void);
    let voided = sorted(voids.map(|(claim, _)| claim.of().to_string()).collect());

    let mut tx = pool.begin().await?;
    if !voided.is_empty() {
        // First, so that an authorization which comes at the same time is either seen below or finds its key taken.
        store::refuse_early(&mut tx, &voided).await?;
    }
    let mut parents = store::lock_parents(&mut tx, &parents).await?;
    let mut stored = store::outcomes(&mut *tx, &keys).await?;
    let (mut entries, mut entered, mut changed) = (Vec::new(), Vec::new(), BTreeMap::new());
    for ((claim, script), key) in claims.iter().zip(keys) {
        if let Some(stored) = stored.get(&key) {
            entered.push(Entered::again(stored.clone()));
            continue;
        }
        let of = claim.of().to_string();
        let verdict = claim.judge(script.decline, parents.get_mut(&of));
        let known = verdict.known(auth_code(claim.key()));
        let landed = script.lands_after_ms() == 0;
        if let (Known::Succeeded { .. }, Some(parent)) = (&known, parents.get(&of)) {
            changed.insert(of, parent.clone());
        }
        stored.insert(key, Stored { known: known.clone(), landed });
        entries.push(verdict.entry(claim, known.clone(), script.lands_after_ms()));
        entered.push(Entered { known, landed, fresh: true });
    }
    if !entries.is_empty() {
        store::enter(&mut *tx, &entries).await?;
    }
    if !changed.is_empty() {
        store::update_parents(&mut tx, &changed.into_iter().collect::<Vec<_>>()).await?;
    }
    tx.commit().await?;
    Ok(entered)
}
