//! The other way to settle an order, which a setting chooses: stock is reserved first, money is set aside, and taken only when the shipment is
//! booked. What cannot be delivered is never charged.

use std::time::Duration;

use contracts::{
    order::v1::{
        CreateOrderRequest, GetOrderRequest, Order, OrderStatus, RefundOrderRequest, WatchOrderRequest,
        order_service_client::OrderServiceClient,
    },
    payment::v1::{GetPaymentRequest, PaymentState, payment_service_client::PaymentServiceClient},
    saga::v1::{GetSagaRequest, saga_service_client::SagaServiceClient},
};
use kit::settings::BusKind;
use tonic::{Code, transport::Channel};

use crate::{
    agreement::agree,
    harness::{SETTLE_WITHIN, data_dir, run},
    placing::{assert_happened, at_own_price},
    process::Process,
};

const REST_WITHIN: Duration = Duration::from_secs(60);

struct Shop(Channel);

impl Shop {
    fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.0.clone())
    }

    async fn shown(&self, order_id: &str) -> Order {
        let request = GetOrderRequest { order_id: order_id.to_owned() };
        self.orders().get_order(request).await.expect("there").into_inner().order.expect("an order")
    }

    async fn settle(&self, request: CreateOrderRequest) -> Order {
        let order_id = self.orders().create_order(request).await.expect("accepted").into_inner().order_id;
        let request = WatchOrderRequest { order_id: order_id.clone(), final_only: true };
        let watch = async {
            let mut outcome = self.orders().watch_order(request).await.expect("watched").into_inner();
            outcome.message().await.expect("told").expect("an outcome");
        };
        tokio::time::timeout(SETTLE_WITHIN, watch).await.expect("it settles");
        self.shown(&order_id).await
    }

    /// State, taken and given back; `None` if nothing was ever asked of the provider.
    async fn paid(&self, order: &Order) -> Option<(PaymentState, i64, i64)> {
        let request = GetPaymentRequest { order_id: order.order_id.clone() };
        match PaymentServiceClient::new(self.0.clone()).get_payment(request).await {
            Ok(told) => told.into_inner().payment.map(|payment| (payment.state(), payment.captured, payment.refunded)),
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound);
                None
            }
        }
    }
}

#[test]
fn money_is_taken_last() {
    run(async {
        let dir = data_dir().expect("a directory");
        let env = [("SETTLE_CHECKOUT", "checkout-reserve-first".to_owned())];
        let platform = Process::start(dir.path(), BusKind::Postgres, &env).await.expect("it starts");
        let shop = Shop(settle::client::connect(&platform.ready.grpc).await.expect("gRPC answers"));

        let confirmed = shop.settle(at_own_price("prod-A", "")).await;
        assert_eq!(confirmed.status(), OrderStatus::Confirmed);
        assert_happened(
            &confirmed,
            &["SagaStarted", "InventoryReserved", "PaymentAuthorized", "ShippingScheduled", "PaymentCaptured", "OrderCompleted"],
        );
        assert_eq!(shop.paid(&confirmed).await, Some((PaymentState::Captured, confirmed.total, 0)));
        let request = GetSagaRequest { order_id: confirmed.order_id.clone(), ..Default::default() };
        let saga = SagaServiceClient::new(shop.0.clone()).get_saga(request).await.expect("there").into_inner().saga;
        assert_eq!(saga.expect("a saga").definition, "checkout-reserve-first");

        let out_of_stock = shop.settle(at_own_price("SKU-EMPTY", "")).await;
        assert_eq!((out_of_stock.status(), out_of_stock.reason.as_str()), (OrderStatus::Failed, "OUT_OF_STOCK"));
        assert_eq!(shop.paid(&out_of_stock).await, None, "nobody was asked for money");

        let declined = shop.settle(at_own_price("prod-A", "tok_declined")).await;
        assert_eq!((declined.status(), declined.reason.as_str()), (OrderStatus::Failed, "CARD_DECLINED"));
        assert_happened(&declined, &["InventoryReserved", "PaymentFailed", "InventoryReleased", "OrderFailed"]);
        assert_eq!(shop.paid(&declined).await, Some((PaymentState::Declined, 0, 0)));

        let unshippable = shop.settle(at_own_price("SKU-UNSHIPPABLE", "")).await;
        assert_eq!((unshippable.status(), unshippable.reason.as_str()), (OrderStatus::Failed, "UNSHIPPABLE"));
        assert_happened(
            &unshippable,
            &["PaymentAuthorized", "ShippingFailed", "PaymentVoided", "InventoryReleased", "OrderFailed"],
        );
        assert_eq!(shop.paid(&unshippable).await, Some((PaymentState::Voided, 0, 0)), "what was set aside is free");

        let request = RefundOrderRequest { order_id: confirmed.order_id.clone(), amount: Some(1_000), ..Default::default() };
        shop.orders().refund_order(request).await.expect("there is enough");
        let refunded = local::until("the refund", SETTLE_WITHIN, || async {
            let order = shop.shown(&confirmed.order_id).await;
            ((order.refunded_amount, order.refund_pending) == (1_000, 0)).then_some(())
        });
        refunded.await.expect("a part of what was captured goes back");
        assert_eq!(shop.paid(&confirmed).await, Some((PaymentState::Captured, confirmed.total, 1_000)));

        let violations = agree(&platform.ready.databases, REST_WITHIN).await;
        assert!(violations.is_empty(), "{violations:#?}");
        platform.stop().await.expect("it ends well");
    });
}
