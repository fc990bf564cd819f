//! Spans leave under the name of the service they are of, also where all services are one process: a tracer is named after its service,
//! and each service has an exporter with its own resource.

use std::{collections::HashMap, time::Duration};

use opentelemetry_otlp::{ExporterBuildError, SpanExporter as Otlp};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

/// The name under which spans leave that are of no known service.
const OTHER: &str = "settle";

#[derive(Debug)]
pub(crate) struct ByService {
    exporters: HashMap<&'static str, Otlp>,
}

impl ByService {
    /// One exporter a service; must be called inside the runtime. The standard OTEL_ variables say where to, and more.
    pub(crate) fn new(services: &[&'static str]) -> Result<Self, ExporterBuildError> {
        let mut exporters = HashMap::new();
        for service in services.iter().copied().chain([OTHER]) {
            let mut exporter = Otlp::builder().with_tonic().build()?;
            exporter.set_resource(&Resource::builder().with_service_name(service).build());
            exporters.insert(service, exporter);
        }
        Ok(Self { exporters })
    }
}

impl SpanExporter for ByService {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut by_service: HashMap<&'static str, Vec<SpanData>> = HashMap::new();
        for span in batch {
            let service = self.exporters.get_key_value(span.instrumentation_scope.name()).map_or(OTHER, |(service, _)| *service);
            by_service.entry(service).or_default().push(span);
        }
        let mut exported = Ok(());
        for (service, spans) in by_service {
            // One service's spans that do not leave hold back nobody else's.
            exported = exported.and(self.exporters[service].export(spans).await);
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporters.values().try_for_each(|exporter| exporter.shutdown_with_timeout(timeout))
    }
}
