//! `settle orders`: list and show.

use anyhow::Result;
use contracts::{
    money::readable,
    order::v1::{GetOrderRequest, ListOrdersRequest, Order, OrderStatus, order_service_client::OrderServiceClient},
};

use crate::client::{Output, Target, connect};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Orders, newest first
    List {
        #[command(flatten)]
        target: Target,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// Only of this customer
        #[arg(long)]
        customer: Option<String>,
        /// Only with this status, for example FAILED
        #[arg(long)]
        status: Option<String>,
        /// How many, at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=200))]
        limit: i32,
    },
    /// One order with its timeline
    Show {
        order_id: String,
        #[command(flatten)]
        target: Target,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

pub async fn main(args: Args) -> Result<()> {
    match args.command {
        Command::List { target, output, customer, status, limit } => {
            let mut orders = OrderServiceClient::new(connect(&target.grpc()?).await?);
            let status = status.as_deref().map_or(Ok(OrderStatus::Unspecified), read_status)?;
            let request = ListOrdersRequest {
                page_size: limit,
                customer_id: customer.unwrap_or_default(),
                status: status.into(),
                ..Default::default()
            };
            let listed = orders.list_orders(request).await.map_err(told)?.into_inner();
            match output {
                Output::Json => say!("{}", gateway::to_json(&listed)?),
                Output::Table => {
                    say!("{:<36}  {:<12}  {:>14}  {:<20}  REASON", "ORDER", "STATUS", "TOTAL", "CUSTOMER");
                    for order in listed.orders {
                        let total = readable(order.total, &order.currency);
                        say!(
                            "{}  {:<12}  {total:>14}  {:<20}  {}",
                            order.order_id,
                            status_name(&order),
                            order.customer_id,
                            order.reason
                        );
                    }
                }
            }
        }
        Command::Show { order_id, target, output } => {
            let mut orders = OrderServiceClient::new(connect(&target.grpc()?).await?);
            let order = orders.get_order(GetOrderRequest { order_id }).await.map_err(told)?.into_inner().order.unwrap_or_default();
            match output {
                Output::Json => say!("{}", gateway::to_json(&order)?),
                Output::Table => {
                    let attention = if order.needs_attention { "  NEEDS ATTENTION: see `settle saga show`" } else { "" };
                    let Order { order_id, reason, .. } = &order;
                    say!("{order_id}  {}  {}  {reason}{attention}", status_name(&order), amounts(&order));
                    say!("{}", timeline(&order).trim_end());
                }
            }
        }
    }
    Ok(())
}

/// What an order comes to, and what of it went back.
fn amounts(order: &Order) -> String {
    let amount = |minor| readable(minor, &order.currency);
    let mut text = amount(order.total);
    if order.refunded_amount > 0 {
        text.push_str(&format!(", {} refunded", amount(order.refunded_amount)));
    }
    if order.refund_pending > 0 {
        text.push_str(&format!(", {} being refunded", amount(order.refund_pending)));
    }
    text
}

/// A status as people write it.
#[must_use]
pub fn status_name(order: &Order) -> &'static str {
    order.status().as_str_name().trim_start_matches("ORDER_STATUS_")
}

fn read_status(text: &str) -> Result<OrderStatus> {
    let name = text.to_uppercase();
    OrderStatus::from_str_name(&name).or_else(|| OrderStatus::from_str_name(&format!("ORDER_STATUS_{name}"))).ok_or_else(|| {
        anyhow::anyhow!(
            "{text} is not a status; they are PENDING PROCESSING PAID CONFIRMED COMPENSATING CANCELLING FAILED CANCELLED"
        )
    })
}

/// The order's story, a line an entry, with the milliseconds since the first.
#[must_use]
pub fn timeline(order: &Order) -> String {
    let millis = |at: &prost_types::Timestamp| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000;
    let start = order.timeline.first().and_then(|entry| entry.at.as_ref()).map_or(0, millis);
    order
        .timeline
        .iter()
        .map(|entry| {
            let after = entry.at.as_ref().map_or(0, |at| millis(at) - start);
            format!("  {after:>6} ms  {:<22} {}\n", entry.event, entry.detail)
        })
        .collect()
}

/// A refused call in one line.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn told(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}
