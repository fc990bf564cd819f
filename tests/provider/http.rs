//! The sandbox as a process of its own, and the adapter that talks to it.

use std::{net::SocketAddr, path::Path, time::Duration};

use local::{
    Program, Proxy,
    proxy::{Direction, Mark, Then},
};
use payment::provider::{Known, Outcome, Provider, StatementKind, http::Http};

use super::{WITHIN, capture, charge, database, declined, refund, statement, succeeded, unknown, void};
use crate::{
    harness::{data_dir, run},
    startup::{assert_one_line, end_of, settle},
};

/// `settle sandbox-provider` over a database. Killed when dropped.
pub(crate) struct Desk {
    pub(super) program: Program,
    pub(crate) http: SocketAddr,
}

impl Desk {
    pub(crate) async fn start(database: &str, env: &[(&str, &str)], ready: Option<&Path>) -> Self {
        let mut command = settle(&["sandbox-provider", "--addr", "127.0.0.1:0", "--database-url", database]);
        command.envs(env.iter().copied());
        if let Some(ready) = ready {
            command.arg("--ready-file").arg(ready);
        }
        let mut program = Program::start(command).expect("it starts");
        let line = program.line("where it is", WITHIN, |line| line.contains("http://")).await.expect("it is ready");
        let http = line.rsplit("http://").next().and_then(|at| at.trim().parse().ok()).expect("an address");
        Self { program, http }
    }
}

fn adapter(to: impl std::fmt::Display) -> Http {
    Http::new(&format!("http://{to}"), 8).expect("a URL")
}

#[test]
fn the_adapter_says_what_the_sandbox_says() {
    run(async {
        let desk = Desk::start(&database().await, &[], None).await;
        let provider = adapter(desk.http);
        let (charged, held, freed) = (kit::fresh_id(), kit::fresh_id(), kit::fresh_id());
        assert_eq!(provider.query(charged).await.expect("it answers"), None);
        let outcome = provider.charge(&charge(charged, "tok_visa", 100)).await;
        assert!(succeeded(&outcome));
        assert_eq!(provider.charge(&charge(charged, "tok_visa", 100)).await, outcome, "the same key, the same outcome");
        assert_eq!(provider.query(charged).await.expect("it answers").map(Outcome::Known), Some(outcome));
        assert_eq!(declined(provider.charge(&charge(kit::fresh_id(), "tok_declined", 100)).await), "CARD_DECLINED");
        assert_eq!(declined(provider.charge(&charge(kit::fresh_id(), "", 0)).await), "INVALID_AMOUNT");

        assert!(succeeded(&provider.authorize(&charge(held, "", 100)).await));
        assert!(succeeded(&provider.capture(&capture(held, 90)).await));
        assert_eq!(declined(provider.void(&void(held)).await), "ALREADY_CAPTURED");
        assert!(succeeded(&provider.authorize(&charge(freed, "", 100)).await));
        assert!(succeeded(&provider.void(&void(freed)).await));
        let refused = provider.refund(&refund(charged, 101)).await;
        assert_eq!(declined(refused), "REFUND_EXCEEDS_CHARGE");
        assert!(succeeded(&provider.refund(&refund(held, 90)).await));

        use StatementKind::{Authorize, Capture, Charge, Refund, Void};
        let entries = statement(&provider).await;
        let kinds: Vec<_> = entries.iter().map(|entry| (entry.kind, matches!(entry.known, Known::Succeeded { .. }))).collect();
        let expected = [
            (Charge, true),
            (Charge, false),
            (Authorize, true),
            (Capture, true),
            (Void, false),
            (Authorize, true),
            (Void, true),
            (Refund, false),
            (Refund, true),
        ];
        assert_eq!(kinds, expected);
        let last = provider.statement(entries.last().map(|entry| entry.at), None, 5_000).await.expect("it answers");
        assert_eq!(last, entries[entries.len() - 1..]);
    });
}

#[test]
fn a_reply_that_is_lost_is_found_by_its_key() {
    run(async {
        let desk = Desk::start(&database().await, &[], None).await;
        let proxy = Proxy::start(desk.http).await.expect("a proxy");
        let provider = adapter(format_args!("127.0.0.1:{}", proxy.port()));
        let ask = charge(kit::fresh_id(), "", 100);
        proxy.after(Direction::ToClient, Mark::Pattern(b"SUCCEEDED".to_vec()), Then::CutBefore);
        assert!(unknown(&provider.charge(&ask).await), "the reply came through");
        assert_eq!(proxy.counts().marks, 1, "the fault did not happen");
        let found = provider.query(ask.key).await.expect("it answers").expect("it was charged");
        assert_eq!(provider.charge(&ask).await, Outcome::Known(found));
        assert_eq!(statement(&provider).await.len(), 1, "charged once");

        // What does not arrive is no answer either, and nothing was charged.
        let lost = charge(kit::fresh_id(), "", 100);
        proxy.after(Direction::ToServer, Mark::Pattern(b"/v1/charges".to_vec()), Then::CutBefore);
        assert!(unknown(&provider.charge(&lost).await));
        assert_eq!(proxy.counts().marks, 2, "the fault did not happen");
        assert_eq!(provider.query(lost.key).await.expect("it answers"), None);
    });
}

#[test]
fn an_outage_is_no_answer_and_the_next_process_has_the_same_books() {
    run(async {
        let database = database().await;
        let mut desk = Desk::start(&database, &[], None).await;
        let proxy = Proxy::start(desk.http).await.expect("a proxy");
        let provider = adapter(format_args!("127.0.0.1:{}", proxy.port()));
        let ask = charge(kit::fresh_id(), "", 100);
        let before = provider.charge(&ask).await;
        assert!(succeeded(&before));

        desk.program.kill().await.expect("it is gone");
        assert!(unknown(&provider.charge(&ask).await));
        assert!(provider.query(ask.key).await.is_err(), "an absence that nobody has said");
        assert!(provider.statement(None, None, 10).await.is_err());

        let next = Desk::start(&database, &[], None).await;
        proxy.forward_to(next.http);
        let back = local::until("the provider to answer", WITHIN, || async { provider.query(ask.key).await.ok() });
        assert_eq!(back.await.expect("it answers").map(Outcome::Known), Some(before));
        assert_eq!(statement(&provider).await.len(), 1);
    });
}

#[test]
fn an_outage_by_profile_answers_with_a_code() {
    run(async {
        let always = [("SETTLE_SANDBOX_CHAOS", "outage_every_ms=1,outage_ms=1")];
        let desk = Desk::start(&database().await, &always, None).await;
        let provider = adapter(desk.http);
        let ask = charge(kit::fresh_id(), "", 100);
        match provider.charge(&ask).await {
            Outcome::Unknown(reason) => assert!(reason.contains("500 FAILED: the sandbox is away"), "{reason}"),
            Outcome::Known(known) => panic!("{known:?}"),
        }
        let error = provider.query(ask.key).await.expect_err("nobody is there").to_string();
        assert!(error.contains("503 UNAVAILABLE"), "{error}");
    });
}

#[test]
fn it_says_where_it_is_and_ends_when_asked() {
    run(async {
        let dir = data_dir().expect("a directory");
        let ready = dir.path().join("ready.json");
        let mut desk = Desk::start(&database().await, &[], Some(&ready)).await;
        let said = local::until("the ready file", WITHIN, || async { std::fs::read_to_string(&ready).ok() });
        let said: serde_json::Value = serde_json::from_str(&said.await.expect("it is written")).expect("JSON");
        assert_eq!(said["http"], desk.http.to_string());
        assert_eq!(said["pid"], desk.program.pid());
        // A call that is never answered does not hold it up for longer than it drains.
        let provider = adapter(desk.http);
        let silent = charge(kit::fresh_id(), "tok_silent", 100);
        assert!(tokio::time::timeout(Duration::from_millis(300), provider.charge(&silent)).await.is_err());
        let status = desk.program.terminate(WITHIN).await.expect("it ends");
        assert!(status.success(), "{status}");
        assert!(!ready.exists());
    });
}

#[test]
fn what_it_cannot_work_with_is_one_line() {
    run(async {
        let database = database().await;
        for (name, value, says) in [
            ("SETTLE_SANDBOX_CHAOS", "hope=1", "\"hope\" is no name of a profile"),
            ("SETTLE_WEBHOOK_URL", "shop.example", "is not a URL"),
            ("SETTLE_WEBHOOK_URL", "http://shop.example", "SETTLE_WEBHOOK_SECRET is not set"),
            ("SETTLE_WEBHOOK_SECRET", "a,b,c", "must be one secret, or two"),
        ] {
            let mut command = settle(&["sandbox-provider", "--addr", "127.0.0.1:0", "--database-url", &database]);
            command.env(name, value);
            assert_one_line(name, &end_of(command).await, &["SETTLE_", says]);
        }
        let command = settle(&["sandbox-provider", "--addr", "127.0.0.1:0"]);
        assert_one_line("no database", &end_of(command).await, &["SETTLE_PROVIDER_DATABASE_URL is not set"]);
    });
}
