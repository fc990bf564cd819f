//! One batch, one transaction: progress, parking, load → decide → save, news, commit.

use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use sqlx::{Acquire, PgConnection};
use uuid::Uuid;

pub(crate) use crate::group::Group;
use crate::{
    Decision, Envelope, Handler, Record, Refused, Stream, Verdict, crash,
    fault::Fault,
    item::{Item, Origin, Work},
    log,
    outbox::{self, Outgoing, publishable},
    parking::{self, Held, New, Shelf},
    progress::{self, store::Move},
    record::storable,
};

/// What a caller is told.
pub(crate) type Answered<H> = Result<<H as Handler>::Answer, <H as Handler>::Refusal>;

/// What a committed batch came to.
pub(crate) struct Settled<H: Handler> {
    /// By index of the item: what a caller is told. Items that were held back or skipped are not in it.
    pub(crate) answers: Vec<(usize, Answered<H>)>,
    /// The news, as readers hear them.
    pub(crate) said: Vec<Arc<Record>>,
    /// Whether the handler has saved: only then it has something to tell of.
    pub(crate) saved: bool,
    pub(crate) applied: u64,
    pub(crate) skipped: u64,
    pub(crate) parked: u64,
    /// Of these, records that became dead letters for a fault of their own, not behind another.
    pub(crate) blamed: usize,
    /// All that became dead letters.
    pub(crate) dead_letters: u64,
    /// Foreign records that were applied before.
    pub(crate) duplicates: u64,
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
    let known = known(&mut tx, group, items).await?;
    let shelf = match holding {
        true => Shelf::of(&mut tx, group.name, items).await?,
        false => Shelf::default(),
    };
    let envelopes: Vec<&Envelope<H::Input>> = items.iter().copied().filter_map(Item::input).collect();
    let mut desk = Desk::new(shelf, known);
    if envelopes.is_empty() {
        desk.decide_all(handler, None, items)?;
    } else {
        let mut state = handler.load(&mut tx, &envelopes).await?;
        desk.decide_all(handler, Some(&mut state), items)?;
        handler.save(&mut tx, state).await?;
    }

    if !desk.blamed.is_empty() && desk.blamed.len() > group.park_room() {
        return Err(Fault::ParkLimit(desk.blamed));
    }
    let Desk { shelf, known, news, blamed, dead, repeats, settled, .. } = desk;
    let marked: Vec<Uuid> = items.iter().filter(|item| item.marked).filter_map(|item| item.record()).map(|r| r.id).collect();
    if !marked.is_empty() {
        crash::store::unmark(&mut tx, group.name, &marked).await?;
    }
    if !shelf.done.is_empty() {
        parking::store::settle(&mut tx, &shelf.done).await?;
    }
    let copies = group.copies.of(&shelf);
    for (row, reason) in &shelf.again {
        parking::store::park_again(&mut tx, row.id, reason).await?;
    }
    if !shelf.added.is_empty() {
        parking::store::hold(&mut tx, group.name, shelf.added).await?;
    }
    if !known.applied.is_empty() {
        let (ids, hashes): (Vec<Uuid>, Vec<Vec<u8>>) = known.applied.into_iter().unzip();
        progress::store::remember(&mut tx, group.name, &ids, &hashes).await?;
    }
    let mut said = outbox::append(&mut tx, group.partitions, news).await?;
    said.extend(parking::dlq::append(&mut tx, group.partitions, copies).await?);
    tx.commit().await?;
    for (record, reason) in &dead {
        log::dead_letter(group.name, record, reason);
    }
    for record in repeats.iter().filter_map(|index| items[*index].record()) {
        log::duplicate(group.name, record);
    }
    Ok(Settled {
        said,
        saved: !envelopes.is_empty(),
        blamed: blamed.len(),
        dead_letters: dead.len() as u64,
        duplicates: repeats.len() as u64,
        ..settled
    })
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
                if step.after != *before {
                    broken.insert(record.stream.clone());
                }
                step.after = *after;
            }
            // A record that was held back, or is repeated, moves no stream, and may meet what is held back.
            Origin::Held(_) | Origin::Again(_) => holding = true,
            Origin::Call(_) => {}
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

/// Foreign records of the batch that were applied before: there is no place in a stream to tell by.
async fn known<H: Handler>(db: &mut PgConnection, group: &Group, items: &[&Item<H>]) -> Result<Known, Fault> {
    let ids: Vec<Uuid> = items.iter().filter_map(|item| item.record()).filter(|r| r.place.is_none()).map(|r| r.id).collect();
    let before = match ids.is_empty() {
        true => BTreeMap::new(),
        false => progress::store::remembered(db, group.name, &ids).await?.into_iter().collect(),
    };
    Ok(Known { before, applied: BTreeMap::new() })
}

/// Foreign records by id, with the hash of what they say.
struct Known {
    before: BTreeMap<Uuid, Vec<u8>>,
    /// By this batch: written down with the effect, never with the parking.
    applied: BTreeMap<Uuid, Vec<u8>>,
}

enum Seen {
    New,
    Same,
    /// The same id came with another payload.
    Other,
}

impl Known {
    fn look(&self, record: &Record) -> Seen {
        if record.place.is_some() {
            return Seen::New;
        }
        match self.before.get(&record.id).or_else(|| self.applied.get(&record.id)) {
            None => Seen::New,
            Some(known) if *known == hash(record) => Seen::Same,
            Some(_) => Seen::Other,
        }
    }

    fn apply(&mut self, record: &Record) {
        if record.place.is_none() && !self.before.contains_key(&record.id) {
            self.applied.insert(record.id, hash(record));
        }
    }
}

pub(crate) fn hash(record: &Record) -> Vec<u8> {
    Sha256::digest(&record.payload).to_vec()
}

/// What comes out while a batch is decided.
struct Desk<H: Handler> {
    shelf: Shelf,
    known: Known,
    news: Vec<Outgoing>,
    /// Which item is being decided.
    index: usize,
    /// Items that become dead letters for a fault of their own.
    blamed: Vec<usize>,
    /// Records that become dead letters, with the reason.
    dead: Vec<(Record, String)>,
    /// Items that were applied before.
    repeats: Vec<usize>,
    settled: Settled<H>,
}

impl<H: Handler> Desk<H> {
    fn new(shelf: Shelf, known: Known) -> Self {
        let settled = Settled {
            answers: Vec::new(),
            said: Vec::new(),
            saved: false,
            applied: 0,
            skipped: 0,
            parked: 0,
            blamed: 0,
            dead_letters: 0,
            duplicates: 0,
        };
        Self { shelf, known, news: Vec::new(), index: 0, blamed: Vec::new(), dead: Vec::new(), repeats: Vec::new(), settled }
    }

    fn decide_all(&mut self, handler: &H, mut state: Option<&mut H::State>, items: &[&Item<H>]) -> Result<(), Fault> {
        for (index, item) in items.iter().enumerate() {
            self.index = index;
            if self.comes_now(item) {
                self.decide_one(handler, state.as_deref_mut(), index, item)?;
            }
        }
        Ok(())
    }

    /// Whether it is this item's turn: not if it was applied before, not behind an earlier record of its key.
    fn comes_now(&mut self, item: &Item<H>) -> bool {
        let Some(record) = item.record() else { return true };
        let held = matches!(item.origin, Origin::Held(_));
        match self.known.look(record) {
            Seen::Same => {
                // What the reader saw to be a repeat has been told of.
                if !matches!(item.origin, Origin::Again(_)) {
                    self.repeats.push(self.index);
                }
                self.skip(item);
                return false;
            }
            // Brought back by a person, it is meant.
            Seen::Other if !held => {
                self.blamed.push(self.index);
                self.hold(Held::Parked, false, "PAYLOAD_MISMATCH: this id came before with another payload".into(), record);
                return false;
            }
            Seen::Other | Seen::New => {}
        }
        if let Origin::Held(row) = &item.origin {
            return self.shelf.is_next(row);
        }
        match self.shelf.holds(record) {
            Some(held) => {
                self.hold(held, true, parking::BEHIND.into(), record);
                false
            }
            None => true,
        }
    }

    fn decide_one(&mut self, handler: &H, state: Option<&mut H::State>, index: usize, item: &Item<H>) -> Result<(), Fault> {
        let envelope = match &item.work {
            Work::Input(envelope) => envelope,
            Work::Ignored | Work::UnknownType => {
                self.skip(item);
                return Ok(());
            }
            Work::Waits => {
                self.refuse(item, Verdict::Unknown, "of a version that is not known here");
                return Ok(());
            }
            Work::Poisoned(reason) => {
                self.refuse(item, Verdict::Poison, reason);
                return Ok(());
            }
        };
        let state = state.expect("a batch with an input has its state");
        let decided = catch_unwind(AssertUnwindSafe(|| handler.decide(state, envelope)))
            .map_err(|panic| Fault::Poison { index, reason: format!("panicked: {}", text_of(panic.as_ref())) })?;
        match decided {
            Ok(Decision { answer, news }) => {
                let unpublishable = news.iter().find_map(|news| publishable::check(news, &envelope.correlation).err());
                if let Some(why) = unpublishable {
                    return Err(Fault::Poison { index, reason: why.to_string() });
                }
                self.settled.applied += 1;
                if let Some(record) = item.record() {
                    self.known.apply(record);
                }
                self.unshelve(item);
                self.news.extend(news.into_iter().enumerate().map(|(ordinal, news)| Outgoing {
                    id: Outgoing::id_of(envelope.id, news.topic, ordinal),
                    at: envelope.at,
                    correlation: envelope.correlation.clone(),
                    causation: envelope.id,
                    trace: publishable::trace(&envelope.trace),
                    news,
                }));
                self.settled.answers.push((index, Ok(answer)));
            }
            Err(refusal) => {
                self.refuse(item, refusal.verdict(), &refusal.to_string());
                self.settled.answers.push((index, Err(refusal)));
            }
        }
        Ok(())
    }

    /// What a refusal means for a record; a caller is simply told.
    fn refuse(&mut self, item: &Item<H>, verdict: Verdict, reason: &str) {
        let Some(record) = item.record() else { return };
        // It may quote what came.
        let reason = storable(reason);
        match (verdict, &item.origin) {
            (Verdict::Skip, _) => self.skip(item),
            // A person gave it up, and the handler will not even refuse it: whoever said it has no answer.
            (_, Origin::Held(row)) if row.held == Held::Discard && item.input().is_some() => {
                tracing::warn!(eventId = %record.id, eventType = record.type_name, key = record.key, reason, "given up without an answer");
                self.skip(item);
            }
            // It waits on, and so does what is behind it.
            (Verdict::Early | Verdict::Unknown, Origin::Held(row)) if row.held.passes() => {}
            (_, Origin::Held(row)) => {
                if row.held.passes() {
                    self.blamed.push(self.index);
                    self.dead.push((record.clone(), reason.clone()));
                }
                self.shelf.again.push((row.as_ref().clone(), reason));
            }
            (Verdict::Early, _) => self.hold(Held::Early, false, reason, record),
            (Verdict::Unknown, _) => self.hold(Held::Waiting, false, reason, record),
            (Verdict::Poison, _) => {
                self.blamed.push(self.index);
                self.hold(Held::Parked, false, reason, record);
            }
        }
    }

    /// No effect, and the stream goes on.
    fn skip(&mut self, item: &Item<H>) {
        self.settled.skipped += 1;
        self.unshelve(item);
    }

    fn hold(&mut self, held: Held, behind: bool, reason: String, record: &Record) {
        if held == Held::Parked {
            self.dead.push((record.clone(), reason.clone()));
        }
        self.settled.parked += 1;
        self.shelf.added.push(New { held, behind, reason, record: record.clone() });
    }

    fn unshelve(&mut self, item: &Item<H>) {
        if let Origin::Held(row) = &item.origin {
            if row.held == Held::Discard {
                self.known.apply(&row.record);
            }
            self.shelf.settled(row);
        }
    }
}

pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panicked".to_owned())
}
