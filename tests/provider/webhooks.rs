//! The door for webhooks: who is believed, what a repeat does, and that a call under way is left alone.

use contracts::order::v1::OrderStatus;
use kit::settings::BusKind;
use payment::webhook::Secrets;
use reqwest::{Client, RequestBuilder};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::WITHIN;
use crate::{
    harness::{data_dir, run},
    process::Process,
    provider::unknown::{outcome, payment_id, place, rest_for_an_hour, rests},
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
