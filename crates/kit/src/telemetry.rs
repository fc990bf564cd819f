//! Logs to stderr, traces over OTLP where an endpoint is set.

use std::{borrow::Cow, io::IsTerminal};

use messaging::Trace;
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        self, FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, JsonFields, Writer},
    },
    prelude::*,
    registry::LookupSpan,
};

use crate::{exporter::ByService, settings};

/// The service that a line is of which no service says.
const PROCESS: &str = "settle";

/// Ends with the process: sends what traces are still here.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Logs as text on a terminal, as JSON elsewhere; traces of these services. Call once, inside the runtime.
    pub fn install(services: &[&'static str]) -> anyhow::Result<Self> {
        let filter = EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| EnvFilter::new("info,opentelemetry=warn,librdkafka=error,sqlx=warn"));
        let text = std::io::stderr().is_terminal();
        let layer = fmt::layer().with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry().with(filter);
        if text {
            registry.with(layer.with_target(false)).try_init()?;
        } else {
            registry.with(layer.fmt_fields(JsonFields::new()).event_format(Lines::of(services))).try_init()?;
        }
        let Some(endpoint) = settings::value("OTEL_EXPORTER_OTLP_ENDPOINT")? else { return Ok(Self(None)) };
        // The exporter and the sampler read the standard OTEL_ variables by themselves.
        let provider = SdkTracerProvider::builder().with_batch_exporter(ByService::new(services)?).build();
        global::set_tracer_provider(provider.clone());
        tracing::info!(endpoint, "traces leave over OTLP");
        Ok(Self(Some(provider)))
    }

    /// Sends what is left; waits no longer than the exporter's own timeout.
    pub async fn flush(self) {
        if let Some(provider) = self.0 {
            let flushed = tokio::task::spawn_blocking(move || provider.shutdown()).await;
            if let Ok(Err(error)) = flushed {
                tracing::warn!(%error, "some traces did not leave");
            }
        }
    }
}

/// A JSON object a line. Each names its service: by its field, else by the crate that says it.
struct Lines {
    json: Format<Json>,
    services: Vec<&'static str>,
}

impl Lines {
    fn of(services: &[&'static str]) -> Self {
        let json = fmt::format().json().flatten_event(true).with_current_span(false).with_span_list(false);
        Self { json, services: services.to_vec() }
    }

    fn service_of(&self, target: &str) -> &'static str {
        let said_by = target.split("::").next().unwrap_or_default();
        self.services.iter().copied().find(|service| *service == said_by).unwrap_or(PROCESS)
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        if event.metadata().fields().field("service").is_some() {
            return self.json.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.json.format_event(context, Writer::new(&mut line), event)?;
        let service = self.service_of(event.metadata().target());
        match line.strip_prefix('{') {
            Some(fields) => write!(writer, "{{\"service\":\"{service}\",{fields}"),
            None => writer.write_str(&line),
        }
    }
}

/// A span in progress; ends with [`Scope::end`] or when dropped.
pub struct Scope {
    context: Context,
}

/// Starts a server span of a service as a child of the caller's trace, or as a root of its own.
#[must_use]
pub fn server_span(service: impl Into<Cow<'static, str>>, name: String, incoming: &Trace) -> Scope {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(incoming.clone()));
    let tracer = global::tracer(service);
    let span = tracer.span_builder(name).with_kind(SpanKind::Server).start_with_context(&tracer, &parent);
    Scope { context: parent.with_span(span) }
}

impl Scope {
    /// What goes on to whoever is called within this span.
    #[must_use]
    pub fn trace(&self) -> Trace {
        let mut carrier = Carrier(Trace::default());
        TraceContextPropagator::new().inject_context(&self.context, &mut carrier);
        carrier.0.state = carrier.0.state.filter(|state| !state.is_empty());
        carrier.0
    }

    pub fn end(self, ok: bool) {
        let span = self.context.span();
        if !ok {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

struct Carrier(Trace);

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.0.parent.as_deref(),
            "tracestate" => self.0.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => self.0.parent = Some(value),
            "tracestate" => self.0.state = Some(value),
            _ => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of a process with these services, without their times.
    pub(crate) fn lines(services: &[&'static str], say: impl FnOnce()) -> Vec<Value> {
        let said = Said::default();
        let to = said.clone();
        let layer = fmt::layer().with_writer(move || to.clone()).fmt_fields(JsonFields::new()).event_format(Lines::of(services));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        let line = |text: &str| {
            let mut line: Value = serde_json::from_str(text).unwrap();
            assert!(line.as_object_mut().unwrap().remove("timestamp").is_some(), "{text}");
            line
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn every_line_names_its_service() {
        let said = lines(&["order", "payment"], || {
            tracing::info!(target: "order::events", r#type = "A", "one\n\"quoted\"");
            tracing::info!(target: "kit::grpc", "two");
            tracing::info!(target: "messaging::log", service = "payment", "three");
        });
        let expected = [
            json!({"service": "order", "level": "INFO", "target": "order::events", "type": "A", "message": "one\n\"quoted\""}),
            json!({"service": "settle", "level": "INFO", "target": "kit::grpc", "message": "two"}),
            json!({"service": "payment", "level": "INFO", "target": "messaging::log", "message": "three"}),
        ];
        assert_eq!(said, expected);
    }
}
