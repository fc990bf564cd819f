//! One order is one connected trace: from REST through gRPC, the streams and every service to the notification.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use contracts::order::v1::{OrderStatus, WatchOrderRequest, order_service_client::OrderServiceClient};
use kit::settings::BusKind;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::{harness, process::Process};

const WITHIN: Duration = Duration::from_secs(60);
const ROOT: &str = "HTTP POST /api/v1/orders";
const CREATE: &str = "settle.order.v1.OrderService/CreateOrder";

/// Who must have processed what, by group and topic, and how often at least.
const CONFIRMED: &[(&str, &str, usize)] = &[
    ("orchestrator", "order.events", 2),
    ("payment", "payment.commands", 1),
    ("orchestrator", "payment.events", 1),
    ("inventory", "inventory.commands", 1),
    ("orchestrator", "inventory.events", 1),
    ("shipping", "shipping.commands", 1),
    ("orchestrator", "shipping.events", 1),
    ("order", "order.commands", 2),
    ("inventory", "order.events", 1),
    ("shipping", "order.events", 1),
    ("notification", "order.events", 1),
];
const REFUNDED: &[(&str, &str, usize)] = &[
    ("orchestrator", "order.events", 2),
    ("payment", "payment.commands", 2),
    ("orchestrator", "payment.events", 2),
    ("inventory", "inventory.commands", 1),
    ("orchestrator", "inventory.events", 1),
    ("order", "order.commands", 2),
    ("notification", "order.events", 1),
];

#[test]
fn one_order_one_trace_on_the_embedded_bus() {
    harness::run(traces(BusKind::Postgres)).expect("every order has one trace");
}

#[test]
fn one_order_one_trace_on_kafka() {
    harness::run(traces(BusKind::Kafka)).expect("every order has one trace");
}

/// What is placed, and what must be seen of it.
struct Case {
    name: &'static str,
    sku: &'static str,
    token: &'static str,
    /// The caller's headers.
    headers: &'static [(&'static str, &'static str)],
    ends: OrderStatus,
    processed: &'static [(&'static str, &'static str, usize)],
    /// Trace and span of the caller, where its headers are valid.
    caller: Option<(&'static str, &'static str)>,
    state: &'static str,
}

const PLAIN: Case = Case {
    name: "confirmed",
    sku: "prod-A",
    token: "",
    headers: &[],
    ends: OrderStatus::Confirmed,
    processed: CONFIRMED,
    caller: None,
    state: "",
};

const CASES: [Case; 5] = [
    PLAIN,
    Case { name: "refunded", sku: "SKU-EMPTY", ends: OrderStatus::Failed, processed: REFUNDED, ..PLAIN },
    Case { name: "the provider's answer got lost", token: "tok_silent", ..PLAIN },
    Case {
        name: "within the trace of the caller",
        headers: &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", "vendor=1")],
        caller: Some(("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")),
        state: "vendor=1",
        ..PLAIN
    },
    Case {
        name: "a malformed traceparent",
        headers: &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4737-zzf067aa0ba902b7-01"), ("tracestate", "vendor=1")],
        ..PLAIN
    },
];

async fn traces(bus: BusKind) -> Result<()> {
    let (collector, endpoint) = Collector::start().await?;
    let dir = harness::data_dir()?;
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned())];
    let platform = Process::start(dir.path(), bus, &env).await?;
    let mut placed = Vec::new();
    for case in CASES {
        placed.push((place(&platform, &case).await.with_context(|| case.name)?, case));
    }
    for (order_id, case) in &placed {
        let ends = outcome(&platform, order_id).await?;
        ensure!(ends == case.ends, "{}: it ended {ends:?}", case.name);
        let judged = local::until("the whole trace", WITHIN, || async { judge(&collector.spans(), order_id, case).ok() }).await;
        if judged.is_err() {
            judge(&collector.spans(), order_id, case).with_context(|| case.name)?;
        }
    }
    // Whatever is still to come must fit too.
    platform.stop().await?;
    for (order_id, case) in &placed {
        judge(&collector.spans(), order_id, case).with_context(|| format!("{}, at the end", case.name))?;
    }
    Ok(())
}

async fn place(platform: &Process, case: &Case) -> Result<String> {
    let body = serde_json::json!({
        "customerId": "tester", "currency": "USD", "items": [{"sku": case.sku, "quantity": 1}], "paymentToken": case.token
    });
    let mut request = reqwest::Client::new().post(format!("http://{}/api/v1/orders", platform.ready.http)).json(&body);
    for (name, value) in case.headers {
        request = request.header(*name, *value);
    }
    let answer: serde_json::Value = request.send().await?.json().await?;
    Ok(answer["orderId"].as_str().with_context(|| format!("it was refused: {answer}"))?.to_owned())
}

async fn outcome(platform: &Process, order_id: &str) -> Result<OrderStatus> {
    let mut orders = OrderServiceClient::new(settle::client::connect(&platform.ready.grpc).await?);
    let request = WatchOrderRequest { order_id: order_id.to_owned(), final_only: true };
    let watch = async { orders.watch_order(request).await?.into_inner().message().await };
    let told = tokio::time::timeout(WITHIN, watch).await.context("it does not settle")??;
    Ok(told.and_then(|told| told.order).context("no outcome")?.status())
}

/// Whether the spans of an order are one whole trace, and which are missing or astray if not.
fn judge(all: &[Span], order_id: &str, case: &Case) -> Result<()> {
    let of_order: Vec<&Span> = all.iter().filter(|span| attribute(span, "settle.key") == Some(order_id)).collect();
    let traces: HashSet<&[u8]> = of_order.iter().map(|span| span.trace_id.as_slice()).collect();
    let [trace_id] = traces.iter().copied().collect::<Vec<_>>()[..] else {
        bail!("{} spans of the order are in {} traces", of_order.len(), traces.len())
    };
    let spans: Vec<&Span> = all.iter().filter(|span| span.trace_id == trace_id).collect();
    let tell = || tree(&spans);

    let known: HashSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    ensure!(known.len() == spans.len(), "a span was sent twice{}", tell());
    let roots: Vec<&&Span> = spans.iter().filter(|span| !known.contains(span.parent_span_id.as_slice())).collect();
    let [root] = roots[..] else { bail!("the trace has {} roots{}", roots.len(), tell()) };
    ensure!(root.name == ROOT && root.kind() == SpanKind::Server, "the root is {}{}", root.name, tell());
    let (caller_trace, caller_span) = case.caller.unwrap_or_default();
    ensure!(hex(&root.parent_span_id) == caller_span, "the root's parent is {:?}", hex(&root.parent_span_id));
    ensure!(hex(trace_id).contains(caller_trace), "the trace is not the caller's but {}", hex(trace_id));
    let taken = case.headers.iter().any(|(_, value)| value.contains(&hex(trace_id)));
    ensure!(taken == case.caller.is_some(), "a malformed traceparent is taken over");
    ensure!(spans.iter().all(|span| span.trace_state == case.state), "the state of the trace is not {:?}{}", case.state, tell());

    let creates: Vec<&&Span> = spans.iter().filter(|span| span.name == CREATE && span.kind() == SpanKind::Server).collect();
    let [create] = creates[..] else { bail!("{} spans of CreateOrder{}", creates.len(), tell()) };
    ensure!(create.parent_span_id == root.span_id, "CreateOrder is not below REST{}", tell());

    let mut processed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for span in of_order {
        let (group, topic) = (attribute(span, "messaging.consumer.group.name"), attribute(span, "messaging.destination.name"));
        let (group, topic) = group.zip(topic).with_context(|| format!("{} has no group or topic", span.name))?;
        ensure!(span.name == format!("process {topic}") && span.kind() == SpanKind::Consumer, "{} of {topic}", span.name);
        ensure!(span.start_time_unix_nano <= span.end_time_unix_nano, "{} ended before it began", span.name);
        *processed.entry((group, topic)).or_default() += 1;
    }
    for (group, topic, times) in case.processed {
        let seen = processed.get(&(*group, *topic)).copied().unwrap_or_default();
        ensure!(seen >= *times, "{group} processed {seen} of {times} records of {topic}{}", tell());
    }
    Ok(())
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The spans below each other, for the message of a failure.
fn tree(spans: &[&Span]) -> String {
    let mut spans: Vec<&Span> = spans.to_vec();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let mut text = String::new();
    for span in &spans {
        let mut depth = 0;
        let mut above = *span;
        while let Some(parent) = spans.iter().find(|parent| parent.span_id == above.parent_span_id)
            && depth < spans.len()
        {
            (above, depth) = (*parent, depth + 1);
        }
        let said = attribute(span, "messaging.consumer.group.name").unwrap_or_default();
        let what = attribute(span, "settle.message.type").unwrap_or_default();
        let lost = if depth == 0 { format!("  (parent {})", hex(&span.parent_span_id)) } else { String::new() };
        let _ = write!(text, "\n{:indent$}{} {said} {what}{lost}", "", span.name, indent = 2 * depth + 2);
    }
    text
}

/// An OTLP receiver that keeps every span.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Result<(Self, String)> {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok((collector, endpoint))
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("nobody panicked").clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.spans.lock().expect("nobody panicked").extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
