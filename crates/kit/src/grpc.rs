//! Words for gRPC: rich errors (google.rpc), pages (AIP-158), fields and traces.

use std::{ops::RangeInclusive, time::Duration};

use messaging::{CallError, Trace};
use time::{OffsetDateTime, macros::datetime};
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

const DOMAIN: &str = "settle";
const END_OF_TIME: OffsetDateTime = datetime!(9999-12-31 0:00 UTC);
/// It travels with every message of an order.
const TRACESTATE_BYTES_MAX: usize = 512;
const PAGE_ROWS: i64 = 50;
const PAGE_ROWS_MAX: i32 = 200;

/// INVALID_ARGUMENT that names the field.
#[must_use]
pub fn invalid(field: &str, description: &str, reason: &'static str) -> Status {
    let mut details = ErrorDetails::with_bad_request_violation(field, description);
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {description}"), details)
}

#[must_use]
pub fn not_found(what: &str, id: &str) -> Status {
    reasoned(Code::NotFound, "NOT_FOUND", format!("there is no {what} {id}"))
}

/// FAILED_PRECONDITION with a stable reason.
#[must_use]
pub fn refused(reason: &'static str, text: impl std::fmt::Display) -> Status {
    reasoned(Code::FailedPrecondition, reason, text.to_string())
}

/// FAILED_PRECONDITION of one field, with what a program wants to know of it.
#[must_use]
pub fn refused_field<const N: usize>(field: &str, description: &str, reason: &'static str, facts: [(&str, String); N]) -> Status {
    let mut details = ErrorDetails::with_bad_request_violation(field, description);
    details.set_error_info(reason, DOMAIN, facts.map(|(name, fact)| (name.to_owned(), fact)));
    Status::with_error_details(Code::FailedPrecondition, format!("{field}: {description}"), details)
}

/// ABORTED: what was decided on is not so any more.
#[must_use]
pub fn aborted(reason: &'static str, text: impl std::fmt::Display) -> Status {
    reasoned(Code::Aborted, reason, text.to_string())
}

/// UNAVAILABLE: somebody who is needed does not answer; asking again is safe.
#[must_use]
pub fn unavailable(reason: &'static str, text: impl std::fmt::Display) -> Status {
    reasoned(Code::Unavailable, reason, text.to_string())
}

/// UNAUTHENTICATED: whoever asks is not believed.
#[must_use]
pub fn unauthenticated(reason: &'static str, text: impl std::fmt::Display) -> Status {
    reasoned(Code::Unauthenticated, reason, text.to_string())
}

#[must_use]
pub fn already_exists(reason: &'static str, text: impl std::fmt::Display) -> Status {
    reasoned(Code::AlreadyExists, reason, text.to_string())
}

fn reasoned(code: Code, reason: &'static str, text: String) -> Status {
    Status::with_error_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::new()))
}

/// RESOURCE_EXHAUSTED with when to try again, at the earliest.
#[must_use]
pub fn overloaded(retry_after: Duration) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(retry_after));
    details.set_error_info("OVERLOADED", DOMAIN, std::collections::HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, "too much waits already", details)
}

/// What a caller is told when the runner has no answer.
pub fn call_error<R: Into<Status>>(error: CallError<R>) -> Status {
    match error {
        CallError::Refused(refusal) => refusal.into(),
        CallError::Busy { retry_after } => overloaded(retry_after),
        CallError::Failed => reasoned(Code::Internal, "INTERNAL", "the request could not be applied; it is logged".into()),
        CallError::Stopped => reasoned(Code::Unavailable, "STOPPING", "the service is stopping".into()),
    }
}

/// What a caller is told when a read fails: try again if the database is away, else nothing but that it is logged.
pub fn internal(error: impl std::borrow::Borrow<sqlx::Error>) -> Status {
    let error = error.borrow();
    tracing::error!(r#type = "PROCESSING_ERROR", %error, "a read failed");
    if is_away(error) {
        reasoned(Code::Unavailable, "DATABASE_AWAY", "the database does not answer".into())
    } else {
        reasoned(Code::Internal, "INTERNAL", "the request failed; it is logged".into())
    }
}

/// Whether it is the database that fails and not the request: it cannot be reached, or says itself that the connection is lost (SQLSTATE
/// class 08), that it has too little of something (53) or that it ends what runs, as at a restart (57).
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(said) => {
            said.code().is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

/// Reads the field `order_id`.
pub fn order_id(text: &str) -> Result<Uuid, Status> {
    contracts::ids::parse(text)
        .map_err(|_| invalid("order_id", "must be a UUID such as 0190d3a8-7c1e-7000-8000-000000000001", "MALFORMED_ID"))
}

/// Checks a text's length in characters, and that it has no control characters: Postgres stores no NUL, and people read the rest.
pub fn text(field: &str, value: &str, chars: RangeInclusive<usize>) -> Result<(), Status> {
    if !chars.contains(&value.chars().count()) {
        return Err(invalid(field, &format!("must have {} to {} characters", chars.start(), chars.end()), "BAD_LENGTH"));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "must not have control characters", "CONTROL_CHARACTER"));
    }
    Ok(())
}

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows, at most.
    pub size: i64,
    /// Where the page before ended, as [`page_token`] was given it.
    pub after: Option<String>,
}

impl Page {
    /// Rows to read: one more than is shown tells whether there is another page.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.size + 1
    }

    /// Takes off what is read and not shown. The token of the next page, made of the last row of this one; empty if there is no other.
    pub fn cut<T>(&self, rows: &mut Vec<T>, token: impl FnOnce(&T) -> String) -> String {
        let shown = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= shown {
            return String::new();
        }
        rows.truncate(shown);
        rows.last().map(token).unwrap_or_default()
    }
}

/// Reads `page_size` and `page_token`.
pub fn page(page_size: i32, page_token: &str) -> Result<Page, Status> {
    let size = match page_size {
        0 => PAGE_ROWS,
        1..=PAGE_ROWS_MAX => i64::from(page_size),
        _ => return Err(invalid("page_size", "must be 1 to 200, or 0 for 50", "BAD_PAGE_SIZE")),
    };
    if page_token.is_empty() {
        return Ok(Page { size, after: None });
    }
    let forged = || invalid("page_token", "is not a token that was given out", "BAD_PAGE_TOKEN");
    let bytes = (0..page_token.len())
        .step_by(2)
        .map(|i| page_token.get(i..i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(forged)?;
    let text = String::from_utf8(bytes).map_err(|_| forged())?;
    let after = text.strip_prefix("v1:").filter(|after| !after.chars().any(char::is_control)).ok_or_else(forged)?;
    Ok(Page { size, after: Some(after.to_owned()) })
}

/// An opaque token for where a page ended.
#[must_use]
pub fn page_token(after: &str) -> String {
    format!("v1:{after}").bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A token for lists that are sorted by time and id, newest first.
#[must_use]
pub fn place_token(at: OffsetDateTime, id: Uuid) -> String {
    page_token(&format!("{}|{id}", at.unix_timestamp_nanos()))
}

/// Where a page of such a list begins: after this row; without a token before all.
pub fn place(page: &Page) -> Result<(OffsetDateTime, Uuid), Status> {
    /// Other times are none that a database of ours has given out.
    const YEARS: RangeInclusive<i32> = 1970..=9999;
    let Some(after) = &page.after else { return Ok((END_OF_TIME, Uuid::max())) };
    let read = || {
        let (nanos, id) = after.split_once('|')?;
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos.parse().ok()?).ok()?;
        Some((at, contracts::ids::parse(id).ok()?)).filter(|_| YEARS.contains(&at.year()))
    };
    read().ok_or_else(|| invalid("page_token", "is not a token that was given out", "BAD_PAGE_TOKEN"))
}

/// A token for lists that are sorted by a number.
#[must_use]
pub fn number_token(number: i64) -> String {
    page_token(&number.to_string())
}

/// Which number of such a list a page begins behind; none without a token.
pub fn number(page: &Page) -> Result<Option<i64>, Status> {
    let foreign = |_| invalid("page_token", "is not a token of this list", "BAD_PAGE_TOKEN");
    page.after.as_deref().map(|number| number.parse().map_err(foreign)).transpose()
}

/// The W3C trace context of a request: the server's own span, if traces are on.
#[must_use]
pub fn trace_of<T>(request: &Request<T>) -> Trace {
    let get = |name| request.metadata().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    Trace { parent: get("traceparent"), state: get("tracestate").filter(|state| state.len() <= TRACESTATE_BYTES_MAX) }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error::Error, fmt};

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// What a server says, by its SQLSTATE.
    #[derive(Debug)]
    struct Said(&'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {}

    impl DatabaseError for Said {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(Cow::Borrowed(self.0))
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn a_database_that_is_away_or_says_so_itself_is_told_apart_from_a_request_that_fails() {
        let told = |error: sqlx::Error| {
            let status = internal(error);
            (status.code(), status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default())
        };
        let (away, failed) = ((Code::Unavailable, "DATABASE_AWAY".to_owned()), (Code::Internal, "INTERNAL".to_owned()));
        // Its backend is ended, it stops, it starts, its connection is lost, there are too many of them, its disk is full.
        for state in ["57P01", "57P02", "57P03", "08006", "53300", "53100"] {
            assert_eq!(told(sqlx::Error::Database(Box::new(Said(state)))), away, "{state}");
        }
        assert_eq!(told(sqlx::Error::PoolTimedOut), away);
        for state in ["23505", "22021", "42P01", "XX000"] {
            assert_eq!(told(sqlx::Error::Database(Box::new(Said(state)))), failed, "{state}");
        }
        assert_eq!(told(sqlx::Error::RowNotFound), failed);
    }

    #[test]
    fn a_token_comes_back_and_a_forged_one_is_refused() {
        let token = page_token("2026-01-01|x");
        assert_eq!(page(10, &token).expect("ours"), Page { size: 10, after: Some("2026-01-01|x".into()) });
        for bad in ["zz", "7", "ffff", "é"] {
            assert_eq!(page(10, bad).expect_err(bad).code(), Code::InvalidArgument);
        }
        assert!(page(-1, "").is_err() && page(201, "").is_err());
        assert_eq!(page(0, "").expect("default").size, PAGE_ROWS);
    }

    #[test]
    fn a_place_is_read_back_and_anything_else_is_not_ours() {
        let (at, id) = (datetime!(2025-03-04 5:06:07.089 UTC), Uuid::from_u128(7));
        assert_eq!(place(&page(1, &place_token(at, id)).expect("ours")).expect("ours"), (at, id));
        let place_of = |after: &str| place(&Page { size: 1, after: Some(after.to_owned()) });
        for bad in
            ["", "|", "1|", "x|00000000-0000-0000-0000-000000000007", "-377705116800000000000|00000000-0000-0000-0000-000000000007"]
        {
            assert_eq!(place_of(bad).expect_err(bad).code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn a_number_is_read_back_and_a_token_of_another_list_is_refused() {
        assert_eq!(number(&page(1, "").expect("none")).expect("none"), None);
        for no in [i64::MIN, 0, 7, i64::MAX] {
            assert_eq!(number(&page(1, &number_token(no)).expect("ours")).expect("ours"), Some(no));
        }
        let elsewhere = place_token(datetime!(2025-03-04 5:06 UTC), Uuid::from_u128(7));
        for foreign in [elsewhere, page_token(""), page_token("SKU-1"), page_token("9223372036854775808")] {
            let refused = number(&page(1, &foreign).expect("ours")).expect_err("not of this list");
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert_eq!(refused.message(), "page_token: is not a token of this list");
            assert_eq!(refused.get_error_details().error_info().map(|info| info.reason.as_str()), Some("BAD_PAGE_TOKEN"));
        }
    }

    #[test]
    fn the_row_that_only_tells_that_there_is_more_is_not_shown() {
        let page = page(3, "").expect("a page");
        assert_eq!(page.rows(), 4);
        for (read, shown, token) in [(0, 0, ""), (2, 2, ""), (3, 3, ""), (4, 3, "behind 3")] {
            let mut rows: Vec<i64> = (1..=read).collect();
            assert_eq!(page.cut(&mut rows, |last| format!("behind {last}")), token, "{read} rows");
            assert_eq!(rows, (1..=shown).collect::<Vec<_>>(), "{read} rows");
        }
    }

    #[test]
    fn a_busy_service_says_when_to_come_again() {
        let retry_after = Duration::from_millis(700);
        let status = call_error(CallError::<Status>::Busy { retry_after });
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(retry_after));
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("OVERLOADED"));
    }

    #[test]
    fn text_is_counted_in_characters() {
        assert!(text("name", "äöü", 1..=3).is_ok());
        assert!(text("name", "", 1..=3).is_err());
        assert!(text("name", "a\0b", 1..=3).is_err());
    }
}
