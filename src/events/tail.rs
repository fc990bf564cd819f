//! Reads events for `settle events tail`: on the embedded bus in the outboxes of all services, on Kafka in the topics.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use messaging::{
    Record, Stream,
    bus::kafka::{Cluster, Since},
    operate::{
        self,
        events::{self, Filter},
    },
};
use sqlx::PgConnection;

use super::{TAIL_ROWS, decode::Printer, merge::Merge};
use crate::deployment::{self, Deployment};

/// Pause between two looks at the outboxes. Nobody tells a tool when something is new.
const POLL_MS: u64 = 250;
/// Rows of a stream in one look, at most.
const STREAM_ROWS_MAX: u16 = 500;
/// So many looks at the topics may bring nothing before they count as read: a topic may end with offsets that are no records.
const IDLE_LOOKS_MAX: u32 = 40;

/// What is to be printed.
pub(super) struct Wanted {
    pub(super) filter: Filter,
    pub(super) from_start: bool,
    pub(super) follow: bool,
    pub(super) limit: Option<usize>,
}

pub(super) async fn outboxes(deployment: &Deployment, wanted: &Wanted, printer: &mut Printer) -> Result<()> {
    let mut databases = Vec::new();
    for service in deployment.services() {
        databases.push((service, deployment.connect(service).await?));
    }
    if !wanted.follow && !wanted.from_start {
        let rows = wanted.limit.unwrap_or(TAIL_ROWS);
        let mut newest = Merge::default();
        for (service, db) in &mut databases {
            let records = events::newest(db, &wanted.filter, i64::try_from(rows)?).await.with_context(|| said_by(service))?;
            add(&mut newest, records);
        }
        print_newest(newest, rows, printer);
        return Ok(());
    }
    let mut reading = Reading { merge: Merge::default(), places: BTreeMap::new() };
    let mut first = true;
    loop {
        for (service, db) in &mut databases {
            reading.look(db, wanted, first).await.with_context(|| said_by(service))?;
        }
        first = false;
        while let Some(record) = reading.merge.next() {
            if !printer.print(&record) {
                return Ok(());
            }
        }
        if !reading.is_through() {
            continue;
        }
        if !wanted.follow {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
    }
}

/// Outboxes that are read on and on.
struct Reading {
    merge: Merge,
    /// How far each stream is read, and whether there is more.
    places: BTreeMap<Stream, (i64, bool)>,
}

impl Reading {
    /// Reads on in the streams of which nothing waits to be printed.
    async fn look(&mut self, db: &mut PgConnection, wanted: &Wanted, first: bool) -> sqlx::Result<()> {
        let mut at = Vec::new();
        let mut ends = BTreeMap::new();
        for extent in operate::extents(db).await?.into_iter().filter(|extent| wanted.filter.takes_topic(&extent.stream.topic)) {
            // What is there already is of no interest to who only follows; a stream that is new later is read from its start.
            let start = if first && !wanted.from_start { extent.last_seq } else { 0 };
            let (seq, more) = *self.places.entry(extent.stream.clone()).or_insert((start, false));
            if (more || seq < extent.last_seq) && self.merge.is_empty(&extent.stream) {
                at.push((extent.stream.clone(), seq));
                ends.insert(extent.stream, extent.last_seq);
            }
        }
        if at.is_empty() {
            return Ok(());
        }
        let mut read: BTreeMap<Stream, Vec<Record>> = BTreeMap::new();
        for record in events::after(db, &at, &wanted.filter, i64::from(STREAM_ROWS_MAX)).await? {
            read.entry(record.stream.clone()).or_default().push(record);
        }
        for (stream, end) in ends {
            let records = read.remove(&stream).unwrap_or_default();
            let more = records.len() >= usize::from(STREAM_ROWS_MAX);
            let last = records.last().and_then(|record| record.place).map_or(0, |place| place.seq);
            // Of rows that are not wanted nothing came.
            let seq = if more { last } else { last.max(end) };
            self.places.insert(stream.clone(), (seq, more));
            self.merge.add(stream, records, more);
        }
        Ok(())
    }

    fn is_through(&self) -> bool {
        self.places.values().all(|(_, more)| !more)
    }
}

/// In a backlog that is printed as it comes only each partition is in its order.
pub(super) async fn topics(cluster: &Cluster, wanted: &Wanted, printer: &mut Printer) -> Result<()> {
    let rows = wanted.limit.unwrap_or(TAIL_ROWS);
    let any_of_topic = wanted.filter.about.is_none() && wanted.filter.type_name.is_none();
    let since = match (wanted.from_start, wanted.follow) {
        (true, _) => Since::Start,
        (false, true) => Since::End,
        (false, false) if any_of_topic => Since::Last(i64::try_from(rows)?),
        (false, false) => Since::Start,
    };
    let as_they_come = wanted.follow || (wanted.from_start && wanted.limit.is_none());
    let mut onlooker = cluster.look_on(&deployment::topics(&wanted.filter.topics)?, since).await?;
    let mut kept = Merge::default();
    let mut idle_looks = 0;
    while wanted.follow || (!onlooker.is_through() && idle_looks < IDLE_LOOKS_MAX) {
        let records = onlooker.fetch().await?;
        idle_looks = if records.is_empty() { idle_looks + 1 } else { 0 };
        for record in records.into_iter().filter(|record| wanted.filter.takes(record)) {
            if !as_they_come {
                keep(&mut kept, record, rows, wanted.from_start);
            } else if !printer.print(&record) {
                return Ok(());
            }
        }
    }
    if !wanted.from_start {
        print_newest(kept, rows, printer);
        return Ok(());
    }
    while let Some(record) = kept.next() {
        if !printer.print(&record) {
            break;
        }
    }
    Ok(())
}

/// Keeps what may be among the oldest, or the newest, of all streams: so many of each stream are enough.
fn keep(kept: &mut Merge, record: Record, rows: usize, oldest: bool) {
    let stream = record.stream.clone();
    if oldest && kept.waiting(&stream) >= rows {
        return;
    }
    kept.add(stream.clone(), [record], false);
    if kept.waiting(&stream) > rows {
        kept.drop_oldest(&stream);
    }
}

fn add(merge: &mut Merge, records: Vec<Record>) {
    for record in records {
        merge.add(record.stream.clone(), [record], false);
    }
}

fn print_newest(mut merge: Merge, rows: usize, printer: &mut Printer) {
    let records: Vec<Record> = std::iter::from_fn(|| merge.next()).collect();
    for record in &records[records.len().saturating_sub(rows)..] {
        printer.print(record);
    }
}

fn said_by(service: &str) -> String {
    format!("the outbox of {service}")
}
