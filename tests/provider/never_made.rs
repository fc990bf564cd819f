//! Calls that never reached the provider, and that it may have forgotten by now: a person who has looked there says so, and they go on.

use contracts::{
    order::v1::{CancelOrderRequest, OrderStatus, RefundOrderRequest},
    payment::v1::{
        ListProviderCallsRequest, ProviderCall, ReconcileRequest, RetryProviderCallRequest,
        payment_service_client::PaymentServiceClient,
    },
};
use kit::settings::BusKind;
use settle::{audit::audit, deployment::Deployment};
use sqlx::{Connection, PgConnection};
use tonic::transport::Channel;

use super::{
    WITHIN, database,
    http::Desk,
    unknown::{connect, count, orders, outcome, over_a_proxy, payment_id, place, rest_for_an_hour, rests, shown},
};
use crate::{
    harness::{data_dir, run},
    process::Process,
};

async fn payments(platform: &Process) -> PaymentServiceClient<Channel> {
    PaymentServiceClient::new(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"))
}

/// Waits until a call waits for a person that was tried more often than this.
async fn listed(platform: &Process, attempts: i32) -> ProviderCall {
    let client = payments(platform).await;
    let listed = local::until("a call to wait for a person", WITHIN, || async {
        let waiting = ListProviderCallsRequest { needs_attention: true, ..Default::default() };
        let calls = client.clone().list_provider_calls(waiting).await.expect("listed").into_inner().calls;
        calls.into_iter().find(|call| call.attempts > attempts)
    });
    listed.await.expect("it is listed")
}

async fn retry(platform: &Process, call: &ProviderCall, never_made: bool) {
    let (key, who, reason) = (call.key.clone(), "ann".to_owned(), "I have looked".to_owned());
    let retry = RetryProviderCallRequest { key, who, reason, never_made };
    payments(platform).await.retry_provider_call(retry).await.expect("taken up again");
}

/// Who had it taken up again, and whether he said that it was never made.
async fn kept(platform: &Process) -> Vec<(String, bool)> {
    let sql = "select who, never_made from call_operations order by id";
    sqlx::query_as(sql).fetch_all(&mut connect(platform, "payment").await).await.expect("read")
}

#[test]
fn s11_a_refund_that_was_never_made_while_the_provider_was_away_is_made_once_a_person_says_so() {
    run(async {
        let (dir, database) = (data_dir().expect("a directory"), database().await);
        let env = [("SETTLE_PROVIDER_RETRY_MS_MAX", "500"), ("SETTLE_PROVIDER_KEY_WINDOW_S", "3")];
        let (mut desk, proxy, platform) = over_a_proxy(dir.path(), &database, &env).await;
        let order_id = place(&platform, "").await;
        let order = outcome(&platform, &order_id).await;
        assert_eq!(order.status(), OrderStatus::Confirmed);

        desk.program.kill().await.expect("it is gone");
        let refund = RefundOrderRequest { order_id: order_id.clone(), reason: "broken".into(), ..Default::default() };
        orders(&platform).await.refund_order(refund).await.expect("there is enough");
        let overdue = local::until("the provider to be away for longer than its window", WITHIN, || async {
            let sql = "select count(*) from provider_calls where kind = 'REFUND' and unknown_said and attention = ''";
            (count(&mut connect(&platform, "payment").await, sql).await == 1).then_some(())
        });
        overdue.await.expect("it is said");
        let next = Desk::start(&database, &[], None).await;
        proxy.forward_to(next.http);

        let mut provider = PgConnection::connect(&database).await.expect("connected");
        let refunds = "select count(*) from statement where kind = 'REFUND'";
        let call = listed(&platform, 0).await;
        assert!(call.kind == "REFUND" && call.attention.contains("has forgotten keys"), "{call:?}");
        retry(&platform, &call, false).await;
        let call = listed(&platform, call.attempts).await;
        assert!(call.attention.contains("has forgotten keys"), "{call:?}");
        assert_eq!(count(&mut provider, refunds).await, 0, "it was sent");

        retry(&platform, &call, true).await;
        let back = local::until("the money to be back", WITHIN, || async {
            let now = shown(&platform, &order_id).await;
            ((now.refunded_amount, now.refund_pending) == (order.total, 0)).then_some(())
        });
        back.await.expect("it is made");
        assert_eq!(count(&mut provider, refunds).await, 1, "given back once");
        let given = "select sum(amount)::bigint from statement where kind = 'REFUND' and outcome = 'SUCCEEDED'";
        assert_eq!(count(&mut provider, given).await, order.total);
        assert_eq!(kept(&platform).await, [("ann".to_owned(), false), ("ann".to_owned(), true)]);
        let report = payments(&platform).await.reconcile(ReconcileRequest::default()).await.expect("compared").into_inner();
        assert_eq!((report.entries, report.differences), (2, Vec::new()));
        let mut databases = platform.ready.databases.clone();
        databases.insert("provider".to_owned(), database.clone());
        let report = audit(&Deployment::of(databases), true).await.expect("it is audited");
        assert_eq!(report.violations(), 0, "{:#?}", report.lines());
        platform.stop().await.expect("it ends well");
    });
}

#[test]
fn s11_a_charge_that_was_never_made_and_is_undone_by_then_is_not_made_for_that() {
    run(async {
        let dir = data_dir().expect("a directory");
        let env = [
            ("SETTLE_SANDBOX_CHAOS", "silent=1,spoiled_calls=1".to_owned()),
            ("SETTLE_PROVIDER_TIMEOUT_MS", "200".to_owned()),
            ("SETTLE_PROVIDER_RETRY_MS_MAX", "100".to_owned()),
            ("SETTLE_PROVIDER_KEY_WINDOW_S", "3".to_owned()),
        ];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        rest_for_an_hour(&platform).await;
        let order_id = place(&platform, "").await;
        let key = payment_id(&platform, &order_id).await;
        rests(&platform, key, 1).await;
        // Hours go by until it is looked at again: then it would be made if it were sent.
        let old = "drop trigger rest_for_an_hour on provider_calls;
             update provider_calls set asked_at = now() - interval '9 hours', first_sent_at = now() - interval '9 hours', due_at = now()";
        sqlx::raw_sql(old).execute(&mut connect(&platform, "payment").await).await.expect("changed");
        let call = listed(&platform, 1).await;
        let cancel = CancelOrderRequest { order_id: order_id.clone(), reason: "too slow".into() };
        orders(&platform).await.cancel_order(cancel).await.expect("in time");
        let undone = local::until("the undo", WITHIN, || async {
            let sql = "select count(*) from payments where state = 'IN_FLIGHT' and undo_command_id is not null";
            (count(&mut connect(&platform, "payment").await, sql).await == 1).then_some(())
        });
        undone.await.expect("it waits");

        retry(&platform, &call, true).await;
        assert_eq!(outcome(&platform, &order_id).await.status(), OrderStatus::Cancelled);
        let voided = "select count(*) from payments where state = 'VOIDED'";
        assert_eq!(count(&mut connect(&platform, "payment").await, voided).await, 1);
        let mut provider = connect(&platform, "provider").await;
        assert_eq!(count(&mut provider, "select sum(times)::bigint from failed_calls").await, 1, "the fault did not happen");
        assert_eq!(count(&mut provider, "select count(*) from statement").await, 0, "it was made");
        platform.stop().await.expect("it ends well");
    });
}
