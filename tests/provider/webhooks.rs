//! The door for webhooks: who is believed, what a repeat does, and that a call under way is left alone.

use contracts::order::v1::{CancelOrderRequest, OrderStatus};
use kit::settings::BusKind;
use payment::webhook::Secrets;
use reqwest::{Client, RequestBuilder};
use settle::{audit::audit, deployment::Deployment};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::WITHIN;
use crate::{
    harness::{data_dir, run},
    process::Process,
    provider::unknown::{connect, count, orders, outcome, payment_id, place, rest_for_an_hour, rests, shown},
};

const SECRET: &str = "a-new-secret,an-old-secret";

struct Door {
    platform: Process,
    client: Client,
    secrets: Secrets,
    _dir: tempfile::TempDir,
}

impl Door {
    async fn open(env: &[(&str, String)]) -> Self {
        let dir = data_dir().expect("a directory");
        let env = [env, &[("SETTLE_WEBHOOK_SECRET", SECRET.to_owned())]].concat();
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        Self { platform, client: Client::new(), secrets: Secrets::parse(SECRET).expect("secrets"), _dir: dir }
    }

    fn post(&self, body: &str) -> RequestBuilder {
        self.client.post(format!("http://{}/webhooks/provider", self.platform.ready.http)).body(body.to_owned())
    }

    /// Signed now, give or take.
    async fn told(&self, body: &str, off_s: i64) -> (u16, String) {
        let now_s = OffsetDateTime::now_utc().unix_timestamp();
        answer(self.post(body).header("settle-signature", self.secrets.sign(now_s + off_s, body.as_bytes()))).await
    }

    async fn database(&self, service: &str) -> PgConnection {
        PgConnection::connect(&self.platform.ready.databases[service]).await.expect("the database answers")
    }

    /// How often this event came again; none if it never came.
    async fn repeats(&self, id: &str) -> Option<i32> {
        let sql = "select repeats from webhook_events where id = $1";
        sqlx::query_scalar(sql).bind(id).fetch_optional(&mut self.database("payment").await).await.expect("read")
    }
}

/// Status and reason.
async fn answer(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("the gateway answers");
    let status = answer.status().as_u16();
    let body: serde_json::Value = answer.json().await.expect("JSON");
    (status, body["reason"].as_str().unwrap_or_default().to_owned())
}

fn event(id: &str, kind: &str, key: Uuid) -> String {
    serde_json::json!({"id": id, "type": kind, "key": key.to_string()}).to_string()
}

#[test]
fn only_who_signs_is_believed_and_each_event_once() {
    run(async {
        let door = Door::open(&[]).await;
        let body = event("evt-1", "charge.succeeded", kit::fresh_id());
        let refused = |status, reason: &str| (status, reason.to_owned());

        assert_eq!(answer(door.post(&body)).await, refused(401, "BAD_SIGNATURE"));
        let stranger = Secrets::parse("another-secret").expect("a secret");
        let forged = stranger.sign(OffsetDateTime::now_utc().unix_timestamp(), body.as_bytes());
        for signature in ["", "nonsense", "t=1,v1=00", &forged] {
            let told = answer(door.post(&body).header("settle-signature", signature)).await;
            assert_eq!(told, refused(401, "BAD_SIGNATURE"), "{signature}");
        }
        let of_another_body = door.secrets.sign(OffsetDateTime::now_utc().unix_timestamp(), b"{}");
        let told = answer(door.post(&body).header("settle-signature", of_another_body)).await;
        assert_eq!(told, refused(401, "BAD_SIGNATURE"));
        assert_eq!(door.told(&body, -400).await, refused(400, "SIGNATURE_TOO_OLD"));
        assert_eq!(door.told(&body, 400).await, refused(400, "SIGNATURE_TOO_OLD"));
        for garbage in ["", "[]", "{", r#"{"id":"evt-1"}"#, r#"{"id":"evt-1","type":"charge.succeeded","key":"7"}"#] {
            assert_eq!(door.told(garbage, 0).await, refused(400, "MALFORMED_WEBHOOK"), "{garbage}");
        }
        let long = format!("{body}{}", " ".repeat(512 * 1024));
        assert_eq!(door.told(&long, 0).await.0, 413);
        let url = format!("http://{}/webhooks/provider", door.platform.ready.http);
        assert_eq!(answer(door.client.get(url)).await, refused(405, "METHOD_NOT_ALLOWED"));
        assert_eq!(door.repeats("evt-1").await, None, "something was believed");

        assert_eq!(door.told(&body, 0).await.0, 200);
        assert_eq!(door.repeats("evt-1").await, Some(0));
        assert_eq!(door.told(&body, -200).await.0, 200, "a repeat");
        assert_eq!(door.repeats("evt-1").await, Some(1));
        let old = Secrets::parse("an-old-secret").expect("a secret");
        let signed = old.sign(OffsetDateTime::now_utc().unix_timestamp(), body.as_bytes());
        assert_eq!(answer(door.post(&body).header("settle-signature", signed)).await.0, 200, "the old secret is good still");
        assert_eq!(door.repeats("evt-1").await, Some(2));
        let unknown_type = event("evt-2", "payout.succeeded", kit::fresh_id());
        assert_eq!(door.told(&unknown_type, 0).await.0, 200);
        assert_eq!(door.repeats("evt-2").await, None, "what is not known is not kept");
        door.platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s12_a_webhook_before_the_response_sends_nothing_twice() {
    run(async {
        let door = Door::open(&[]).await;
        // Charged at once, answered when nobody waits any more.
        let order_id = place(&door.platform, "tok_slow").await;
        let key = payment_id(&door.platform, &order_id).await;
        let mut provider = door.database("provider").await;
        let charged = local::until("the charge", WITHIN, || async {
            let mut provider = door.database("provider").await;
            let sql = "select exists (select from statement where key = $1)";
            let there: bool = sqlx::query_scalar(sql).bind(key.to_string()).fetch_one(&mut provider).await.expect("read");
            there.then_some(())
        });
        charged.await.expect("it is charged");
        assert_eq!(door.told(&event("evt-early", "charge.succeeded", key), 0).await.0, 200);
        let mut db = door.database("payment").await;
        let sql = "select attempts, resting, due_at > now() from provider_calls where key = $1";
        let call: Option<(i32, bool, bool)> = sqlx::query_as(sql).bind(key).fetch_optional(&mut db).await.expect("read");
        // Under way, and left alone; unless this took longer than the call.
        if let Some((attempts, resting, leased)) = call.filter(|(_, resting, _)| !resting) {
            assert_eq!((attempts, resting, leased), (1, false, true));
        }
        assert_eq!(outcome(&door.platform, &order_id).await.status(), OrderStatus::Confirmed);
        let sql = "select count(*) from statement where kind = 'CHARGE'";
        let charges: i64 = sqlx::query_scalar(sql).fetch_one(&mut provider).await.expect("read");
        assert_eq!(charges, 1);
        door.platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s12_a_new_webhook_wakes_a_call_that_rests_and_a_repeat_does_not() {
    run(async {
        let silent_twice = ("SETTLE_SANDBOX_CHAOS", "silent=1,spoiled_calls=2".to_owned());
        let door = Door::open(&[silent_twice, ("SETTLE_PROVIDER_TIMEOUT_MS", "300".to_owned())]).await;
        rest_for_an_hour(&door.platform).await;
        let order_id = place(&door.platform, "").await;
        let key = payment_id(&door.platform, &order_id).await;
        rests(&door.platform, key, 1).await;
        assert_eq!(door.told(&event("evt-1", "charge.succeeded", key), 0).await.0, 200);
        rests(&door.platform, key, 2).await;
        assert_eq!(door.told(&event("evt-1", "charge.succeeded", key), 0).await.0, 200, "a repeat");
        assert_eq!(door.repeats("evt-1").await, Some(1));
        let sql = "select attempts, due_at > now() + interval '30 minutes' from provider_calls where key = $1";
        let mut db = door.database("payment").await;
        let call: (i32, bool) = sqlx::query_as(sql).bind(key).fetch_one(&mut db).await.expect("it is open");
        assert_eq!(call, (2, true), "the repeat woke it");
        assert_eq!(door.told(&event("evt-2", "charge.succeeded", key), 0).await.0, 200);
        assert_eq!(outcome(&door.platform, &order_id).await.status(), OrderStatus::Confirmed);
        door.platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s3_a_charge_that_lands_after_its_payment_was_voided_is_given_back_when_its_webhook_comes() {
    run(async {
        let dir = data_dir().expect("a directory");
        let env = [("SETTLE_SANDBOX_CHAOS", "late=1,late_ms=9000".to_owned()), ("SETTLE_PROVIDER_TIMEOUT_MS", "300".to_owned())];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        rest_for_an_hour(&platform).await;
        let order_id = place(&platform, "").await;
        let key = payment_id(&platform, &order_id).await;
        rests(&platform, key, 1).await;
        let cancel = CancelOrderRequest { order_id: order_id.clone(), reason: "too slow".into() };
        orders(&platform).await.cancel_order(cancel).await.expect("in time");
        let mut payment = connect(&platform, "payment").await;
        let undone = local::until("the undo", WITHIN, || async {
            let sql = "select count(*) from payments where state = 'IN_FLIGHT' and undo_command_id is not null";
            (count(&mut connect(&platform, "payment").await, sql).await == 1).then_some(())
        });
        undone.await.expect("it waits");
        // As in a database that was put back: there the undo finds a call that was never sent.
        let unsent = "update provider_calls set withdrawn = true, first_sent_at = null, resting = false, due_at = now()";
        assert_eq!(sqlx::query(unsent).execute(&mut payment).await.expect("changed").rows_affected(), 1);
        assert_eq!(outcome(&platform, &order_id).await.status(), OrderStatus::Cancelled);
        let mut provider = connect(&platform, "provider").await;
        let landed = "select count(*) from statement where at <= clock_timestamp()";
        let voided = "select count(*) from payments where state = 'VOIDED' and not exists (select from provider_calls)";
        assert_eq!(count(&mut payment, voided).await, 1, "somebody still asks");
        assert_eq!(count(&mut provider, landed).await, 0, "it landed before it was voided");

        let back = local::until("the money to be back", WITHIN, || async {
            let sql = "select count(*) from payments where state = 'REFUNDED' and not exists (select from provider_calls)";
            (count(&mut connect(&platform, "payment").await, sql).await == 1).then_some(())
        });
        back.await.expect("it is noticed");
        let held = "select coalesce(sum(amount - refunded), 0)::bigint from statement where kind = 'CHARGE'";
        assert_eq!((count(&mut provider, landed).await, count(&mut provider, held).await), (2, 0), "one charge, one refund");
        assert_eq!(shown(&platform, &order_id).await.status(), OrderStatus::Cancelled);
        let report = audit(&Deployment::of(platform.ready.databases.clone()), true).await.expect("it is audited");
        assert_eq!(report.violations(), 0, "{:#?}", report.lines());
        platform.stop().await.expect("it ends well");
    });
}

/// A payment that was undone, of so much; of nothing where the undo came before its charge. Its id is the provider's key.
async fn voided(door: &Door, amount: i64) -> Uuid {
    let key = kit::fresh_id();
    let sql = "insert into payments (id, order_id, command_id, undo_command_id, state, provider, currency, amount, captured, refunded,
             refund_pending, auth_code, decline_reason, refund_reason, created_at)
         values ($1, $1, $1, $1, 'VOIDED', 'sandbox', case when $2 > 0 then 'USD' else '' end, $2, 0, 0, 0, '', 'VOIDED', '', now())";
    sqlx::query(sql).bind(key).bind(amount).execute(&mut door.database("payment").await).await.expect("written");
    key
}

/// Waits until the calls with this key, why they wait and what became of their payment are these.
async fn comes_to(door: &Door, key: Uuid, calls: &[&str], state: &str) {
    let comes = local::until("what comes of it", WITHIN, || async {
        let mut db = door.database("payment").await;
        let sql = "select attention from provider_calls where key = $1";
        let open: Vec<String> = sqlx::query_scalar(sql).bind(key).fetch_all(&mut db).await.expect("read");
        let sql = "select state from payments where id = $1";
        let now: String = sqlx::query_scalar(sql).bind(key).fetch_one(&mut db).await.expect("read");
        let same = open.len() == calls.len() && open.iter().zip(calls).all(|(open, why)| !open.is_empty() && open.contains(why));
        (same && now == state).then_some(())
    });
    comes.await.unwrap_or_else(|error| panic!("{error}: {key}"));
}

#[test]
fn s3_a_webhook_of_money_that_counts_as_not_moved_is_believed_only_as_far_as_to_ask() {
    run(async {
        let door = Door::open(&[]).await;
        let mut provider = door.database("provider").await;
        let charged = "insert into statement (key, kind, token, amount, currency, outcome, reason, auth_code, at)
             values ($1, 'CHARGE', '', 700, 'USD', 'SUCCEEDED', '', 'A1', now())";
        let asked = "select count(*) from provider_calls";

        // The provider knows nothing of it.
        let invented = voided(&door, 700).await;
        assert_eq!(door.told(&event("evt-1", "charge.succeeded", invented), 0).await.0, 200);
        comes_to(&door, invented, &[], "VOIDED").await;
        // It was taken, and goes back.
        let taken = voided(&door, 700).await;
        sqlx::query(charged).bind(taken.to_string()).execute(&mut provider).await.expect("written");
        assert_eq!(door.told(&event("evt-2", "charge.declined", taken), 0).await.0, 200);
        assert_eq!(count(&mut door.database("payment").await, asked).await, 0, "there is nothing to ask about");
        assert_eq!(door.told(&event("evt-3", "charge.succeeded", taken), 0).await.0, 200);
        comes_to(&door, taken, &[], "REFUNDED").await;
        // It was taken, and nobody here knows how much.
        let mark = voided(&door, 0).await;
        sqlx::query(charged).bind(mark.to_string()).execute(&mut provider).await.expect("written");
        assert_eq!(door.told(&event("evt-4", "charge.succeeded", mark), 0).await.0, 200);
        comes_to(&door, mark, &["nobody here knows the sum"], "VOIDED").await;
        assert_eq!(door.told(&event("evt-5", "charge.succeeded", mark), 0).await.0, 200);
        comes_to(&door, mark, &["nobody here knows the sum"], "VOIDED").await;
        let given = "select count(*) from statement where kind = 'REFUND'";
        assert_eq!(count(&mut provider, given).await, 1);

        // Asked about just now: what is said of it may be from before the event, which must come again.
        let key = voided(&door, 700).await;
        let under_way =
            "insert into provider_calls (payment_id, id, order_id, kind, key, token, amount, currency, correlation, withdrawn,
                 attempts, due_at) values ($1, $1, $1, 'CHARGE', $1, '', 700, 'USD', '', true, 1, now() + interval '1 hour')";
        let mut db = door.database("payment").await;
        sqlx::query(under_way).bind(key).execute(&mut db).await.expect("written");
        assert_eq!(door.told(&event("evt-6", "charge.succeeded", key), 0).await.0, 503);
        assert_eq!(door.repeats("evt-6").await, None, "it would be a repeat when it comes again");
        sqlx::query("delete from provider_calls where key = $1").bind(key).execute(&mut db).await.expect("deleted");
        assert_eq!(door.told(&event("evt-6", "charge.succeeded", key), 0).await.0, 200);
        comes_to(&door, key, &[], "VOIDED").await;
        door.platform.stop().await.expect("it ends well");
    });
}
