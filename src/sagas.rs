//! `settle saga`: list and show.

use anyhow::Result;
use contracts::saga::v1::{GetSagaRequest, ListSagasRequest, Saga, SagaState, saga_service_client::SagaServiceClient};

use crate::{
    client::{Output, Target, connect},
    orders::told,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Sagas, newest first
    List {
        #[command(flatten)]
        target: Target,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// Only in this state, for example NEEDS_ATTENTION
        #[arg(long)]
        state: Option<String>,
        /// How many, at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=200))]
        limit: i32,
    },
    /// The saga of an order, with its steps and what remains
    Show {
        order_id: String,
        #[command(flatten)]
        target: Target,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

pub async fn main(args: Args) -> Result<()> {
    match args.command {
        Command::List { target, output, state, limit } => {
            let mut sagas = SagaServiceClient::new(connect(&target.grpc()?).await?);
            let state = state.as_deref().map_or(Ok(SagaState::Unspecified), read_state)?;
            let request = ListSagasRequest { page_size: limit, state: state.into(), ..Default::default() };
            let listed = sagas.list_sagas(request).await.map_err(told)?.into_inner();
            match output {
                Output::Json => say!("{}", gateway::to_json(&listed)?),
                Output::Table => {
                    say!("{:<36}  {:<16}  {:<40}  REASON", "ORDER", "STATE", "REMAINING");
                    for saga in listed.sagas {
                        say!("{}  {:<16}  {:<40}  {}", saga.order_id, state_name(&saga), saga.remaining.join(", "), saga.reason);
                    }
                }
            }
        }
        Command::Show { order_id, target, output } => {
            let mut sagas = SagaServiceClient::new(connect(&target.grpc()?).await?);
            let saga = sagas.get_saga(GetSagaRequest { order_id }).await.map_err(told)?.into_inner().saga.unwrap_or_default();
            match output {
                Output::Json => say!("{}", gateway::to_json(&saga)?),
                Output::Table => {
                    say!(
                        "{}  {} v{}  {}  {}",
                        saga.order_id,
                        saga.definition,
                        saga.definition_version,
                        state_name(&saga),
                        saga.reason
                    );
                    for step in &saga.steps {
                        say!("  {:<12} {}", step.name, step.state().as_str_name().trim_start_matches("STEP_STATE_"));
                    }
                    if !saga.remaining.is_empty() {
                        say!("  remaining: {}", saga.remaining.join(", "));
                    }
                }
            }
        }
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
        .ok_or_else(|| anyhow::anyhow!("{text} is not a state; they are RUNNING COMPENSATING NEEDS_ATTENTION DONE UNDONE"))
}
