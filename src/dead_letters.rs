//! The gRPC door to dead letters: one for all services of this process.

use std::{sync::Arc, time::Duration};

use contracts::{
    messaging::v1::{
        self as proto, DeadLetterState, DiscardDeadLetterRequest, DiscardDeadLetterResponse, GetDeadLetterRequest,
        GetDeadLetterResponse, ListDeadLettersRequest, ListDeadLettersResponse, RedriveDeadLettersRequest,
        RedriveDeadLettersResponse,
        dead_letter_service_server::{DeadLetterService, DeadLetterServiceServer},
        rehearsal::Outcome,
    },
    time::to_proto,
};
use kit::{
    Desks,
    grpc::{self, internal, invalid, not_found, refused, text},
};
use messaging::{
    DeadLetters, Held, Parked, Rehearsal,
    operate::By,
    parking::{self, Discarded, Filter, Redrive, Which},
};
use tonic::{Code, Request, Response, Status, service::Routes};

/// The name of the service, for health.
pub const SERVICE: &str = "settle.messaging.v1.DeadLetterService";

const KEY_CHARS_MAX: usize = 1_024;
const TOPIC_CHARS_MAX: usize = 249;
const WHO_CHARS_MAX: usize = 128;
const REASON_CHARS_MAX: usize = 500;
const IDS_MAX: usize = 1_000;
const REHEARSALS_MAX: usize = 100;
const REHEARSAL_MS_MAX: u64 = 5_000;
const PER_SECOND: i32 = 100;
const PER_SECOND_MAX: i32 = 1_000;
/// A redrive marks a slice each second, for no longer than this; then it is asked again.
const REDRIVE_S_MAX: usize = 5;
/// Larger payloads are shown as bytes alone.
const JSON_PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// A page ends early that would not go into one message.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

pub fn routes(desks: Desks) -> Routes {
    Routes::new(DeadLetterServiceServer::new(Door { desks }))
}

struct Door {
    desks: Desks,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl DeadLetterService for Door {
    async fn list_dead_letters(&self, request: Request<ListDeadLettersRequest>) -> Reply<ListDeadLettersResponse> {
        let ListDeadLettersRequest { page_size, page_token, service, key, state, topic } = request.into_inner();
        let page = grpc::page(page_size, &page_token)?;
        let after = grpc::number(&page)?.unwrap_or(0);
        let desk = self.desk(&service)?;
        text("key", &key, 0..=KEY_CHARS_MAX)?;
        text("topic", &topic, 0..=TOPIC_CHARS_MAX)?;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let filter = Filter { key: given(key), topic: given(topic), state: filter_of(state)? };
        let mut db = desk.db().await.map_err(internal)?;
        let mut rows = parking::list(&mut db, desk.group(), &filter, after, page.rows()).await.map_err(internal)?;
        let mut next_page_token = page.cut(&mut rows, |last| grpc::number_token(last.id));
        let (mut dead_letters, mut bytes): (Vec<proto::DeadLetter>, usize) = (Vec::new(), 0);
        for row in rows {
            let letter = view(desk.group(), row);
            bytes += letter.payload.len() + letter.payload_json.len();
            if let Some(last) = dead_letters.last().filter(|_| bytes > PAGE_BYTES_MAX) {
                next_page_token = grpc::number_token(last.id);
                break;
            }
            dead_letters.push(letter);
        }
        Ok(Response::new(ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn get_dead_letter(&self, request: Request<GetDeadLetterRequest>) -> Reply<GetDeadLetterResponse> {
        let GetDeadLetterRequest { service, id } = request.into_inner();
        let desk = self.desk(&service)?;
        let mut db = desk.db().await.map_err(internal)?;
        let row = parking::one(&mut db, desk.group(), id).await.map_err(internal)?;
        let row = row.ok_or_else(|| no_letter(desk.group(), id))?;
        let interventions = parking::interventions(&mut db, desk.group(), id).await.map_err(internal)?;
        let interventions = interventions.into_iter().map(|done| proto::Intervention {
            at: Some(to_proto(done.at)),
            action: done.action,
            who: done.who,
            reason: done.why,
        });
        let dead_letter = Some(view(desk.group(), row));
        Ok(Response::new(GetDeadLetterResponse { dead_letter, interventions: interventions.collect() }))
    }

    async fn redrive_dead_letters(&self, request: Request<RedriveDeadLettersRequest>) -> Reply<RedriveDeadLettersResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let RedriveDeadLettersRequest { service, ids, key, .. } = &request;
        let desk = self.desk(service)?;
        text("key", key, 0..=KEY_CHARS_MAX)?;
        if ids.is_empty() == key.is_empty() {
            return Err(invalid("ids", "either ids or a key must say which records are meant", "WHICH_MISSING"));
        }
        if ids.len() > IDS_MAX {
            return Err(invalid("ids", "must not be more than 1000", "TOO_MANY_IDS"));
        }
        if !(0..=PER_SECOND_MAX).contains(&request.per_second) {
            return Err(invalid("per_second", "must be 1 to 1000, or 0 for 100", "BAD_RATE"));
        }
        if !ids.is_empty() {
            let missing = parking::missing(&mut *desk.db().await.map_err(internal)?, desk.group(), ids).await.map_err(internal)?;
            if let Some(id) = missing.first() {
                return Err(no_letter(desk.group(), *id));
            }
        }
        let answer = if request.dry_run {
            rehearse(&desk, which_of(&request), request.after_id).await?
        } else {
            let who = who_of(&request.who, caller)?;
            reason_of(&request.reason)?;
            redrive(&desk, request, who).await?
        };
        Ok(Response::new(answer))
    }

    async fn discard_dead_letter(&self, request: Request<DiscardDeadLetterRequest>) -> Reply<DiscardDeadLetterResponse> {
        let caller = caller_of(&request);
        let DiscardDeadLetterRequest { service, id, who, reason } = request.into_inner();
        let desk = self.desk(&service)?;
        let (who, why, group) = (who_of(&who, caller)?, reason_of(&reason)?.to_owned(), desk.group());
        // In a task of its own: whoever asked may give up waiting, and a transaction is never left half-way.
        let discarding = tokio::spawn(async move {
            let mut db = desk.db().await?;
            parking::discard(&mut db, group, id, By { who: &who, why: &why }).await
        });
        let discarded = match discarding.await.map_err(died)?.map_err(internal)? {
            Discarded::Marked => true,
            Discarded::Before => false,
            Discarded::Settled => return Err(refused("ALREADY_SETTLED", format!("dead letter {id} is settled already"))),
            Discarded::Absent => return Err(no_letter(group, id)),
        };
        Ok(Response::new(DiscardDeadLetterResponse { discarded }))
    }
}

impl Door {
    fn desk(&self, service: &str) -> Result<DeadLetters, Status> {
        text("service", service, 1..=64)?;
        let here = || self.desks.services().join(" ");
        self.desks.of(service).ok_or_else(|| not_found("service", &format!("{service} here; there are {}", here())))
    }
}

/// Either ids or a key is there.
fn which_of(request: &RedriveDeadLettersRequest) -> Which<'_> {
    match request.key.as_str() {
        "" => Which::Ids(&request.ids),
        key => Which::Key(key),
    }
}

/// Marks a slice each second.
async fn redrive(
    desk: &DeadLetters,
    request: RedriveDeadLettersRequest,
    who: String,
) -> Result<RedriveDeadLettersResponse, Status> {
    let per_second = if request.per_second == 0 { PER_SECOND } else { request.per_second };
    let mut after = request.after_id;
    let asked = Arc::new((request, who));
    let mut answer = RedriveDeadLettersResponse::default();
    for second in 0..REDRIVE_S_MAX {
        if second > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let (desk, asked) = (desk.clone(), asked.clone());
        // In a task of its own, as above.
        let marking = tokio::spawn(async move {
            let (request, who) = &*asked;
            let what = Redrive { which: which_of(request), after, rows_max: per_second.into(), force: request.force };
            let mut db = desk.db().await?;
            parking::redrive(&mut db, desk.group(), &what, By { who, why: request.reason.trim() }).await
        });
        let slice = marking.await.map_err(died)?.map_err(internal)?;
        answer.redriven += i32::try_from(slice.marked.len()).unwrap_or(i32::MAX);
        answer.refused_ids.extend(&slice.refused);
        let looked_at = slice.marked.len() + slice.refused.len();
        match slice.last() {
            Some(last) if looked_at >= usize::try_from(per_second).unwrap_or(usize::MAX) => after = last,
            _ => return Ok(answer),
        }
    }
    answer.next_after_id = after;
    Ok(answer)
}

/// Tries each record by itself.
async fn rehearse(desk: &DeadLetters, which: Which<'_>, after: i64) -> Result<RedriveDeadLettersResponse, Status> {
    let limit = i64::try_from(REHEARSALS_MAX).unwrap_or(i64::MAX);
    let mut db = desk.db().await.map_err(internal)?;
    let rows = match which {
        Which::Key(key) => {
            let filter = Filter { key: Some(key.to_owned()), state: Some(Held::Parked), ..Filter::default() };
            parking::list(&mut db, desk.group(), &filter, after, limit).await.map_err(internal)?
        }
        Which::Ids(ids) => {
            let mut ids: Vec<i64> = ids.iter().copied().filter(|id| *id > after).collect();
            ids.sort_unstable();
            ids.dedup();
            let mut rows = Vec::new();
            for id in ids.into_iter().take(REHEARSALS_MAX) {
                rows.extend(parking::one(&mut db, desk.group(), id).await.map_err(internal)?);
            }
            rows
        }
    };
    // The service rehearses on a connection of its own.
    drop(db);
    let more = rows.len() == REHEARSALS_MAX;
    let next_after_id = rows.last().filter(|_| more).map_or(0, |row| row.id);
    let mut rehearsals = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.id;
        if row.held == Held::Done {
            rehearsals.push(told(id, Outcome::Skipped, "it is settled already".to_owned()));
            continue;
        }
        let played = tokio::time::timeout(Duration::from_millis(REHEARSAL_MS_MAX), desk.rehearse(row.record)).await;
        let played = played.map_err(|_| Status::new(Code::Unavailable, "the service is busy with an outage: try again later"))?;
        rehearsals.push(match played.map_err(internal)? {
            Rehearsal::Applied { news } => proto::Rehearsal {
                news: news.iter().map(|news| news.type_name.to_owned()).collect(),
                ..told(id, Outcome::Applied, String::new())
            },
            Rehearsal::Skipped => told(id, Outcome::Skipped, String::new()),
            Rehearsal::Refused { verdict, reason } => told(id, Outcome::Refused, format!("{verdict:?}: {reason}")),
            Rehearsal::Failed { error } => told(id, Outcome::Failed, error),
        });
    }
    Ok(RedriveDeadLettersResponse { rehearsals, next_after_id, ..Default::default() })
}

fn told(id: i64, outcome: Outcome, reason: String) -> proto::Rehearsal {
    proto::Rehearsal { id, outcome: outcome.into(), reason, news: Vec::new() }
}

fn view(service: &str, row: Parked) -> proto::DeadLetter {
    let state = match row.held {
        Held::Early => DeadLetterState::Early,
        Held::Waiting => DeadLetterState::Waiting,
        Held::Parked => DeadLetterState::Parked,
        Held::Ready => DeadLetterState::Ready,
        Held::Discard => DeadLetterState::Discard,
        Held::Done => DeadLetterState::Done,
    };
    let record = row.record;
    let readable = Some(&record.payload).filter(|payload| payload.len() <= JSON_PAYLOAD_BYTES_MAX);
    let payload_json = readable.and_then(|payload| gateway::json_of(&record.type_name, payload));
    proto::DeadLetter {
        id: row.id,
        service: service.to_owned(),
        state: state.into(),
        reason: row.reason,
        behind: row.behind,
        redrives: row.redrives,
        failed_at: Some(to_proto(row.failed_at)),
        topic: record.stream.topic,
        partition: record.stream.partition,
        seq: record.place.map_or(0, |place| place.seq),
        event_id: record.id.to_string(),
        event_type: record.type_name,
        key: record.key,
        correlation_id: record.correlation,
        causation_id: record.causation.map(|id| id.to_string()).unwrap_or_default(),
        traceparent: record.trace.parent.unwrap_or_default(),
        occurred_at: Some(to_proto(record.at)),
        payload: record.payload.to_vec(),
        payload_json: payload_json.map(|json| json.to_string()).unwrap_or_default(),
    }
}

fn filter_of(state: i32) -> Result<Option<Held>, Status> {
    Ok(Some(match DeadLetterState::try_from(state) {
        Ok(DeadLetterState::Unspecified) => return Ok(None),
        Ok(DeadLetterState::Early) => Held::Early,
        Ok(DeadLetterState::Waiting) => Held::Waiting,
        Ok(DeadLetterState::Parked) => Held::Parked,
        Ok(DeadLetterState::Ready) => Held::Ready,
        Ok(DeadLetterState::Discard) => Held::Discard,
        Ok(DeadLetterState::Done) => Held::Done,
        Err(_) => return Err(invalid("state", "is not a state of a dead letter", "UNKNOWN_STATE")),
    }))
}

/// Where a request comes from, for the audit: nobody is asked who he is.
fn caller_of<T>(request: &Request<T>) -> String {
    request.remote_addr().map_or_else(|| "somebody".to_owned(), |addr| format!("somebody at {addr}"))
}

fn who_of(who: &str, caller: String) -> Result<String, Status> {
    text("who", who, 0..=WHO_CHARS_MAX)?;
    Ok(if who.trim().is_empty() { caller } else { who.to_owned() })
}

fn reason_of(reason: &str) -> Result<&str, Status> {
    let reason = reason.trim();
    text("reason", reason, 1..=REASON_CHARS_MAX)?;
    Ok(reason)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn died(error: tokio::task::JoinError) -> Status {
    tracing::error!(r#type = "PROCESSING_ERROR", %error, "a change of dead letters failed");
    Status::internal("the request failed; it is logged")
}

fn no_letter(service: &str, id: i64) -> Status {
    not_found("dead letter of", &format!("{service} with id {id}"))
}
