//! What people have sagas do.

use anyhow::{Result, ensure};
use contracts::saga::v1::{OperateSagasRequest, PauseSagaRequest, ResumeSagaRequest, RetrySagaRequest, Saga, SkipSagaRequest};

use super::{Client, Filter, client, show};
use crate::{
    client::{At, Output},
    deployment::{Responsible, ResponsibleOrDryRun},
    orders::told,
};

#[derive(clap::Args, Debug)]
pub(super) struct One {
    order_id: String,
    /// Another one of the order's than that which settles it, for example that of a refund
    #[arg(long, value_name = "ID")]
    saga: Option<String>,
    /// The version that was looked at: refused if the saga has moved on since
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    expected_version: i64,
    #[command(flatten)]
    by: Responsible,
    #[command(flatten)]
    at: At,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Retry,
    Skip,
    Pause,
    Resume,
}

#[derive(clap::Args, Debug)]
pub(super) struct Bulk {
    #[arg(value_enum)]
    operation: Operation,
    #[command(flatten)]
    filter: Filter,
    /// How many, at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    max: i32,
    #[command(flatten)]
    by: ResponsibleOrDryRun,
    #[command(flatten)]
    at: At,
}

pub(super) async fn one(operation: &str, asked: One) -> Result<()> {
    let output = asked.at.output;
    let mut client = client(&asked.at).await?;
    show(&operated(&mut client, operation, asked).await?, output)
}

/// The saga as it is afterwards.
async fn operated(client: &mut Client, operation: &str, asked: One) -> Result<Saga> {
    let One { order_id, saga, expected_version, by, .. } = asked;
    let (saga_id, who, reason) = (saga.unwrap_or_default(), by.who()?, by.reason);
    let saga = match operation {
        "RETRY" => {
            let request = RetrySagaRequest { order_id, saga_id, expected_version, who, reason };
            client.retry_saga(request).await.map_err(told)?.into_inner().saga
        }
        "SKIP" => {
            let request = SkipSagaRequest { order_id, saga_id, expected_version, who, reason };
            client.skip_saga(request).await.map_err(told)?.into_inner().saga
        }
        "PAUSE" => {
            let request = PauseSagaRequest { order_id, saga_id, expected_version, who, reason };
            client.pause_saga(request).await.map_err(told)?.into_inner().saga
        }
        _ => {
            let request = ResumeSagaRequest { order_id, saga_id, expected_version, who, reason };
            client.resume_saga(request).await.map_err(told)?.into_inner().saga
        }
    };
    Ok(saga.unwrap_or_default())
}

pub(super) async fn bulk(asked: Bulk) -> Result<()> {
    let Bulk { operation, filter, max, by, at } = asked;
    let (who, reason, dry_run) = (by.who()?, by.reason.unwrap_or_default(), by.dry_run);
    let operation = format!("{operation:?}").to_uppercase();
    let request = OperateSagasRequest {
        operation: operation.clone(),
        state: filter.state()?.into(),
        definition: filter.definition.unwrap_or_default(),
        step: filter.step.unwrap_or_default(),
        age_s_min: filter.age,
        paused: filter.paused,
        sagas_max: max,
        who,
        reason,
        dry_run,
    };
    let came_of_it = client(&at).await?.operate_sagas(request).await.map_err(told)?.into_inner();
    let (took, refused) = (came_of_it.order_ids.len(), came_of_it.refused_order_ids.len());
    match at.output {
        Output::Json => say!("{}", gateway::to_json(&came_of_it)?),
        Output::Table => {
            came_of_it.order_ids.iter().for_each(|order_id| say!("{order_id}  {operation}"));
            came_of_it.refused_order_ids.iter().for_each(|order_id| say!("{order_id}  refused"));
            came_of_it.left_order_ids.iter().for_each(|order_id| say!("{order_id}  left"));
            let more = if came_of_it.more { ", and there are more" } else { "" };
            say!("{took} {}{more}", if dry_run { "would take it" } else { "took it" });
        }
    }
    let (left, error) = (came_of_it.left_order_ids.len(), came_of_it.error);
    ensure!(
        error.is_empty(),
        "{took} took it and {refused} refused it, then {left} were left: {error}; the same again goes on with them"
    );
    ensure!(refused == 0, "{refused} of {} refused it: it makes no sense for them, or they moved on", took + refused);
    Ok(())
}
