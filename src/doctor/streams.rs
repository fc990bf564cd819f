//! What is wrong with streams: readers that are stopped or far behind, dead letters, a broker that is away or set up otherwise.

use anyhow::{Context, Result, ensure};
use contracts::topic;
use messaging::operate;

use super::{Check, several};
use crate::{
    deployment::Deployment,
    outbox::{
        name_of,
        readers::{self, Reader, State},
    },
};

/// An unread record older than this says that its reader is too slow, or stopped.
const UNREAD_S_MAX: f64 = 60.0;

pub(super) async fn look(deployment: &Deployment) -> Vec<Check> {
    let mut checks = match readers::gather(deployment).await {
        Ok(readers) => vec![reading(&readers), keeping_up(&readers)],
        Err(error) => vec![Check::new("readers", true, Err::<String, _>(format!("{error:#}")))],
    };
    checks.push(Check::new("dead letters", true, dead_letters(deployment).await.map_err(|error| format!("{error:#}"))));
    if let Some(brokers) = deployment.brokers() {
        checks.push(Check::new("Kafka", true, kafka(deployment, brokers).await.map_err(|error| format!("{error:#}"))));
    }
    checks
}

/// Every stream is read, and its log is the one that was read before.
fn reading(readers: &[Reader]) -> Check {
    let found: Vec<String> = readers.iter().filter(|reader| reader.state != State::Reading).map(told).collect();
    Check::none_of("readers", &found, format!("{} streams are read", readers.len()))
}

fn told(reader: &Reader) -> String {
    format!("{} {} {}: {}", reader.group, name_of(&reader.stream), reader.state.name(), reader.detail())
}

fn keeping_up(readers: &[Reader]) -> Check {
    let age_s = |reader: &Reader| reader.oldest_unread_age_s.unwrap_or_default();
    let late = readers.iter().filter(|reader| age_s(reader) > UNREAD_S_MAX);
    let found: Vec<String> = late
        .map(|reader| {
            let (group, stream, lag) = (&reader.group, name_of(&reader.stream), reader.lag_records());
            format!("{group} {stream}: {lag} records behind, the oldest waits for {:.0} s", age_s(reader))
        })
        .collect();
    let unread: i64 = readers.iter().map(Reader::lag_records).sum();
    Check::none_of("unread records", &found, format!("{unread}, none older than {UNREAD_S_MAX:.0} s"))
}

async fn dead_letters(deployment: &Deployment) -> Result<String> {
    let mut parked = Vec::new();
    let mut waiting = 0;
    for service in deployment.services() {
        let mut db = deployment.connect(service).await?;
        let held = operate::held_back(&mut db).await.with_context(|| format!("the database of {service}"))?;
        waiting += held.waiting;
        if held.parked > 0 {
            parked.push(format!("{service}: {} wait for a person", held.parked));
        }
    }
    ensure!(parked.is_empty(), "{}", several(&parked));
    Ok(format!("none; {waiting} records are held back for a while"))
}

/// The broker answers, and every topic has as many partitions as the databases say.
async fn kafka(deployment: &Deployment, brokers: &str) -> Result<String> {
    let cluster = deployment.cluster().context("Kafka does not carry the streams")?;
    let written: Vec<(&str, &str)> =
        topic::WRITERS.iter().copied().filter(|(_, writer)| deployment.services().contains(writer)).collect();
    let topics: Vec<&str> = written.iter().map(|(topic, _)| *topic).collect();
    let counts = cluster.partition_counts(&topics).await.with_context(|| brokers.to_owned())?;
    let mut wrong = Vec::new();
    for (topic, writer) in written {
        let mut db = deployment.connect(writer).await?;
        // Before the first start of its service there need not be a topic.
        let Some(wanted) = operate::partitions(&mut db).await.with_context(|| format!("the database of {writer}"))? else {
            continue;
        };
        let there = counts.get(topic).copied().unwrap_or_default();
        if usize::try_from(wanted)? != there {
            wrong.push(format!("{topic} has {there} partitions instead of {wanted}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", several(&wrong));
    Ok(format!("{brokers} answers, {} topics", topics.len()))
}

#[cfg(test)]
mod tests {
    use messaging::{Stream, operate::Log};

    use super::*;

    fn reader(state: State, oldest_unread_age_s: Option<f64>) -> Reader {
        Reader {
            group: "payment".into(),
            stream: Stream { topic: "payment.commands".into(), partition: 3 },
            seq: 7,
            last_seq: 9,
            oldest_unread_age_s,
            reported_ago_s: None,
            owner: None,
            lost_seq: None,
            log: Log::Whole,
            state,
        }
    }

    #[test]
    fn a_stopped_or_late_reader_is_named() {
        let well = [reader(State::Reading, Some(0.2)), reader(State::Reading, None)];
        assert!(reading(&well).ok && keeping_up(&well).ok);
        let stopped = reading(&[reader(State::Reading, None), reader(State::LogDiverged, None)]);
        assert!(!stopped.ok && stopped.needed);
        assert!(stopped.says.starts_with("payment payment.commands/3 LOG_DIVERGED"), "{}", stopped.says);
        let late = keeping_up(&[reader(State::Reading, Some(61.0))]);
        assert!(!late.ok && late.says.contains("2 records behind"), "{}", late.says);
    }
}
