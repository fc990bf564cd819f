//! The admin port: /healthz /readyz /metrics. Not for the public.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use futures::future::join_all;
use messaging::Health;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use sqlx::{Connection, PgPool};
use tokio::time::timeout;

/// Counters of this process, in Prometheus' text form.
#[derive(Clone)]
pub struct Metrics(Registry);

impl Metrics {
    /// Installs the meter provider of the process.
    pub fn install() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let up = provider.meter("settle").u64_gauge("settle_up").build();
        up.record(1, &[]);
        opentelemetry::global::set_meter_provider(provider);
        Ok(Self(registry))
    }

    fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.gather(), &mut text)?;
        Ok(text)
    }
}

/// How long a database may take to answer, a free connection included, before it does not answer.
const PING_MS_MAX: u64 = 2_000;

/// What readiness depends on: the services in this process, each with its database, and nobody being about to stop.
#[derive(Clone, Default)]
pub struct Readiness {
    services: Arc<Mutex<Vec<(PgPool, Health)>>>,
    draining: Arc<AtomicBool>,
}

impl Readiness {
    /// A service is there.
    pub fn watch(&self, pool: PgPool, health: Health) {
        self.services().push((pool, health));
    }

    /// From now on not ready: no new work, please.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    async fn problems(&self) -> Vec<String> {
        if self.draining.load(Ordering::Acquire) {
            return vec!["stopping".into()];
        }
        let services = self.services().clone();
        let checks = services.iter().map(|(pool, health)| async move {
            let away = answers(pool).await.err();
            let problems = away.into_iter().chain(health.problems());
            problems.map(|problem| format!("{}: {problem}", health.group())).collect::<Vec<_>>()
        });
        join_all(checks).await.concat()
    }

    fn services(&self) -> MutexGuard<'_, Vec<(PgPool, Health)>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answers(pool: &PgPool) -> Result<(), String> {
    let limit = Duration::from_millis(PING_MS_MAX);
    let silent = || format!("does not answer within {PING_MS_MAX} ms");
    let mut db = timeout(limit, pool.acquire()).await.map_err(|_| silent())?.map_err(|error| error.to_string())?;
    match timeout(limit, db.ping()).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => {
            // Given back it would be waited for.
            db.close_on_drop();
            Err(silent())
        }
    }
}

pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(scrape).with_state(metrics))
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let problems = readiness.problems().await;
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if problems.is_empty() { "ready".to_owned() } else { problems.join("; ") };
    (status, Json(text))
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{self, Plans};

    #[tokio::test]
    async fn a_database_that_never_answers_is_named_in_time() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://somebody@{}/order", silent.local_addr().unwrap());
        let answered = answers(&database::pool(&url, Plans::Free, 1).unwrap()).await;
        assert_eq!(answered, Err("does not answer within 2000 ms".to_owned()));
    }
}
