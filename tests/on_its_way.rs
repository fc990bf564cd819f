//! After the confirmation: a shipment leaves and arrives when people say so, each once; the order's timeline and the customer hear of it, and
//! what a customer was told can be told again.

use std::collections::BTreeMap;

use contracts::{
    notification::v1::{
        ListNotificationsRequest, Notification, ResendNotificationRequest, notification_service_client::NotificationServiceClient,
    },
    order::v1::OrderStatus,
    shipping::v1::{
        GetShipmentRequest, MarkDeliveredRequest, MarkDispatchedRequest, Shipment, ShipmentState,
        shipping_service_client::ShippingServiceClient,
    },
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    every_bus::on_every_bus,
    harness::{Bus, SETTLE_WITHIN, Stage, platform, run},
    placing::{assert_happened, at_own_price, fields_of, reason_of, shown},
};

on_every_bus! { a_shipment_leaves_and_arrives }

const NOBODYS: &str = "0190d3a8-7c1e-7000-8000-000000000001";

async fn shipping(stage: &Stage) -> ShippingServiceClient<Channel> {
    ShippingServiceClient::new(stage.channel().await)
}

async fn dispatched(stage: &Stage, order_id: &str, number: &str) -> Result<Shipment, Status> {
    let request = MarkDispatchedRequest { order_id: order_id.to_owned(), tracking_number: number.to_owned() };
    let told = shipping(stage).await.mark_dispatched(request).await?;
    Ok(told.into_inner().shipment.expect("a shipment"))
}

async fn delivered(stage: &Stage, order_id: &str) -> Result<Shipment, Status> {
    let request = MarkDeliveredRequest { order_id: order_id.to_owned() };
    let told = shipping(stage).await.mark_delivered(request).await?;
    Ok(told.into_inner().shipment.expect("a shipment"))
}

fn assert_refused(refused: Result<Shipment, Status>, reason: &str) {
    let refused = refused.expect_err(reason);
    assert_eq!((refused.code(), reason_of(&refused).as_str()), (Code::FailedPrecondition, reason));
}

/// A confirmed order whose shipment may leave.
async fn released(stage: &Stage) -> String {
    let order = stage.settle(at_own_price("prod-A", "")).await;
    assert_eq!(order.status(), OrderStatus::Confirmed);
    let released = local::until("the release", SETTLE_WITHIN, || async {
        let request = GetShipmentRequest { order_id: order.order_id.clone() };
        let shipment = shipping(stage).await.get_shipment(request).await.expect("there").into_inner().shipment;
        (shipment.expect("a shipment").state() == ShipmentState::Released).then_some(())
    });
    released.await.expect("it follows the confirmation");
    order.order_id
}

async fn notifications(stage: &Stage, order_id: &str) -> BTreeMap<String, Notification> {
    let request = ListNotificationsRequest { order_id: order_id.to_owned(), ..Default::default() };
    let mut client = NotificationServiceClient::new(stage.channel().await);
    let told = client.list_notifications(request).await.expect("listed").into_inner().notifications;
    let count = told.len();
    let by_kind: BTreeMap<String, Notification> = told.into_iter().map(|told| (told.kind.clone(), told)).collect();
    assert_eq!(by_kind.len(), count, "a kind was told twice");
    by_kind
}

async fn a_shipment_leaves_and_arrives(stage: &'static Stage) {
    let order_id = released(stage).await;
    assert_refused(delivered(stage, &order_id).await, "SHIPMENT_NOT_DISPATCHED");
    for _ in 0..2 {
        let shipment = dispatched(stage, &order_id, "T-1").await.expect("it may leave");
        assert_eq!((shipment.state(), shipment.tracking_number.as_str()), (ShipmentState::Dispatched, "T-1"));
    }
    assert_refused(dispatched(stage, &order_id, "T-2").await, "SHIPMENT_DISPATCHED");
    for _ in 0..2 {
        let shipment = delivered(stage, &order_id).await.expect("it has left");
        assert_eq!((shipment.state(), shipment.tracking_number.as_str()), (ShipmentState::Delivered, "T-1"));
    }
    let heard = local::until("the timeline and the customer", SETTLE_WITHIN, || async {
        let order = shown(stage, &order_id).await;
        let told = notifications(stage, &order_id).await;
        let arrived = order.timeline.iter().any(|entry| entry.event == "ShippingDelivered");
        (arrived && told.contains_key("ORDER_DISPATCHED") && told.contains_key("ORDER_DELIVERED")).then_some((order, told))
    });
    let (order, told) = heard.await.expect("they hear of it");
    assert_eq!(order.status(), OrderStatus::Confirmed);
    assert_happened(&order, &["OrderCompleted", "ShippingDispatched", "ShippingDelivered"]);
    for event in ["ShippingDispatched", "ShippingDelivered"] {
        assert_eq!(order.timeline.iter().filter(|entry| entry.event == event).count(), 1, "{event}");
    }
    assert_eq!(told.keys().collect::<Vec<_>>(), ["ORDER_CONFIRMED", "ORDER_DELIVERED", "ORDER_DISPATCHED"]);
    assert!(told["ORDER_DISPATCHED"].text.contains("T-1"), "{:?}", told["ORDER_DISPATCHED"]);
}

#[test]
fn what_may_not_leave_does_not() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let unshippable = stage.settle(at_own_price("SKU-UNSHIPPABLE", "")).await.order_id;
        assert_refused(dispatched(stage, &unshippable, "").await, "SHIPMENT_NOT_RELEASED");
        assert_refused(delivered(stage, &unshippable).await, "SHIPMENT_NOT_RELEASED");
        let never_booked = stage.settle(at_own_price("prod-A", "tok_declined")).await.order_id;
        for order_id in [never_booked.as_str(), NOBODYS] {
            for refused in [dispatched(stage, order_id, "").await, delivered(stage, order_id).await] {
                assert_eq!(refused.expect_err("nothing to mark").code(), Code::NotFound);
            }
        }
        for (number, reason) in [("t".repeat(65), "BAD_LENGTH"), ("a\0".to_owned(), "CONTROL_CHARACTER")] {
            let refused = dispatched(stage, &unshippable, &number).await.expect_err(reason);
            assert_eq!((fields_of(&refused), reason_of(&refused).as_str()), (vec!["tracking_number".to_owned()], reason));
        }
    });
}

#[test]
fn a_notification_is_sent_again_when_somebody_asks() {
    run(async {
        let stage = platform(Bus::Postgres).await;
        let order_id = released(stage).await;
        let told = local::until("the notification", SETTLE_WITHIN, || async {
            notifications(stage, &order_id).await.remove("ORDER_CONFIRMED")
        });
        let told = told.await.expect("the customer is told");
        assert_eq!(told.attempts, 1);
        let mut client = NotificationServiceClient::new(stage.channel().await);
        let mut resend = async |id: &str| {
            let request = ResendNotificationRequest { notification_id: id.to_owned() };
            client.resend_notification(request).await.map(|told| told.into_inner().notification.expect("a notification"))
        };
        for attempts in [2, 3] {
            let again = resend(&told.notification_id).await.expect("sent again");
            assert_eq!(again, Notification { attempts, ..told.clone() });
        }
        assert_eq!(notifications(stage, &order_id).await["ORDER_CONFIRMED"].attempts, 3);
        let sql = "select count(*) from outbox where key = $1 and type = 'settle.notification.v1.NotificationSent'";
        let mut db = stage.database("notification").await;
        let said: i64 = sqlx::query_scalar(sql).bind(&order_id).fetch_one(&mut db).await.expect("read");
        assert_eq!(said, 3, "each time is said");

        assert_eq!(resend(NOBODYS).await.expect_err("nobody's").code(), Code::NotFound);
        let malformed = resend("nonsense").await.expect_err("no id");
        let named = (malformed.code(), fields_of(&malformed), reason_of(&malformed));
        assert_eq!(named, (Code::InvalidArgument, vec!["notification_id".to_owned()], "MALFORMED_ID".to_owned()));
    });
}
