//! `settle demo`: places orders of every kind over gRPC and REST, and checks what becomes of each.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use contracts::{
    inventory::v1::{ListStockRequest, inventory_service_client::InventoryServiceClient},
    money::readable,
    order::v1::{
        CancelOrderRequest, CreateOrderRequest, GetOrderRequest, Order, OrderItem, OrderStatus, RefundOrderRequest,
        WatchOrderRequest, order_service_client::OrderServiceClient,
    },
    payment::v1::{GetPaymentRequest, PaymentState, payment_service_client::PaymentServiceClient},
    shipping::v1::{GetShipmentRequest, ShipmentState, shipping_service_client::ShippingServiceClient},
};
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    client::{self, Target, connect},
    orders::{status_name, timeline, told},
};

const SETTLE_WITHIN: Duration = Duration::from_secs(30);

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    pub target: Target,
    /// REST address, where --target names the gRPC one
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
}

/// Ends well only if every order ended as it must.
pub async fn main(args: Args) -> Result<()> {
    let http = match (&args.http, &args.target.target) {
        (Some(http), _) => http.clone(),
        (None, None) => args.target.ready()?.http,
        (None, Some(_)) => bail!("--target needs --http beside it: the demo places orders over gRPC and REST"),
    };
    let demo = Demo { channel: connect(&args.target.grpc()?).await?, http, client: client::http() };
    let mut failed = 0;
    for scenario in SCENARIOS {
        say!("\n{}", scenario.name);
        match demo.play(scenario).await {
            Ok(order) => say!("  {} {}\n{}  ok", order.order_id, status_name(&order), timeline(&order)),
            Err(error) => {
                say!("  NOT AS IT MUST BE: {error:#}");
                failed += 1;
            }
        }
    }
    say!("\na confirmed order of nothing but an amount, over REST, and a part of it given back");
    match demo.refunded().await {
        Ok(order) => say!("  {} {}\n{}  ok", order.order_id, status_name(&order), timeline(&order)),
        Err(error) => {
            say!("  NOT AS IT MUST BE: {error:#}");
            failed += 1;
        }
    }
    say!("\nthe same idempotency key ten times, half over gRPC and half over REST");
    match demo.ten_times().await {
        Ok(order_id) => say!("  one order: {order_id}\n  ok"),
        Err(error) => {
            say!("  NOT AS IT MUST BE: {error:#}");
            failed += 1;
        }
    }
    let all = SCENARIOS.len() + 2;
    ensure!(failed == 0, "{failed} of {all} did not end as they must");
    say!("\nall {all} ended as they must");
    Ok(())
}

struct Scenario {
    name: &'static str,
    over_rest: bool,
    sku: &'static str,
    token: &'static str,
    cancel: bool,
    ends: OrderStatus,
    /// In the timeline, in this order.
    happens: &'static [&'static str],
    payment: PaymentState,
    /// What becomes of the shipment; unspecified: there is none.
    shipment: ShipmentState,
}

const CONFIRMED: Scenario = Scenario {
    name: "an order over gRPC is confirmed",
    over_rest: false,
    sku: "prod-A",
    token: "",
    cancel: false,
    ends: OrderStatus::Confirmed,
    happens: &["OrderCreated", "SagaStarted", "PaymentSucceeded", "InventoryReserved", "ShippingScheduled", "OrderCompleted"],
    payment: PaymentState::Captured,
    shipment: ShipmentState::Released,
};

const SCENARIOS: &[Scenario] = &[
    CONFIRMED,
    Scenario { name: "an order over REST is confirmed", over_rest: true, ..CONFIRMED },
    Scenario {
        name: "the card is declined: nothing was taken, the order fails",
        over_rest: true,
        token: "tok_declined",
        ends: OrderStatus::Failed,
        happens: &["OrderCreated", "PaymentFailed", "OrderFailed"],
        payment: PaymentState::Declined,
        shipment: ShipmentState::Unspecified,
        ..CONFIRMED
    },
    Scenario {
        name: "out of stock: the charge is refunded, the order fails",
        sku: "SKU-EMPTY",
        ends: OrderStatus::Failed,
        happens: &["PaymentSucceeded", "InventoryFailed", "SagaCompensating", "PaymentRefunded", "OrderFailed"],
        payment: PaymentState::Refunded,
        shipment: ShipmentState::Unspecified,
        ..CONFIRMED
    },
    Scenario {
        name: "unshippable: the stock is released, the charge refunded, the order fails",
        sku: "SKU-UNSHIPPABLE",
        ends: OrderStatus::Failed,
        happens: &[
            "InventoryReserved",
            "ShippingFailed",
            "SagaCompensating",
            "InventoryReleased",
            "PaymentRefunded",
            "OrderFailed",
        ],
        payment: PaymentState::Refunded,
        shipment: ShipmentState::Refused,
        ..CONFIRMED
    },
    Scenario {
        name: "cancelled in time, while the provider is slow: everything is undone",
        token: "tok_slow",
        cancel: true,
        ends: OrderStatus::Cancelled,
        happens: &["OrderCreated", "OrderCancelRequested", "OrderCancelled"],
        payment: PaymentState::Refunded,
        shipment: ShipmentState::Unspecified,
        ..CONFIRMED
    },
];

struct Demo {
    channel: Channel,
    http: String,
    client: reqwest::Client,
}

impl Demo {
    fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel.clone())
    }

    async fn play(&self, scenario: &Scenario) -> Result<Order> {
        let before = self.reserved(scenario.sku).await?;
        let order_id = match scenario.over_rest {
            true => self.create_over_rest(scenario.sku, scenario.token, None).await?,
            false => self.create(scenario.sku, scenario.token, "").await?,
        };
        if scenario.cancel {
            let request = CancelOrderRequest { order_id: order_id.clone(), reason: "changed my mind".into() };
            self.orders().cancel_order(request).await.map_err(told).context("the cancel was refused")?;
        }
        let order = self.settled(&order_id).await?;
        ensure!(
            order.status() == scenario.ends,
            "it ended {}, not {}\n{}",
            status_name(&order),
            scenario.ends.as_str_name(),
            timeline(&order)
        );
        happened(&order, scenario.happens)?;
        if scenario.over_rest {
            let shown = self.get_over_rest(&order_id).await?;
            ensure!(shown["status"] == status_name(&order), "REST says {}, gRPC says {}", shown["status"], status_name(&order));
        }
        self.check_payment(&order, scenario.payment).await?;
        self.check_shipment(&order, scenario.shipment).await?;
        let after = self.reserved(scenario.sku).await?;
        ensure!(after == before, "{} pieces of {} are reserved, {before} were before", after, scenario.sku);
        Ok(order)
    }

    async fn create(&self, sku: &str, token: &str, key: &str) -> Result<String> {
        let request = CreateOrderRequest {
            idempotency_key: key.into(),
            customer_id: "demo".into(),
            currency: "USD".into(),
            items: vec![OrderItem { sku: sku.into(), quantity: 2, unit_price: None }],
            payment_token: token.into(),
        };
        Ok(self.orders().create_order(request).await.map_err(told)?.into_inner().order_id)
    }

    async fn create_over_rest(&self, sku: &str, token: &str, key: Option<&str>) -> Result<String> {
        let body = json!({"customerId": "demo", "currency": "USD", "items": [{"sku": sku, "quantity": 2}], "paymentToken": token});
        self.post(&body, key).await
    }

    async fn post(&self, body: &Value, key: Option<&str>) -> Result<String> {
        let mut request = self.client.post(format!("http://{}/api/v1/orders", self.http)).json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.context("REST does not answer")?;
        let (status, answer) = (response.status(), response.json::<Value>().await?);
        ensure!(status.as_u16() == 202 && answer["status"] == "PENDING", "REST answered {status}: {answer}");
        Ok(answer["orderId"].as_str().context("no orderId in the answer")?.to_owned())
    }

    async fn get_over_rest(&self, order_id: &str) -> Result<Value> {
        let response = self.client.get(format!("http://{}/api/v1/orders/{order_id}", self.http)).send().await?;
        ensure!(response.status().is_success(), "REST answered {}", response.status());
        Ok(response.json().await?)
    }

    /// Waits for the outcome: the order is final, and what follows a confirmation has followed.
    async fn settled(&self, order_id: &str) -> Result<Order> {
        let request = WatchOrderRequest { order_id: order_id.into(), final_only: true };
        let watch = async {
            let mut outcome = self.orders().watch_order(request).await.map_err(told)?.into_inner();
            outcome.message().await.map_err(told)?.and_then(|response| response.order).context("the watch ended without an outcome")
        };
        tokio::time::timeout(SETTLE_WITHIN, watch).await.context("it did not settle in time")?
    }

    async fn check_payment(&self, order: &Order, expected: PaymentState) -> Result<()> {
        let mut payments = PaymentServiceClient::new(self.channel.clone());
        let request = GetPaymentRequest { order_id: order.order_id.clone() };
        let payment = payments.get_payment(request).await.map_err(told)?.into_inner().payment.unwrap_or_default();
        let held = payment.captured - payment.refunded;
        let due = if order.status() == OrderStatus::Confirmed { order.total - order.refunded_amount } else { 0 };
        let amount = |minor| readable(minor, &order.currency);
        ensure!(held == due, "{} of {} is held, {} is due", amount(held), amount(order.total), amount(due));
        // A cancel may overtake the charge: then there was nothing to give back.
        let voided = expected == PaymentState::Refunded && payment.state() == PaymentState::Voided;
        ensure!(payment.state() == expected || voided, "the payment is {}", payment.state().as_str_name());
        Ok(())
    }

    async fn check_shipment(&self, order: &Order, expected: ShipmentState) -> Result<()> {
        let state = || async {
            let mut shipping = ShippingServiceClient::new(self.channel.clone());
            match shipping.get_shipment(GetShipmentRequest { order_id: order.order_id.clone() }).await {
                Ok(response) => Some(response.into_inner().shipment.unwrap_or_default().state()),
                Err(status) if status.code() == Code::NotFound => Some(ShipmentState::Unspecified),
                Err(_) => None,
            }
        };
        local::until("the shipment", SETTLE_WITHIN, || async { state().await.filter(|state| *state == expected) })
            .await
            .map(drop)
            .with_context(|| format!("the shipment never was {}", expected.as_str_name()))
    }

    /// Pieces set aside for orders in flight.
    async fn reserved(&self, sku: &str) -> Result<i64> {
        let look = || async {
            let mut inventory = InventoryServiceClient::new(self.channel.clone());
            let listed = inventory.list_stock(ListStockRequest { page_size: 200, ..Default::default() }).await.ok()?.into_inner();
            listed.stock.into_iter().find(|stock| stock.sku == sku).map(|stock| stock.reserved)
        };
        // The commit of a reservation follows the confirmation: give it the time it takes.
        match local::until("the stock at rest", Duration::from_secs(5), || async { look().await.filter(|reserved| *reserved == 0) })
            .await
        {
            Ok(reserved) => Ok(reserved),
            Err(_) => look().await.with_context(|| format!("there is no stock of {sku}; run `settle seed`")),
        }
    }

    async fn refunded(&self) -> Result<Order> {
        let order_id = self.post(&json!({"userId": "demo", "amount": "12.50", "currency": "EUR"}), None).await?;
        let order = self.settled(&order_id).await?;
        ensure!((order.status(), order.total) == (OrderStatus::Confirmed, 1_250), "it ended {}", status_name(&order));
        let amount = Some(500);
        let request = RefundOrderRequest { order_id: order_id.clone(), amount, reason: "late".into(), ..Default::default() };
        self.orders().refund_order(request).await.map_err(told).context("the refund was refused")?;
        let look = || async {
            let order = self.orders().get_order(GetOrderRequest { order_id: order_id.clone() }).await.ok()?.into_inner().order?;
            ((order.refunded_amount, order.refund_pending) == (500, 0)).then_some(order)
        };
        let order = local::until("the refund", SETTLE_WITHIN, look).await.context("the money did not go back")?;
        happened(&order, &["OrderCompleted", "OrderRefundRequested", "PaymentRefunded", "OrderRefunded"])?;
        self.check_payment(&order, PaymentState::Captured).await?;
        Ok(order)
    }

    async fn ten_times(&self) -> Result<String> {
        let key = format!("demo-{}", kit::fresh_id());
        let mut ids = HashSet::new();
        for i in 0..10 {
            let id = match i % 2 {
                0 => self.create("prod-B", "", &key).await?,
                _ => self.create_over_rest("prod-B", "", Some(&key)).await?,
            };
            ids.insert(id);
        }
        ensure!(ids.len() == 1, "{} orders were made: {ids:?}", ids.len());
        let order_id = ids.into_iter().next().unwrap_or_default();
        let order = self.settled(&order_id).await?;
        ensure!(order.status() == OrderStatus::Confirmed, "it ended {}", status_name(&order));
        self.check_payment(&order, PaymentState::Captured).await?;
        let again = self.orders().get_order(GetOrderRequest { order_id: order_id.clone() }).await.map_err(told)?;
        ensure!(again.into_inner().order.unwrap_or_default().total == order.total, "it changed afterwards");
        Ok(order_id)
    }
}

/// Whether the timeline has these events in this order, others between them allowed.
fn happened(order: &Order, events: &[&str]) -> Result<()> {
    let mut told = order.timeline.iter().map(|entry| entry.event.as_str());
    for event in events {
        ensure!(told.any(|told| told == *event), "{event} is missing or out of place in\n{}", timeline(order));
    }
    Ok(())
}
