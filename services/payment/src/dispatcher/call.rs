//! One call to the provider, made so that a lost reply never costs a second charge.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::{Limits, store::Call};
use crate::{
    payment::{Kind, Known, VOIDED},
    provider::{self, Capture, Charge, Provider, Refund, Unreachable, Void},
};

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Known(Known),
    /// It is looked at again.
    Unknown {
        reason: String,
        /// The call was made before, and the provider has answered the query: it is the key that fails, not the provider.
        answered: bool,
    },
    /// The provider cannot even be asked, and by now it may have forgotten the key. It is looked at again, but a person must know.
    Overdue {
        reason: String,
    },
    /// The provider does not know the key, and has forgotten keys of its age: sent now, the call might be done twice.
    Forgotten,
}

impl Outcome {
    /// Whether the provider is there.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Known(_) | Self::Forgotten => true,
            Self::Unknown { answered, .. } => *answered,
            Self::Overdue { .. } => false,
        }
    }
}

/// Asks what became of the key if the call may have been made before, and sends it unless that is known. It may have been, where this history
/// has tried it, and where its cause is old: then a history that a restore has lost may have. What is withdrawn is only asked about.
pub(super) async fn make<P: Provider>(provider: &P, call: &Call, limits: &Limits) -> Outcome {
    let begun_at = Instant::now();
    let may_be_made = call.attempts > 1 || call.withdrawn || call.asked_s_ago >= limits.sent_unasked_s_max;
    if may_be_made {
        let found = in_time(provider.query(call.key), limits).await;
        let found = found.unwrap_or_else(|| Err(Unreachable("the provider did not answer a query in time".to_owned())));
        let waited_s = i64::try_from(begun_at.elapsed().as_secs()).unwrap_or(i64::MAX);
        let forgotten = call.asked_s_ago.saturating_add(waited_s) >= limits.provider_key_window_s;
        match found {
            Ok(Some(known)) => return Outcome::Known(known),
            Ok(None) if forgotten => return Outcome::Forgotten,
            Ok(None) if call.withdrawn => return Outcome::Known(Known::Declined { reason: VOIDED.to_owned() }),
            Ok(None) => {}
            Err(Unreachable(reason)) if forgotten => return Outcome::Overdue { reason },
            Err(Unreachable(reason)) => return Outcome::Unknown { reason, answered: false },
        }
    }
    // A first call speaks for all others that are to be sent.
    let unknown = |reason| Outcome::Unknown { reason, answered: call.attempts > 1 };
    match in_time(send(provider, call), limits).await {
        Some(provider::Outcome::Known(known)) => Outcome::Known(known),
        Some(provider::Outcome::Unknown(reason)) => unknown(reason),
        None => unknown("the provider did not answer in time".to_owned()),
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
    use crate::provider::StatementEntry;

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

    fn call(kind: Kind, attempts: i32, asked_s_ago: i64) -> Call {
        let id = Uuid::from_u128(1);
        Call {
            payment_id: PAYMENT,
            id,
            order_id: id,
            kind,
            key: id,
            token: String::new(),
            amount: 1,
            currency: "USD".to_owned(),
            attempts,
            asked_at: OffsetDateTime::UNIX_EPOCH,
            asked_s_ago,
            unknown_said: false,
            withdrawn: false,
            correlation: String::new(),
            trace: messaging::Trace::default(),
        }
    }

    async fn made(query: Result<Option<Known>, Unreachable>, answer: provider::Outcome, call: Call) -> (Outcome, Vec<String>) {
        let provider = Scripted { query, answer, asked: Mutex::default() };
        let outcome = make(&provider, &call, &Limits::default()).await;
        (outcome, provider.asked.into_inner().unwrap())
    }

    /// What the provider is asked when a call of a kind is sent.
    const SENT: [(Kind, &str); 5] = [
        (Kind::Charge, "charge 1"),
        (Kind::Authorize, "authorize 1"),
        (Kind::Capture, "capture 1"),
        (Kind::Void, "void 1"),
        (Kind::Refund, "refund 1"),
    ];

    async fn check(query: Result<Option<Known>, Unreachable>, call: Call, asked: &[&str], known: bool) {
        let (outcome, made) = made(query, provider::Outcome::Known(yes()), call).await;
        assert_eq!(made, asked);
        assert_eq!(outcome == Outcome::Known(yes()), known);
    }

    #[tokio::test]
    async fn a_first_call_is_sent_and_a_later_one_asks_first() {
        for (kind, name) in SENT {
            check(Ok(None), call(kind, 1, 0), &[name], true).await;
            check(Ok(None), call(kind, 2, 5), &["query 1", name], true).await;
            check(Ok(Some(yes())), call(kind, 2, 5), &["query 1"], true).await;
        }
    }

    #[tokio::test]
    async fn s11_an_unknown_outcome_is_asked_about_and_sent_again_with_the_same_key_only() {
        let lost = || provider::Outcome::Unknown("lost".into());
        let unknown = |answered| Outcome::Unknown { reason: "lost".into(), answered };
        let (outcome, asked) = made(Ok(None), lost(), call(Kind::Charge, 1, 0)).await;
        assert_eq!((outcome, asked), (unknown(false), vec!["charge 1".to_owned()]));
        let (outcome, asked) = made(Ok(None), lost(), call(Kind::Charge, 2, 3)).await;
        assert_eq!((outcome, asked), (unknown(true), vec!["query 1".to_owned(), "charge 1".to_owned()]));
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
    async fn a_first_call_whose_cause_is_old_asks_first_and_is_not_sent_once_the_provider_may_have_forgotten_it() {
        let limits = Limits::default();
        let (unasked_s_max, window_s) = (limits.sent_unasked_s_max, limits.provider_key_window_s);
        assert!(0 < unasked_s_max && unasked_s_max < window_s);
        for (kind, name) in SENT {
            // A cause of the future is that of a clock that goes before ours.
            check(Ok(None), call(kind, 1, -9), &[name], true).await;
            check(Ok(None), call(kind, 1, unasked_s_max - 1), &[name], true).await;
            check(Ok(None), call(kind, 1, unasked_s_max), &["query 1", name], true).await;
            check(Ok(Some(yes())), call(kind, 1, unasked_s_max), &["query 1"], true).await;
            check(Err(Unreachable("away".into())), call(kind, 1, unasked_s_max), &["query 1"], false).await;
            check(Ok(None), call(kind, 1, window_s - 1), &["query 1", name], true).await;
            let sent_in_vain = provider::Outcome::Known(yes());
            let (outcome, asked) = made(Ok(None), sent_in_vain, call(kind, 1, window_s)).await;
            assert_eq!((outcome, asked), (Outcome::Forgotten, vec!["query 1".to_owned()]));
            check(Ok(Some(yes())), call(kind, 1, window_s), &["query 1"], true).await;
        }
    }

    #[tokio::test]
    async fn s11_a_query_that_fails_behind_the_key_window_is_told_apart() {
        let window_s = Limits::default().provider_key_window_s;
        for (age_s, overdue) in [(window_s - 1, false), (window_s, true)] {
            for withdrawn in [false, true] {
                let call = Call { withdrawn, ..call(Kind::Charge, 7, age_s) };
                let (outcome, asked) = made(Err(Unreachable("away".into())), provider::Outcome::Known(yes()), call).await;
                let reason = "away".to_owned();
                let meant = if overdue { Outcome::Overdue { reason } } else { Outcome::Unknown { reason, answered: false } };
                assert_eq!((outcome, asked), (meant, vec!["query 1".to_owned()]));
            }
        }
    }

    #[tokio::test]
    async fn a_provider_that_answers_the_query_of_a_call_that_was_made_before_is_there() {
        let lost = || provider::Outcome::Unknown("lost".into());
        let away = || Err(Unreachable("away".into()));
        let window_s = Limits::default().provider_key_window_s;
        for (query, attempts, age_s, answered) in [
            (Ok(None), 1, 0, false),
            (Ok(None), 1, window_s - 1, false),
            (Ok(None), 2, 0, true),
            (Ok(Some(yes())), 2, 0, true),
            (Ok(None), 2, window_s, true),
            (away(), 2, 0, false),
            (away(), 2, window_s, false),
        ] {
            let (outcome, _) = made(query, lost(), call(Kind::Charge, attempts, age_s)).await;
            assert_eq!(outcome.is_answered(), answered, "{outcome:?}");
        }
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
                // A charge of a lost history that is only forgotten must not count as never made.
                let old = Call { asked_s_ago: Limits::default().provider_key_window_s, ..withdrawn(kind) };
                let (outcome, asked) = made(Ok(None), answer(), old).await;
                assert_eq!((outcome, asked), (Outcome::Forgotten, vec!["query 1".to_owned()]));
            }
        }
    }

    #[tokio::test]
    async fn s5_a_refund_that_fails_fifty_times_is_tried_again_with_the_same_key() {
        let limits = Limits::default();
        for attempts in 1..=50 {
            let away = provider::Outcome::Unknown("500".into());
            let (outcome, asked) = made(Ok(None), away, call(Kind::Refund, attempts, 50)).await;
            assert_eq!(outcome, Outcome::Unknown { reason: "500".into(), answered: attempts > 1 });
            assert_eq!(asked.last().map(String::as_str), Some("refund 1"));
            assert!(limits.backoff_ms(attempts) <= limits.retry_last_ms);
        }
        check(Ok(None), call(Kind::Refund, 51, 60), &["query 1", "refund 1"], true).await;
    }
}
