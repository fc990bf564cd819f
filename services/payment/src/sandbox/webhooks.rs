//! The sandbox's webhooks: signed, sent at least once while it runs, in no order that could be relied on. Whoever misses one asks.

use std::time::Duration;

use contracts::ids;
use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::{Client, Url, redirect::Policy};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use uuid::Uuid;

use super::script::Script;
use crate::{
    provider::{
        Known, StatementKind,
        http::{BadUrl, read_url},
    },
    webhook::Secrets,
};

/// Webhooks that nobody has taken up yet; beyond that they are dropped, and the log says so.
const WAITING_MAX: usize = 4_096;
/// Webhooks that wait for their time, or for another try.
const OPEN_MAX: usize = 16_384;
const DELIVERIES_MAX: usize = 16;
const ATTEMPTS_MAX: u32 = 5;
const ATTEMPT_MS_MAX: u64 = 5_000;
/// The first pause between two attempts; each is twice the one before.
const RETRY_FIRST_MS: u64 = 200;
/// The second time of a webhook that comes twice.
const TWICE_AFTER_MS: u64 = 500;
/// One that comes out of order comes so much later, at least and at most.
const LATE_MS: std::ops::Range<u64> = 500..2_000;

/// Where webhooks go.
pub struct Target {
    url: Url,
    secrets: Secrets,
    unanswered_only: bool,
}

impl Target {
    /// All that is booked is told there.
    pub fn new(url: &str, secrets: Secrets) -> Result<Self, BadUrl> {
        Ok(Self { url: read_url(url)?, secrets, unanswered_only: false })
    }

    /// Only what its caller did not hear in time is told, and what a script wants told twice or late: who is answered at once learns
    /// nothing from a webhook.
    #[must_use]
    pub fn unanswered_only(self) -> Self {
        Self { unanswered_only: true, ..self }
    }
}

/// What a webhook says. It names the call and no sum: who hears it must ask.
#[derive(Serialize)]
struct Event {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    key: Uuid,
}

/// The desk's end.
pub(super) struct Webhooks {
    sender: mpsc::Sender<Telling>,
    unanswered_only: bool,
}

struct Telling {
    body: String,
    at: Instant,
}

impl Webhooks {
    /// Sends until the sandbox is gone.
    pub(super) fn start(target: Target) -> Result<Self, BadUrl> {
        let Target { url, secrets, unanswered_only } = target;
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(Duration::from_millis(ATTEMPT_MS_MAX))
            .pool_max_idle_per_host(DELIVERIES_MAX)
            .build()
            .map_err(BadUrl::NoClient)?;
        let (sender, tellings) = mpsc::channel(WAITING_MAX);
        let courier = Courier { client, url, secrets, deliveries: Semaphore::new(DELIVERIES_MAX) };
        tokio::spawn(deliver(courier, tellings));
        Ok(Self { sender, unanswered_only })
    }

    /// Tells what was booked just now.
    pub(super) fn tell(&self, kind: StatementKind, key: Uuid, known: &Known, script: &Script) {
        for at in self.times(Instant::now(), key, script) {
            if let Some(body) = body(kind, key, known) {
                self.put(Telling { body, at });
            }
        }
    }

    /// When it is told: not at all, once or twice.
    fn times(&self, now: Instant, key: Uuid, script: &Script) -> Vec<Instant> {
        if self.unanswered_only && script.is_answered() && !script.told_twice && !script.told_late {
            return Vec::new();
        }
        let late_ms = if script.told_late { late_ms(key) } else { 0 };
        let first = now + Duration::from_millis(script.lands_after_ms() + late_ms);
        let second = script.told_twice.then(|| first + Duration::from_millis(TWICE_AFTER_MS));
        [Some(first), second].into_iter().flatten().collect()
    }

    fn put(&self, telling: Telling) {
        if self.sender.try_send(telling).is_err() {
            tracing::warn!("a webhook is dropped: {WAITING_MAX} wait already");
        }
    }
}

fn body(kind: StatementKind, key: Uuid, known: &Known) -> Option<String> {
    let outcome = match known {
        Known::Succeeded { .. } => "succeeded",
        Known::Declined { .. } => "declined",
    };
    let kind = format!("{}.{outcome}", kind.as_str().to_ascii_lowercase());
    // A key has one outcome, which is told under one id however often it is sent.
    serde_json::to_string(&Event { id: ids::derive(key, "event"), kind, key }).ok()
}

/// Different for each key, so that they overtake each other.
fn late_ms(key: Uuid) -> u64 {
    let dice = u64::try_from(ids::derive(key, "late").as_u128() >> 80).unwrap_or_default();
    LATE_MS.start + dice % (LATE_MS.end - LATE_MS.start)
}

async fn deliver(courier: Courier, mut tellings: mpsc::Receiver<Telling>) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            telling = tellings.recv(), if open.len() < OPEN_MAX => match telling {
                Some(telling) => open.push(courier.bring(telling)),
                None => return,
            },
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
}

struct Courier {
    client: Client,
    url: Url,
    secrets: Secrets,
    deliveries: Semaphore,
}

impl Courier {
    async fn bring(&self, telling: Telling) {
        tokio::time::sleep_until(telling.at).await;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(RETRY_FIRST_MS << (attempt - 1))).await;
            }
            let Ok(_permit) = self.deliveries.acquire().await else { return };
            match self.post(&telling.body).await {
                Ok(()) => return,
                Err(problem) => tracing::debug!(problem, attempt, "a webhook is not taken"),
            }
        }
        tracing::warn!("a webhook is given up after {ATTEMPTS_MAX} attempts");
    }

    async fn post(&self, body: &str) -> Result<(), String> {
        let signature = self.secrets.sign(OffsetDateTime::now_utc().unix_timestamp(), body.as_bytes());
        let request = self.client.post(self.url.clone()).header("content-type", "application/json");
        let sent = request.header("settle-signature", signature).body(body.to_owned()).send().await;
        match sent {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(response.status().to_string()),
            Err(error) => Err(error.without_url().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::chaos::Chaos;

    const KEY: Uuid = Uuid::from_u128(7);

    fn yes() -> Known {
        Known::Succeeded { auth_code: "A1".into() }
    }

    /// When a charge with this token is told, in milliseconds from now.
    fn told(unanswered_only: bool, token: &str, profile: &str) -> Vec<u128> {
        let webhooks = Webhooks { sender: mpsc::channel(1).0, unanswered_only };
        let script = Script::of_charge(KEY, token, &profile.parse::<Chaos>().unwrap());
        let now = Instant::now();
        webhooks.times(now, KEY, &script).into_iter().map(|at| (at - now).as_millis()).collect()
    }

    #[test]
    fn a_full_queue_drops_and_does_not_wait() {
        let (sender, mut tellings) = mpsc::channel(1);
        let webhooks = Webhooks { sender, unanswered_only: false };
        let script = Script::of_charge(KEY, "tok_duplicate_webhook", &Chaos::default());
        webhooks.tell(StatementKind::Charge, KEY, &yes(), &script);
        assert_eq!(tellings.try_recv().unwrap().body, body(StatementKind::Charge, KEY, &yes()).unwrap());
        assert!(tellings.try_recv().is_err(), "there was room for one");
    }

    #[test]
    fn an_event_names_its_call_and_no_sum() {
        let no = Known::Declined { reason: "ALREADY_CAPTURED".into() };
        let event: serde_json::Value = serde_json::from_str(&body(StatementKind::Void, KEY, &no).unwrap()).unwrap();
        let id = ids::derive(KEY, "event").to_string();
        assert_eq!(event, serde_json::json!({"id": id, "type": "void.declined", "key": KEY.to_string()}));
    }

    #[test]
    fn who_is_told_what_and_when() {
        assert_eq!(told(false, "", "").len(), 1, "all is told");
        assert_eq!(told(true, "", "").len(), 0, "who is answered is not told");
        for token in ["tok_declined", "tok_error_before", "tok_silent"] {
            assert_eq!(told(true, token, "").len(), 0, "{token}");
        }
        assert_eq!(told(true, "tok_slow", ""), [0]);
        assert_eq!(told(true, "tok_error_after", ""), [0]);
        assert_eq!(told(true, "tok_duplicate_webhook", ""), [0, u128::from(TWICE_AFTER_MS)]);
        assert_eq!(told(true, "", "late=1,late_ms=9000"), [9_000], "not before it lands");
        let late = told(true, "", "reorder_webhook=1");
        assert!(late.len() == 1 && late[0] >= u128::from(LATE_MS.start), "{late:?}");
        assert_eq!(told(true, "", "duplicate_webhook=1").len(), 2);
    }

    #[test]
    fn late_ones_overtake_each_other() {
        let late = |n| late_ms(Uuid::from_u128(n));
        assert!((0..100).all(|n| LATE_MS.contains(&late(n))));
        assert!((0..100).any(|n| late(n) > late(n + 1)) && (0..100).any(|n| late(n) < late(n + 1)));
    }
}
