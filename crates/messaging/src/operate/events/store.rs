//! SQL of single records.

use std::collections::BTreeMap;

use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::{Filter, Holding, Reception};
use crate::{Record, Stream, outbox::store::record};

/// Records that a filter ($4, $5) lets through: of these streams ($1, $2), behind this place of each, in this order, so many ($3) of each.
macro_rules! records {
    ($streams:literal, $behind:literal, $order:literal) => {
        concat!(
            "select o.topic, o.partition, o.seq, o.prev, o.id, o.key, o.type, o.payload, o.at, o.correlation, o.causation,
                 o.traceparent, o.tracestate
             from ",
            $streams,
            " cross join lateral (
                 select * from outbox
                 where topic = s.topic and partition = s.partition",
            $behind,
            "
                     and ($4::text is null or key = $4 or correlation = $4)
                     and ($5::text is null or type = $5 or (strpos($5, '.') = 0 and right(type, length($5) + 1) = '.' || $5))
                 order by seq",
            $order,
            " limit $3
             ) o
             order by o.topic, o.partition, o.seq",
            $order
        )
    };
}

pub(super) async fn after(
    db: &mut PgConnection,
    places: &[(Stream, i64)],
    filter: &Filter,
    limit: i64,
) -> sqlx::Result<Vec<Record>> {
    let (topics, partitions, seqs) = columns(places);
    let rows =
        sqlx::query(records!("unnest($1::text[], $2::int[], $6::bigint[]) as s(topic, partition, seq)", " and seq > s.seq", ""))
            .bind(topics)
            .bind(partitions)
            .bind(limit)
            .bind(filter.about.as_deref())
            .bind(filter.type_name.as_deref())
            .bind(seqs)
            .fetch_all(db)
            .await?;
    rows.iter().map(record).collect()
}

/// The newest first.
pub(super) async fn newest(
    db: &mut PgConnection,
    streams: &[(Stream, i64)],
    filter: &Filter,
    limit: i64,
) -> sqlx::Result<Vec<Record>> {
    let (topics, partitions, _) = columns(streams);
    let rows = sqlx::query(records!("unnest($1::text[], $2::int[]) as s(topic, partition)", "", " desc"))
        .bind(topics)
        .bind(partitions)
        .bind(limit)
        .bind(filter.about.as_deref())
        .bind(filter.type_name.as_deref())
        .fetch_all(db)
        .await?;
    rows.iter().map(record).collect()
}

pub(super) async fn find(db: &mut PgConnection, id: Uuid, scan_ms_max: u32) -> sqlx::Result<Option<Record>> {
    let mut tx = db.begin().await?;
    sqlx::query("select set_config('statement_timeout', $1, true)").bind(scan_ms_max.to_string()).execute(&mut *tx).await?;
    let row = sqlx::query(
        "select topic, partition, seq, prev, id, key, type, payload, at, correlation, causation, traceparent, tracestate
         from outbox where id = $1 limit 1",
    )
    .bind(id)
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    row.as_ref().map(record).transpose()
}

pub(super) async fn receptions(db: &mut PgConnection, id: Uuid, place: Option<(&Stream, i64)>) -> sqlx::Result<Vec<Reception>> {
    let mut groups = BTreeMap::new();
    if let Some((stream, seq)) = place {
        // At the record's own place its id must be the one that was read.
        let readers: Vec<(String, bool)> =
            sqlx::query_as("select grp, seq > $3 or (seq = $3 and last_id = $4) from progress where topic = $1 and partition = $2")
                .bind(&stream.topic)
                .bind(stream.partition)
                .bind(seq)
                .bind(id)
                .fetch_all(&mut *db)
                .await?;
        for (group, passed) in readers {
            entry(&mut groups, group).passed = Some(passed);
        }
    }
    let processed =
        sqlx::query("select consumer, processed_at from processed_events where event_id = $1").bind(id).fetch_all(&mut *db).await?;
    for row in &processed {
        entry(&mut groups, row.try_get(0)?).processed_at = row.try_get(1)?;
    }
    let held = sqlx::query("select consumer, state, reason, failed_at from dead_letter_events where event_id = $1 order by id")
        .bind(id)
        .fetch_all(&mut *db)
        .await?;
    for row in &held {
        let holding = Holding { state: row.try_get(1)?, reason: row.try_get(2)?, failed_at: row.try_get(3)? };
        entry(&mut groups, row.try_get(0)?).held = Some(holding);
    }
    Ok(groups.into_values().collect())
}

fn entry(groups: &mut BTreeMap<String, Reception>, group: String) -> &mut Reception {
    groups.entry(group.clone()).or_insert_with(|| Reception { group, ..Reception::default() })
}

fn columns(places: &[(Stream, i64)]) -> (Vec<&str>, Vec<i32>, Vec<i64>) {
    let topics = places.iter().map(|(stream, _)| stream.topic.as_str()).collect();
    let partitions = places.iter().map(|(stream, _)| stream.partition).collect();
    (topics, partitions, places.iter().map(|(_, seq)| *seq).collect())
}
