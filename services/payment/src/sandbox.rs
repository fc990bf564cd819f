//! The sandbox: a payment provider with a durable statement of its own, which tests and audits take for the truth about money.
//!
//! The payment token chooses how it behaves. Its key rule is the one of real providers: the same key gets the same outcome for
//! ever.

mod desk;
mod store;

use std::time::Duration;

use contracts::ids;
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::provider::{Charge, Known, Outcome, Provider, Refund, Unreachable};
use desk::{Ask, Entered, Reply};

/// The statement, database `settle_provider`.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/provider");

/// Asks that wait for the desk.
const ASKS_MAX: usize = 8_192;
/// What `tok_slow` takes to answer: longer than anybody waits.
const SLOW_ANSWER_MS: u64 = 3_000;

/// How the sandbox treats the first call with a key; later calls with it are answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Prompt,
    /// Fails before it charges.
    ErrorBefore,
    /// Charges, then fails.
    ErrorAfter,
    /// Charges and never answers.
    Silent,
    /// Charges and answers when nobody waits any more.
    Slow,
}

impl Manner {
    fn of(token: &str) -> Self {
        match token {
            "tok_error_before" => Self::ErrorBefore,
            "tok_error_after" => Self::ErrorAfter,
            "tok_silent" => Self::Silent,
            "tok_slow" => Self::Slow,
            _ => Self::Prompt,
        }
    }
}

/// What a charge with this token comes to.
fn verdict_on_charge(key: Uuid, token: &str) -> Known {
    match token {
        "tok_declined" => Known::Declined { reason: "CARD_DECLINED".to_owned() },
        "tok_insufficient_funds" => Known::Declined { reason: "INSUFFICIENT_FUNDS".to_owned() },
        _ => Known::Succeeded { auth_code: auth_code(key) },
    }
}

/// Whether the money of a charge with this token can never be given back.
fn refuses_refunds(token: &str) -> bool {
    token == "tok_refund_refused"
}

fn auth_code(key: Uuid) -> String {
    let mut code = ids::derive(key, "auth_code").simple().to_string();
    code.truncate(6);
    code.make_ascii_uppercase();
    code
}

/// A handle on the sandbox. Its desk ends when the last handle is gone.
pub struct Sandbox {
    pool: PgPool,
    desk: mpsc::Sender<Ask>,
    /// What a call takes at least, as the way to a real provider does.
    delay: Duration,
}

impl Sandbox {
    /// Opens the desk over the sandbox's own database, already migrated. Answers take `delay` at least.
    #[must_use]
    pub fn start(pool: PgPool, delay: Duration) -> Self {
        let (desk, asks) = mpsc::channel(ASKS_MAX);
        tokio::spawn(desk::serve(pool.clone(), asks));
        Self { pool, desk, delay }
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Unreachable> {
        let closed = || Unreachable("the sandbox is closed".to_owned());
        let answers_at = Instant::now() + self.delay;
        let (reply, answer) = oneshot::channel();
        self.desk.send(ask(reply)).await.map_err(|_| closed())?;
        let answer = answer.await.map_err(|_| closed())?;
        if !self.delay.is_zero() {
            tokio::time::sleep_until(answers_at).await;
        }
        answer
    }
}

impl Provider for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn charge(&self, ask: &Charge) -> Outcome {
        if ask.amount <= 0 {
            return Outcome::Known(Known::Declined { reason: "INVALID_AMOUNT".to_owned() });
        }
        let manner = Manner::of(&ask.token);
        if manner == Manner::ErrorBefore {
            match store::first_call(&self.pool, &ask.key.to_string()).await {
                Ok(true) => return Outcome::Unknown("the sandbox failed before it charged".to_owned()),
                Ok(false) => {}
                Err(error) => return Outcome::Unknown(error.to_string()),
            }
        }
        let ask = ask.clone();
        let Entered { known, fresh } = match self.ask(|reply| Ask::Charge(ask, reply)).await {
            Ok(entered) => entered,
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        match manner {
            Manner::ErrorAfter if fresh => return Outcome::Unknown("the sandbox failed after it charged".to_owned()),
            Manner::Silent if fresh => std::future::pending::<()>().await,
            Manner::Slow if fresh => tokio::time::sleep(Duration::from_millis(SLOW_ANSWER_MS)).await,
            _ => {}
        }
        Outcome::Known(known)
    }

    async fn refund(&self, ask: &Refund) -> Outcome {
        if ask.amount <= 0 {
            return Outcome::Known(Known::Declined { reason: "INVALID_AMOUNT".to_owned() });
        }
        let ask = ask.clone();
        match self.ask(|reply| Ask::Refund(ask, reply)).await {
            Ok(entered) => Outcome::Known(entered.known),
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    }

    async fn query(&self, key: Uuid) -> Result<Option<Known>, Unreachable> {
        self.ask(|reply| Ask::Query(key, reply)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_choose_the_outcome() {
        let key = Uuid::from_u128(7);
        let declined = |token| match verdict_on_charge(key, token) {
            Known::Declined { reason } => Some(reason),
            Known::Succeeded { .. } => None,
        };
        assert_eq!(declined("tok_declined").as_deref(), Some("CARD_DECLINED"));
        assert_eq!(declined("tok_insufficient_funds").as_deref(), Some("INSUFFICIENT_FUNDS"));
        for token in [
            "",
            "tok_visa",
            "tok_error_before",
            "tok_error_after",
            "tok_silent",
            "tok_slow",
            "tok_duplicate_webhook",
            "tok_refund_refused",
        ] {
            assert_eq!(declined(token), None, "{token}");
        }
    }

    #[test]
    fn an_auth_code_is_the_same_each_time() {
        let code = auth_code(Uuid::from_u128(7));
        assert_eq!(code.len(), 6);
        assert_eq!(code, auth_code(Uuid::from_u128(7)));
        assert_ne!(code, auth_code(Uuid::from_u128(8)));
    }
}
