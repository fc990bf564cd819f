//! The gRPC door of the orchestrator: how sagas stand and what they are, and what operators have them do.

mod bulk;
mod store;
mod view;

use contracts::{
    ids,
    saga::v1::{
        self, DescribeDefinitionRequest, DescribeDefinitionResponse, GetSagaRequest, GetSagaResponse, ListSagasRequest,
        ListSagasResponse, OperateSagasRequest, OperateSagasResponse, PauseSagaRequest, PauseSagaResponse, ResumeSagaRequest,
        ResumeSagaResponse, RetrySagaRequest, RetrySagaResponse, SagaState, SkipSagaRequest, SkipSagaResponse,
        saga_service_server::{SagaService, SagaServiceServer},
    },
};
use kit::grpc::{aborted, call_error, internal, invalid, not_found, page, place, place_token, refused, text, trace_of};
use messaging::{Runner, Trace};
use saga::Operation;
use sqlx::PgPool;
pub(crate) use tonic::service::Routes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use self::store::Filter;
use crate::{
    error::Refusal,
    events::{Input, Orchestrator},
    known::Known,
    operations::{self, Asked},
    store::Row,
};

const STATE_PREFIX: &str = "SAGA_STATE_";
/// Longer than any saga is kept.
const AGE_S_MAX: i64 = 1_000_000_000;
const SAID_CHARS_MAX: usize = 256;
const DEFINITION_CHARS_MAX: usize = 64;
/// Sagas that one call operates on, at most.
const OPERATED_MAX: i32 = 1_000;

pub(crate) fn routes(pool: PgPool, runner: Runner<Orchestrator>, known: Known) -> Routes {
    Routes::new(SagaServiceServer::new(Door { pool, runner, known }))
}

struct Door {
    pool: PgPool,
    runner: Runner<Orchestrator>,
    known: Known,
}

type Reply<T> = Result<Response<T>, Status>;

/// Which saga an operator means, and the version of it that was looked at.
struct Target {
    order_id: String,
    saga_id: String,
    expected_version: i64,
}

#[tonic::async_trait]
impl SagaService for Door {
    async fn list_sagas(&self, request: Request<ListSagasRequest>) -> Reply<ListSagasResponse> {
        let ListSagasRequest { page_size, page_token, state, definition, step, age_s_min, paused } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let filter = filter_of(&self.known, state, definition, &step, age_s_min, paused.then_some(true))?;
        let (rows, more) = store::list(&self.pool, &filter, place(&page)?, page.size).await.map_err(internal)?;
        let next_page_token = more.map(|(began, saga_id)| place_token(began, saga_id)).unwrap_or_default();
        let sagas = rows.into_iter().map(|row| view::saga(row, &self.known)).collect();
        Ok(Response::new(ListSagasResponse { sagas, next_page_token }))
    }

    async fn get_saga(&self, request: Request<GetSagaRequest>) -> Reply<GetSagaResponse> {
        let GetSagaRequest { order_id, saga_id } = request.into_inner();
        let saga = self.shown(kit::grpc::order_id(&order_id)?, read_saga_id(&saga_id)?).await?;
        Ok(Response::new(GetSagaResponse { saga: Some(saga) }))
    }

    async fn retry_saga(&self, request: Request<RetrySagaRequest>) -> Reply<RetrySagaResponse> {
        let trace = trace_of(&request);
        let RetrySagaRequest { order_id, saga_id, expected_version, who, reason } = request.into_inner();
        let target = Target { order_id, saga_id, expected_version };
        let saga = self.operate(Operation::Retry, target, who, reason, trace).await?;
        Ok(Response::new(RetrySagaResponse { saga: Some(saga) }))
    }

    async fn skip_saga(&self, request: Request<SkipSagaRequest>) -> Reply<SkipSagaResponse> {
        let trace = trace_of(&request);
        let SkipSagaRequest { order_id, saga_id, expected_version, who, reason } = request.into_inner();
        let target = Target { order_id, saga_id, expected_version };
        let saga = self.operate(Operation::Skip, target, who, reason, trace).await?;
        Ok(Response::new(SkipSagaResponse { saga: Some(saga) }))
    }

    async fn pause_saga(&self, request: Request<PauseSagaRequest>) -> Reply<PauseSagaResponse> {
        let trace = trace_of(&request);
        let PauseSagaRequest { order_id, saga_id, expected_version, who, reason } = request.into_inner();
        let target = Target { order_id, saga_id, expected_version };
        let saga = self.operate(Operation::Pause, target, who, reason, trace).await?;
        Ok(Response::new(PauseSagaResponse { saga: Some(saga) }))
    }

    async fn resume_saga(&self, request: Request<ResumeSagaRequest>) -> Reply<ResumeSagaResponse> {
        let trace = trace_of(&request);
        let ResumeSagaRequest { order_id, saga_id, expected_version, who, reason } = request.into_inner();
        let target = Target { order_id, saga_id, expected_version };
        let saga = self.operate(Operation::Resume, target, who, reason, trace).await?;
        Ok(Response::new(ResumeSagaResponse { saga: Some(saga) }))
    }

    async fn operate_sagas(&self, request: Request<OperateSagasRequest>) -> Reply<OperateSagasResponse> {
        let trace = trace_of(&request);
        let asked = request.into_inner();
        let operation = operations::parse(&asked.operation)
            .ok_or_else(|| invalid("operation", "must be RETRY, SKIP, PAUSE or RESUME", "UNKNOWN_OPERATION"))?;
        let filter = bulk_filter(&self.known, operation, &asked)?;
        if !(1..=OPERATED_MAX).contains(&asked.sagas_max) {
            return Err(invalid("sagas_max", &format!("must be 1 to {OPERATED_MAX}"), "BAD_CAP"));
        }
        if !asked.dry_run {
            said("who", &asked.who)?;
            said("reason", &asked.reason)?;
        }
        let (rows, more) = self.found(&filter, i64::from(asked.sagas_max)).await?;
        // One cause for all, so that each has an id of its own.
        let cause = kit::fresh_id();
        let operated = rows.into_iter().map(|row| {
            let (asked, trace) = (&asked, trace.clone());
            let order_id = row.order_id;
            let took = async move {
                let would = row.known(&self.known).is_some_and(|(definition, progress)| progress.allows(definition, operation));
                Ok::<_, Status>(would && (asked.dry_run || self.operate_on(&row, operation, asked, cause, trace).await?))
            };
            (order_id, took)
        });
        let (told, stopped) = bulk::operate(operated).await;
        let nothing_done = told.order_ids.is_empty() && told.refused_order_ids.is_empty();
        match stopped {
            Some(error) if nothing_done => Err(error),
            Some(error) => {
                let error = format!("{:?}: {}", error.code(), error.message());
                Ok(Response::new(OperateSagasResponse { more, error, ..told }))
            }
            None => Ok(Response::new(OperateSagasResponse { more, ..told })),
        }
    }

    async fn describe_definition(&self, request: Request<DescribeDefinitionRequest>) -> Reply<DescribeDefinitionResponse> {
        let DescribeDefinitionRequest { name } = request.into_inner();
        let definition = self.known.newest(&name).ok_or_else(|| not_found("definition", &name))?;
        Ok(Response::new(view::definition(definition)))
    }
}

impl Door {
    async fn shown(&self, order_id: Uuid, saga_id: Option<Uuid>) -> Result<v1::Saga, Status> {
        let row = store::one(&self.pool, order_id, saga_id).await.map_err(internal)?;
        let row = row.ok_or_else(|| not_found("saga of order", &order_id.to_string()))?;
        let operations = store::operations_on(&self.pool, &row).await.map_err(internal)?;
        Ok(v1::Saga { operations: operations.into_iter().map(view::operation).collect(), ..view::saga(row, &self.known) })
    }

    /// Has it done, and shows the saga as it is then.
    async fn operate(
        &self,
        operation: Operation,
        target: Target,
        who: String,
        reason: String,
        trace: Trace,
    ) -> Result<v1::Saga, Status> {
        let (order_id, saga_id) = (kit::grpc::order_id(&target.order_id)?, read_saga_id(&target.saga_id)?);
        let expected_version = match target.expected_version {
            0 => None,
            1.. => Some(target.expected_version),
            _ => return Err(invalid("expected_version", "must be a version, or 0 for any", "BAD_VERSION")),
        };
        said("who", &who)?;
        said("reason", &reason)?;
        let input = Input::Operated(Asked { order_id, saga_id, expected_version, operation, who, reason });
        self.runner.call(kit::fresh_id(), order_id.to_string(), trace, input).await.map_err(call_error)?;
        self.shown(order_id, saga_id).await
    }

    /// What is not over and meets the filter, and whether there is more than so many.
    async fn found(&self, filter: &Filter, sagas_max: i64) -> Result<(Vec<Row>, bool), Status> {
        let (mut found, mut before) = (Vec::new(), place(&page(0, "")?)?);
        loop {
            let left = sagas_max - i64::try_from(found.len()).unwrap_or(i64::MAX);
            let (rows, more) = store::list(&self.pool, filter, before, left).await.map_err(internal)?;
            found.extend(rows);
            let full = i64::try_from(found.len()).is_ok_and(|rows| rows >= sagas_max);
            match more {
                Some(place) if !full => before = place,
                more => return Ok((found, more.is_some())),
            }
        }
    }

    /// Whether the saga, as it was found, took the operation.
    async fn operate_on(
        &self,
        row: &Row,
        operation: Operation,
        asked: &OperateSagasRequest,
        cause: Uuid,
        trace: Trace,
    ) -> Result<bool, Status> {
        let input = Input::Operated(Asked {
            order_id: row.order_id,
            saga_id: Some(row.saga_id),
            expected_version: Some(row.version),
            operation,
            who: asked.who.clone(),
            reason: asked.reason.clone(),
        });
        let (id, key) = (ids::derive(cause, &row.saga_id.to_string()), row.order_id.to_string());
        match self.runner.call(id, key, trace, input).await {
            Ok(()) => Ok(true),
            Err(messaging::CallError::Refused(_) | messaging::CallError::Failed) => Ok(false),
            Err(error) => Err(call_error(error)),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotStarted => not_found("saga", "of this order and id"),
            Refusal::UnknownDefinition => refused("UNKNOWN_DEFINITION", refusal),
            Refusal::Unreadable(_) => refused("UNREADABLE", refusal),
            Refusal::MovedOn(_) => aborted("VERSION_MOVED_ON", refusal),
            Refusal::MakesNoSense(_) => refused("NOTHING_TO_DO", refusal),
        }
    }
}

fn said(field: &str, value: &str) -> Result<(), Status> {
    text(field, value, 1..=SAID_CHARS_MAX)
}

/// `None` where none is named.
fn read_saga_id(given: &str) -> Result<Option<Uuid>, Status> {
    match given {
        "" => Ok(None),
        given => ids::parse(given).map(Some).map_err(|_| invalid("saga_id", "must be a UUID, or empty", "MALFORMED_ID")),
    }
}

fn filter_of(
    known: &Known,
    state: i32,
    definition: String,
    step: &str,
    age_s_min: i64,
    paused: Option<bool>,
) -> Result<Filter, Status> {
    let state = state_of(state)?;
    text("definition", &definition, 0..=DEFINITION_CHARS_MAX)?;
    if !(0..=AGE_S_MAX).contains(&age_s_min) {
        return Err(invalid("age_s_min", &format!("must be 0 to {AGE_S_MAX}"), "BAD_AGE"));
    }
    let held_up_by = match step {
        "" => None,
        step => Some(places_of(known, &definition, step)?),
    };
    let open = paused.is_some() || held_up_by.is_some() || !matches!(state, "" | "DONE" | "UNDONE");
    let age_s_min = Some(age_s_min as f64).filter(|age| *age > 0.0);
    Ok(Filter { state, definition, held_up_by, age_s_min, paused, open })
}

/// Operations are for what is not over, and only for those that they would change: a second call goes on with others.
fn bulk_filter(known: &Known, operation: Operation, asked: &OperateSagasRequest) -> Result<Filter, Status> {
    let OperateSagasRequest { state, definition, step, age_s_min, paused, .. } = asked;
    let paused = match operation {
        Operation::Pause => Some(*paused),
        Operation::Resume => Some(true),
        Operation::Retry | Operation::Skip => paused.then_some(true),
    };
    let filter = filter_of(known, *state, definition.clone(), step, *age_s_min, paused)?;
    let given = *state != 0 || !definition.is_empty() || !step.is_empty() || *age_s_min > 0 || asked.paused;
    match given {
        true => Ok(Filter { open: true, ..filter }),
        false => Err(invalid("state", "at least one of state, definition, step, age_s_min and paused must be given", "NO_FILTER")),
    }
}

/// The state as it is stored; empty for any.
fn state_of(state: i32) -> Result<&'static str, Status> {
    match SagaState::try_from(state) {
        Ok(SagaState::Unspecified) => Ok(""),
        Ok(state) => Ok(state.as_str_name().strip_prefix(STATE_PREFIX).unwrap_or_default()),
        Err(_) => Err(invalid("state", "is not a state of a saga", "UNKNOWN_STATE")),
    }
}

/// Where this step is in the definitions that have it; places count from 1.
fn places_of(known: &Known, definition: &str, step: &str) -> Result<Vec<(&'static str, i32, i32)>, Status> {
    let wanted = known.all().filter(|known| definition.is_empty() || known.name == definition);
    let places: Vec<_> = wanted
        .filter_map(|known| {
            let place = known.steps.iter().position(|named| named.name == step)?;
            Some((known.name, known.version, i32::try_from(place + 1).ok()?))
        })
        .collect();
    match places.is_empty() {
        true => Err(invalid("step", "is not the name of a step", "UNKNOWN_STEP")),
        false => Ok(places),
    }
}
