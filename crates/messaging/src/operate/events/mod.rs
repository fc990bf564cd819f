//! Looking at single records: what an outbox has, and what became of one.

mod store;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Record, Stream};

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these topics; of all where there is none.
    pub topics: Vec<String>,
    /// With this key or correlation.
    pub about: Option<String>,
    /// Of this type, by its full name or the last part of it.
    pub type_name: Option<String>,
}

impl Filter {
    /// Whether this topic is wanted.
    #[must_use]
    pub fn takes_topic(&self, topic: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|wanted| wanted == topic)
    }

    /// Whether this record is wanted.
    #[must_use]
    pub fn takes(&self, record: &Record) -> bool {
        let about = |wanted: &String| record.key == *wanted || record.correlation == *wanted;
        let of_type = |wanted: &String| {
            let last = record.type_name.rsplit('.').next();
            record.type_name == *wanted || last == Some(wanted.as_str())
        };
        self.takes_topic(&record.stream.topic)
            && self.about.as_ref().is_none_or(about)
            && self.type_name.as_ref().is_none_or(of_type)
    }
}

/// What a group has made of a record, as far as its database tells.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    /// Which group.
    pub group: String,
    /// Whether it is past the record's place in the stream; none if it does not read the stream.
    pub passed: Option<bool>,
    /// When it was applied; known only of what has no place in a stream.
    pub processed_at: Option<OffsetDateTime>,
    /// How it was held back, the last time if more than once.
    pub held: Option<Holding>,
}

/// A row of the dead letters.
#[derive(Clone, Debug)]
pub struct Holding {
    /// As the table has it: EARLY, WAITING, PARKED, READY, DONE …
    pub state: String,
    /// Why it was held back.
    pub reason: String,
    /// Since when.
    pub failed_at: OffsetDateTime,
}

/// What is wanted behind these places, in the order of each stream, at most `limit` records a stream.
pub async fn after(db: &mut PgConnection, places: &[(Stream, i64)], filter: &Filter, limit: i64) -> sqlx::Result<Vec<Record>> {
    store::after(db, places, filter, limit).await
}

/// The newest that is wanted, in the order of each stream, at most `limit` records a stream.
pub async fn newest(db: &mut PgConnection, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Record>> {
    let streams: Vec<(Stream, i64)> = super::store::extents(db)
        .await?
        .into_iter()
        .filter(|extent| filter.takes_topic(&extent.stream.topic))
        .map(|extent| (extent.stream, 0))
        .collect();
    let mut records = store::newest(db, &streams, filter, limit).await?;
    records.reverse();
    Ok(records)
}

/// The record with this id, if the outbox has it. Ids are not indexed, so all rows may be read, for no longer than `scan_ms_max`: then it
/// fails with SQLSTATE 57014.
pub async fn find(db: &mut PgConnection, id: Uuid, scan_ms_max: u32) -> sqlx::Result<Option<Record>> {
    store::find(db, id, scan_ms_max).await
}

/// What the groups of a database have made of a record: those that read its stream, and those that remember its id. A record that no outbox
/// has has no place.
pub async fn receptions(db: &mut PgConnection, id: Uuid, place: Option<(&Stream, i64)>) -> sqlx::Result<Vec<Reception>> {
    store::receptions(db, id, place).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Trace;

    fn record() -> Record {
        Record {
            stream: Stream { topic: "order.events".into(), partition: 0 },
            place: None,
            kafka_offset: None,
            id: Uuid::nil(),
            key: "sku".into(),
            type_name: "shop.v1.Sold".into(),
            payload: Bytes::new(),
            at: OffsetDateTime::UNIX_EPOCH,
            correlation: "order".into(),
            causation: None,
            trace: Trace::default(),
        }
    }

    #[test]
    fn a_record_is_taken_when_all_fits() {
        let about = |about: &str| Filter { about: Some(about.into()), ..Filter::default() }.takes(&record());
        assert!(about("sku") && about("order") && !about("other"));
        let of_type = |name: &str| Filter { type_name: Some(name.into()), ..Filter::default() }.takes(&record());
        assert!(of_type("Sold") && of_type("shop.v1.Sold") && !of_type("old") && !of_type("v1.Sold"));
        let on = |topic: &str| Filter { topics: vec![topic.into()], ..Filter::default() }.takes(&record());
        assert!(on("order.events") && !on("order"));
        assert!(Filter::default().takes(&record()));
    }
}
