//! The sandbox's own books: what it says is what it has written, whoever asks at the same time.

use std::{collections::BTreeSet, time::Duration};

use payment::provider::{Known, Outcome, Provider, StatementKind};
use sqlx::{Connection, PgConnection};
use tokio::{task::JoinSet, time::timeout};

use super::{WITHIN, capture, charge, database, declined, refund, sandbox, statement, succeeded, unknown, void};
use crate::harness::run;

/// Longer than an answer takes, shorter than anybody would wait.
const PATIENCE: Duration = Duration::from_millis(500);

#[test]
fn what_is_set_aside_is_taken_once_and_goes_back_within_it() {
    run(async {
        let (database, key) = (database().await, kit::fresh_id());
        let sandbox = sandbox(&database, "");
        let authorized = sandbox.authorize(&charge(key, "", 100)).await;
        assert!(succeeded(&authorized));
        assert_eq!(sandbox.authorize(&charge(key, "", 100)).await, authorized, "the same key, the same outcome");
        assert_eq!(declined(sandbox.refund(&refund(key, 1)).await), "NO_SUCH_CHARGE");
        assert_eq!(declined(sandbox.capture(&capture(key, 101)).await), "CAPTURE_EXCEEDS_AUTHORIZATION");
        let taken = capture(key, 80);
        let outcome = sandbox.capture(&taken).await;
        assert!(succeeded(&outcome));
        assert_eq!(sandbox.capture(&taken).await, outcome, "the same key, the same outcome");
        assert_eq!(declined(sandbox.capture(&capture(key, 20)).await), "ALREADY_CAPTURED");
        assert_eq!(declined(sandbox.void(&void(key)).await), "ALREADY_CAPTURED");
        assert!(succeeded(&sandbox.refund(&refund(key, 50)).await));
        assert_eq!(declined(sandbox.refund(&refund(key, 50)).await), "REFUND_EXCEEDS_CHARGE");
        assert!(succeeded(&sandbox.refund(&refund(key, 30)).await));

        let entries = statement(&sandbox).await;
        let booked = entries.iter().filter(|entry| matches!(entry.known, Known::Succeeded { .. }));
        let booked: Vec<(StatementKind, i64)> = booked.map(|entry| (entry.kind, entry.amount)).collect();
        use StatementKind::{Authorize, Capture, Refund};
        assert_eq!(booked, [(Authorize, 100), (Capture, 80), (Refund, 50), (Refund, 30)]);
        let of = key.to_string();
        assert!(entries.iter().all(|entry| entry.kind == Authorize || entry.of.as_deref() == Some(of.as_str())));
    });
}

#[test]
fn an_authorization_that_was_voided_before_it_came_is_refused() {
    run(async {
        let (database, key) = (database().await, kit::fresh_id());
        let sandbox = sandbox(&database, "");
        assert!(succeeded(&sandbox.void(&void(key)).await));
        assert_eq!(declined(sandbox.authorize(&charge(key, "", 100)).await), "VOIDED");
        assert_eq!(declined(sandbox.capture(&capture(key, 100)).await), "AUTHORIZATION_VOIDED");
        let entries = statement(&sandbox).await;
        let kinds: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.amount)).collect();
        assert_eq!(kinds, [(StatementKind::Void, 0), (StatementKind::Capture, 100)], "nothing was ever held");
    });
}

#[test]
fn of_a_capture_and_a_void_one_wins() {
    run(async {
        const RACES: usize = 100;
        let database = database().await;
        // Two desks over the same books, as of two processes.
        let (one, other) = (sandbox(&database, ""), sandbox(&database, ""));
        let (mut captured, mut voided) = (0, 0);
        for _ in 0..RACES {
            let key = kit::fresh_id();
            assert!(succeeded(&one.authorize(&charge(key, "", 100)).await));
            let (take, free) = (capture(key, 100), void(key));
            let (taken, freed) = tokio::join!(one.capture(&take), other.void(&free));
            assert_ne!(succeeded(&taken), succeeded(&freed), "{taken:?} {freed:?}");
            captured += usize::from(succeeded(&taken));
            voided += usize::from(succeeded(&freed));
        }
        assert_eq!(captured + voided, RACES);
        let mut db = PgConnection::connect(&database).await.expect("connected");
        let sql =
            "select count(*) filter (where captured > 0), count(*) filter (where voided) from statement where kind = 'AUTHORIZE'";
        let told: (i64, i64) = sqlx::query_as(sql).fetch_one(&mut db).await.expect("read");
        assert_eq!(told, (captured.try_into().expect("few"), voided.try_into().expect("few")));
    });
}

#[test]
fn a_void_that_races_its_authorization_leaves_nothing_held() {
    run(async {
        let database = database().await;
        let (one, other) = (sandbox(&database, ""), sandbox(&database, ""));
        for _ in 0..100 {
            let key = kit::fresh_id();
            let (hold, free) = (charge(key, "", 100), void(key));
            let (held, freed) = tokio::join!(one.authorize(&hold), other.void(&free));
            assert!(succeeded(&freed), "{freed:?}");
            assert!(succeeded(&held) || declined(held) == "VOIDED");
        }
        let mut db = PgConnection::connect(&database).await.expect("connected");
        let sql = "select count(*) from statement where kind = 'AUTHORIZE' and not voided";
        let held: i64 = sqlx::query_scalar(sql).fetch_one(&mut db).await.expect("read");
        assert_eq!(held, 0);
    });
}

#[test]
fn no_number_of_refunds_gives_back_more_than_was_taken() {
    run(async {
        let (database, key) = (database().await, kit::fresh_id());
        let sandbox = std::sync::Arc::new(sandbox(&database, ""));
        assert!(succeeded(&sandbox.charge(&charge(key, "", 100)).await));
        let mut refunds = JoinSet::new();
        for _ in 0..64 {
            let sandbox = std::sync::Arc::clone(&sandbox);
            refunds.spawn(async move { sandbox.refund(&refund(key, 40)).await });
        }
        let outcomes = refunds.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| succeeded(outcome)).count(), 2);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Known(_))));
    });
}

#[test]
fn the_books_hold_the_rules_by_themselves() {
    run(async {
        let (database, key) = (database().await, kit::fresh_id());
        let sandbox = sandbox(&database, "");
        assert!(succeeded(&sandbox.authorize(&charge(key, "", 100)).await));
        assert!(succeeded(&sandbox.capture(&capture(key, 60)).await));
        let mut db = PgConnection::connect(&database).await.expect("connected");
        for (wrong, constraint) in [
            ("update statement set captured = 101 where kind = 'AUTHORIZE'", "statement_captured_within_authorization"),
            ("update statement set voided = true where kind = 'AUTHORIZE'", "statement_captured_or_voided"),
            ("update statement set refunded = 61 where kind = 'AUTHORIZE'", "statement_refunded_within_what_was_taken"),
            ("update statement set amount = 0 where kind = 'CAPTURE'", "statement_amount"),
            ("update statement set \"of\" = null where kind = 'CAPTURE'", "statement_of_another"),
            (
                "insert into statement (key, kind, \"of\", token, amount, currency, outcome, reason, auth_code)
                 select key || 'x', kind, \"of\", token, 40, currency, outcome, reason, auth_code from statement where kind = 'CAPTURE'",
                "statement_captured_once",
            ),
        ] {
            let refused = sqlx::query(wrong).execute(&mut db).await.expect_err(wrong);
            let refused = refused.as_database_error().and_then(|error| error.constraint().map(ToOwned::to_owned));
            assert_eq!(refused.as_deref(), Some(constraint), "{wrong}");
        }
    });
}

#[test]
fn the_statement_is_read_in_pages_and_from_a_moment_on() {
    run(async {
        let database = database().await;
        let sandbox = sandbox(&database, "");
        let mut keys = BTreeSet::new();
        for amount in 1..=25 {
            let key = kit::fresh_id();
            assert!(succeeded(&sandbox.charge(&charge(key, "", amount)).await));
            keys.insert(key.to_string());
        }
        let entries = statement(&sandbox).await;
        assert_eq!(entries.iter().map(|entry| entry.amount).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>(), "the oldest first");
        assert_eq!(entries.iter().map(|entry| entry.key.clone()).collect::<BTreeSet<_>>(), keys, "each once");
        let since = sandbox.statement(Some(entries[20].at), None, 100).await.expect("it answers");
        assert_eq!(since, entries[20..]);
        assert!(sandbox.statement(None, None, 0).await.expect("it answers").is_empty());
    });
}

#[test]
fn what_lands_late_is_known_to_nobody_before() {
    run(async {
        let (database, key) = (database().await, kit::fresh_id());
        let sandbox = sandbox(&database, "late=1,late_ms=3000");
        let ask = charge(key, "", 100);
        assert!(timeout(PATIENCE, sandbox.charge(&ask)).await.is_err(), "it was answered");
        assert_eq!(sandbox.query(key).await.expect("it answers"), None);
        assert!(unknown(&sandbox.charge(&ask).await), "sent again, it is still at it");
        assert!(statement(&sandbox).await.is_empty());
        let landed = local::until("it to land", WITHIN, || async { sandbox.query(key).await.expect("it answers") });
        assert!(matches!(landed.await.expect("it lands"), Known::Succeeded { .. }));
        assert!(succeeded(&sandbox.charge(&ask).await));
        assert_eq!(statement(&sandbox).await.len(), 1, "charged once");
    });
}

#[test]
fn a_call_that_is_spoiled_books_nothing_and_the_next_goes_through() {
    run(async {
        let database = database().await;
        let spoiling = sandbox(&database, "error_before=1,spoiled_calls=3");
        let key = kit::fresh_id();
        for _ in 0..3 {
            assert!(unknown(&spoiling.charge(&charge(key, "", 100)).await));
            assert_eq!(spoiling.query(key).await.expect("it answers"), None);
        }
        assert!(succeeded(&spoiling.charge(&charge(key, "", 100)).await));

        let plain = sandbox(&database, "");
        let silent = charge(kit::fresh_id(), "tok_silent", 100);
        assert!(timeout(PATIENCE, plain.charge(&silent)).await.is_err(), "it was answered");
        assert_eq!(plain.query(silent.key).await.expect("it answers"), None, "nothing was charged");
        assert!(succeeded(&plain.charge(&silent).await));
        let after = charge(kit::fresh_id(), "tok_error_after", 100);
        assert!(unknown(&plain.charge(&after).await));
        assert!(plain.query(after.key).await.expect("it answers").is_some(), "it was charged");
    });
}

#[test]
fn in_an_outage_nothing_answers_and_nothing_is_booked() {
    run(async {
        let (database, key) = (database().await, kit::fresh_id());
        let away = sandbox(&database, "outage_every_ms=1,outage_ms=1");
        assert!(unknown(&away.charge(&charge(key, "", 100)).await));
        assert!(unknown(&away.charge(&charge(key, "tok_silent", 100)).await), "not even silence");
        assert!(away.query(key).await.is_err() && away.statement(None, None, 1).await.is_err());
        let back = sandbox(&database, "");
        assert_eq!(back.query(key).await.expect("it answers"), None);
        assert!(statement(&back).await.is_empty());
    });
}

#[test]
fn the_same_seed_treats_the_same_keys_alike() {
    run(async {
        const PROFILE: &str = "seed=7,success=0.6,insufficient=0.2,error_after=0.3";
        let keys: Vec<_> = (0..60).map(|_| kit::fresh_id()).collect();
        let mut runs = Vec::new();
        for _ in 0..2 {
            let sandbox = sandbox(&database().await, PROFILE);
            let mut outcomes = Vec::new();
            for key in &keys {
                outcomes.push(sandbox.charge(&charge(*key, "tok_visa", 100)).await);
            }
            runs.push(outcomes);
        }
        assert_eq!(runs[0], runs[1]);
        assert!(runs[0].iter().any(succeeded) && runs[0].iter().any(unknown), "the profile did nothing");
        assert!(runs[0].iter().any(|outcome| matches!(outcome, Outcome::Known(Known::Declined { .. }))));
    });
}
