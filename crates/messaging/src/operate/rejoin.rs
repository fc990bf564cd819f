//! The way out of LOG_GAP and LOG_DIVERGED: a group is sent behind the hole it stands before, else before the oldest record that is kept. One
//! whose own database is an older copy goes on from where that stands.

#[cfg(feature = "kafka")]
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::{By, Error, Log, Rejoined, older_copy, store};
#[cfg(feature = "kafka")]
use crate::{Place, bus::kafka::Cluster};
use crate::{Position, Stream};

/// How long a relay may take to notice that it was set back, and to copy the first record.
#[cfg(feature = "kafka")]
const REPUBLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Sends a group elsewhere on the embedded bus: behind the hole it stands before, else before the oldest record that is kept, so that it
/// hears everything again; effects are idempotent. A group whose own database is an older copy stays where that is, if the log goes on from
/// there. Running readers notice by themselves. Refused where Kafka carries the streams.
pub async fn rejoin(
    consumer: &mut PgConnection,
    publisher: &mut PgConnection,
    group: &str,
    stream: &Stream,
    by: By<'_>,
) -> Result<Rejoined, Error> {
    if store::is_on_kafka(publisher).await? {
        return Err(Error::NoBroker);
    }
    let way = Way::choose(consumer, publisher, group, stream, (None, 0), by).await?;
    way.go(consumer, group, stream, by).await
}

/// The same where Kafka carries the streams: the relay copies again from the new position on, and the group reads from there; what the
/// topic has before that may be of another history. The publisher must be running.
#[cfg(feature = "kafka")]
pub async fn rejoin_on_kafka(
    consumer: &mut PgConnection,
    publisher: &mut PgConnection,
    cluster: &Cluster,
    group: &str,
    stream: &Stream,
    by: By<'_>,
) -> Result<Rejoined, Error> {
    // A topic that is gone ends where it begins.
    let end = cluster.ends(&stream.topic).await?.get(&stream.partition).copied().unwrap_or_default();
    let committed = cluster.committed(&[group], std::slice::from_ref(stream)).await?;
    let told = committed.first().map_or(0, |committed| committed.seq);
    let mut way = Way::choose(consumer, publisher, group, stream, (Some(end), told), by).await?;
    if way.last_seq > way.to.seq {
        // What the relay had in hand may come first, and would look like a hole: the group starts where its next record comes again.
        let place = Place { seq: way.to.seq + 1, prev: way.to.last_id };
        way.to.kafka_offset = cluster.find(stream, end, place, REPUBLISHED_WITHIN).await?;
        if way.to.kafka_offset.is_none() {
            return Err(Error::NotPublished { topic: stream.topic.clone(), partition: stream.partition, seq: place.seq });
        }
    }
    way.go(consumer, group, stream, by).await
}

/// Where a group goes on, and why there.
struct Way {
    log: Log,
    /// How far it had told to be, if its database is an older copy.
    lost_seq: Option<i64>,
    to: Position,
    last_seq: i64,
}

impl Way {
    /// Looks where the group stands and what the log has there. The publisher learns of it first: retention keeps what is heard again, and
    /// a relay that repeats itself does no harm. On Kafka: where the topic ends, and how far the group has told Kafka to be.
    async fn choose(
        consumer: &mut PgConnection,
        publisher: &mut PgConnection,
        group: &str,
        stream: &Stream,
        (end, told): (Option<i64>, i64),
        by: By<'_>,
    ) -> Result<Self, Error> {
        let told = told.max(store::furthest(publisher, group, stream).await?.unwrap_or_default());
        let before = store::position(consumer, group, stream).await?.ok_or_else(|| not_read(group, stream))?;
        let lost = older_copy(consumer, group, &[(stream.clone(), told)], &[(stream.clone(), before)]).await?;
        let lost_seq = lost.get(stream).copied();
        let mut tx = publisher.begin().await?;
        store::stop_retention(&mut tx).await?;
        let marks = store::marks(&mut tx, &[(stream.clone(), before)]).await?.pop().unwrap_or_default();
        let log = marks.judge(&before);
        let way_out = if lost_seq.is_some() && log == Log::Whole { before } else { marks.way_out(&before) };
        let to = Position { kafka_offset: end, ..way_out };
        store::hold_back(&mut tx, group, stream, to.seq).await?;
        if end.is_some() {
            let moved = store::set_back(&mut tx, stream, to.seq).await?;
            store::note(&mut tx, "republish", Some(group), stream, moved, by).await?;
        }
        tx.commit().await?;
        Ok(Self { log, lost_seq, to, last_seq: marks.last_seq })
    }

    async fn go(self, consumer: &mut PgConnection, group: &str, stream: &Stream, by: By<'_>) -> Result<Rejoined, Error> {
        let Self { log, lost_seq, to, last_seq } = self;
        let mut tx = consumer.begin().await?;
        let stood_at = store::place(&mut tx, group, stream, &to).await?.ok_or_else(|| not_read(group, stream))?;
        let from_seq = lost_seq.unwrap_or(stood_at);
        store::note(&mut tx, "rejoin", Some(group), stream, (from_seq, to.seq), by).await?;
        tx.commit().await?;
        Ok(Rejoined { stream: stream.clone(), log, from_seq, to, last_seq })
    }
}

fn not_read(group: &str, stream: &Stream) -> Error {
    Error::NotRead { group: group.to_owned(), topic: stream.topic.clone(), partition: stream.partition }
}
