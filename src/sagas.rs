//! `settle saga`: where sagas stand, and what people have them do. docs/runbooks/sagas.md says when to do which.

mod check;
mod operate;

use anyhow::{Result, anyhow};
use contracts::saga::v1::{
    GetSagaRequest, ListSagasRequest, ListSagasResponse, Saga, SagaState, saga_service_client::SagaServiceClient,
};
use tonic::transport::Channel;

use crate::{
    client::{At, Output, connect},
    orders::told,
};

const PAGE_ROWS_MAX: i32 = 200;

type Client = SagaServiceClient<Channel>;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Which sagas.
#[derive(clap::Args, Clone, Debug)]
struct Filter {
    /// Only in this state, for example NEEDS_ATTENTION
    #[arg(long)]
    state: Option<String>,
    /// Only of this definition, for example refund
    #[arg(long, value_name = "NAME")]
    definition: Option<String>,
    /// Only those that are held up by this step, for example charge: it is not answered, or it or its undo is refused
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
    /// Only those that began at least so long ago
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    age: i64,
    /// Only paused ones
    #[arg(long)]
    paused: bool,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Sagas, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many, at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        limit: i32,
        #[command(flatten)]
        at: At,
    },
    /// The saga of an order, with its steps, what remains, and what people did to it
    Show {
        order_id: String,
        /// Another one of the order's, for example that of a refund
        #[arg(long, value_name = "ID")]
        saga: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Ask again what has no answer or was refused
    Retry(operate::One),
    /// Go on without the answer that is missing: undo the step, or take a refused undo as settled by hand
    Skip(operate::One),
    /// Ask nothing more until it is resumed; answers are still taken in
    Pause(operate::One),
    /// End a pause
    Resume(operate::One),
    /// One of these on all sagas that a filter finds
    Bulk(operate::Bulk),
    /// Tell which sagas that are not over this binary could not go on with; with --model, check the definitions themselves
    Check(check::Args),
}

pub async fn main(args: Args) -> Result<()> {
    match args.command {
        Command::List { filter, limit, at } => {
            let listed = list(&mut client(&at).await?, &filter, limit).await?;
            match at.output {
                Output::Json => say!("{}", gateway::to_json(&listed)?),
                Output::Table => print(&listed.sagas),
            }
            Ok(())
        }
        Command::Show { order_id, saga, at } => {
            let request = GetSagaRequest { order_id, saga_id: saga.unwrap_or_default() };
            let saga = client(&at).await?.get_saga(request).await.map_err(told)?.into_inner().saga;
            show(&saga.unwrap_or_default(), at.output)
        }
        Command::Retry(one) => operate::one("RETRY", one).await,
        Command::Skip(one) => operate::one("SKIP", one).await,
        Command::Pause(one) => operate::one("PAUSE", one).await,
        Command::Resume(one) => operate::one("RESUME", one).await,
        Command::Bulk(bulk) => operate::bulk(bulk).await,
        Command::Check(args) => check::main(args).await,
    }
}

async fn client(at: &At) -> Result<Client> {
    Ok(SagaServiceClient::new(connect(&at.target.grpc()?).await?))
}

impl Filter {
    fn state(&self) -> Result<SagaState> {
        self.state.as_deref().map_or(Ok(SagaState::Unspecified), read_state)
    }
}

/// As many pages as it takes: one of them may be empty, where few are looked for among many.
async fn list(client: &mut Client, filter: &Filter, limit: i32) -> Result<ListSagasResponse> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let mut listed = ListSagasResponse::default();
    loop {
        let request = ListSagasRequest {
            page_size: i32::try_from(limit - listed.sagas.len()).unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX),
            page_token: listed.next_page_token,
            state: filter.state()?.into(),
            definition: filter.definition.clone().unwrap_or_default(),
            step: filter.step.clone().unwrap_or_default(),
            age_s_min: filter.age,
            paused: filter.paused,
        };
        let page = client.list_sagas(request).await.map_err(told)?.into_inner();
        listed.sagas.extend(page.sagas);
        listed.next_page_token = page.next_page_token;
        if listed.next_page_token.is_empty() || listed.sagas.len() >= limit {
            return Ok(listed);
        }
    }
}

fn print(sagas: &[Saga]) {
    say!("{:<36}  {:<36}  {:<22}  {:<16}  {:<40}  REASON", "ORDER", "SAGA", "DEFINITION", "STATE", "REMAINING");
    for saga in sagas {
        let Saga { order_id, saga_id, definition, remaining, reason, .. } = saga;
        say!("{order_id}  {saga_id}  {definition:<22}  {:<16}  {:<40}  {reason}", state_name(saga), remaining.join(", "));
    }
}

fn show(saga: &Saga, output: Output) -> Result<()> {
    let json = gateway::to_json(saga)?;
    if output == Output::Json {
        say!("{json}");
        return Ok(());
    }
    let Saga { order_id, saga_id, definition, definition_version, version, reason, .. } = saga;
    let paused = if saga.paused { "  PAUSED" } else { "" };
    say!("{order_id}  {definition} v{definition_version}  {}{paused}  {reason}", state_name(saga));
    say!("  saga {saga_id}, version {version}");
    for step in &saga.steps {
        say!("  {:<12} {}", step.name, step.state().as_str_name().trim_start_matches("STEP_STATE_"));
    }
    if !saga.remaining.is_empty() {
        say!("  remaining: {}", saga.remaining.join(", "));
    }
    for done in json["operations"].as_array().into_iter().flatten() {
        let of = |name: &str| done[name].as_str().unwrap_or_default();
        say!("  {}  {} by {}: {}", of("at"), of("kind"), of("who"), of("reason"));
    }
    Ok(())
}

fn state_name(saga: &Saga) -> &'static str {
    saga.state().as_str_name().trim_start_matches("SAGA_STATE_")
}

fn read_state(text: &str) -> Result<SagaState> {
    let name = text.to_uppercase();
    SagaState::from_str_name(&name)
        .or_else(|| SagaState::from_str_name(&format!("SAGA_STATE_{name}")))
        .ok_or_else(|| anyhow!("{text} is not a state; they are RUNNING COMPENSATING NEEDS_ATTENTION DONE UNDONE"))
}
