//! The relay's client: takes the records of a run, and tells when the broker has them all or that something is broken.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::sync::Notify;

use super::{
    Cluster, broker,
    client::{Aside, log},
    headers,
    store::Line,
};
use crate::Error;

/// How often a wait for the broker is spoken of, and the client asked whether it can go on at all.
const WAIT_TOLD_EVERY_MS: u64 = 10_000;
const ASK_EVERY_MS: u64 = 500;

/// One client; broken once, it is broken for good.
pub(super) struct Producer {
    client: Aside<ThreadedProducer<Deliveries>>,
    run: Arc<Run>,
}

impl Producer {
    pub(super) fn new(cluster: &Cluster) -> Result<Self, Error> {
        let run = Arc::new(Run::default());
        let client = cluster.producer().create_with_context(Deliveries { run: run.clone() }).map_err(broker)?;
        Ok(Self { client: Aside::new(client), run })
    }

    /// Hands over a record. `false`: no room, what is in there must be delivered first.
    pub(super) fn send(&self, line: &Line<'_>, source: &str) -> Result<bool, Error> {
        let record = BaseRecord::to(line.topic)
            .partition(line.partition)
            .key(line.key)
            .payload(line.payload)
            .headers(headers::write(line, source));
        self.run.outstanding.fetch_add(1, Ordering::AcqRel);
        let refused = match self.client.send(record) {
            Ok(()) => return Ok(true),
            Err((error, _)) => error,
        };
        self.run.outstanding.fetch_sub(1, Ordering::AcqRel);
        match refused {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => Ok(false),
            error => Err(broker(error)),
        }
    }

    /// Waits until the broker has everything that was handed over, however long that takes. An error means that nobody knows what it has.
    pub(super) async fn delivered(&self) -> Result<(), Error> {
        let started = Instant::now();
        let mut told = Duration::ZERO;
        loop {
            // In this order: what breaks is noted before it is counted off.
            let through = self.run.outstanding.load(Ordering::Acquire) == 0;
            if let Some(why) = self.run.broken() {
                return Err(Error::Broker(why));
            }
            if through {
                return Ok(());
            }
            if tokio::time::timeout(Duration::from_millis(ASK_EVERY_MS), self.run.bell.notified()).await.is_ok() {
                continue;
            }
            if let Some((code, why)) = self.client.client().fatal_error() {
                return Err(Error::Broker(format!("{code}: {why}")));
            }
            let waited = started.elapsed();
            if waited - told >= Duration::from_millis(WAIT_TOLD_EVERY_MS) {
                told = waited;
                let last_error = self.run.last_error();
                tracing::warn!(waited_s = waited.as_secs(), last_error, "the broker does not answer; the relay waits for it");
            }
        }
    }
}

/// What is known of the records that were handed over.
#[derive(Default)]
struct Run {
    outstanding: AtomicUsize,
    broken: Mutex<Option<String>>,
    last_error: Mutex<String>,
    bell: Notify,
}

impl Run {
    fn breaks(&self, why: String) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.bell.notify_one();
    }

    fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn last_error(&self) -> String {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Called by the client's own threads.
struct Deliveries {
    run: Arc<Run>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    /// Broker connections come and go; only a fatal error ends the client.
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.run.breaks(format!("fatal: {reason}"));
            return;
        }
        tracing::debug!(target: "librdkafka", %error, reason, "error");
        reason.clone_into(&mut self.run.last_error.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, record)) = delivered {
            self.run.breaks(format!("{}/{}: {error}", record.topic(), record.partition()));
        }
        if self.run.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.run.bell.notify_one();
        }
    }
}
