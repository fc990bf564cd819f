//! `settle dlq`: dead letters, listed, shown, redriven and discarded. docs/runbooks/dead-letters.md says when to do which.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use contracts::messaging::v1::{
    DeadLetter, DeadLetterState, DiscardDeadLetterRequest, GetDeadLetterRequest, GetDeadLetterResponse, ListDeadLettersRequest,
    RedriveDeadLettersRequest, RedriveDeadLettersResponse, dead_letter_service_client::DeadLetterServiceClient, rehearsal::Outcome,
};
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    client::{At, Output, connect},
    deployment::{Responsible, ResponsibleOrDryRun},
    orders::told,
    platform::Service,
};

const PAGE_ROWS_MAX: i32 = 200;

type Client = DeadLetterServiceClient<Channel>;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// What is held back, the oldest first
    List {
        /// Only of this service
        #[arg(long)]
        service: Option<String>,
        /// Only of this key, for example an order id
        #[arg(long)]
        key: Option<String>,
        /// Only in this state, for example PARKED; DONE shows what is settled
        #[arg(long)]
        state: Option<String>,
        /// Only of this topic
        #[arg(long)]
        topic: Option<String>,
        /// How many of a service, at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        limit: i32,
        #[command(flatten)]
        at: At,
    },
    /// One record with what it says, and what people did to it
    Show {
        id: i64,
        #[arg(long)]
        service: String,
        #[command(flatten)]
        at: At,
    },
    /// Have records tried again, in order; with --dry-run only tell what would become of each
    Redrive(Redrive),
    /// Give a record up: it is not applied, and a command is answered with its refusal
    Discard {
        id: i64,
        #[arg(long)]
        service: String,
        #[command(flatten)]
        by: Responsible,
        #[command(flatten)]
        at: At,
    },
}

#[derive(clap::Args, Debug)]
#[command(mut_arg("dry_run", |arg| arg.help("Try each record by itself and undo all of it")))]
struct Redrive {
    /// These records, and what only waits behind them
    #[arg(value_name = "ID", required_unless_present = "key")]
    ids: Vec<i64>,
    /// All that is parked under this key, for example an order id
    #[arg(long, conflicts_with = "ids")]
    key: Option<String>,
    #[arg(long)]
    service: String,
    #[command(flatten)]
    by: ResponsibleOrDryRun,
    /// Records in a second, at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    per_second: i32,
    /// Also records that were redriven 10 times already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    at: At,
}

pub async fn main(args: Args) -> Result<()> {
    match args.command {
        Command::List { service, key, state, topic, limit, at } => {
            let filter = ListDeadLettersRequest {
                key: key.unwrap_or_default(),
                topic: topic.unwrap_or_default(),
                state: state.as_deref().map_or(Ok(DeadLetterState::Unspecified), read_state)?.into(),
                ..Default::default()
            };
            let letters = list(&mut client(&at).await?, service, filter, limit).await?;
            match at.output {
                Output::Json => {
                    let letters = letters.iter().map(letter_json).collect::<Result<Vec<Value>>>()?;
                    say!("{}", json!({ "deadLetters": letters }));
                }
                Output::Table => print(&letters),
            }
            Ok(())
        }
        Command::Show { id, service, at } => {
            let request = GetDeadLetterRequest { service, id };
            show(&client(&at).await?.get_dead_letter(request).await.map_err(told)?.into_inner(), at.output)
        }
        Command::Redrive(asked) => redrive(asked).await,
        Command::Discard { id, service, by, at } => {
            let request = DiscardDeadLetterRequest { service, id, who: by.who()?, reason: by.reason };
            let discarded = client(&at).await?.discard_dead_letter(request).await.map_err(told)?.into_inner().discarded;
            match (at.output, discarded) {
                (Output::Json, _) => say!("{}", json!({ "discarded": discarded })),
                (Output::Table, true) => say!("{id} is given up: its service settles it in its turn"),
                (Output::Table, false) => say!("{id} was given up before"),
            }
            Ok(())
        }
    }
}

async fn client(at: &At) -> Result<Client> {
    Ok(DeadLetterServiceClient::new(connect(&at.target.grpc()?).await?))
}

/// Of the service that is named, or of all that run where we ask.
async fn list(client: &mut Client, service: Option<String>, filter: ListDeadLettersRequest, limit: i32) -> Result<Vec<DeadLetter>> {
    if let Some(service) = service {
        return pages(client, ListDeadLettersRequest { service, ..filter }, limit).await.map_err(told);
    }
    let (mut letters, mut asked) = (Vec::new(), 0);
    for service in Service::ALL.into_iter().filter(|service| *service != Service::Gateway) {
        let request = ListDeadLettersRequest { service: service.name().to_owned(), ..filter.clone() };
        match pages(client, request, limit).await {
            Ok(more) => letters.extend(more),
            // It runs elsewhere.
            Err(status) if status.code() == Code::NotFound => continue,
            Err(status) => return Err(told(status)),
        }
        asked += 1;
    }
    ensure!(asked > 0, "no service with a database runs there");
    Ok(letters)
}

async fn pages(client: &mut Client, mut request: ListDeadLettersRequest, limit: i32) -> Result<Vec<DeadLetter>, tonic::Status> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let mut letters = Vec::new();
    loop {
        request.page_size = i32::try_from(limit - letters.len()).unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX);
        let page = client.list_dead_letters(request.clone()).await?.into_inner();
        letters.extend(page.dead_letters);
        if page.next_page_token.is_empty() || letters.len() >= limit {
            return Ok(letters);
        }
        request.page_token = page.next_page_token;
    }
}

async fn redrive(asked: Redrive) -> Result<()> {
    let Redrive { ids, key, service, by, per_second, force, at } = asked;
    let (who, reason, dry_run) = (by.who()?, by.reason.unwrap_or_default(), by.dry_run);
    let key = key.unwrap_or_default();
    let mut request = RedriveDeadLettersRequest { service, ids, key, who, reason, dry_run, per_second, force, after_id: 0 };
    let mut client = client(&at).await?;
    let mut total = RedriveDeadLettersResponse::default();
    loop {
        let slice = client.redrive_dead_letters(request.clone()).await.map_err(told)?.into_inner();
        total.redriven += slice.redriven;
        total.refused_ids.extend(slice.refused_ids);
        total.rehearsals.extend(slice.rehearsals);
        if slice.next_after_id == 0 {
            break;
        }
        request.after_id = slice.next_after_id;
        if !dry_run {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    match at.output {
        Output::Json => say!("{}", gateway::to_json(&total)?),
        Output::Table if dry_run => {
            say!("{:>8}  {:<8}  WHY NOT, OR WHAT WOULD BE SAID", "ID", "OUTCOME");
            for played in &total.rehearsals {
                let outcome = played.outcome().as_str_name().trim_start_matches("OUTCOME_");
                let said: Vec<&str> = played.news.iter().map(|name| short(name)).collect();
                say!("{:>8}  {outcome:<8}  {}{}", played.id, played.reason, said.join(", "));
            }
        }
        Output::Table if total.redriven == 0 => say!("nothing to redrive: nothing of it is parked"),
        Output::Table => say!("{} records are tried again, in order", total.redriven),
    }
    let in_vain = total.rehearsals.iter().filter(|played| matches!(played.outcome(), Outcome::Refused | Outcome::Failed)).count();
    if in_vain > 0 {
        bail!("{in_vain} of {} records would not be applied", total.rehearsals.len());
    }
    ensure!(
        total.refused_ids.is_empty(),
        "{} records were redriven too often already, or wait behind such a one: --force insists",
        total.refused_ids.len()
    );
    Ok(())
}

/// As the service shows it, with what the record says as JSON and not as text.
fn letter_json(letter: &DeadLetter) -> Result<Value> {
    let mut json = gateway::to_json(letter)?;
    json["payloadJson"] = match letter.payload_json.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text)?,
    };
    Ok(json)
}

fn print(letters: &[DeadLetter]) {
    say!("{:>8}  {:<12}  {:<8}  {:<18}  {:<36}  REASON", "ID", "SERVICE", "STATE", "TYPE", "KEY");
    for letter in letters {
        let DeadLetter { id, service, key, reason, .. } = letter;
        say!("{id:>8}  {service:<12}  {:<8}  {:<18}  {key:<36}  {reason}", state_name(letter), short(&letter.event_type));
    }
}

fn show(found: &GetDeadLetterResponse, output: Output) -> Result<()> {
    let letter = found.dead_letter.clone().unwrap_or_default();
    let mut json = gateway::to_json(found)?;
    json["deadLetter"] = letter_json(&letter)?;
    if output == Output::Json {
        say!("{json}");
        return Ok(());
    }
    let of = |name: &str| json["deadLetter"][name].as_str().unwrap_or_default().to_owned();
    say!("{} of {}  {}  redriven {} times", letter.id, letter.service, state_name(&letter), letter.redrives);
    say!("  reason     {}", letter.reason);
    say!("  since      {}", of("failedAt"));
    say!("  record     {} {}", letter.event_id, letter.event_type);
    say!("  said       {} on {}/{} {}", of("occurredAt"), letter.topic, letter.partition, letter.seq);
    say!("  key        {}", letter.key);
    say!("  bytes      {} (base64) {}", letter.payload.len(), of("payload"));
    match &json["deadLetter"]["payloadJson"] {
        Value::Null => say!("  message    not what its type says, or too large to be shown"),
        message => say!("  message    {message}"),
    }
    for done in json["interventions"].as_array().into_iter().flatten() {
        let of = |name: &str| done[name].as_str().unwrap_or_default();
        say!("  {}  {} by {}: {}", of("at"), of("action"), of("who"), of("reason"));
    }
    Ok(())
}

/// `ChargePayment` of `settle.payment.v1.ChargePayment`.
fn short(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or_default()
}

fn state_name(letter: &DeadLetter) -> &'static str {
    letter.state().as_str_name().trim_start_matches("DEAD_LETTER_STATE_")
}

fn read_state(text: &str) -> Result<DeadLetterState> {
    let name = text.to_uppercase();
    DeadLetterState::from_str_name(&name)
        .or_else(|| DeadLetterState::from_str_name(&format!("DEAD_LETTER_STATE_{name}")))
        .ok_or_else(|| anyhow::anyhow!("{text} is not a state; they are EARLY WAITING PARKED READY DISCARD DONE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_says_what_its_dry_run_does() {
        let mut command = <Redrive as clap::Args>::augment_args(clap::Command::new("redrive"));
        let help = command.render_help().to_string();
        let dry_run = help.lines().find(|line| line.contains("--dry-run")).expect("it has one");
        assert!(dry_run.ends_with("Try each record by itself and undo all of it"), "{help}");
    }
}
