//! Outboxes without holes, readers that have read them to the end, and nothing set aside.

use std::collections::{BTreeMap, HashMap};

use contracts::topic;
use uuid::Uuid;

use super::{Books, facts::all};

/// Who reads what, as DESIGN.md's table has it. Groups bear the names of their services.
const READERS: [(&str, &[&str]); 6] = [
    ("order", &[topic::ORDER_COMMANDS, topic::PRODUCT_EVENTS]),
    ("orchestrator", &[topic::ORDER_EVENTS, topic::PAYMENT_EVENTS, topic::INVENTORY_EVENTS, topic::SHIPPING_EVENTS]),
    ("payment", &[topic::PAYMENT_COMMANDS]),
    ("inventory", &[topic::INVENTORY_COMMANDS, topic::ORDER_EVENTS]),
    ("shipping", &[topic::SHIPPING_COMMANDS, topic::ORDER_EVENTS]),
    ("notification", &[topic::ORDER_EVENTS, topic::SHIPPING_EVENTS]),
];

/// The last record of each stream.
pub(super) type Heads = BTreeMap<(String, i32), (i64, Uuid)>;

pub(super) async fn heads(books: &mut Books) -> Heads {
    let mut heads = Heads::new();
    for (service, _) in READERS {
        let sql = "select distinct on (topic, partition) topic, partition, seq, id from outbox order by topic, partition, seq desc";
        let rows: Vec<(String, i32, i64, Uuid)> = all(books.of(service), sql).await;
        heads.extend(rows.into_iter().map(|(topic, partition, seq, id)| ((topic, partition), (seq, id))));
    }
    heads
}

pub(super) async fn check(books: &mut Books) -> Vec<String> {
    let mut found = Vec::new();
    for (service, _) in READERS {
        chained(books, service, &mut found).await;
        in_its_partition(books, service, &mut found).await;
        set_aside(books, service, &mut found).await;
    }
    let heads = heads(books).await;
    found.extend(behind(books, &heads).await);
    found.extend(unpublished(books).await);
    found
}

async fn chained(books: &mut Books, service: &str, found: &mut Vec<String>) {
    // The oldest row that is kept may name a predecessor that is not.
    let sql = "select topic, partition, max(seq) - min(seq) + 1 - count(*) as missing,
                   count(*) filter (where prev is distinct from before and (before is not null or seq = 1)) as broken,
                   count(*) - count(distinct id) as repeated
               from (select topic, partition, seq, id, prev, lag(id) over (partition by topic, partition order by seq) as before
                     from outbox) chain
               group by topic, partition";
    let rows: Vec<(String, i32, i64, i64, i64)> = all(books.of(service), sql).await;
    for (topic, partition, missing, broken, repeated) in rows {
        let stream = format!("{topic}/{partition}");
        if !topic::WRITERS.iter().chain(topic::COPIES).any(|written| *written == (topic.as_str(), service)) {
            found.push(format!("{service} writes {stream}, which is not its own"));
        }
        if missing != 0 {
            found.push(format!("{stream} has holes: {missing} records are missing"));
        }
        if broken != 0 {
            found.push(format!("{stream} has {broken} records with another prev than the record before"));
        }
        if repeated != 0 {
            found.push(format!("{stream} has {repeated} ids twice"));
        }
    }
}

/// All records of a key are in one stream, the one that every producer in any language would choose.
async fn in_its_partition(books: &mut Books, service: &str, found: &mut Vec<String>) {
    let count: Vec<(i32,)> = all(books.of(service), "select partitions from stream_settings").await;
    let Some((count,)) = count.first().copied() else { return };
    let rows: Vec<(String, i32, String)> = all(books.of(service), "select distinct topic, partition, key from outbox").await;
    for (topic, partition, key) in rows {
        if messaging::partition_of(&key, count) != partition {
            found.push(format!("{key} is in {topic}/{partition}, it belongs into {}", messaging::partition_of(&key, count)));
        }
    }
}

async fn set_aside(books: &mut Books, service: &str, found: &mut Vec<String>) {
    let sql = "select consumer, topic, key, state, reason from dead_letter_events where state <> 'DONE' order by id limit 20";
    let rows: Vec<(String, String, String, String, String)> = all(books.of(service), sql).await;
    for (consumer, topic, key, state, reason) in rows {
        found.push(format!("dead letter: {consumer} holds back {topic} of {key}, {state}: {reason}"));
    }
}

/// Groups that have not read their streams to the end.
pub(super) async fn behind(books: &mut Books, heads: &Heads) -> Vec<String> {
    let mut found = Vec::new();
    for (service, topics) in READERS {
        let rows: Vec<(String, String, i32, i64, Option<Uuid>)> =
            all(books.of(service), "select grp, topic, partition, seq, last_id from progress").await;
        let places: HashMap<_, _> =
            rows.into_iter().map(|(group, topic, partition, seq, id)| ((group, (topic, partition)), (seq, id))).collect();
        for (stream, (seq, id)) in heads.iter().filter(|((topic, _), _)| topics.contains(&topic.as_str())) {
            let place = places.get(&(service.to_owned(), stream.clone()));
            if place != Some(&(*seq, Some(*id))) {
                found.push(format!("{service} is at {place:?} of {}/{}, which ends at {seq} {id}", stream.0, stream.1));
            }
        }
    }
    found
}

/// Records that the relay has not brought to Kafka.
pub(super) async fn unpublished(books: &mut Books) -> Vec<String> {
    let mut found = Vec::new();
    for (service, _) in READERS {
        let sql = "select topic, count(*) from outbox_published where published_at is null group by topic";
        let rows: Vec<(String, i64)> = all(books.of(service), sql).await;
        found.extend(rows.into_iter().map(|(topic, count)| format!("{count} records of {topic} are not published")));
    }
    found
}
