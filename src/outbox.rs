//! `settle outbox`: the streams of every service, who reads them and how far they are, and the ways out when one stops.
//! docs/runbooks/streams.md says when to use which.

use anyhow::{Context, Result, ensure};
use messaging::{
    Stream,
    operate::{self, By, Extent, Log, Rejoined},
};
use serde_json::{Value, json};

use crate::{
    client::{At, Output},
    deployment::{Deployment, Responsible, writer_of},
};

pub mod readers;

const HISTORY_ROWS_MAX: i64 = 1_000;

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    at: At,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// The streams in the outbox of every service
    Streams {
        #[command(flatten)]
        at: At,
    },
    /// Who reads which stream, how far behind, and what holds it up
    Readers {
        /// Only this group
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Lead a group out of LOG_GAP or LOG_DIVERGED: behind the hole, else back to the oldest record that is kept
    Rejoin {
        group: String,
        topic: String,
        /// Only this partition
        partition: Option<i32>,
        #[command(flatten)]
        by: Responsible,
        #[command(flatten)]
        at: At,
    },
    /// Forget what a dead group has read, so that retention does not wait for it
    Forget {
        group: String,
        /// Even if it reported within the last minute
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        by: Responsible,
        #[command(flatten)]
        at: At,
    },
    /// Who did what to streams, and why, the newest first
    History {
        /// How many, at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=HISTORY_ROWS_MAX))]
        limit: i64,
        #[command(flatten)]
        at: At,
    },
}

pub async fn main(args: Args) -> Result<()> {
    match args.command {
        None => both(args.at).await,
        Some(Command::Streams { at }) => {
            let streams = streams(&Deployment::find(&at.target)?).await?;
            tell(at.output, Value::Array(streams.iter().map(stream_json).collect()), || print_streams(&streams))
        }
        Some(Command::Readers { group, at }) => {
            let mut readers = readers::gather(&Deployment::find(&at.target)?).await?;
            readers.retain(|reader| group.as_ref().is_none_or(|group| reader.group == *group));
            tell(at.output, readers::json(&readers), || readers::print(&readers))
        }
        Some(Command::Rejoin { group, topic, partition, by, at }) => {
            let rejoined = rejoin(&Deployment::find(&at.target)?, &group, &topic, partition, &by).await?;
            tell(at.output, Value::Array(rejoined.iter().map(|one| rejoined_json(&group, one)).collect()), || {
                rejoined.iter().for_each(|one| say!("{}", rejoined_line(&group, one)));
            })
        }
        Some(Command::Forget { group, force, by, at }) => forget(&at, &group, force, &by).await,
        Some(Command::History { limit, at }) => history(&at, limit).await,
    }
}

fn tell(output: Output, json: Value, print: impl FnOnce()) -> Result<()> {
    match output {
        Output::Json => say!("{json}"),
        Output::Table => print(),
    }
    Ok(())
}

async fn both(at: At) -> Result<()> {
    let deployment = Deployment::find(&at.target)?;
    let streams = streams(&deployment).await?;
    let readers = readers::gather(&deployment).await?;
    let all = json!({
        "streams": streams.iter().map(stream_json).collect::<Vec<_>>(),
        "readers": readers::json(&readers),
    });
    tell(at.output, all, || {
        print_streams(&streams);
        say!("");
        readers::print(&readers);
    })
}

/// Every stream, with the service that writes it.
async fn streams(deployment: &Deployment) -> Result<Vec<(&'static str, Extent)>> {
    let mut streams = Vec::new();
    for service in deployment.services() {
        let mut db = deployment.connect(service).await?;
        let extents = operate::extents(&mut db).await.with_context(|| format!("the database of {service}"))?;
        streams.extend(extents.into_iter().map(|extent| (service, extent)));
    }
    Ok(streams)
}

fn stream_json((service, extent): &(&'static str, Extent)) -> Value {
    let Extent { stream: Stream { topic, partition }, first_seq, last_seq, oldest_age_s, newest_age_s } = extent;
    json!({
        "service": service, "topic": topic, "partition": partition, "first_seq": first_seq, "last_seq": last_seq,
        "records": last_seq - first_seq + 1, "oldest_age_s": oldest_age_s, "newest_age_s": newest_age_s,
    })
}

fn print_streams(streams: &[(&'static str, Extent)]) {
    say!("{:<13} {:<24} {:>10} {:>10} {:>10} {:>10} {:>10}", "SERVICE", "STREAM", "FIRST", "LAST", "RECORDS", "OLDEST", "NEWEST");
    for (service, Extent { stream, first_seq, last_seq, oldest_age_s, newest_age_s }) in streams {
        say!(
            "{service:<13} {:<24} {first_seq:>10} {last_seq:>10} {:>10} {:>10} {:>10}",
            name_of(stream),
            last_seq - first_seq + 1,
            age(*oldest_age_s),
            age(*newest_age_s)
        );
    }
}

async fn rejoin(
    deployment: &Deployment,
    group: &str,
    topic: &str,
    partition: Option<i32>,
    by: &Responsible,
) -> Result<Vec<Rejoined>> {
    let who = by.who()?;
    let by = By { who: &who, why: &by.reason };
    let mut publisher = deployment.connect(writer_of(topic)?).await?;
    ensure!(deployment.services().contains(&group), "there is no group {group}; groups have the names of their services");
    let mut consumer = deployment.connect(group).await?;
    let standings = operate::standings(&mut consumer).await.with_context(|| format!("the database of {group}"))?;
    let read = standings.into_iter().filter(|standing| standing.group == group && standing.stream.topic == topic);
    let streams: Vec<Stream> =
        read.map(|standing| standing.stream).filter(|stream| partition.is_none_or(|wanted| stream.partition == wanted)).collect();
    let named = partition.map_or_else(|| topic.to_owned(), |partition| format!("{topic}/{partition}"));
    ensure!(!streams.is_empty(), "the group {group} does not read {named}");
    let cluster = match operate::is_on_kafka(&mut publisher).await? {
        true => Some(deployment.cluster().context("the streams are carried by Kafka, and nobody says where its brokers are")?),
        false => None,
    };
    let mut rejoined = Vec::with_capacity(streams.len());
    for stream in streams {
        let (to, from) = (&mut consumer, &mut publisher);
        rejoined.push(match &cluster {
            Some(cluster) => operate::rejoin_on_kafka(to, from, cluster, group, &stream, by).await?,
            None => operate::rejoin(to, from, group, &stream, by).await?,
        });
    }
    Ok(rejoined)
}

fn rejoined_json(group: &str, one: &Rejoined) -> Value {
    let lost = lost(one);
    json!({
        "group": group, "topic": one.stream.topic, "partition": one.stream.partition, "log": readers::log_name(&one.log),
        "from_seq": one.from_seq, "to_seq": one.to.seq, "last_seq": one.last_seq, "missing_from_seq": lost.map(|(from, _)| from),
        "missing_to_seq": lost.map(|(_, to)| to),
    })
}

fn rejoined_line(group: &str, one: &Rejoined) -> String {
    let Rejoined { stream, from_seq, to, last_seq, .. } = one;
    let lost = lost(one).map_or_else(String::new, |(from, to)| format!("; the records {from} to {to} are in no outbox any more"));
    let again = last_seq - to.seq;
    format!("{group} {}: was at {from_seq}, goes on behind {}: {again} records to read{lost}", name_of(stream), to.seq)
}

/// What the group will never read.
fn lost(one: &Rejoined) -> Option<(i64, i64)> {
    match one.log {
        Log::Gap { expected_seq, next_seq } => Some((expected_seq, next_seq - 1)),
        Log::Whole | Log::Diverged => None,
    }
}

async fn forget(at: &At, group: &str, force: bool, by: &Responsible) -> Result<()> {
    let deployment = Deployment::find(&at.target)?;
    let who = by.who()?;
    let by = By { who: &who, why: &by.reason };
    let mut publishers = Vec::new();
    for service in deployment.services() {
        let mut db = deployment.connect(service).await?;
        let mut reports = operate::reports(&mut db).await.with_context(|| format!("the database of {service}"))?;
        reports.retain(|report| report.group == group);
        if !reports.is_empty() {
            publishers.push((service, db, reports));
        }
    }
    ensure!(!publishers.is_empty(), "no service has heard of a group {group}");
    if !force {
        // Before any of it is forgotten.
        for (_, _, reports) in &publishers {
            operate::refuse_living(group, reports)?;
        }
    }
    let mut forgotten = Vec::new();
    for (service, mut db, _) in publishers {
        let reports = operate::forget(&mut db, group, force, by).await.with_context(|| format!("the database of {service}"))?;
        forgotten.extend(reports.into_iter().map(|report| (service, report)));
    }
    let json = forgotten.iter().map(|(service, report)| {
        json!({
            "service": service, "group": group, "topic": report.stream.topic, "partition": report.stream.partition,
            "seq": report.seq, "reported_ago_s": report.reported_ago_s,
        })
    });
    tell(at.output, Value::Array(json.collect()), || {
        for (service, report) in &forgotten {
            let (stream, ago) = (name_of(&report.stream), age(report.reported_ago_s));
            say!("{service} has forgotten that {group} was at {} of {stream}, {ago} ago", report.seq);
        }
    })
}

async fn history(at: &At, limit: i64) -> Result<()> {
    let deployment = Deployment::find(&at.target)?;
    let mut operations = Vec::new();
    for service in deployment.services() {
        let mut db = deployment.connect(service).await?;
        let here = operate::operations(&mut db, limit).await.with_context(|| format!("the database of {service}"))?;
        operations.extend(here.into_iter().map(|operation| (service, operation)));
    }
    operations.sort_by_key(|(_, operation)| std::cmp::Reverse(operation.at));
    operations.truncate(usize::try_from(limit)?);
    let json = operations.iter().map(|(service, o)| {
        json!({
            "at": crate::events::time_of(o.at), "database": service, "operation": o.operation, "group": o.group,
            "topic": o.stream.topic, "partition": o.stream.partition, "from_seq": o.from_seq, "to_seq": o.to_seq, "who": o.who,
            "why": o.why,
        })
    });
    tell(at.output, Value::Array(json.collect()), || {
        for (service, o) in &operations {
            let group = o.group.as_deref().unwrap_or("-");
            let (at, stream) = (crate::events::time_of(o.at), name_of(&o.stream));
            say!(
                "{at}  {service:<13} {:<9} {group:<13} {stream:<24} {} to {}  {}: {}",
                o.operation,
                o.from_seq,
                o.to_seq,
                o.who,
                o.why
            );
        }
    })
}

/// A stream as people write it.
pub(crate) fn name_of(stream: &Stream) -> String {
    format!("{}/{}", stream.topic, stream.partition)
}

/// How long ago, for people.
fn age(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{:.1} s", s.max(0.0)),
        s if s < 600.0 => format!("{s:.0} s"),
        s if s < 36_000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}
