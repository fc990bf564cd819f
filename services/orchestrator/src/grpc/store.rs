//! SQL that shows sagas.

use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{Row, columns};

/// How far a list looks at a time, at most, for rows that its filter lets through.
const LOOK_ROWS_MAX: i64 = 10_000;
/// How many sagas of an order are looked through for the one that settles it; it is among the first.
const OF_ORDER_ROWS_MAX: i64 = 100;
/// What is shown of what operators did to a saga: the last.
const DONE_ROWS_MAX: i64 = 100;

/// This saga of an order; where none is named, the one that settles the order itself.
pub(super) async fn one(pool: &PgPool, order_id: Uuid, saga_id: Option<Uuid>) -> sqlx::Result<Option<Row>> {
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from sagas where order_id = $1 and ($2 is null or saga_id = $2) order by started_at, saga_id limit $3"
    ))
    .bind(order_id)
    .bind(saga_id)
    .bind(OF_ORDER_ROWS_MAX)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().find(|row| saga_id.is_some() || row.settles_order()))
}

/// What an operator did, as it is shown.
#[derive(sqlx::FromRow)]
pub(super) struct Shown {
    pub(super) kind: String,
    pub(super) who: String,
    pub(super) reason: String,
    pub(super) at: OffsetDateTime,
}

/// The last that operators did to this saga, the oldest first.
pub(super) async fn operations_on(pool: &PgPool, row: &Row) -> sqlx::Result<Vec<Shown>> {
    let mut shown: Vec<Shown> = sqlx::query_as(
        "select kind, who, reason, at from saga_operations where order_id = $1 and saga_id = $2 order by version desc limit $3",
    )
    .bind(row.order_id)
    .bind(row.saga_id)
    .bind(DONE_ROWS_MAX)
    .fetch_all(pool)
    .await?;
    shown.reverse();
    Ok(shown)
}

/// Which sagas are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Empty for any.
    pub(super) state: &'static str,
    /// Empty for any.
    pub(super) definition: String,
    /// Held up by one of these steps, not answered or refused: definition, version, place from 1. `None` for any.
    pub(super) held_up_by: Option<Vec<(&'static str, i32, i32)>>,
    pub(super) age_s_min: Option<f64>,
    pub(super) paused: Option<bool>,
    /// Only what is not over.
    pub(super) open: bool,
}

/// A place in a list: when a saga began, and its id.
pub(super) type Place = (OffsetDateTime, Uuid);

/// Of the open ones or of those that are over, the newest that began before the place and are old enough, and no more than are looked at.
macro_rules! half {
    ($columns:literal, $which:literal) => {
        concat!(
            "(select ",
            $columns,
            " from sagas where ",
            $which,
            " and (started_at, saga_id) < (least($1, now() - make_interval(secs => $3)), $2)
             order by started_at desc, saga_id desc limit $4)"
        )
    };
}

macro_rules! halves {
    ($columns:literal) => {
        concat!("(", half!($columns, "open and $5"), " union all ", half!($columns, "not open and $6"), ") as halves")
    };
}

/// Sagas that began before this place, the newest first, and the place to go on from if there may be more. Those that are open and those
/// that are over have an index each, so that the few which need a person are found among millions; a half that cannot have the state is
/// not looked at. A filter that lets few through is looked for in so many rows and no more: then there is a place to go on from, and
/// perhaps no saga.
pub(super) async fn list(pool: &PgPool, filter: &Filter, before: Place, limit: i64) -> sqlx::Result<(Vec<Row>, Option<Place>)> {
    let Filter { state, definition, held_up_by, age_s_min, paused, open } = filter;
    let column =
        |of: fn(&(&'static str, i32, i32)) -> i32| held_up_by.as_ref().map(|steps| steps.iter().map(of).collect::<Vec<_>>());
    let (among_open, among_over) = (!matches!(*state, "DONE" | "UNDONE"), !*open);
    let mut rows: Vec<Row> = sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from (
             select * from ",
        halves!("*"),
        " order by started_at desc, saga_id desc limit $4
         ) as newest
         where ($7 = '' or state = $7) and ($8 = '' or definition = $8)
             and ($9::bool is null or (progress like '% paused%') = $9)
             and ($10::text[] is null or exists (
                 select from unnest($10, $11::int[], $12::int[]) as step (definition, version, place)
                 where step.definition = newest.definition and step.version = newest.definition_version
                     and split_part(progress, ' ', 2) || ' ' || left(split_part(split_part(progress, ' ', 1), ',', step.place), 1)
                         in ('forward A', 'forward R', 'unwinding U', 'unwinding X')
             ))
         order by started_at desc, saga_id desc limit $13"
    ))
    .bind(before.0)
    .bind(before.1)
    .bind(*age_s_min)
    .bind(LOOK_ROWS_MAX)
    .bind(among_open)
    .bind(among_over)
    .bind(*state)
    .bind(definition.as_str())
    .bind(*paused)
    .bind(held_up_by.as_ref().map(|steps| steps.iter().map(|(definition, ..)| *definition).collect::<Vec<_>>()))
    .bind(column(|(_, version, _)| *version))
    .bind(column(|(.., place)| *place))
    .bind(limit.saturating_add(1))
    .fetch_all(pool)
    .await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() > size {
        rows.truncate(size);
        let last = rows.last().map(|last| (last.started_at, last.saga_id));
        return Ok((rows, last));
    }
    let more = sqlx::query_as(concat!(
        "select started_at, saga_id from ",
        halves!("started_at, saga_id"),
        " order by started_at desc, saga_id desc offset $4 - 1 limit 1"
    ))
    .bind(before.0)
    .bind(before.1)
    .bind(*age_s_min)
    .bind(LOOK_ROWS_MAX)
    .bind(among_open)
    .bind(among_over)
    .fetch_optional(pool)
    .await?;
    Ok((rows, more))
}

#[cfg(test)]
mod tests;
