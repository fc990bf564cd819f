//! `settle events`: what the services say to each other, as people read it, and what became of it.

use anyhow::{Context, Result, ensure};
use messaging::operate::{self, By, Republished, events::Filter};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    client::{Output, Target},
    deployment::{Deployment, Responsible, topics, writer_of},
    outbox::name_of,
};

mod decode;
mod merge;
mod show;
mod tail;

/// Without `--limit`, where it is not to follow.
const TAIL_ROWS: usize = 20;
const TAIL_ROWS_MAX: usize = 10_000;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Print events as they were said: the newest 20, or what the options ask for
    Tail(Tail),
    /// Where an event was written, and what every group has made of it
    Show {
        event_id: Uuid,
        #[command(flatten)]
        target: Target,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Rebuild a topic from the outbox: the relay copies it to Kafka again, and readers see through the repeats
    Republish {
        /// Which topic
        #[arg(long)]
        topic: String,
        /// Only this partition
        #[arg(long)]
        partition: Option<i32>,
        /// From this sequence number on [default: all that is kept]
        #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
        from: Option<i64>,
        #[command(flatten)]
        by: Responsible,
        #[command(flatten)]
        target: Target,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(clap::Args, Debug)]
struct Tail {
    /// Only of this topic; may be given more than once
    #[arg(long)]
    topic: Vec<String>,
    /// Only what is about this order
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Only of this type, for example OrderCreated
    #[arg(long = "type", value_name = "NAME")]
    type_name: Option<String>,
    /// From the oldest on, all or --limit, instead of the newest
    #[arg(long)]
    from_start: bool,
    /// Go on with what comes, until --limit events were printed or it is interrupted
    #[arg(long, short)]
    follow: bool,
    /// How many, at most
    #[arg(long, value_name = "N", value_parser = rows)]
    limit: Option<usize>,
    #[command(flatten)]
    target: Target,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if (1..=TAIL_ROWS_MAX).contains(&rows) => Ok(rows),
        _ => Err(format!("is not a number from 1 to {TAIL_ROWS_MAX}")),
    }
}

pub async fn main(args: Args) -> Result<()> {
    match args.command {
        Command::Tail(args) => print(args).await,
        Command::Show { event_id, target, output } => show::main(event_id, &Deployment::find(&target)?, output).await,
        Command::Republish { topic, partition, from, by, target, output } => {
            let deployment = Deployment::find(&target)?;
            let republished = republish(&deployment, &topic, partition, from, &by).await?;
            match output {
                Output::Json => say!("{}", republished.iter().map(republished_json).collect::<Value>()),
                Output::Table => republished.iter().for_each(|one| say!("{}", republished_line(one))),
            }
            Ok(())
        }
    }
}

async fn print(args: Tail) -> Result<()> {
    let Tail { topic, order, type_name, from_start, follow, limit, target, output } = args;
    ensure!(output == Output::Table || limit.is_some(), "one JSON document must end: give --limit N with --output json");
    let filter = Filter { topics: topic, about: order, type_name };
    topics(&filter.topics)?;
    let deployment = Deployment::find(&target)?;
    let mut printer = decode::Printer::new(output, limit)?;
    let wanted = tail::Wanted { filter, from_start, follow, limit };
    match deployment.cluster() {
        Some(cluster) => tail::topics(&cluster, &wanted, &mut printer).await?,
        None => tail::outboxes(&deployment, &wanted, &mut printer).await?,
    }
    printer.end();
    Ok(())
}

async fn republish(
    deployment: &Deployment,
    topic: &str,
    partition: Option<i32>,
    from: Option<i64>,
    by: &Responsible,
) -> Result<Vec<Republished>> {
    let who = by.who()?;
    let writer = writer_of(topic)?;
    let mut publisher = deployment.connect(writer).await?;
    let by = By { who: &who, why: &by.reason };
    operate::republish(&mut publisher, topic, partition, from, by).await.with_context(|| format!("the outbox of {writer}"))
}

fn republished_json(one: &Republished) -> Value {
    json!({
        "topic": one.stream.topic, "partition": one.stream.partition, "relayed_to_seq": one.from_seq, "again_from_seq": one.to_seq + 1,
        "again_records": one.from_seq - one.to_seq,
    })
}

fn republished_line(one: &Republished) -> String {
    let Republished { stream, from_seq, to_seq } = one;
    format!("{}: {} records are copied again, from {}", name_of(stream), from_seq - to_seq, to_seq + 1)
}

/// A time as programs and people read it.
pub(crate) fn time_of(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}
