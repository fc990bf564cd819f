//! SQL of ranges. Their tables are made by a function of the database, which the migration used too: one place knows their form.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::{Extent, Range, missing};
use crate::{Record, Stream, outbox::store::columns};

/// A range with its table.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) relation: String,
    pub(crate) topic: String,
    pub(crate) range: Range,
    pub(crate) made_ago_s: i64,
    /// To be dropped, whatever became of that so far.
    pub(crate) dropping: bool,
    pub(crate) place: Attached,
}

/// Whether the table of a range is part of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    Yes,
    /// Its detaching was begun, and not finished: nobody reads it any more.
    Pending,
    No,
}

/// All ranges there are, those of each topic in their order.
pub(crate) async fn all(db: &mut PgConnection) -> sqlx::Result<Vec<Kept>> {
    let rows = sqlx::query(
        "select r.relation, r.topic, r.first_seq, r.end_seq, extract(epoch from now() - r.made_at)::bigint, r.dropping, i.inhdetachpending
         from outbox_ranges r
         left join pg_inherits i on i.inhrelid = to_regclass(r.relation) and i.inhparent = to_regclass('outbox')
         order by r.topic, r.first_seq",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Kept {
                relation: row.try_get(0)?,
                topic: row.try_get(1)?,
                range: Range { first: row.try_get(2)?, end: row.try_get(3)? },
                made_ago_s: row.try_get(4)?,
                dropping: row.try_get(5)?,
                place: match row.try_get::<Option<bool>, _>(6)? {
                    Some(false) => Attached::Yes,
                    Some(true) => Attached::Pending,
                    None => Attached::No,
                },
            })
        })
        .collect()
}

/// Every stream of every topic that has a range: where it ends, and who is the slowest to read it. Where a relay copies to Kafka it is a
/// reader as well.
pub(crate) async fn extents(db: &mut PgConnection) -> sqlx::Result<BTreeMap<String, Vec<Extent>>> {
    let rows = sqlx::query(
        "select t.topic, coalesce(l.seq, 0), least(r.seq, case when b.bus = 'kafka' then coalesce(k.seq, 0) end)
         from (select distinct topic from outbox_ranges) t
         cross join generate_series(0, (select partitions from stream_settings) - 1) as p(partition)
         left join lateral (
             select seq from outbox where topic = t.topic and partition = p.partition order by seq desc limit 1
         ) l on true
         left join (select topic, partition, min(seq) as seq from readers group by topic, partition) r
             on r.topic = t.topic and r.partition = p.partition
         left join relay k on k.topic = t.topic and k.partition = p.partition
         left join stream_bus b on b.one
         order by t.topic, p.partition",
    )
    .fetch_all(db)
    .await?;
    let mut extents: BTreeMap<String, Vec<Extent>> = BTreeMap::new();
    for row in &rows {
        extents.entry(row.try_get(0)?).or_default().push(Extent { last: row.try_get(1)?, slowest: row.try_get(2)? });
    }
    Ok(extents)
}

/// Where these streams end; those that have no record yet are left out.
pub(crate) async fn ends(db: &mut PgConnection, streams: &[Stream]) -> sqlx::Result<BTreeMap<Stream, i64>> {
    let (topics, partitions) = columns(streams);
    let rows = sqlx::query(
        "select s.topic, s.partition, o.seq
         from unnest($1::text[], $2::int[]) as s(topic, partition)
         cross join lateral (
             select seq from outbox where topic = s.topic and partition = s.partition order by seq desc limit 1
         ) o",
    )
    .bind(topics)
    .bind(partitions)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((Stream { topic: row.try_get(0)?, partition: row.try_get(1)? }, row.try_get(2)?))).collect()
}

/// Whoever makes ranges, gives them up, or joins as a reader does so alone, until the end of the transaction.
pub(crate) async fn lock(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('outbox_ranges'), 0)").execute(db).await?;
    Ok(())
}

/// Makes what is missing so that each topic has room for the sequence number given for it, and for more. How many ranges that were.
pub(crate) async fn cover(db: &mut PgConnection, next: &BTreeMap<String, i64>, rows: i64) -> sqlx::Result<usize> {
    let kept = all(db).await?;
    let mut made = 0;
    for (topic, next) in next {
        let ranges: Vec<Range> = kept.iter().filter(|kept| kept.topic == *topic).map(|kept| kept.range).collect();
        for Range { first, end } in missing(&ranges, *next, rows) {
            let new: bool = sqlx::query_scalar("select make_outbox_range($1, $2, $3)")
                .bind(topic)
                .bind(first)
                .bind(end)
                .fetch_one(&mut *db)
                .await?;
            made += usize::from(new);
        }
    }
    Ok(made)
}

/// Whether rows could not be inserted because there is no range for them: nobody's fault, ranges are made and the batch repeated. Gives the
/// last sequence number that each topic has to have room for, as [`cover`] wants it.
pub(crate) fn without_range(error: &sqlx::Error, records: &[impl AsRef<Record>]) -> Option<BTreeMap<String, i64>> {
    let error = error.as_database_error()?;
    // A check of the rows' own has a name.
    if error.code()? != "23514" || error.constraint().is_some() || error.table() != Some("outbox") {
        return None;
    }
    let mut last = BTreeMap::new();
    for record in records.iter().map(AsRef::as_ref) {
        let seq: &mut i64 = last.entry(record.stream.topic.clone()).or_default();
        *seq = record.place.map_or(0, |place| place.seq).max(*seq);
    }
    Some(last)
}
