//! One call to the provider, made so that a lost reply never costs a second charge.

use std::{future::Future, time::Duration};

use super::{Limits, store::Call};
use crate::{
    payment::{Kind, Known, VOIDED},
    provider::{self, Capture, Charge, Provider, Refund, Void},
};

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Known(Known),
    /// It is looked at again.
    Unknown(String),
    /// The provider does not know the key, and has forgotten keys of its age: sent again, this one might charge again.
    Forgotten,
}

/// Asks what became of the key if it may have been sent before, and sends it unless that is known. What is withdrawn is only asked about:
/// this database has not sent it, but a history that a restore has lost may have.
pub(super) async fn make<P: Provider>(provider: &P, call: &Call, limits: &Limits) -> Outcome {
    if call.attempts > 1 || call.withdrawn {
        match in_time(provider.query(call.key), limits).await {
            Some(Ok(Some(known))) => return Outcome::Known(known),
            Some(Ok(None)) if call.withdrawn => return Outcome::Known(Known::Declined { reason: VOIDED.to_owned() }),
            Some(Ok(None)) if call.first_sent_s_ago < limits.provider_key_window_s => {}
            Some(Ok(None)) => return Outcome::Forgotten,
            Some(Err(error)) => return Outcome::Unknown(error.to_string()),
            None => return Outcome::Unknown("the provider did not answer a query in time".to_owned()),
        }
    }
    match in_time(send(provider, call), limits).await {
        Some(provider::Outcome::Known(known)) => Outcome::Known(known),
        Some(provider::Outcome::Unknown(reason)) => Outcome::Unknown(reason),
        None => Outcome::Unknown("the provider did not answer in time".to_owned()),
    }
}

async fn send<P: Provider>(provider: &P, call: &Call) -> provider::Outcome {
    let Call { key, amount, payment_id, .. } = *call;
    let currency = call.currency.clone();
    match call.kind {
        Kind::Charge => provider.charge(&Charge { key, token: call.token.clone(), amount, currency }).await,
        Kind::Authorize => provider.authorize(&Charge { key, token: call.token.clone(), amount, currency }).await,
        Kind::Capture => provider.capture(&Capture { key, authorization_key: payment_id, amount, currency }).await,
        Kind::Void => provider.void(&Void { key, authorization_key: payment_id }).await,
        Kind::Refund => provider.refund(&Refund { key, charge_key: payment_id, amount, currency }).await,
    }
}

async fn in_time<F: Future>(asked: F, limits: &Limits) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(limits.provider_timeout_ms), asked).await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::provider::{StatementEntry, Unreachable};

    /// Answers a query as told, and writes down what it was asked.
    struct Scripted {
        query: Result<Option<Known>, Unreachable>,
        answer: provider::Outcome,
        asked: Mutex<Vec<String>>,
    }

    impl Scripted {
        fn note(&self, what: &str, key: Uuid) -> provider::Outcome {
            self.asked.lock().unwrap().push(format!("{what} {}", key.as_u128()));
            self.answer.clone()
        }
    }

    impl Provider for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        async fn charge(&self, ask: &Charge) -> provider::Outcome {
            self.note("charge", ask.key)
        }

        async fn authorize(&self, ask: &Charge) -> provider::Outcome {
            self.note("authorize", ask.key)
        }

        async fn capture(&self, ask: &Capture) -> provider::Outcome {
            assert_eq!(ask.authorization_key, PAYMENT);
            self.note("capture", ask.key)
        }

        async fn void(&self, ask: &Void) -> provider::Outcome {
            assert_eq!(ask.authorization_key, PAYMENT);
            self.note("void", ask.key)
        }

        async fn refund(&self, ask: &Refund) -> provider::Outcome {
            assert_eq!(ask.charge_key, PAYMENT);
            self.note("refund", ask.key)
        }

        async fn query(&self, key: Uuid) -> Result<Option<Known>, Unreachable> {
            self.note("query", key);
            self.query.clone()
        }

        async fn statement(
            &self,
            _: Option<OffsetDateTime>,
            _: Option<(OffsetDateTime, String)>,
            _: u32,
        ) -> Result<Vec<StatementEntry>, Unreachable> {
            Ok(Vec::new())
        }
    }

    const PAYMENT: Uuid = Uuid::from_u128(9);

    fn yes() -> Known {
        Known::Succeeded { auth_code: "A1".into() }
    }

    fn call(kind: Kind, attempts: i32, first_sent_s_ago: i64) -> Call {
        let id = Uuid::from_u128(1);
        let trace = messaging::Trace::default();
        let (token, currency, correlation) = (String::new(), "USD".to_owned(), String::new());
        let (payment_id, order_id, key, amount) = (PAYMENT, id, id, 1);
        let withdrawn = false;
        Call {
            payment_id,
            id,
            order_id,
            kind,
            key,
            token,
            amount,
            currency,
            attempts,
            first_sent_s_ago,
            withdrawn,
            correlation,
            trace,
        }
    }

    async fn made(query: Result<Option<Known>, Unreachable>, answer: provider::Outcome, call: Call) -> (Outcome, Vec<String>) {
        let provider = Scripted { query, answer, asked: Mutex::default() };
        let outcome = make(&provider, &call, &Limits::default()).await;
        (outcome, provider.asked.into_inner().unwrap())
    }

    async fn check(query: Result<Option<Known>, Unreachable>, call: Call, asked: &[&str], known: bool) {
        let (outcome, made) = made(query, provider::Outcome::Known(yes()), call).await;
        assert_eq!(made, asked);
        assert_eq!(outcome == Outcome::Known(yes()), known);
    }

    #[tokio::test]
    async fn a_first_call_is_sent_and_a_later_one_asks_first() {
        for (kind, name) in [
            (Kind::Charge, "charge 1"),
            (Kind::Authorize, "authorize 1"),
            (Kind::Capture, "capture 1"),
            (Kind::Void, "void 1"),
            (Kind::Refund, "refund 1"),
        ] {
            check(Ok(None), call(kind, 1, 0), &[name], true).await;
            check(Ok(None), call(kind, 2, 5), &["query 1", name], true).await;
            check(Ok(Some(yes())), call(kind, 2, 5), &["query 1"], true).await;
        }
    }

    #[tokio::test]
    async fn s11_an_unknown_outcome_is_asked_about_and_sent_again_with_the_same_key_only() {
        let lost = || provider::Outcome::Unknown("lost".into());
        let (outcome, asked) = made(Ok(None), lost(), call(Kind::Charge, 1, 0)).await;
        assert_eq!((outcome, asked), (Outcome::Unknown("lost".into()), vec!["charge 1".to_owned()]));
        let (outcome, asked) = made(Ok(None), lost(), call(Kind::Charge, 2, 3)).await;
        assert_eq!((outcome, asked), (Outcome::Unknown("lost".into()), vec!["query 1".to_owned(), "charge 1".to_owned()]));
    }

    #[tokio::test]
    async fn s11_nothing_is_sent_while_the_query_fails_or_after_the_key_window() {
        check(Err(Unreachable("away".into())), call(Kind::Charge, 2, 5), &["query 1"], false).await;
        let answer = || provider::Outcome::Known(yes());
        let (outcome, asked) = made(Ok(None), answer(), call(Kind::Charge, 9, 90_000)).await;
        assert_eq!((outcome, asked), (Outcome::Forgotten, vec!["query 1".to_owned()]));
        // What lands late is found all the same.
        check(Ok(Some(yes())), call(Kind::Charge, 10, 90_000), &["query 1"], true).await;
    }

    #[tokio::test]
    async fn what_is_withdrawn_is_asked_about_and_never_sent() {
        let answer = || provider::Outcome::Known(yes());
        for attempts in [1, 2, 9] {
            let withdrawn = |kind| Call { withdrawn: true, ..call(kind, attempts, 0) };
            for kind in [Kind::Charge, Kind::Authorize, Kind::Capture] {
                check(Ok(Some(yes())), withdrawn(kind), &["query 1"], true).await;
                check(Err(Unreachable("away".into())), withdrawn(kind), &["query 1"], false).await;
                let (outcome, asked) = made(Ok(None), answer(), withdrawn(kind)).await;
                let voided = Outcome::Known(Known::Declined { reason: VOIDED.into() });
                assert_eq!((outcome, asked), (voided, vec!["query 1".to_owned()]));
            }
        }
    }

    #[tokio::test]
    async fn s5_a_refund_that_fails_fifty_times_is_tried_again_with_the_same_key() {
        let limits = Limits::default();
        for attempts in 1..=50 {
            let away = provider::Outcome::Unknown("500".into());
            let (outcome, asked) = made(Ok(None), away, call(Kind::Refund, attempts, 60)).await;
            assert_eq!(outcome, Outcome::Unknown("500".into()));
            assert_eq!(asked.last().map(String::as_str), Some("refund 1"));
            assert!(limits.backoff_ms(attempts) <= limits.retry_last_ms);
        }
        check(Ok(None), call(Kind::Refund, 51, 60), &["query 1", "refund 1"], true).await;
    }
}
