//! The relay: copies the outbox of a service to its topics, a run at a time, each stream in its order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
};
use sqlx::PgPool;
use tokio::sync::Notify;

use super::{Cluster, broker, headers, store};
use crate::{Error, Position, Record, Stream, Tasks, bus::Publisher, outbox};

/// Rows in one run, at most: well below what the client queues.
const RUN_ROWS_MAX: i64 = 20_000;
const STREAM_ROWS_MAX: i64 = 512;
/// The slow poll behind the wake-ups.
const POLL_MS: u64 = 500;
const RETRY_MS: u64 = 500;

/// Creates the topics and starts copying.
pub(crate) async fn relay(
    cluster: Arc<Cluster>,
    publisher: &Publisher,
    partitions: i32,
    pool: PgPool,
    bell: Arc<Notify>,
    tasks: &Tasks,
) -> Result<(), Error> {
    cluster.ensure_topics(&publisher.topics, partitions).await?;
    let streams = publisher
        .topics
        .iter()
        .flat_map(|topic| (0..partitions).map(|partition| Stream { topic: (*topic).to_owned(), partition }))
        .collect();
    let relay = Relay { cluster, source: format!("settle/{}", publisher.service), streams, pool, bell };
    let stop = tasks.clone();
    tasks.spawn("relay", async move {
        tokio::select! {
            () = relay.run() => {}
            () = stop.stopping() => {}
        }
    });
    Ok(())
}

struct Relay {
    cluster: Arc<Cluster>,
    source: String,
    streams: Vec<Stream>,
    pool: PgPool,
    bell: Arc<Notify>,
}

impl Relay {
    /// Any failure means: a new client, and again from the saved cursors. What was sent already is sent again and seen through.
    async fn run(self) {
        loop {
            if let Err(error) = self.copy().await {
                tracing::warn!(source = self.source, %error, "the relay starts again from its cursors");
            }
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    async fn copy(&self) -> Result<(), Error> {
        let producer: FutureProducer = self.cluster.producer().create().map_err(broker)?;
        let rows_max = (RUN_ROWS_MAX / i64::try_from(self.streams.len()).unwrap_or(i64::MAX)).clamp(1, STREAM_ROWS_MAX);
        let mut cursors = store::open(&mut *self.pool.acquire().await?, &self.streams).await?;
        loop {
            let mut rows = outbox::store::read(&mut *self.pool.acquire().await?, &cursors, rows_max).await?;
            let at: BTreeMap<&Stream, i64> = cursors.iter().map(|(stream, position)| (stream, position.seq)).collect();
            // The row at the cursor was sent before.
            rows.retain(|record| record.place.is_some_and(|place| at.get(&record.stream).is_some_and(|seq| place.seq > *seq)));
            if rows.is_empty() {
                let _ = tokio::time::timeout(Duration::from_millis(POLL_MS), self.bell.notified()).await;
                continue;
            }
            let moved = self.send(&producer, &rows).await?;
            store::advance(&mut *self.pool.acquire().await?, &moved).await?;
            for (stream, position) in &mut cursors {
                if let Some((_, now)) = moved.iter().find(|(moved, _)| moved == stream) {
                    *position = *now;
                }
            }
        }
    }

    /// Sends the rows in their order and waits until the broker has them all.
    async fn send(&self, producer: &FutureProducer, rows: &[Record]) -> Result<Vec<(Stream, Position)>, Error> {
        let mut waiting = Vec::with_capacity(rows.len());
        for record in rows {
            let message = FutureRecord::to(&record.stream.topic)
                .partition(record.stream.partition)
                .key(&record.key)
                .payload(&record.payload[..])
                .headers(headers::write(record, &self.source));
            waiting.push(producer.send_result(message).map_err(|(error, _)| broker(error))?);
        }
        for delivered in waiting {
            delivered.await.map_err(|_| broker(KafkaError::Canceled))?.map_err(|(error, _)| broker(error))?;
        }
        let last: BTreeMap<&Stream, i64> =
            rows.iter().filter_map(|record| record.place.map(|place| (&record.stream, place.seq))).collect();
        Ok(last.into_iter().map(|(stream, seq)| (stream.clone(), Position { seq, ..Position::default() })).collect())
    }
}
