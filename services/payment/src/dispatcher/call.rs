//! One call to the provider, made so that a lost reply never costs a second charge.

use std::{future::Future, time::Duration};

use crate::{
    dispatcher::Limits,
    provider::{Charge, Outcome, Provider, Refund},
    store::{Call, Kind},
};

/// Asks what became of the key if it may have been sent before, and sends it unless that is known.
pub(super) async fn make<P: Provider>(provider: &P, call: &Call, limits: &Limits) -> Outcome {
    if call.attempts > 1 {
        match in_time(provider.query(call.key), limits).await {
            Some(Ok(Some(known))) => return Outcome::Known(known),
            Some(Ok(None)) if call.first_sent_s_ago < limits.provider_key_window_s => {}
            // The provider has forgotten our keys by now: sent again, this one might charge again.
            Some(Ok(None)) => return Outcome::Unknown("not known to the provider, and too old to be sent again".to_owned()),
            Some(Err(error)) => return Outcome::Unknown(error.to_string()),
            None => return Outcome::Unknown("the provider did not answer a query in time".to_owned()),
        }
    }
    let outcome = match call.kind {
        Kind::Charge => {
            let ask = Charge { key: call.key, token: call.token.clone(), amount: call.amount, currency: call.currency.clone() };
            in_time(provider.charge(&ask), limits).await
        }
        Kind::Refund => {
            let ask = Refund { key: call.key, charge_key: call.payment_id, amount: call.amount, currency: call.currency.clone() };
            in_time(provider.refund(&ask), limits).await
        }
    };
    outcome.unwrap_or_else(|| Outcome::Unknown("the provider did not answer in time".to_owned()))
}

async fn in_time<F: Future>(asked: F, limits: &Limits) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(limits.provider_timeout_ms), asked).await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use uuid::Uuid;

    use super::*;
    use crate::provider::{Known, Unreachable};

    /// Answers a query as told, and writes down what it was asked.
    struct Scripted {
        query: Result<Option<Known>, Unreachable>,
        asked: Mutex<Vec<&'static str>>,
    }

    impl Provider for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        async fn charge(&self, _: &Charge) -> Outcome {
            self.asked.lock().unwrap().push("charge");
            Outcome::Known(yes())
        }

        async fn refund(&self, _: &Refund) -> Outcome {
            self.asked.lock().unwrap().push("refund");
            Outcome::Known(yes())
        }

        async fn query(&self, _: Uuid) -> Result<Option<Known>, Unreachable> {
            self.asked.lock().unwrap().push("query");
            self.query.clone()
        }
    }

    fn yes() -> Known {
        Known::Succeeded { auth_code: "A1".into() }
    }

    fn call(kind: Kind, attempts: i32, first_sent_s_ago: i64) -> Call {
        let id = Uuid::from_u128(1);
        let trace = messaging::Trace::default();
        let (token, currency, correlation) = (String::new(), "USD".to_owned(), String::new());
        Call {
            payment_id: id,
            id,
            order_id: id,
            kind,
            key: id,
            token,
            amount: 1,
            currency,
            attempts,
            first_sent_s_ago,
            correlation,
            trace,
        }
    }

    async fn check(query: Result<Option<Known>, Unreachable>, call: Call, asked: &[&str], known: bool) {
        let provider = Scripted { query, asked: Mutex::default() };
        let outcome = make(&provider, &call, &Limits::default()).await;
        assert_eq!(*provider.asked.lock().unwrap(), asked);
        assert_eq!(outcome == Outcome::Known(yes()), known);
    }

    #[tokio::test]
    async fn a_first_call_is_sent_and_a_later_one_asks_first() {
        check(Ok(None), call(Kind::Charge, 1, 0), &["charge"], true).await;
        check(Ok(None), call(Kind::Refund, 1, 0), &["refund"], true).await;
        check(Ok(None), call(Kind::Charge, 2, 5), &["query", "charge"], true).await;
        check(Ok(Some(yes())), call(Kind::Charge, 2, 5), &["query"], true).await;
    }

    #[tokio::test]
    async fn nothing_is_sent_while_the_query_fails_or_after_the_key_window() {
        check(Err(Unreachable("away".into())), call(Kind::Charge, 2, 5), &["query"], false).await;
        check(Ok(None), call(Kind::Charge, 9, 90_000), &["query"], false).await;
    }
}
