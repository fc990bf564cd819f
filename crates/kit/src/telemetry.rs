//! Logs to stderr, traces over OTLP where an endpoint is set.

use std::{borrow::Cow, io::IsTerminal};

use messaging::Trace;
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::{exporter::ByService, settings};

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
            registry.with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()?;
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
