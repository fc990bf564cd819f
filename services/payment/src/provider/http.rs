//! The adapter for a provider in another process, over HTTP and JSON (docs/provider.md). All that is not a clear yes or no in the
//! provider's own words is unknown: a lost connection, a timeout, a 5xx, an answer that cannot be read, an error of a proxy.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, redirect::Policy};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    Capture, Charge, Known, Outcome, Provider, Refund, StatementEntry, Unreachable, Void,
    wire::{
        CaptureBody, ChargeBody, ErrorBody, KEY_HEADER, NO_SUCH_KEY, OutcomeBody, RefundBody, STATEMENT_ENTRIES_MAX, StatementBody,
        VoidBody, place_text, time_text,
    },
};

/// Connections for the statement and the like, beside those of the calls.
const READS_MAX: usize = 16;
const CONNECT_MS_MAX: u64 = 1_000;
/// Of one call, all in all. Whoever waits gives up before.
const CALL_MS_MAX: u64 = 65_000;
const STATEMENT_MS_MAX: u64 = 30_000;
/// An unused connection is closed after this.
const IDLE_MS_MAX: u64 = 30_000;
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const STATEMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why an address cannot be that of a provider.
#[derive(Debug, thiserror::Error)]
pub enum BadUrl {
    #[error("is not a URL: {0}")]
    Unreadable(String),
    #[error("must begin with http:// (this build speaks no TLS)")]
    NotHttp,
    #[error("the HTTP client does not start: {0}")]
    NoClient(reqwest::Error),
}

/// Reads the address of something that speaks HTTP.
pub fn read_url(text: &str) -> Result<Url, BadUrl> {
    let url = Url::parse(text).map_err(|error| BadUrl::Unreadable(error.to_string()))?;
    if url.scheme() == "http" && url.has_host() { Ok(url) } else { Err(BadUrl::NotHttp) }
}

/// A provider behind HTTP.
pub struct Http {
    client: Client,
    base: Url,
    calls: Semaphore,
}

impl Http {
    /// Makes no more than so many calls at a time, each on a connection of its own. Connects to nothing yet.
    pub fn new(url: &str, calls_max: usize) -> Result<Self, BadUrl> {
        let base = read_url(url)?;
        let client = Client::builder()
            // Straight to the provider, whatever the environment says of proxies; and no redirect may repeat a charge elsewhere.
            .no_proxy()
            .redirect(Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .timeout(Duration::from_millis(CALL_MS_MAX))
            .pool_idle_timeout(Duration::from_millis(IDLE_MS_MAX))
            .pool_max_idle_per_host(calls_max + READS_MAX)
            .build()
            .map_err(BadUrl::NoClient)?;
        Ok(Self { client, base, calls: Semaphore::new(calls_max + READS_MAX) })
    }

    /// The address of these words below the provider's.
    fn at(&self, words: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only an address that cannot be a base has no segments; `new` has seen that this one has a host.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(words);
        }
        url
    }

    async fn post<B: Serialize + Sync>(&self, what: &str, key: Uuid, body: &B) -> Outcome {
        let request = self.client.post(self.at(&[what])).header(KEY_HEADER, key.to_string()).json(body);
        match self.exchange(request, ANSWER_BYTES_MAX).await {
            Ok((status, body)) => outcome_of(status, &body),
            Err(Unreachable(reason)) => Outcome::Unknown(reason),
        }
    }

    /// The whole answer. Waiting for a free connection counts as time of the call.
    async fn exchange(&self, request: RequestBuilder, bytes_max: usize) -> Result<(u16, Vec<u8>), Unreachable> {
        let closed = |_| Unreachable("the adapter is closed".to_owned());
        let _permit = self.calls.acquire().await.map_err(closed)?;
        // The address may bear a password.
        let broken = |error: reqwest::Error| Unreachable(format!("the provider is not reached: {}", error.without_url()));
        let mut response = request.send().await.map_err(broken)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(Unreachable(format!("the provider's answer is longer than {bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status().as_u16(), body))
    }
}

impl Provider for Http {
    /// The sandbox, whichever process it is in: what it owes us stands on one account.
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn charge(&self, ask: &Charge) -> Outcome {
        self.post("charges", ask.key, &charge_body(ask)).await
    }

    async fn authorize(&self, ask: &Charge) -> Outcome {
        self.post("authorizations", ask.key, &charge_body(ask)).await
    }

    async fn capture(&self, ask: &Capture) -> Outcome {
        let body = CaptureBody { authorization_key: ask.authorization_key, amount: ask.amount, currency: ask.currency.clone() };
        self.post("captures", ask.key, &body).await
    }

    async fn void(&self, ask: &Void) -> Outcome {
        self.post("voids", ask.key, &VoidBody { authorization_key: ask.authorization_key }).await
    }

    async fn refund(&self, ask: &Refund) -> Outcome {
        let body = RefundBody { charge_key: ask.charge_key, amount: ask.amount, currency: ask.currency.clone() };
        self.post("refunds", ask.key, &body).await
    }

    async fn query(&self, key: Uuid) -> Result<Option<Known>, Unreachable> {
        let request = self.client.get(self.at(&["outcomes", &key.to_string()]));
        let (status, body) = self.exchange(request, ANSWER_BYTES_MAX).await?;
        found_of(status, &body)
    }

    async fn statement(
        &self,
        since: Option<OffsetDateTime>,
        after: Option<(OffsetDateTime, String)>,
        limit: u32,
    ) -> Result<Vec<StatementEntry>, Unreachable> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut url = self.at(&["statement"]);
        url.query_pairs_mut().append_pair("limit", &limit.min(STATEMENT_ENTRIES_MAX).to_string());
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("since", &time_text(since));
        }
        if let Some((at, key)) = &after {
            url.query_pairs_mut().append_pair("after", &place_text(*at, key));
        }
        let request = self.client.get(url).timeout(Duration::from_millis(STATEMENT_MS_MAX));
        let (status, body) = self.exchange(request, STATEMENT_BYTES_MAX).await?;
        let page = entries_of(status, &body)?;
        if goes_on(after.as_ref(), &page) {
            Ok(page)
        } else {
            Err(Unreachable("a page of the provider's statement is not behind the one before it".to_owned()))
        }
    }
}

fn charge_body(ask: &Charge) -> ChargeBody {
    ChargeBody { token: ask.token.clone(), amount: ask.amount, currency: ask.currency.clone() }
}

/// What an answer to a call says about the money.
fn outcome_of(status: u16, body: &[u8]) -> Outcome {
    match (status, serde_json::from_slice(body)) {
        (200, Ok(OutcomeBody::Succeeded { auth_code })) => Outcome::Known(Known::Succeeded { auth_code }),
        (400..500, Ok(OutcomeBody::Declined { reason })) if !reason.is_empty() => Outcome::Known(Known::Declined { reason }),
        _ => Outcome::Unknown(unclear(status, body)),
    }
}

/// What an answer to a query says about a key.
fn found_of(status: u16, body: &[u8]) -> Result<Option<Known>, Unreachable> {
    match (status, serde_json::from_slice::<OutcomeBody>(body)) {
        (200, Ok(outcome)) => Ok(Some(outcome.into())),
        (404, _) if error_code(body).as_deref() == Some(NO_SUCH_KEY) => Ok(None),
        _ => Err(Unreachable(unclear(status, body))),
    }
}

fn entries_of(status: u16, body: &[u8]) -> Result<Vec<StatementEntry>, Unreachable> {
    let Ok(StatementBody { entries, .. }) = serde_json::from_slice(body) else { return Err(Unreachable(unclear(status, body))) };
    if status != 200 {
        return Err(Unreachable(unclear(status, body)));
    }
    let unreadable = |field| Unreachable(format!("an entry of the provider's statement has a strange {field}"));
    entries.into_iter().map(|entry| entry.read().map_err(unreadable)).collect()
}

/// A page that comes again would be read for ever.
fn goes_on(after: Option<&(OffsetDateTime, String)>, page: &[StatementEntry]) -> bool {
    let Some((at, key)) = after else { return true };
    let again = page.last().is_some_and(|last| last.at == *at && last.key == *key);
    !again && page.iter().all(|entry| entry.at >= *at)
}

fn error_code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error.code)
}

/// For the log: what came instead of a clear word.
fn unclear(status: u16, body: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => {
            let message: String = error.message.chars().take(CHARS_MAX).collect();
            format!("the provider answers {status} {}: {message}", error.code)
        }
        Err(_) => format!("the provider answers {status} without a clear word"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: &[u8] = br#"{"outcome":"SUCCEEDED","authCode":"A1"}"#;
    const NO: &[u8] = br#"{"outcome":"DECLINED","reason":"CARD_DECLINED"}"#;
    const ERROR: &[u8] = br#"{"error":{"code":"NO_SUCH_KEY","message":"there is no such key"}}"#;

    #[test]
    fn only_a_clear_word_is_an_answer() {
        assert_eq!(outcome_of(200, YES), Outcome::Known(Known::Succeeded { auth_code: "A1".into() }));
        let declined = Outcome::Known(Known::Declined { reason: "CARD_DECLINED".into() });
        assert_eq!(outcome_of(402, NO), declined);
        assert_eq!(outcome_of(422, NO), declined);
        for (status, body) in [
            (500, YES),
            (503, NO),
            (200, NO),
            (402, YES),
            (201, b"".as_slice()),
            (200, b"<html>welcome</html>"),
            (302, YES),
            (404, ERROR),
            (402, br#"{"outcome":"DECLINED","reason":""}"#),
            (200, br#"{"outcome":"SUCCEEDED"}"#),
        ] {
            assert!(matches!(outcome_of(status, body), Outcome::Unknown(_)), "{status} {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn only_the_provider_itself_says_that_there_is_no_such_key() {
        assert!(matches!(found_of(404, ERROR), Ok(None)));
        assert!(matches!(found_of(200, YES), Ok(Some(Known::Succeeded { .. }))));
        assert!(matches!(found_of(200, NO), Ok(Some(Known::Declined { .. }))));
        for (status, body) in [(404, b"".as_slice()), (404, b"<html>"), (500, ERROR), (200, ERROR), (404, YES), (503, NO)] {
            assert!(found_of(status, body).is_err(), "{status} {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_page_with_a_strange_entry_is_no_page() {
        let page = br#"{"entries":[{"key":"k","kind":"CHARGE","amount":7,"currency":"USD","outcome":"SUCCEEDED","authCode":"A","at":"2025-03-04T05:06:07Z"}]}"#;
        assert_eq!(entries_of(200, page).unwrap().len(), 1);
        assert!(entries_of(500, page).is_err());
        let strange = String::from_utf8_lossy(page).replace("CHARGE", "GIFT");
        assert!(entries_of(200, strange.as_bytes()).unwrap_err().0.contains("kind"));
        assert!(entries_of(200, b"[]").is_err());
    }

    #[test]
    fn a_page_that_comes_again_is_no_page() {
        fn page(entries: &[(&str, &str)]) -> Vec<StatementEntry> {
            let entry = |key: &str, at: &str| serde_json::json!({"key": key, "kind": "CHARGE", "amount": 7, "currency": "USD", "outcome": "SUCCEEDED", "authCode": "A", "at": at});
            let entries: Vec<_> = entries.iter().map(|(key, at)| entry(key, at)).collect();
            entries_of(200, serde_json::json!({ "entries": entries }).to_string().as_bytes()).unwrap()
        }
        let first = page(&[("a", "2025-03-04T05:06:07Z"), ("b", "2025-03-04T05:06:08Z")]);
        let place = first.last().map(|last| (last.at, last.key.clone()));
        assert!(goes_on(None, &first));
        assert!(goes_on(place.as_ref(), &[]));
        assert!(goes_on(place.as_ref(), &page(&[("c", "2025-03-04T05:06:08Z")])));
        assert!(!goes_on(place.as_ref(), &first), "it would be read for ever");
        assert!(!goes_on(place.as_ref(), &first[1..]), "nor does the last entry alone go on");
    }

    #[test]
    fn addresses() {
        let http = Http::new("http://127.0.0.1:8082/sandbox/", 1).unwrap();
        assert_eq!(http.at(&["outcomes", "k"]).as_str(), "http://127.0.0.1:8082/sandbox/v1/outcomes/k");
        assert_eq!(Http::new("http://psp", 1).unwrap().at(&["charges"]).as_str(), "http://psp/v1/charges");
        for bad in ["", "psp:8082", "https://psp", "127.0.0.1:8082", "http://"] {
            assert!(Http::new(bad, 1).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_provider_that_is_not_there_is_unknown_and_not_a_no() {
        let http = Http::new("http://127.0.0.1:1", 1).unwrap();
        let key = Uuid::from_u128(7);
        let charge = Charge { key, token: String::new(), amount: 1, currency: "USD".into() };
        assert!(matches!(http.charge(&charge).await, Outcome::Unknown(_)));
        assert!(http.query(key).await.is_err());
        assert!(http.statement(None, None, 10).await.is_err());
    }
}
