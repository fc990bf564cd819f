//! SQL of the sandbox's statement.

use std::collections::HashMap;

use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::provider::Known;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Charge,
    Refund,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) kind: EntryKind,
    /// The charge that a refund gives back.
    pub(super) of: Option<String>,
    pub(super) token: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) known: Known,
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
        r#"insert into statement (key, kind, "of", token, amount, currency, outcome, reason, auth_code)
           select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
               $9::text[])
           on conflict (key) do nothing
           returning key"#,
    )
    .bind(column(entries, |e| e.key.as_str()))
    .bind(column(entries, |e| match e.kind {
        EntryKind::Charge => "CHARGE",
        EntryKind::Refund => "REFUND",
    }))
    .bind(column(entries, |e| e.of.as_deref()))
    .bind(column(entries, |e| e.token.as_str()))
    .bind(column(entries, |e| e.amount))
    .bind(column(entries, |e| e.currency.as_str()))
    .bind(column(entries, |e| outcome(&e.known)))
    .bind(column(entries, |e| reason(&e.known)))
    .bind(column(entries, |e| code(&e.known)))
    .fetch_all(db)
    .await
}

/// What became of these keys, as far as they are known.
pub(super) async fn outcomes(db: impl PgExecutor<'_>, keys: &[String]) -> sqlx::Result<HashMap<String, Known>> {
    let rows: Vec<(String, bool, String, String)> =
        sqlx::query_as("select key, outcome = 'SUCCEEDED', reason, auth_code from statement where key = any($1)")
            .bind(keys)
            .fetch_all(db)
            .await?;
    let known = |succeeded, reason, auth_code| match succeeded {
        true => Known::Succeeded { auth_code },
        false => Known::Declined { reason },
    };
    Ok(rows.into_iter().map(|(key, succeeded, reason, auth_code)| (key, known(succeeded, reason, auth_code))).collect())
}

/// A charge as its refunds see it.
#[derive(Debug)]
pub(super) struct ChargeRow {
    pub(super) amount: i64,
    pub(super) refunded: i64,
    pub(super) currency: String,
    pub(super) token: String,
    pub(super) succeeded: bool,
}

pub(super) async fn lock_charges(db: &mut PgConnection, keys: &[String]) -> sqlx::Result<HashMap<String, ChargeRow>> {
    let rows: Vec<(String, i64, i64, String, String, bool)> = sqlx::query_as(
        "select key, amount, refunded, currency, token, outcome = 'SUCCEEDED' from statement
         where key = any($1) and kind = 'CHARGE' order by key for no key update",
    )
    .bind(keys)
    .fetch_all(db)
    .await?;
    let rows = rows.into_iter().map(|(key, amount, refunded, currency, token, succeeded)| {
        (key, ChargeRow { amount, refunded, currency, token, succeeded })
    });
    Ok(rows.collect())
}

/// Adds to what the charges have given back. The caller has locked them.
pub(super) async fn add_refunded(db: &mut PgConnection, keys: &[String], amounts: &[i64]) -> sqlx::Result<()> {
    sqlx::query(
        "update statement set refunded = refunded + ($2::bigint[])[array_position($1::text[], key)] where key = any($1::text[])",
    )
    .bind(keys)
    .bind(amounts)
    .execute(db)
    .await?;
    Ok(())
}

/// Whether this key has not been tried before; from now on it has.
pub(super) async fn first_call(db: &PgPool, key: &str) -> sqlx::Result<bool> {
    let done = sqlx::query("insert into failed_calls (key) values ($1) on conflict (key) do nothing").bind(key).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// One column of many rows, for unnest.
fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
