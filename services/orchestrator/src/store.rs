//! Every SQL statement of the orchestrator, but those that only show sagas: `grpc/store.rs`.

use bytes::Bytes;
use messaging::Trace;
use saga::{Definition, Progress};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    definitions,
    events::{Book, Key},
    instance::{Instance, Kept},
    known::Known,
    operations::{self, Done},
};

macro_rules! columns {
    () => {
        "order_id, saga_id, definition, definition_version, created, progress, state, payment_id, reservation_id, shipment_id,
         refunded_amount, reason, deadline_at, traceparent, tracestate, started_at, updated_at, version"
    };
}
pub(crate) use columns;

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) order_id: Uuid,
    pub(crate) saga_id: Uuid,
    pub(crate) definition: String,
    pub(crate) definition_version: i32,
    created: Vec<u8>,
    progress: String,
    pub(crate) state: String,
    payment_id: String,
    reservation_id: String,
    shipment_id: String,
    refunded_amount: i64,
    pub(crate) reason: String,
    pub(crate) deadline_at: Option<OffsetDateTime>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    pub(crate) started_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
    pub(crate) version: i64,
}

impl Row {
    /// `None` where this binary does not know the definition, or can't read how the saga stands.
    pub(crate) fn known(&self, known: &Known) -> Option<(&'static Definition, Progress)> {
        let definition = known.definition(&self.definition, self.definition_version)?;
        let progress: Progress = self.progress.parse().ok()?;
        (progress.steps.len() == definition.steps.len()).then_some((definition, progress))
    }

    /// Whether it is the saga that settles the order itself, and not one of its refunds.
    pub(crate) fn settles_order(&self) -> bool {
        self.saga_id == definitions::saga_id(self.order_id, &self.definition)
    }

    fn instance(self, known: &Known) -> Result<Instance, Key> {
        let (definition, progress) = self.known(known).ok_or((self.order_id, self.saga_id))?;
        Ok(Instance {
            order_id: self.order_id,
            saga_id: self.saga_id,
            definition,
            created: Bytes::from(self.created),
            progress,
            kept: Kept {
                payment_id: self.payment_id,
                reservation_id: self.reservation_id,
                shipment_id: self.shipment_id,
                refunded_amount: self.refunded_amount,
            },
            reason: self.reason,
            deadline_at: self.deadline_at,
            trace: Trace { parent: self.traceparent, state: self.tracestate },
            started_at: self.started_at,
            updated_at: self.updated_at,
            version: self.version,
        })
    }
}

/// Loads and locks the sagas of these orders, which must be sorted, and which of these calls of operators are written down.
pub(crate) async fn load(db: &mut PgConnection, known: &Known, order_ids: &[Uuid], calls: &[Uuid]) -> sqlx::Result<Book> {
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from sagas where order_id = any($1) order by order_id, saga_id for no key update"
    ))
    .bind(order_ids)
    .fetch_all(&mut *db)
    .await?;
    let mut book = Book::default();
    for row in rows {
        match row.instance(known) {
            Ok(saga) => {
                book.sagas.insert((saga.order_id, saga.saga_id), saga);
            }
            Err(key) => {
                book.unknown.insert(key);
            }
        }
    }
    if !calls.is_empty() {
        let written_down = "select id from saga_operations where id = any($1)";
        book.known = sqlx::query_scalar(written_down).bind(calls).fetch_all(db).await?.into_iter().collect();
    }
    Ok(book)
}

/// What every row has of one field, for `unnest`.
fn each<'a, T>(sagas: &[&'a Instance], of: impl Fn(&'a Instance) -> T) -> Vec<T> {
    sagas.iter().map(|saga| of(saga)).collect()
}

pub(crate) async fn insert(db: &mut PgConnection, sagas: &[&Instance]) -> sqlx::Result<()> {
    if sagas.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "insert into sagas (",
        columns!(),
        ") select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::bytea[], $6::text[], $7::text[], $8::text[],
             $9::text[], $10::text[], $11::bigint[], $12::text[], $13::timestamptz[], $14::text[], $15::text[], $16::timestamptz[],
             $17::timestamptz[], $18::bigint[])"
    ))
    .bind(each(sagas, |saga| saga.order_id))
    .bind(each(sagas, |saga| saga.saga_id))
    .bind(each(sagas, |saga| saga.definition.name))
    .bind(each(sagas, |saga| saga.definition.version))
    .bind(each(sagas, |saga| &saga.created[..]))
    .bind(each(sagas, |saga| saga.progress.to_string()))
    .bind(each(sagas, |saga| saga.progress.state().as_str()))
    .bind(each(sagas, |saga| saga.kept.payment_id.as_str()))
    .bind(each(sagas, |saga| saga.kept.reservation_id.as_str()))
    .bind(each(sagas, |saga| saga.kept.shipment_id.as_str()))
    .bind(each(sagas, |saga| saga.kept.refunded_amount))
    .bind(each(sagas, |saga| saga.reason.as_str()))
    .bind(each(sagas, |saga| saga.deadline_at))
    .bind(each(sagas, |saga| saga.trace.parent.as_deref()))
    .bind(each(sagas, |saga| saga.trace.state.as_deref()))
    .bind(each(sagas, |saga| saga.started_at))
    .bind(each(sagas, |saga| saga.updated_at))
    .bind(each(sagas, |saga| saga.version))
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn update(db: &mut PgConnection, sagas: &[&Instance]) -> sqlx::Result<()> {
    if sagas.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update sagas set progress = later.progress, state = later.state, payment_id = later.payment_id,
             reservation_id = later.reservation_id, shipment_id = later.shipment_id, refunded_amount = later.refunded_amount,
             reason = later.reason, deadline_at = later.deadline_at, traceparent = later.traceparent, tracestate = later.tracestate,
             updated_at = later.updated_at, version = later.version
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[],
             $10::timestamptz[], $11::text[], $12::text[], $13::timestamptz[], $14::bigint[])
             as later (order_id, saga_id, progress, state, payment_id, reservation_id, shipment_id, refunded_amount, reason,
                 deadline_at, traceparent, tracestate, updated_at, version)
         where sagas.order_id = later.order_id and sagas.saga_id = later.saga_id",
    )
    .bind(each(sagas, |saga| saga.order_id))
    .bind(each(sagas, |saga| saga.saga_id))
    .bind(each(sagas, |saga| saga.progress.to_string()))
    .bind(each(sagas, |saga| saga.progress.state().as_str()))
    .bind(each(sagas, |saga| saga.kept.payment_id.as_str()))
    .bind(each(sagas, |saga| saga.kept.reservation_id.as_str()))
    .bind(each(sagas, |saga| saga.kept.shipment_id.as_str()))
    .bind(each(sagas, |saga| saga.kept.refunded_amount))
    .bind(each(sagas, |saga| saga.reason.as_str()))
    .bind(each(sagas, |saga| saga.deadline_at))
    .bind(each(sagas, |saga| saga.trace.parent.as_deref()))
    .bind(each(sagas, |saga| saga.trace.state.as_deref()))
    .bind(each(sagas, |saga| saga.updated_at))
    .bind(each(sagas, |saga| saga.version))
    .execute(db)
    .await?;
    Ok(())
}

/// What operators did. Few at a time, and none as a rule.
pub(crate) async fn insert_operations(db: &mut PgConnection, done: &[Done]) -> sqlx::Result<()> {
    for Done { id, order_id, saga_id, version, operation, who, reason, at } in done {
        sqlx::query(
            "insert into saga_operations (order_id, saga_id, version, id, kind, who, reason, at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(order_id)
        .bind(saga_id)
        .bind(version)
        .bind(id)
        .bind(operations::name(*operation))
        .bind(who)
        .bind(reason)
        .bind(at)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// A saga whose deadline has passed.
#[derive(sqlx::FromRow)]
pub(crate) struct Due {
    pub(crate) order_id: Uuid,
    pub(crate) saga_id: Uuid,
    pub(crate) deadline_at: OffsetDateTime,
    pub(crate) traceparent: Option<String>,
    pub(crate) tracestate: Option<String>,
    pub(crate) started_at: OffsetDateTime,
}

/// Sagas of other versions are whose binary knows them: they would stay due here, and be in the way of those that began later.
const DUE: &str = "select order_id, saga_id, deadline_at, traceparent, tracestate, started_at from sagas
     where open and started_at <= now() - make_interval(secs => $1) and deadline_at <= now() and (started_at, saga_id) > ($2, $3)
         and (definition, definition_version) in (select * from unnest($4::text[], $5::int[]))
     order by started_at, saga_id limit $6";

/// Those of these definitions that are due, the oldest first, from behind this place. A saga that began within `first_ms` has no deadline
/// that could have passed.
pub(crate) async fn due(
    pool: &PgPool,
    known: &Known,
    first_ms: u64,
    behind: (OffsetDateTime, Uuid),
    limit: usize,
) -> sqlx::Result<Vec<Due>> {
    sqlx::query_as(DUE)
        .bind(std::time::Duration::from_millis(first_ms).as_secs_f64())
        .bind(behind.0)
        .bind(behind.1)
        .bind(known.all().map(|known| known.name).collect::<Vec<_>>())
        .bind(known.all().map(|known| known.version).collect::<Vec<_>>())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await
}

/// Asking again failed for this saga alone: lists it for a person instead of failing again for ever. A late answer still moves
/// it on.
pub(crate) async fn set_aside(pool: &PgPool, due: &Due) -> sqlx::Result<()> {
    sqlx::query(
        "update sagas set state = 'NEEDS_ATTENTION', deadline_at = null, updated_at = now(), version = version + 1
         where order_id = $1 and saga_id = $2 and deadline_at = $3",
    )
    .bind(due.order_id)
    .bind(due.saga_id)
    .bind(due.deadline_at)
    .execute(pool)
    .await?;
    Ok(())
}

/// Sagas of one version that are not over.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Live {
    pub definition: String,
    pub version: i32,
    /// Steps that their progress has.
    pub steps: i32,
    pub sagas: i64,
    /// When the oldest of them began.
    pub since: OffsetDateTime,
}

impl Live {
    /// Whether this binary can go on with them.
    #[must_use]
    pub fn is_known(&self, known: &Known) -> bool {
        let known = known.definition(&self.definition, self.version);
        known.is_some_and(|known| i32::try_from(known.steps.len()) == Ok(self.steps))
    }
}

/// What is not over in a database of the orchestrator, also in one that an older binary has made.
pub async fn live(db: &mut PgConnection) -> sqlx::Result<Vec<Live>> {
    sqlx::query_as(
        "select definition, definition_version as version, cardinality(string_to_array(split_part(progress, ' ', 1), ',')) as steps,
             count(*) as sagas, min(started_at) as since
         from sagas where open group by 1, 2, 3 order by 1, 2, 3",
    )
    .fetch_all(db)
    .await
}

/// Orders of these sagas, the oldest first, and no more than so many.
pub async fn orders_of(db: &mut PgConnection, live: &Live, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select order_id from sagas where open and definition = $1 and definition_version = $2
             and cardinality(string_to_array(split_part(progress, ' ', 1), ',')) = $3
         order by started_at, saga_id limit $4",
    )
    .bind(&live.definition)
    .bind(live.version)
    .bind(live.steps)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// Writes down the shapes of the versions that the database does not remember yet; of several binaries the first counts.
pub(crate) async fn remember(pool: &PgPool, definitions: &'static [Definition]) -> sqlx::Result<Known> {
    let mut db = pool.acquire().await?;
    sqlx::query(
        "insert into saga_definitions (definition, version, shape)
         select * from unnest($1::text[], $2::int[], $3::text[]) order by 1, 2 on conflict do nothing",
    )
    .bind(definitions.iter().map(|one| one.name).collect::<Vec<_>>())
    .bind(definitions.iter().map(|one| one.version).collect::<Vec<_>>())
    .bind(definitions.iter().map(Definition::shape).collect::<Vec<_>>())
    .execute(&mut *db)
    .await?;
    known(&mut db, definitions).await
}

/// These definitions, held against what the database remembers. One that an older binary has made remembers nothing.
pub(crate) async fn known(db: &mut PgConnection, definitions: &'static [Definition]) -> sqlx::Result<Known> {
    let remembers: bool = sqlx::query_scalar("select to_regclass('saga_definitions') is not null").fetch_one(&mut *db).await?;
    let remembered = match remembers {
        true => sqlx::query_as("select definition, version, shape from saga_definitions").fetch_all(db).await?,
        false => Vec::new(),
    };
    Ok(Known::new(definitions, &remembered))
}

#[cfg(test)]
pub(crate) mod tests;
