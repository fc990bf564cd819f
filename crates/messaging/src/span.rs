//! One consumer span a sampled message; nothing at all for the others.

use opentelemetry::{
    Context, KeyValue, global,
    trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer},
};

use crate::{Record, Trace};

/// A span in progress; ends when dropped.
pub(crate) struct Processing {
    context: Context,
}

impl Processing {
    /// Starts `process <topic>` as a child of the record's trace, if that is sampled.
    pub(crate) fn of(group: &'static str, record: &Record) -> Option<Self> {
        let parent = parse(&record.trace)?;
        if !parent.is_sampled() {
            return None;
        }
        let tracer = global::tracer(group);
        let span = tracer
            .span_builder(format!("process {}", record.stream.topic))
            .with_kind(SpanKind::Consumer)
            .with_attributes([
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", record.stream.topic.clone()),
                KeyValue::new("messaging.destination.partition.id", record.stream.partition.to_string()),
                KeyValue::new("messaging.consumer.group.name", group),
                KeyValue::new("messaging.message.id", record.id.to_string()),
                KeyValue::new("settle.message.type", record.type_name.clone()),
                KeyValue::new("settle.key", record.key.clone()),
            ])
            .start_with_context(&tracer, &Context::new().with_remote_span_context(parent));
        Some(Self { context: Context::new().with_span(span) })
    }

    /// What news made here carry on.
    pub(crate) fn trace(&self) -> Trace {
        let span = self.context.span();
        format(span.span_context())
    }
}

/// Reads a W3C traceparent; anything malformed is no trace, never an error.
fn parse(trace: &Trace) -> Option<SpanContext> {
    let mut parts = trace.parent.as_deref()?.split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || trace_id.len() != 32 || span_id.len() != 16 || flags.len() != 2 {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace_id).ok()?,
        SpanId::from_hex(span_id).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        trace.state.as_deref().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default(),
    );
    context.is_valid().then_some(context)
}

fn format(context: &SpanContext) -> Trace {
    let state = context.trace_state().header();
    Trace {
        parent: Some(format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())),
        state: (!state.is_empty()).then_some(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_malformed() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace { parent: Some(text.into()), state: Some("a=1".into()) };
        let context = parse(&trace).expect("valid");
        assert!(context.is_sampled());
        assert_eq!(format(&context), trace);
        for bad in [
            "",
            "00",
            "00-0-0-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert!(parse(&Trace { parent: Some(bad.into()), state: None }).is_none(), "{bad}");
        }
    }
}
