//! The gRPC door of the orchestrator: how sagas stand, and what they are.

use contracts::{
    saga::v1::{
        self, DescribeDefinitionRequest, DescribeDefinitionResponse, GetSagaRequest, GetSagaResponse, ListSagasRequest,
        ListSagasResponse, SagaState, describe_definition_response,
        saga_service_server::{SagaService, SagaServiceServer},
    },
    time::to_proto,
};
use saga::{State, StepState, Undo};
use sqlx::PgPool;
pub(crate) use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::{
    checkout, instance,
    store::{self, Row},
};

const STATE_PREFIX: &str = "SAGA_STATE_";
/// Of a saga that stands as well as any, but could not be saved when it asked again.
const SET_ASIDE: &str = "it could not ask again; the log says why";

pub(crate) fn routes(pool: PgPool) -> Routes {
    Routes::new(SagaServiceServer::new(Door { pool }))
}

struct Door {
    pool: PgPool,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl SagaService for Door {
    async fn list_sagas(&self, request: Request<ListSagasRequest>) -> Reply<ListSagasResponse> {
        let ListSagasRequest { page_size, page_token, state } = request.into_inner();
        let page = kit::grpc::page(page_size, &page_token)?;
        let state = filter_of(state)?;
        let before = kit::grpc::place(&page)?;
        let mut rows = store::list(&self.pool, state, before, page.size + 1).await.map_err(kit::grpc::internal)?;
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = match rows.last() {
            Some(last) if more => kit::grpc::place_token(last.started_at, last.order_id),
            _ => String::new(),
        };
        Ok(Response::new(ListSagasResponse { sagas: rows.into_iter().map(view).collect(), next_page_token }))
    }

    async fn get_saga(&self, request: Request<GetSagaRequest>) -> Reply<GetSagaResponse> {
        let GetSagaRequest { order_id } = request.into_inner();
        let row = store::one(&self.pool, kit::grpc::order_id(&order_id)?).await.map_err(kit::grpc::internal)?;
        let row = row.ok_or_else(|| kit::grpc::not_found("saga of order", &order_id))?;
        Ok(Response::new(GetSagaResponse { saga: Some(view(row)) }))
    }

    async fn describe_definition(&self, request: Request<DescribeDefinitionRequest>) -> Reply<DescribeDefinitionResponse> {
        let DescribeDefinitionRequest { name } = request.into_inner();
        let definition = checkout::newest(&name).ok_or_else(|| kit::grpc::not_found("definition", &name))?;
        let steps = definition.steps.iter().enumerate().map(|(at, step)| describe_definition_response::Step {
            name: step.name.to_owned(),
            command: step.command.to_owned(),
            undo: definition.undo_of(at).unwrap_or_default().to_owned(),
            pivot: step.undo == Undo::Pivot,
        });
        Ok(Response::new(DescribeDefinitionResponse {
            name: definition.name.to_owned(),
            version: definition.version,
            steps: steps.collect(),
            mermaid: saga::mermaid(definition),
        }))
    }
}

/// The state as it is stored; empty for any.
fn filter_of(state: i32) -> Result<&'static str, Status> {
    match SagaState::try_from(state) {
        Ok(SagaState::Unspecified) => Ok(""),
        Ok(state) => Ok(state.as_str_name().strip_prefix(STATE_PREFIX).unwrap_or_default()),
        Err(_) => Err(kit::grpc::invalid("state", "is not a state of a saga", "UNKNOWN_STATE")),
    }
}

fn view(row: Row) -> v1::Saga {
    let known = row.known();
    let (steps, remaining, mut attention) = match &known {
        None => (Vec::new(), Vec::new(), String::new()),
        Some((definition, progress)) => (
            definition
                .steps
                .iter()
                .zip(&progress.steps)
                .map(|(step, stand)| v1::Step { name: step.name.to_owned(), state: state_of(stand.state).into() })
                .collect(),
            progress.remaining(definition).into_iter().map(|command| command.name(definition).to_owned()).collect(),
            instance::attention(definition, progress),
        ),
    };
    if attention.is_empty() && known.is_some() && row.state == State::NeedsAttention.as_str() {
        attention.push_str(SET_ASIDE);
    }
    let state = SagaState::from_str_name(&format!("{STATE_PREFIX}{}", row.state)).unwrap_or_default();
    let reason = [attention, row.reason].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    v1::Saga {
        saga_id: row.saga_id.to_string(),
        order_id: row.order_id.to_string(),
        definition: row.definition,
        definition_version: row.definition_version,
        state: state.into(),
        steps,
        reason,
        remaining,
        deadline: row.deadline_at.map(to_proto),
        started_at: Some(to_proto(row.started_at)),
        updated_at: Some(to_proto(row.updated_at)),
    }
}

fn state_of(state: StepState) -> v1::StepState {
    match state {
        StepState::Waiting => v1::StepState::Waiting,
        StepState::Asked => v1::StepState::Asked,
        StepState::Done => v1::StepState::Done,
        StepState::Refused => v1::StepState::Refused,
        StepState::Undoing => v1::StepState::Undoing,
        StepState::Undone => v1::StepState::Undone,
        StepState::UndoRefused => v1::StepState::UndoRefused,
        StepState::Skipped => v1::StepState::Skipped,
    }
}
