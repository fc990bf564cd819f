//! One batch, one transaction: progress, parking, load → decide → save, news, commit.

use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use sha2::{Digest, Sha256};
use sqlx::{Acquire, PgConnection};
use uuid::Uuid;

use crate::{
    Decision, Envelope, Handler, Record, Refused, Stream, Verdict,
    fault::{Culprit, Fault},
    outbox::{self, Outgoing},
    parking::{self, Held, Shelf},
    progress::{self, store::Move},
    runner::{Item, Origin, Work},
};

/// What a batch needs to know of its group.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) instance: Uuid,
    pub(crate) partitions: i32,
    pub(crate) lease_ms: i64,
}

/// What a committed batch came to.
pub(crate) struct Settled<H: Handler> {
    /// By index of the item: what a caller is told. Items that were held back or skipped are not in it.
    pub(crate) answers: Vec<(usize, Result<H::Answer, H::Refusal>)>,
    /// Topics that have something new.
    pub(crate) topics: Vec<&'static str>,
    pub(crate) applied: u64,
    pub(crate) skipped: u64,
    pub(crate) parked: u64,
}

/// Settles the items in one transaction. On a fault nothing of it has happened; after a failed commit it may have, and the same batch again
/// tells (its streams have then moved).
pub(crate) async fn settle<H: Handler>(
    db: &mut PgConnection,
    handler: &H,
    group: &Group,
    items: &[&Item<H>],
) -> Result<Settled<H>, Fault> {
    let mut tx = db.begin().await?;
    let holding = advance(&mut tx, group, items).await?;
    let repeats = repeats(&mut tx, group, items).await?;
    let mut shelf = match holding {
        true => Shelf::new(parking::store::held(&mut tx, group.name, &keys(items)).await?),
        false => Shelf::default(),
    };

    let early: Vec<Box<Item<H>>> = items
        .iter()
        .flat_map(|item| shelf.early(&item.key))
        .map(|row| Item::heard(handler, group.name, Origin::Early(Box::new(row))))
        .collect();
    let envelopes: Vec<&Envelope<H::Input>> =
        items.iter().copied().chain(early.iter().map(Box::as_ref)).filter_map(Item::input).collect();
    let mut desk = Desk { group: group.name, news: Vec::new(), answers: Vec::new(), applied: 0, skipped: 0, parked: 0 };
    if envelopes.is_empty() {
        desk.decide_all(handler, None::<&mut H::State>, items, &early, &repeats, &mut shelf)?;
    } else {
        let mut state = handler.load(&mut tx, &envelopes).await?;
        desk.decide_all(handler, Some(&mut state), items, &early, &repeats, &mut shelf)?;
        handler.save(&mut tx, state).await?;
    }

    if !shelf.done.is_empty() {
        parking::store::settle(&mut tx, &shelf.done).await?;
    }
    if !shelf.added.is_empty() {
        parking::store::hold(&mut tx, group.name, std::mem::take(&mut shelf.added)).await?;
    }
    let topics = outbox::append(&mut tx, group.partitions, desk.news).await?;
    tx.commit().await?;
    Ok(Settled { answers: desk.answers, topics, applied: desk.applied, skipped: desk.skipped, parked: desk.parked })
}

/// Moves the batch's streams, all or nothing; whether the group holds anything back.
async fn advance<H: Handler>(db: &mut PgConnection, group: &Group, items: &[&Item<H>]) -> Result<bool, Fault> {
    let mut moves: BTreeMap<&Stream, Move> = BTreeMap::new();
    let mut broken = HashSet::new();
    let mut holding = false;
    for item in items {
        match &item.origin {
            Origin::Stream { record, before, after, .. } => {
                let step = moves.entry(&record.stream).or_insert_with(|| Move {
                    stream: record.stream.clone(),
                    before: *before,
                    after: *before,
                });
                if step.after.seq != before.seq || step.after.last_id != before.last_id {
                    broken.insert(record.stream.clone());
                }
                step.after = *after;
            }
            // A redriven or repeated record moves no stream, and may meet what is held back.
            Origin::Ready(_) | Origin::Again(_) => holding = true,
            Origin::Call(_) | Origin::Early(_) => {}
        }
    }
    if !broken.is_empty() {
        return Err(Fault::Moved(broken.into_iter().collect()));
    }
    if moves.is_empty() {
        return Ok(holding);
    }
    let moves: Vec<Move> = moves.into_values().collect();
    let (moved, held) = progress::store::advance(db, group.name, group.instance, group.lease_ms, &moves).await?;
    if moved.len() < moves.len() {
        return Err(Fault::Moved(moves.into_iter().map(|m| m.stream).filter(|stream| !moved.contains(stream)).collect()));
    }
    Ok(holding || held)
}

/// Dedupe of records without a place in a stream: what each of them is, by id.
async fn repeats<H: Handler>(db: &mut PgConnection, group: &Group, items: &[&Item<H>]) -> Result<Repeats, Fault> {
    let foreign: Vec<&Record> = items.iter().filter_map(|item| item.record()).filter(|record| record.place.is_none()).collect();
    let mut repeats = Repeats::default();
    if foreign.is_empty() {
        return Ok(repeats);
    }
    let mut fresh: BTreeMap<Uuid, Vec<u8>> = BTreeMap::new();
    for record in &foreign {
        fresh.entry(record.id).or_insert_with(|| hash(record));
    }
    let (ids, hashes): (Vec<Uuid>, Vec<Vec<u8>>) = fresh.clone().into_iter().unzip();
    repeats.known = progress::store::remember(db, group.name, &ids, &hashes).await?.into_iter().collect();
    Ok(repeats)
}

fn hash(record: &Record) -> Vec<u8> {
    Sha256::digest(&record.payload).to_vec()
}

/// Foreign records that were applied before, with the hash of what they said then.
#[derive(Default)]
struct Repeats {
    known: BTreeMap<Uuid, Vec<u8>>,
}

impl Repeats {
    /// `Some(true)`: the same again. `Some(false)`: the same id with another payload.
    fn of(&mut self, record: &Record) -> Option<bool> {
        if record.place.is_some() {
            return None;
        }
        match self.known.get(&record.id) {
            Some(known) => Some(*known == hash(record)),
            None => {
                self.known.insert(record.id, hash(record));
                None
            }
        }
    }
}

fn keys<'a, H: Handler>(items: &'a [&Item<H>]) -> Vec<&'a str> {
    let mut keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What comes out while a batch is decided.
struct Desk<H: Handler> {
    group: &'static str,
    news: Vec<Outgoing>,
    answers: Vec<(usize, Result<H::Answer, H::Refusal>)>,
    applied: u64,
    skipped: u64,
    parked: u64,
}

impl<H: Handler> Desk<H> {
    fn decide_all(
        &mut self,
        handler: &H,
        mut state: Option<&mut H::State>,
        items: &[&Item<H>],
        early: &[Box<Item<H>>],
        repeats: &Repeats,
        shelf: &mut Shelf,
    ) -> Result<(), Fault> {
        let mut repeats = Repeats { known: repeats.known.clone() };
        for (index, item) in items.iter().enumerate() {
            if let Some(record) = item.record() {
                match repeats.of(record) {
                    Some(true) => {
                        self.skipped += 1;
                        continue;
                    }
                    Some(false) => {
                        self.hold(shelf, Held::Parked, "PAYLOAD_MISMATCH: this id came before with another payload".into(), record);
                        continue;
                    }
                    None => {}
                }
                if let Origin::Ready(row) = &item.origin {
                    if !shelf.has(&item.key, row.id) {
                        continue;
                    }
                } else if let Some(held) = shelf.holds(record) {
                    self.hold(shelf, held, "behind an earlier record of its key".into(), record);
                    continue;
                }
            }
            let applied = self.decide_one(handler, state.as_deref_mut(), Some(index), item, shelf)?;
            if !applied {
                continue;
            }
            for waiting in early.iter().filter(|waiting| waiting.key == item.key) {
                let Origin::Early(row) = &waiting.origin else { continue };
                if !shelf.done.contains(&row.id) && self.decide_one(handler, state.as_deref_mut(), None, waiting, shelf)? {
                    shelf.settled(&waiting.key, row.id);
                }
            }
        }
        Ok(())
    }

    /// Decides one item, or an early record (which has no index); whether it was applied.
    fn decide_one(
        &mut self,
        handler: &H,
        state: Option<&mut H::State>,
        index: Option<usize>,
        item: &Item<H>,
        shelf: &mut Shelf,
    ) -> Result<bool, Fault> {
        let envelope = match &item.work {
            Work::Input(envelope) => envelope,
            Work::Ignored => {
                self.skipped += 1;
                self.unpark(shelf, item);
                return Ok(false);
            }
            Work::Poisoned(reason) => {
                self.refuse(shelf, item, Verdict::Poison, reason.clone());
                return Ok(false);
            }
        };
        let state = state.expect("a batch with an input has its state");
        let decided = catch_unwind(AssertUnwindSafe(|| handler.decide(state, envelope)))
            .map_err(|panic| Fault::Panic { culprit: culprit(index, item), message: text_of(panic.as_ref()) })?;
        match decided {
            Ok(Decision { answer, news }) => {
                self.applied += 1;
                self.unpark(shelf, item);
                self.news.extend(news.into_iter().enumerate().map(|(ordinal, news)| Outgoing {
                    id: Outgoing::id_of(envelope.id, ordinal),
                    at: envelope.at,
                    correlation: envelope.correlation.clone(),
                    causation: envelope.id,
                    trace: envelope.trace.clone(),
                    news,
                }));
                self.answers.extend(index.map(|index| (index, Ok(answer))));
                Ok(true)
            }
            Err(refusal) => {
                self.refuse(shelf, item, refusal.verdict(), refusal.to_string());
                self.answers.extend(index.map(|index| (index, Err(refusal))));
                Ok(false)
            }
        }
    }

    /// What a refusal means for a record; a caller is simply told.
    fn refuse(&mut self, shelf: &mut Shelf, item: &Item<H>, verdict: Verdict, reason: String) {
        let Some(record) = item.record() else { return };
        match (verdict, &item.origin) {
            (Verdict::Skip, _) => {
                tracing::debug!(group = self.group, event_id = %record.id, reason, "skipped");
                self.skipped += 1;
                self.unpark(shelf, item);
            }
            // It waits on, or stays where it is parked: the runner writes down the new reason.
            (_, Origin::Early(_) | Origin::Ready(_)) => {}
            (Verdict::Early, _) => self.hold(shelf, Held::Early, reason, record),
            (Verdict::Poison, _) => self.hold(shelf, Held::Parked, reason, record),
        }
    }

    fn hold(&mut self, shelf: &mut Shelf, held: Held, reason: String, record: &Record) {
        if held != Held::Early {
            tracing::error!(r#type = "DLQ_EVENT", group = self.group, event_id = %record.id, event_type = record.type_name, key = record.key, reason, "parked");
        }
        self.parked += 1;
        shelf.hold(held, reason, record.clone());
    }

    fn unpark(&mut self, shelf: &mut Shelf, item: &Item<H>) {
        if let Origin::Ready(row) = &item.origin {
            shelf.settled(&item.key, row.id);
        }
    }
}

fn culprit<H: Handler>(index: Option<usize>, item: &Item<H>) -> Culprit {
    match (index, &item.origin) {
        (None, Origin::Early(row)) => Culprit::Row(row.id),
        (index, _) => Culprit::Item(index.unwrap_or_default()),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panicked".to_owned())
}
