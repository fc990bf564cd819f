//! Every topic from its first record on, beside the outbox that it is a copy of: nothing is missing, nothing came before its turn, and what
//! came again is what it was.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use contracts::topic;
use messaging::bus::kafka::{Cluster, Since};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::served::Ground;

const READ_WITHIN: Duration = Duration::from_secs(120);
/// Of the wrong, so much is told.
const TOLD_MAX: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Each once.
    pub(super) records: usize,
    /// Those that were there before.
    pub(super) repeats: usize,
}

/// Reads all topics. Whatever is wrong is an error.
pub(super) async fn audit(ground: &Ground) -> Result<Heard> {
    let cluster = Cluster::new(ground.kafka.as_ref().context("it is on Kafka")?.brokers());
    let (mut heard, mut wrong) = (Heard::default(), Vec::new());
    for (topic, writer) in topic::WRITERS {
        let read = read(&cluster, topic, &ground.databases[*writer], &mut heard, &mut wrong);
        tokio::time::timeout(READ_WITHIN, read).await.with_context(|| format!("{topic} is not read in time"))??;
    }
    wrong.truncate(TOLD_MAX);
    ensure!(wrong.is_empty(), "the topics are not what was said:\n{}", wrong.join("\n"));
    Ok(heard)
}

async fn read(cluster: &Cluster, topic: &str, outbox: &str, heard: &mut Heard, wrong: &mut Vec<String>) -> Result<()> {
    let mut db = PgConnection::connect(outbox).await?;
    let sql = "select partition, seq, id, payload from outbox where topic = $1 order by partition, seq";
    let rows: Vec<(i32, i64, Uuid, Vec<u8>)> = sqlx::query_as(sql).bind(topic).fetch_all(&mut db).await?;
    let mut streams: BTreeMap<i32, Stream> = BTreeMap::new();
    for (partition, seq, id, payload) in rows {
        let stream = streams.entry(partition).or_default();
        stream.said.push((id, payload));
        ensure!(usize::try_from(seq)? == stream.said.len(), "{topic}/{partition} has a hole before {seq}");
    }
    let mut onlooker = cluster.look_on(&[topic.to_owned()], Since::Start).await?;
    while !onlooker.is_through() {
        for record in onlooker.fetch().await? {
            let partition = record.stream.partition;
            let place = record.place.map(|place| (place.seq, place.prev));
            match streams.entry(partition).or_default().hear(place, record.id, &record.payload) {
                Ok(First::Yes) => heard.records += 1,
                Ok(First::No) => heard.repeats += 1,
                Err(why) => wrong.push(format!("{topic}/{partition}: {why}")),
            }
        }
    }
    let unheard = streams.iter().filter(|(_, stream)| stream.heard < stream.said.len());
    wrong.extend(
        unheard
            .map(|(partition, stream)| format!("{topic}/{partition} ends with {} of {} records", stream.heard, stream.said.len())),
    );
    Ok(())
}

/// Whether a record was there for the first time.
#[derive(Debug, PartialEq, Eq)]
enum First {
    Yes,
    No,
}

#[derive(Default)]
struct Stream {
    /// Ids and payloads, from sequence number 1 on.
    said: Vec<(Uuid, Vec<u8>)>,
    /// So many of them have been heard.
    heard: usize,
}

impl Stream {
    /// `place` is sequence number and predecessor.
    fn hear(&mut self, place: Option<(i64, Option<Uuid>)>, id: Uuid, payload: &[u8]) -> Result<First, String> {
        let (seq, prev) = place.ok_or_else(|| format!("{id} has no place"))?;
        let index = usize::try_from(seq - 1).map_err(|_| format!("{id} has the place {seq}"))?;
        let Some((said_id, said_payload)) = self.said.get(index) else { return Err(format!("{seq} {id} was never said")) };
        if *said_id != id || said_payload != payload {
            return Err(format!("{seq} is {id}, said was {said_id}"));
        }
        if prev != index.checked_sub(1).map(|before| self.said[before].0) {
            return Err(format!("{seq} {id} names another record before it: {prev:?}"));
        }
        if index > self.heard {
            return Err(format!("{seq} comes where {} should", self.heard + 1));
        }
        if index < self.heard {
            return Ok(First::No);
        }
        self.heard += 1;
        Ok(First::Yes)
    }
}

#[test]
fn holes_strangers_and_what_was_changed_are_seen() {
    let id = |n| Uuid::from_u128(n);
    let said = || Stream { said: (1..=4).map(|n| (id(n), vec![7])).collect(), heard: 0 };
    let mut stream = said();
    for (seq, first) in [(1, First::Yes), (2, First::Yes), (1, First::No), (2, First::No), (3, First::Yes)] {
        let prev = (seq > 1).then(|| id(seq - 1));
        assert_eq!(stream.hear(Some((i64::try_from(seq).expect("small"), prev)), id(seq), &[7]), Ok(first), "{seq}");
    }
    assert_eq!(stream.heard, 3);
    for (what, place, of, payload) in [
        ("a hole", Some((2, Some(id(1)))), id(2), [7_u8]),
        ("no place", None, id(1), [7]),
        ("another id", Some((1, None)), id(2), [7]),
        ("another payload", Some((1, None)), id(1), [8]),
        ("another predecessor", Some((1, Some(id(4)))), id(1), [7]),
        ("more than was said", Some((5, Some(id(4)))), id(5), [7]),
        ("no sequence number", Some((0, None)), id(1), [7]),
    ] {
        assert!(said().hear(place, of, &payload).is_err(), "{what}");
    }
}
