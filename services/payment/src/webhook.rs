//! What the provider tells us unasked. A webhook is believed only as far as to ask: it makes the open call with its key due, and the
//! dispatcher asks the provider what became of it. Where a payment counts as not made and has no open call any more, it opens one that only
//! asks: money that comes so late is noticed by nobody else. A call that is under way is left alone, so nothing is ever sent twice at a time.

mod signature;
mod store;

use std::time::Duration;

use contracts::ids;
use messaging::Tasks;
use serde::Deserialize;
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) use signature::Unbelieved;
pub use signature::{BadSecrets, Secrets};

use self::store::Heard;
use crate::provider::StatementKind;

/// A longer body is refused.
const BODY_BYTES_MAX: usize = 64 * 1024;
const EVENT_ID_CHARS_MAX: usize = 255;
/// How long an event is known again. Its signature is good for minutes, and no provider repeats it for days.
const EVENTS_KEPT_S: i64 = 3 * 86_400;
/// How often old events are forgotten, and how many in one statement; at once again while there are more.
const AGE_EVERY_MS: u64 = 60_000;
const AGE_ROWS_MAX: i64 = 1_000;

/// The door for webhooks.
pub(crate) struct Webhooks {
    pool: PgPool,
    secrets: Option<Secrets>,
}

/// What a believed webhook led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The provider will be asked about the key at once.
    Woken,
    /// The payment counts as not made: the provider will be asked at once whether it was.
    Asked,
    /// There is no open call with this key that rests: it is answered, or somebody is at it.
    NothingToWake,
    Repeated,
    UnknownType,
}

/// Why a webhook is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Unbelieved(#[from] Unbelieved),
    #[error("{field} {problem}")]
    Malformed { field: &'static str, problem: &'static str },
    /// It must come again.
    #[error("the provider is being asked about this key")]
    UnderWay,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Webhooks {
    /// Without secrets nobody is believed.
    pub(crate) fn new(pool: PgPool, secrets: Option<Secrets>) -> Self {
        Self { pool, secrets }
    }

    pub(crate) async fn receive(&self, body: &[u8], signature: &str, now_s: i64) -> Result<Received, Refused> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Refused::Malformed { field: "body", problem: "is longer than 65536 bytes" });
        }
        self.secrets.as_ref().ok_or(Unbelieved::Signature)?.verify(signature, body, now_s)?;
        let Some(event) = Event::read(body)? else { return Ok(Received::UnknownType) };
        let heard = store::receive(&self.pool, &event).await?.ok_or(Refused::UnderWay)?;
        let received = match heard {
            Heard { is_new: false, .. } => Received::Repeated,
            Heard { woken: true, .. } => Received::Woken,
            Heard { asked: true, .. } => Received::Asked,
            Heard { .. } => Received::NothingToWake,
        };
        tracing::debug!(r#type = "WEBHOOK", eventId = event.id, eventType = event.kind, key = %event.key, ?received, "a webhook");
        Ok(received)
    }
}

/// Forgets old events until the stop.
pub(crate) async fn age(pool: PgPool, tasks: Tasks) {
    loop {
        let pause = match store::forget(&pool, EVENTS_KEPT_S, AGE_ROWS_MAX).await {
            Ok(rows) if rows.cast_signed() == AGE_ROWS_MAX => Duration::ZERO,
            Ok(_) => Duration::from_millis(AGE_EVERY_MS),
            Err(error) => {
                tracing::debug!(%error, "old webhooks are not forgotten");
                Duration::from_millis(AGE_EVERY_MS)
            }
        };
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// An event of a type that we know.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    /// The provider's own: the same event may come again.
    id: String,
    kind: String,
    key: Uuid,
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    key: Option<String>,
}

impl Event {
    /// None of a type that is not known here: a provider may have more to tell than we want to hear.
    fn read(body: &[u8]) -> Result<Option<Self>, Refused> {
        let malformed = |field, problem| Refused::Malformed { field, problem };
        let raw: Raw =
            serde_json::from_slice(body).map_err(|_| malformed("body", "must be a JSON object with the texts id and type"))?;
        if !(1..=EVENT_ID_CHARS_MAX).contains(&raw.id.chars().count()) || raw.id.chars().any(char::is_control) {
            return Err(malformed("id", "must have 1 to 255 characters, none of them a control character"));
        }
        if !is_known(&raw.kind) {
            return Ok(None);
        }
        let key = raw.key.as_deref().and_then(|key| ids::parse(key).ok()).ok_or(malformed("key", "must be a UUID"))?;
        Ok(Some(Self { id: raw.id, kind: raw.kind, key }))
    }
}

/// `charge.succeeded`, `refund.declined` and so on.
fn is_known(kind: &str) -> bool {
    let Some((subject, outcome)) = kind.split_once('.') else { return false };
    let lower = subject.bytes().all(|byte| byte.is_ascii_lowercase());
    lower && StatementKind::parse(&subject.to_ascii_uppercase()).is_some() && matches!(outcome, "succeeded" | "declined")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0190d3a8-7c1e-7000-8000-000000000001";

    fn field(body: &str) -> &'static str {
        match Event::read(body.as_bytes()) {
            Err(Refused::Malformed { field, .. }) => field,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn an_event_names_its_call() {
        let read = |body: String| Event::read(body.as_bytes()).unwrap();
        for kind in ["charge.succeeded", "authorize.declined", "capture.succeeded", "void.declined", "refund.succeeded"] {
            let event = read(format!(r#"{{"id":"e1","type":"{kind}","key":"{KEY}","more":[1]}}"#)).unwrap();
            assert_eq!(event, Event { id: "e1".into(), kind: kind.into(), key: ids::parse(KEY).unwrap() });
        }
        for stranger in ["", "charge", "charge.pending", "Charge.succeeded", "payout.succeeded", "charge.succeeded.x"] {
            assert_eq!(read(format!(r#"{{"id":"e","type":"{stranger}"}}"#)), None, "{stranger}");
        }
    }

    #[test]
    fn garbage_is_told_by_its_field() {
        for garbage in ["", "[]", "{}", "\u{feff}{}", r#"{"id":1,"type":"charge.succeeded"}"#, r#"{"id":"e"}"#, "{} {}"] {
            assert_eq!(field(garbage), "body", "{garbage}");
        }
        let long = "x".repeat(EVENT_ID_CHARS_MAX + 1);
        for id in ["", "a\\u0000b", &long] {
            assert_eq!(field(&format!(r#"{{"id":"{id}","type":"charge.succeeded","key":"{KEY}"}}"#)), "id");
        }
        for key in [r#""""#, r#""7""#, "null", r#""00000000-0000-0000-0000-000000000000""#] {
            assert_eq!(field(&format!(r#"{{"id":"e","type":"charge.succeeded","key":{key}}}"#)), "key", "{key}");
        }
    }

    #[tokio::test]
    async fn nobody_is_believed_without_a_secret_and_nothing_is_read_before() {
        // A database that is never asked.
        let pool = PgPool::connect_lazy("postgres://127.0.0.1:1/none").unwrap();
        let now_s = 1_760_000_000;
        let unbelieved = |refused| matches!(refused, Err(Refused::Unbelieved(Unbelieved::Signature)));
        let secrets = Secrets::parse("secret").unwrap();
        let closed = Webhooks::new(pool.clone(), None);
        assert!(unbelieved(closed.receive(b"{", &secrets.sign(now_s, b"{"), now_s).await));
        let open = Webhooks::new(pool, Some(secrets.clone()));
        assert!(unbelieved(open.receive(b"{", "", now_s).await));
        let garbage = open.receive(b"{", &secrets.sign(now_s, b"{"), now_s).await;
        assert!(matches!(garbage, Err(Refused::Malformed { field: "body", .. })));
        let late = open.receive(b"{", &secrets.sign(now_s, b"{"), now_s + 301).await;
        assert!(matches!(late, Err(Refused::Unbelieved(Unbelieved::Time))));
        let long = vec![b' '; BODY_BYTES_MAX + 1];
        let long = open.receive(&long, &secrets.sign(now_s, &long), now_s).await;
        assert!(matches!(long, Err(Refused::Malformed { field: "body", .. })));
    }
}
