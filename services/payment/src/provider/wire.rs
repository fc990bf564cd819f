//! What travels between the HTTP adapter and the sandbox's process: JSON over HTTP (docs/provider.md).

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{Known, StatementEntry, StatementKind};

/// Names the call: the same key is the same call.
pub(crate) const KEY_HEADER: &str = "idempotency-key";
/// Entries of the statement in one answer, at most.
pub(crate) const STATEMENT_ENTRIES_MAX: u32 = 1_000;

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ChargeBody {
    #[serde(default)]
    pub(crate) token: String,
    pub(crate) amount: i64,
    pub(crate) currency: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CaptureBody {
    pub(crate) authorization_key: Uuid,
    pub(crate) amount: i64,
    pub(crate) currency: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VoidBody {
    pub(crate) authorization_key: Uuid,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RefundBody {
    pub(crate) charge_key: Uuid,
    pub(crate) amount: i64,
    pub(crate) currency: String,
}

/// What a key came to: 200 with a code, or 402 with a reason.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "outcome", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub(crate) enum OutcomeBody {
    Succeeded { auth_code: String },
    Declined { reason: String },
}

impl From<Known> for OutcomeBody {
    fn from(known: Known) -> Self {
        match known {
            Known::Succeeded { auth_code } => Self::Succeeded { auth_code },
            Known::Declined { reason } => Self::Declined { reason },
        }
    }
}

impl From<OutcomeBody> for Known {
    fn from(outcome: OutcomeBody) -> Self {
        match outcome {
            OutcomeBody::Succeeded { auth_code } => Self::Succeeded { auth_code },
            OutcomeBody::Declined { reason } => Self::Declined { reason },
        }
    }
}

/// Why there is no outcome.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetail,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ErrorDetail {
    /// Stable, for programs.
    pub(crate) code: String,
    pub(crate) message: String,
}

/// The one absence that counts: a proxy's 404 says nothing about a key.
pub(crate) const NO_SUCH_KEY: &str = "NO_SUCH_KEY";

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct StatementBody {
    pub(crate) entries: Vec<EntryBody>,
    /// What to give as `after` for the next page; absent where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct EntryBody {
    pub(crate) key: String,
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<String>,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    #[serde(flatten)]
    pub(crate) outcome: OutcomeBody,
    pub(crate) at: String,
}

impl From<StatementEntry> for EntryBody {
    fn from(entry: StatementEntry) -> Self {
        let StatementEntry { key, kind, of, amount, currency, known, at } = entry;
        Self { key, kind: kind.as_str().to_owned(), of, amount, currency, outcome: known.into(), at: time_text(at) }
    }
}

impl EntryBody {
    /// Fails with the name of the field that cannot be read.
    pub(crate) fn read(self) -> Result<StatementEntry, &'static str> {
        let Self { key, kind, of, amount, currency, outcome, at } = self;
        let kind = StatementKind::parse(&kind).ok_or("kind")?;
        let at = read_time(&at).ok_or("at")?;
        Ok(StatementEntry { key, kind, of, amount, currency, known: outcome.into(), at })
    }
}

/// A place in the statement: where a page ended.
pub(crate) fn place_text(at: OffsetDateTime, key: &str) -> String {
    format!("{}|{key}", time_text(at))
}

pub(crate) fn read_place(text: &str) -> Option<(OffsetDateTime, String)> {
    let (at, key) = text.split_once('|')?;
    // A database of ours takes no NUL, and no key has another control character.
    let is_key = !key.chars().any(char::is_control);
    is_key.then_some((read_time(at)?, key.to_owned()))
}

pub(crate) fn time_text(at: OffsetDateTime) -> String {
    // Years that RFC 3339 cannot say do not come out of a database of ours.
    at.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

pub(crate) fn read_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let refused = Known::Declined { reason: "ALREADY_CAPTURED".into() };
        let entry = StatementEntry {
            key: "k".into(),
            kind: StatementKind::Void,
            of: Some("a".into()),
            amount: 0,
            currency: String::new(),
            known: refused,
            at: datetime!(2025-03-04 5:06:07.089_001 UTC),
        };
        let json = serde_json::to_string(&EntryBody::from(entry.clone())).unwrap();
        assert!(json.contains(r#""outcome":"DECLINED","reason":"ALREADY_CAPTURED""#), "{json}");
        assert_eq!(serde_json::from_str::<EntryBody>(&json).unwrap().read(), Ok(entry));
        let strange = json.replace("VOID", "GIFT");
        assert_eq!(serde_json::from_str::<EntryBody>(&strange).unwrap().read(), Err("kind"));
    }

    #[test]
    fn a_place_comes_back_as_it_was() {
        let at = datetime!(2025-03-04 5:06:07.089_001 UTC);
        assert_eq!(read_place(&place_text(at, "a|b")), Some((at, "a|b".to_owned())));
        for bad in ["", "|", "yesterday|k", "2025-03-04T05:06:07Z", "2025-03-04T05:06:07Z|\0", "2025-03-04T05:06:07Z|a\nb"] {
            assert_eq!(read_place(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_words_of_an_outcome() {
        let text = |known: Known| serde_json::to_string(&OutcomeBody::from(known)).unwrap();
        assert_eq!(text(Known::Succeeded { auth_code: "A1".into() }), r#"{"outcome":"SUCCEEDED","authCode":"A1"}"#);
        assert!(serde_json::from_str::<OutcomeBody>(r#"{"outcome":"PERHAPS"}"#).is_err());
    }
}
