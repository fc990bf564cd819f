//! Who reads which stream: what the group's own database says, what the publisher has heard of it, and what the log is to it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use messaging::{
    Position, Stream,
    operate::{self, DEAD_AFTER_S, Log},
};
use serde_json::{Value, json};

use super::{age, name_of};
use crate::deployment::{Deployment, writer_of};

/// A group in a stream.
#[derive(Clone, Debug)]
pub struct Reader {
    pub group: String,
    pub stream: Stream,
    pub seq: i64,
    /// The newest record there is.
    pub last_seq: i64,
    /// Age of the oldest record it has not read.
    pub oldest_unread_age_s: Option<f64>,
    /// Since it has told the publisher how far it is.
    pub reported_ago_s: Option<f64>,
    /// The instance that reads for it.
    pub owner: Option<String>,
    /// How far it had come, if its own database is an older copy.
    pub lost_seq: Option<i64>,
    pub log: Log,
    pub state: State,
}

/// What a person wants to know of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Reading,
    /// An instance holds the stream, but for a minute the publisher has not heard that it read what is there.
    Stale,
    /// No instance holds the stream.
    Unowned,
    /// No instance holds it, and the publisher has not heard of the group for a minute.
    Dead,
    LogGap,
    LogDiverged,
}

impl State {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "READING",
            Self::Stale => "STALE",
            Self::Unowned => "UNOWNED",
            Self::Dead => "DEAD",
            Self::LogGap => "LOG_GAP",
            Self::LogDiverged => "LOG_DIVERGED",
        }
    }

    /// What stops a stream comes before who reads it.
    fn of(log: &Log, lost: bool, owned: bool, reported_ago_s: Option<f64>, reported_all: bool) -> Self {
        let silent = reported_ago_s.is_some_and(|ago| ago >= DEAD_AFTER_S);
        match (log, owned) {
            (Log::Gap { .. }, _) => Self::LogGap,
            (Log::Whole, _) if lost => Self::LogDiverged,
            (Log::Diverged, _) => Self::LogDiverged,
            // Who has read everything has nothing to report.
            (Log::Whole, true) if silent && !reported_all => Self::Stale,
            (Log::Whole, true) => Self::Reading,
            (Log::Whole, false) if silent => Self::Dead,
            (Log::Whole, false) => Self::Unowned,
        }
    }
}

impl Reader {
    #[must_use]
    pub fn lag_records(&self) -> i64 {
        (self.last_seq - self.seq).max(0)
    }

    /// What the state means for this one; empty if all is well.
    #[must_use]
    pub fn detail(&self) -> String {
        match (self.state, &self.log) {
            (_, Log::Gap { expected_seq, next_seq }) => format!("the records {expected_seq} to {} are missing", next_seq - 1),
            (State::LogDiverged, Log::Whole) => {
                let lost_seq = self.lost_seq.unwrap_or_default();
                format!("its database is an older copy: it had come to {lost_seq}")
            }
            (State::LogDiverged, _) => format!("the log is not the one that was read up to {}", self.seq),
            (State::Stale, _) => "its reports do not come".to_owned(),
            (State::Unowned, _) => "no instance reads it now".to_owned(),
            (State::Dead, _) => "no instance reads it; `settle outbox forget` if none ever will".to_owned(),
            _ => String::new(),
        }
    }
}

/// A group and what it reads.
type Place = (String, Stream);

/// What is known of one group in one stream, from two databases.
#[derive(Default)]
struct Known {
    position: Option<Position>,
    known_seq: i64,
    owner: Option<String>,
    reported_seq: i64,
    furthest_seq: i64,
    reported_ago_s: Option<f64>,
}

/// Every group in every stream, by group.
pub async fn gather(deployment: &Deployment) -> Result<Vec<Reader>> {
    let mut databases = BTreeMap::new();
    let mut known: BTreeMap<Place, Known> = BTreeMap::new();
    for service in deployment.services() {
        let mut db = deployment.connect(service).await?;
        for report in operate::reports(&mut db).await.with_context(|| format!("the database of {service}"))? {
            let known = known.entry((report.group, report.stream)).or_default();
            known.reported_seq = report.seq;
            known.furthest_seq = report.furthest_seq;
            known.reported_ago_s = Some(report.reported_ago_s);
        }
        databases.insert(service, db);
    }
    // Behind all reports: who reads on meanwhile is not taken for an older copy.
    for (service, db) in &mut databases {
        for standing in operate::standings(db).await.with_context(|| format!("the database of {service}"))? {
            let known = known.entry((standing.group, standing.stream)).or_default();
            known.position = Some(standing.position);
            known.known_seq = standing.known_seq;
            known.owner = standing.owner.map(|owner| owner.to_string());
        }
    }
    let mut by_publisher: BTreeMap<&str, Vec<(Place, Known)>> = BTreeMap::new();
    for (reader, known) in known {
        // A topic that nobody writes any more has nothing to say.
        if let Ok(publisher) = writer_of(&reader.1.topic) {
            by_publisher.entry(publisher).or_default().push((reader, known));
        }
    }
    let mut readers = Vec::new();
    for (publisher, known) in by_publisher {
        let Some(db) = databases.get_mut(publisher) else { continue };
        let at: Vec<(Stream, Position)> = known
            .iter()
            .map(|((_, stream), known)| {
                let reported = Position { seq: known.reported_seq, ..Position::default() };
                (stream.clone(), known.position.unwrap_or(reported))
            })
            .collect();
        let marks = operate::marks(db, &at).await.with_context(|| format!("the database of {publisher}"))?;
        for ((((group, stream), known), (_, position)), marks) in known.into_iter().zip(at).zip(marks) {
            // By its report alone it cannot be told what the group has read.
            let log = known.position.map_or(Log::Whole, |position| marks.judge(&position));
            let is_older = known.position.is_some() && known.known_seq < known.furthest_seq;
            let lost_seq = is_older.then_some(known.furthest_seq);
            readers.push(Reader {
                group,
                stream,
                seq: position.seq,
                last_seq: marks.last_seq,
                oldest_unread_age_s: marks.next_age_s,
                reported_ago_s: known.reported_ago_s,
                state: State::of(&log, is_older, known.owner.is_some(), known.reported_ago_s, known.reported_seq >= marks.last_seq),
                owner: known.owner,
                lost_seq,
                log,
            });
        }
    }
    readers.sort_by(|a, b| (&a.group, &a.stream).cmp(&(&b.group, &b.stream)));
    Ok(readers)
}

#[must_use]
pub fn json(readers: &[Reader]) -> Value {
    let one = |reader: &Reader| {
        json!({
            "group": reader.group, "topic": reader.stream.topic, "partition": reader.stream.partition, "seq": reader.seq,
            "last_seq": reader.last_seq, "lag_records": reader.lag_records(),
            "oldest_unread_age_s": reader.oldest_unread_age_s, "reported_ago_s": reader.reported_ago_s, "owner": reader.owner,
            "state": reader.state.name(), "detail": reader.detail(),
        })
    };
    readers.iter().map(one).collect()
}

pub(super) fn print(readers: &[Reader]) {
    say!("{:<13} {:<24} {:>10} {:>10} {:>8} {:>10} {:>10}  STATE", "GROUP", "STREAM", "AT", "LAST", "LAG", "UNREAD", "REPORTED");
    let ago = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), age);
    for reader in readers {
        let Reader { group, stream, seq, last_seq, oldest_unread_age_s, reported_ago_s, state, .. } = reader;
        let line = format!(
            "{group:<13} {:<24} {seq:>10} {last_seq:>10} {:>8} {:>10} {:>10}  {} {}",
            name_of(stream),
            reader.lag_records(),
            ago(*oldest_unread_age_s),
            ago(*reported_ago_s),
            state.name(),
            reader.detail()
        );
        say!("{}", line.trim_end());
    }
}

/// What a log is to a group, as the log lines of the services name it.
pub(super) fn log_name(log: &Log) -> &'static str {
    match log {
        Log::Whole => "WHOLE",
        Log::Gap { .. } => "LOG_GAP",
        Log::Diverged => "LOG_DIVERGED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_a_stream_comes_first() {
        let gap = Log::Gap { expected_seq: 4, next_seq: 5 };
        let (young, old) = (Some(1.0), Some(3_600.0));
        let states = [
            State::of(&Log::Whole, false, true, young, false),
            State::of(&Log::Whole, false, true, None, false),
            State::of(&Log::Whole, false, true, old, true),
            State::of(&Log::Whole, false, true, old, false),
            State::of(&Log::Whole, false, false, young, true),
            State::of(&Log::Whole, false, false, old, true),
            State::of(&gap, false, true, young, true),
            State::of(&Log::Diverged, false, false, old, false),
            State::of(&Log::Whole, true, true, young, true),
        ];
        let names = states.map(State::name);
        assert_eq!(names, ["READING", "READING", "READING", "STALE", "UNOWNED", "DEAD", "LOG_GAP", "LOG_DIVERGED", "LOG_DIVERGED"]);
    }
}
