//! Spans leave under the name of the service they are of, also where all services are one process: a tracer is named after its service,
//! and each service has an exporter with its own resource.

use std::{collections::HashMap, sync::Arc, time::Duration};

use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use tokio::sync::Mutex;

#[derive(Debug, Default)]
pub(crate) struct ByService {
    exporters: Mutex<HashMap<String, Arc<Otlp>>>,
}

impl ByService {
    async fn of(&self, service: &str) -> Result<Arc<Otlp>, OTelSdkError> {
        let mut exporters = self.exporters.lock().await;
        if let Some(exporter) = exporters.get(service) {
            return Ok(exporter.clone());
        }
        // The standard OTEL_ variables say where to, and more.
        let mut exporter =
            Otlp::builder().with_tonic().build().map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
        exporter.set_resource(&Resource::builder().with_service_name(service.to_owned()).build());
        let exporter = Arc::new(exporter);
        exporters.insert(service.to_owned(), exporter.clone());
        Ok(exporter)
    }
}

impl SpanExporter for ByService {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut by_service: HashMap<String, Vec<SpanData>> = HashMap::new();
        for span in batch {
            by_service.entry(span.instrumentation_scope.name().to_owned()).or_default().push(span);
        }
        let mut exported = Ok(());
        for (service, spans) in by_service {
            let one = match self.of(&service).await {
                Ok(exporter) => exporter.export(spans).await,
                Err(error) => Err(error),
            };
            // One service's spans that do not leave hold back nobody else's.
            exported = exported.and(one);
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let exporters = self.exporters.try_lock().map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
        exporters.values().try_for_each(|exporter| exporter.shutdown_with_timeout(timeout))
    }
}
