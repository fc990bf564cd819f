//! The sandbox: a payment provider with a durable statement of its own, which tests and audits take for the truth about money.
//!
//! The payment token chooses how it behaves, else the chaos profile. Its key rule is the one of real providers: the same key gets
//! the same outcome for ever.

mod chaos;
mod claims;
mod desk;
pub mod http;
mod script;
mod store;
mod webhooks;

use std::time::Duration;

use contracts::ids;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

pub use chaos::{BadChaos, Chaos};
pub use webhooks::Target;

use crate::provider::{
    Capture, Charge, Known, Outcome, Provider, Refund, StatementEntry, StatementKind, Unreachable, Void, http::BadUrl,
    wire::STATEMENT_ENTRIES_MAX,
};
use claims::Claim;
use desk::{Ask, Entered, Reply};
use script::{Manner, Script};
use webhooks::Webhooks;

/// The statement, database `settle_provider`.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/provider");

/// Asks that wait for the desk.
const ASKS_MAX: usize = 8_192;
const TOKEN_CHARS_MAX: usize = 255;

/// How the sandbox behaves.
#[derive(Default)]
pub struct Options {
    /// What a call takes at least, as the way to a real provider does.
    pub delay: Duration,
    pub chaos: Chaos,
    pub webhooks: Option<Target>,
}

/// A handle on the sandbox. Its desk ends when the last handle is gone.
pub struct Sandbox {
    pool: PgPool,
    desk: mpsc::Sender<Ask>,
    delay: Duration,
    chaos: Chaos,
    started: Instant,
}

impl Sandbox {
    /// Opens the desk over the sandbox's own database, already migrated.
    pub fn start(pool: PgPool, options: Options) -> Result<Self, BadUrl> {
        let Options { delay, chaos, webhooks } = options;
        let (desk, asks) = mpsc::channel(ASKS_MAX);
        tokio::spawn(desk::serve(pool.clone(), webhooks.map(Webhooks::start).transpose()?, asks));
        Ok(Self { pool, desk, delay, chaos, started: Instant::now() })
    }

    fn is_away(&self) -> bool {
        self.chaos.is_away(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Unreachable> {
        let closed = || Unreachable("the sandbox is closed".to_owned());
        if self.is_away() {
            return Err(away());
        }
        let answers_at = Instant::now() + self.delay;
        let (reply, answer) = oneshot::channel();
        self.desk.send(ask(reply)).await.map_err(|_| closed())?;
        let answer = answer.await.map_err(|_| closed())?;
        if !self.delay.is_zero() {
            tokio::time::sleep_until(answers_at).await;
        }
        answer
    }

    async fn take(&self, kind: StatementKind, ask: &Charge) -> Outcome {
        if let Some(refused) = refuse(ask.amount, &ask.currency, &ask.token) {
            return refused;
        }
        let script = Script::of_charge(ask.key, &ask.token, &self.chaos);
        let charge = ask.clone();
        self.book(ask.key, script, |reply| Ask::Take(kind, charge, script, reply)).await
    }

    async fn claim(&self, script: Script, claim: Claim) -> Outcome {
        self.book(claim.key(), script, |reply| Ask::Claim(claim, script, reply)).await
    }

    /// One call, as its script has it.
    async fn book(&self, key: Uuid, script: Script, ask: impl FnOnce(Reply<Entered>) -> Ask) -> Outcome {
        if let Some(spoiled) = self.spoil(key, script.manner).await {
            return spoiled;
        }
        let Entered { known, landed, fresh } = match self.ask(ask).await {
            Ok(entered) => entered,
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        match script.manner {
            Manner::ErrorAfter if fresh => return Outcome::Unknown("the sandbox failed after it had booked".to_owned()),
            Manner::Late { .. } if fresh => std::future::pending::<()>().await,
            Manner::Slow { ms } if fresh => tokio::time::sleep(Duration::from_millis(ms)).await,
            _ => {}
        }
        if landed { Outcome::Known(known) } else { Outcome::Unknown("the sandbox is still at it".to_owned()) }
    }

    /// What the first calls of a key come to, where nothing is booked for them.
    async fn spoil(&self, key: Uuid, manner: Manner) -> Option<Outcome> {
        let (Manner::ErrorBefore { calls } | Manner::Silent { calls }) = manner else { return None };
        if self.is_away() {
            return None;
        }
        match store::spoil(&self.pool, &key.to_string(), calls).await {
            Ok(false) => None,
            Ok(true) if matches!(manner, Manner::Silent { .. }) => std::future::pending().await,
            Ok(true) => Some(Outcome::Unknown("the sandbox failed before it had booked".to_owned())),
            Err(error) => Some(Outcome::Unknown(error.to_string())),
        }
    }
}

impl Provider for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn charge(&self, ask: &Charge) -> Outcome {
        self.take(StatementKind::Charge, ask).await
    }

    async fn authorize(&self, ask: &Charge) -> Outcome {
        self.take(StatementKind::Authorize, ask).await
    }

    async fn capture(&self, ask: &Capture) -> Outcome {
        if let Some(refused) = refuse(ask.amount, &ask.currency, "") {
            return refused;
        }
        self.claim(Script::of_capture(ask.key, &self.chaos), Claim::Capture(ask.clone())).await
    }

    async fn void(&self, ask: &Void) -> Outcome {
        self.claim(Script::of_capture(ask.key, &self.chaos), Claim::Void(ask.clone())).await
    }

    async fn refund(&self, ask: &Refund) -> Outcome {
        if let Some(refused) = refuse(ask.amount, &ask.currency, "") {
            return refused;
        }
        self.claim(Script::of_refund(ask.key, &self.chaos), Claim::Refund(ask.clone())).await
    }

    async fn query(&self, key: Uuid) -> Result<Option<Known>, Unreachable> {
        self.ask(|reply| Ask::Query(key, reply)).await
    }

    async fn statement(
        &self,
        since: Option<OffsetDateTime>,
        after: Option<(OffsetDateTime, String)>,
        limit: u32,
    ) -> Result<Vec<StatementEntry>, Unreachable> {
        if self.is_away() {
            return Err(away());
        }
        let page = store::page(&self.pool, since, after, limit.min(STATEMENT_ENTRIES_MAX).into()).await;
        page.map_err(|error| Unreachable(error.to_string()))
    }
}

fn away() -> Unreachable {
    Unreachable("the sandbox is away".to_owned())
}

/// What no book can hold is refused at the door, and nothing is kept of it.
fn refuse(amount: i64, currency: &str, token: &str) -> Option<Outcome> {
    let reason = if amount <= 0 {
        "INVALID_AMOUNT"
    } else if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        "INVALID_CURRENCY"
    } else if token.chars().count() > TOKEN_CHARS_MAX || token.chars().any(char::is_control) {
        "INVALID_TOKEN"
    } else {
        return None;
    };
    Some(Outcome::Known(Known::Declined { reason: reason.to_owned() }))
}

fn auth_code(key: Uuid) -> String {
    let mut code = ids::derive(key, "auth_code").simple().to_string();
    code.truncate(6);
    code.make_ascii_uppercase();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auth_code_is_the_same_each_time() {
        let code = auth_code(Uuid::from_u128(7));
        assert_eq!(code.len(), 6);
        assert_eq!(code, auth_code(Uuid::from_u128(7)));
        assert_ne!(code, auth_code(Uuid::from_u128(8)));
    }

    #[test]
    fn what_no_book_can_hold_is_refused() {
        let reason = |amount, currency, token| match refuse(amount, currency, token) {
            Some(Outcome::Known(Known::Declined { reason })) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(refuse(1, "USD", "tok_visa"), None);
        assert_eq!(reason(0, "USD", ""), "INVALID_AMOUNT");
        assert_eq!(reason(-1, "USD", ""), "INVALID_AMOUNT");
        for currency in ["", "US", "usd", "USDT", "U\0D"] {
            assert_eq!(reason(1, currency, ""), "INVALID_CURRENCY", "{currency}");
        }
        for token in ["a\0b", &"x".repeat(TOKEN_CHARS_MAX + 1)] {
            assert_eq!(reason(1, "USD", token), "INVALID_TOKEN");
        }
    }
}
