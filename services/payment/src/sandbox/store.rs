//! SQL of the sandbox's statement.

use std::collections::HashMap;

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;

use crate::provider::{Known, StatementEntry, StatementKind};

/// Why an authorization is declined that was voided before it came.
pub(super) const VOIDED: &str = "VOIDED";

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) kind: StatementKind,
    /// The charge or the authorization that this one captures, voids or refunds.
    pub(super) of: Option<String>,
    pub(super) token: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) known: Known,
    /// Until then nobody knows of it.
    pub(super) lands_after_ms: u64,
}

/// Enters what is new and gives back its keys; a key that is there keeps what it has.
pub(super) async fn enter(db: impl PgExecutor<'_>, entries: &[Entry]) -> sqlx::Result<Vec<String>> {
    let outcome = |known: &Known| match known {
        Known::Succeeded { .. } => "SUCCEEDED",
        Known::Declined { .. } => "DECLINED",
    };
    let reason = |known: &Known| match known {
        Known::Declined { reason } => reason.clone(),
        Known::Succeeded { .. } => String::new(),
    };
    let code = |known: &Known| match known {
        Known::Succeeded { auth_code } => auth_code.clone(),
        Known::Declined { .. } => String::new(),
    };
    sqlx::query_scalar(
        r#"insert into statement (key, kind, "of", token, amount, currency, outcome, reason, auth_code, at)
           select key, kind, "of", token, amount, currency, outcome, reason, auth_code,
               clock_timestamp() + lands_after_ms * interval '1 millisecond'
           from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
                   $10::bigint[])
               as e(key, kind, "of", token, amount, currency, outcome, reason, auth_code, lands_after_ms)
           on conflict (key) do nothing
           returning key"#,
    )
    .bind(column(entries, |e| e.key.as_str()))
    .bind(column(entries, |e| e.kind.as_str()))
    .bind(column(entries, |e| e.of.as_deref()))
    .bind(column(entries, |e| e.token.as_str()))
    .bind(column(entries, |e| e.amount))
    .bind(column(entries, |e| e.currency.as_str()))
    .bind(column(entries, |e| outcome(&e.known)))
    .bind(column(entries, |e| reason(&e.known)))
    .bind(column(entries, |e| code(&e.known)))
    .bind(column(entries, |e| i64::try_from(e.lands_after_ms).unwrap_or(i64::MAX)))
    .fetch_all(db)
    .await
}

/// Takes the keys of authorizations that nobody asked for yet, so that they are refused when they come. The keys are sorted.
pub(super) async fn refuse_early(db: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into statement (key, kind, token, amount, currency, outcome, reason, auth_code, voided)
         select key, 'AUTHORIZE', '', 0, '', 'DECLINED', $2, '', true from unnest($1::text[]) as k(key)
         on conflict (key) do nothing",
    )
    .bind(keys)
    .bind(VOIDED)
    .execute(db)
    .await?;
    Ok(())
}

/// What became of a key, and whether anybody may know it yet.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) known: Known,
    pub(super) landed: bool,
}

/// What became of these keys.
pub(super) async fn outcomes(db: impl PgExecutor<'_>, keys: &[String]) -> sqlx::Result<HashMap<String, Stored>> {
    let rows: Vec<PgRow> = sqlx::query(
        "select key, outcome = 'SUCCEEDED' as succeeded, reason, auth_code, at <= clock_timestamp() as landed from statement
         where key = any($1)",
    )
    .bind(keys)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("key")?, Stored { known: known(row)?, landed: row.try_get("landed")? }))).collect()
}

fn known(row: &PgRow) -> sqlx::Result<Known> {
    match row.try_get("succeeded")? {
        true => Ok(Known::Succeeded { auth_code: row.try_get("auth_code")? }),
        false => Ok(Known::Declined { reason: row.try_get("reason")? }),
    }
}

/// A charge or an authorization, as what captures, voids or refunds it sees it.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) kind: StatementKind,
    pub(super) succeeded: bool,
    pub(super) amount: i64,
    pub(super) captured: i64,
    pub(super) refunded: i64,
    pub(super) voided: bool,
    pub(super) currency: String,
    pub(super) token: String,
}

impl FromRow<'_, PgRow> for Parent {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            kind: kind(row)?,
            succeeded: row.try_get("succeeded")?,
            amount: row.try_get("amount")?,
            captured: row.try_get("captured")?,
            refunded: row.try_get("refunded")?,
            voided: row.try_get("voided")?,
            currency: row.try_get("currency")?,
            token: row.try_get("token")?,
        })
    }
}

fn kind(row: &PgRow) -> sqlx::Result<StatementKind> {
    let kind: &str = row.try_get("kind")?;
    StatementKind::parse(kind).ok_or_else(|| sqlx::Error::Decode(format!("unknown kind {kind} in the statement").into()))
}

pub(super) async fn lock_parents(db: &mut PgConnection, keys: &[String]) -> sqlx::Result<HashMap<String, Parent>> {
    let rows: Vec<PgRow> = sqlx::query(
        "select key, kind, outcome = 'SUCCEEDED' as succeeded, amount, captured, refunded, voided, currency, token from statement
         where key = any($1) and kind in ('CHARGE', 'AUTHORIZE') order by key for no key update",
    )
    .bind(keys)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("key")?, Parent::from_row(row)?))).collect()
}

/// Writes what was captured, voided and refunded of these. The caller has locked them.
pub(super) async fn update_parents(db: &mut PgConnection, parents: &[(String, Parent)]) -> sqlx::Result<()> {
    sqlx::query(
        "update statement
         set captured = ($2::bigint[])[array_position($1::text[], key)],
             refunded = ($3::bigint[])[array_position($1::text[], key)],
             voided = ($4::boolean[])[array_position($1::text[], key)]
         where key = any($1::text[])",
    )
    .bind(column(parents, |(key, _)| key.as_str()))
    .bind(column(parents, |(_, parent)| parent.captured))
    .bind(column(parents, |(_, parent)| parent.refunded))
    .bind(column(parents, |(_, parent)| parent.voided))
    .execute(db)
    .await?;
    Ok(())
}

/// Entries that have landed, the oldest first. What only refuses an authorization that never came is no entry.
pub(super) async fn page(
    db: &PgPool,
    since: Option<OffsetDateTime>,
    after: Option<(OffsetDateTime, String)>,
    rows_max: i64,
) -> sqlx::Result<Vec<StatementEntry>> {
    let (after_at, after_key) = after.unzip();
    let rows: Vec<PgRow> = sqlx::query(
        r#"select key, kind, "of", amount, currency, outcome = 'SUCCEEDED' as succeeded, reason, auth_code, at from statement
           where at >= greatest(coalesce($1::timestamptz, '-infinity'), coalesce($2::timestamptz, '-infinity')) and at <= now()
               and (at, key) > (coalesce($2::timestamptz, '-infinity'), coalesce($3::text, ''))
               and not (kind = 'AUTHORIZE' and amount = 0)
           order by at, key limit $4"#,
    )
    .bind(since)
    .bind(after_at)
    .bind(after_key)
    .bind(rows_max)
    .fetch_all(db)
    .await?;
    let entry = |row: &PgRow| {
        Ok(StatementEntry {
            key: row.try_get("key")?,
            kind: kind(row)?,
            of: row.try_get("of")?,
            amount: row.try_get("amount")?,
            currency: row.try_get("currency")?,
            known: known(row)?,
            at: row.try_get("at")?,
        })
    };
    rows.iter().map(entry).collect()
}

/// Whether this call comes to nothing, as one of the first `calls_max` of its key; from now on it counts.
pub(super) async fn spoil(db: &PgPool, key: &str, calls_max: u32) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into failed_calls as f (key) values ($1) on conflict (key) do update set times = f.times + 1 where f.times < $2",
    )
    .bind(key)
    .bind(i32::try_from(calls_max).unwrap_or(i32::MAX))
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One column of many rows, for unnest.
fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
