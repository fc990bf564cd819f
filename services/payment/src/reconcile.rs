//! Our books against the provider's statement, key by key, in pages: whatever their size, no more than a page of each is in memory.
//!
//! What the statement has is looked up in our books. What our books have and the statement does not is found by a fingerprint: the keys of
//! both sides are summed up in buckets, and only where the sums differ the provider is asked about each key of ours.

pub(crate) mod store;

use futures::future::join_all;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use self::store::{Books, RefundOf};
use crate::{
    payment::{Known, NOT_CAPTURED, Payment, REFUND_EXCEEDS_CAPTURE, RefundState, State, VOIDED},
    provider::{Provider, StatementEntry, StatementKind, Unreachable},
};

/// Entries, or rows of ours, in one look.
const PAGE_ROWS: u32 = 500;
/// Queries to the provider at a time.
const QUERIES_MAX: usize = 32;
/// Of the fingerprint: 1 MiB. A million entries leave some fifteen keys to ask about for each that is missing.
const BUCKETS: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DifferenceKind {
    /// The provider knows a key that we do not.
    MissingHere,
    /// We booked money that the provider knows nothing of.
    MissingThere,
    Amount,
    /// One says it was done, the other that it was not.
    Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) key: String,
    pub(crate) order_id: Option<Uuid>,
    pub(crate) kind: DifferenceKind,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) entries: i64,
    pub(crate) open: i64,
    pub(crate) differences: Vec<Difference>,
    pub(crate) truncated: bool,
}

/// Why the two could not be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Provider(#[from] Unreachable),
}

/// What our books say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ours {
    Succeeded {
        amount: i64,
        currency: String,
    },
    Declined,
    /// Under way.
    Open,
    /// Never asked for, or withdrawn before it was sent.
    Never,
}

/// Compares all entries of both sides from `since` on.
pub(crate) async fn compare<P: Provider>(
    db: &PgPool,
    provider: &P,
    since: Option<OffsetDateTime>,
    differences_max: usize,
) -> Result<Report, Error> {
    let mut work = Work { report: Report::default(), differences_max, sums: vec![0; BUCKETS] };
    let mut after = None;
    while !work.report.truncated {
        let page = provider.statement(since, after, PAGE_ROWS).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.at, last.key.clone()));
        work.take(&page, &store::books_of(db, &page).await?);
    }
    if work.report.truncated {
        return Ok(work.report);
    }
    let mut pages = store::Pages::new(since);
    while let Some(books) = pages.next(db, PAGE_ROWS).await? {
        booked(&books).for_each(|booked| work.sum(booked.key));
    }
    if work.sums.iter().all(|sum| *sum == 0) {
        return Ok(work.report);
    }
    let mut pages = store::Pages::new(since);
    while let Some(books) = pages.next(db, PAGE_ROWS).await? {
        let doubtful: Vec<Booked> = booked(&books).filter(|booked| work.sums[bucket(booked.key)] != 0).collect();
        for asked in doubtful.chunks(QUERIES_MAX) {
            let known = join_all(asked.iter().map(|booked| provider.query(booked.key))).await;
            for (booked, known) in asked.iter().zip(known) {
                if known?.is_none() {
                    work.missing(booked);
                }
            }
            if work.report.truncated {
                return Ok(work.report);
            }
        }
    }
    Ok(work.report)
}

struct Work {
    report: Report,
    differences_max: usize,
    /// Of the keys of both sides that moved something: a key that both have cancels out.
    sums: Vec<u128>,
}

impl Work {
    /// A page of the statement, with what our books have of it.
    fn take(&mut self, page: &[StatementEntry], books: &Books) {
        for entry in page {
            self.report.entries += 1;
            let key = entry.key.parse::<Uuid>().ok();
            if matches!(entry.known, Known::Succeeded { .. })
                && let Some(key) = key
            {
                self.sum(key);
            }
            let found = key.and_then(|key| books.find(entry, key));
            let (order_id, difference) = match found {
                None => (None, Some((DifferenceKind::MissingHere, String::new()))),
                Some((order_id, ours)) => {
                    self.report.open += i64::from(ours == Ours::Open);
                    (Some(order_id), judge(entry, &ours).map(|kind| (kind, text_of_ours(entry.kind, &ours))))
                }
            };
            if let Some((kind, ours)) = difference {
                self.add(Difference { key: entry.key.clone(), order_id, kind, ours, theirs: text_of(entry) });
            }
            if self.report.truncated {
                return;
            }
        }
    }

    fn missing(&mut self, booked: &Booked) {
        self.report.entries += 1;
        self.add(Difference {
            key: booked.key.to_string(),
            order_id: Some(booked.order_id),
            kind: DifferenceKind::MissingThere,
            ours: text_of_ours(booked.kind, &booked.ours),
            theirs: String::new(),
        });
    }

    fn add(&mut self, difference: Difference) {
        if self.report.differences.len() < self.differences_max {
            self.report.differences.push(difference);
        } else {
            self.report.truncated = true;
        }
    }

    fn sum(&mut self, key: Uuid) {
        self.sums[bucket(key)] ^= key.as_u128();
    }
}

fn bucket(key: Uuid) -> usize {
    // The last bits of a derived id are as good as any hash.
    usize::try_from(key.as_u128() % BUCKETS as u128).unwrap_or_default()
}

impl Books {
    /// What we say of the entry's key, and whose it is.
    fn find(&self, entry: &StatementEntry, key: Uuid) -> Option<(Uuid, Ours)> {
        if entry.kind == StatementKind::Refund {
            let RefundOf { order_id, refund } = self.refunds.iter().find(|row| row.refund.id == key)?;
            return Some((*order_id, ours_of_refund(refund)));
        }
        let id = match entry.kind {
            StatementKind::Capture | StatementKind::Void => entry.of.as_ref()?.parse().ok()?,
            _ => key,
        };
        let payment = self.payments.iter().find(|payment| payment.id == id)?;
        let ours = match entry.kind {
            kind if key == key_of(payment, kind) => ours_of_payment(payment, kind),
            // Refused, and asked again under another key.
            StatementKind::Void if payment.was_void_key(key) => Ours::Never,
            _ => return None,
        };
        Some((payment.order_id, ours))
    }
}

fn key_of(payment: &Payment, kind: StatementKind) -> Uuid {
    match kind {
        StatementKind::Capture => payment.capture_key(),
        StatementKind::Void => payment.void_key(),
        StatementKind::Charge | StatementKind::Authorize | StatementKind::Refund => payment.id,
    }
}

fn ours_of_payment(payment: &Payment, kind: StatementKind) -> Ours {
    let succeeded = |amount| Ours::Succeeded { amount, currency: payment.currency.clone() };
    let set_aside = payment.two_step
        && match payment.state {
            State::InFlight | State::Declined => false,
            // Declined or withdrawn, it may have been set aside late.
            State::Voided => payment.decline_reason.is_empty() || !payment.auth_code.is_empty(),
            _ => true,
        };
    match (kind, payment.state) {
        (StatementKind::Charge | StatementKind::Authorize, _) if payment.two_step != (kind == StatementKind::Authorize) => {
            Ours::Never
        }
        (StatementKind::Charge | StatementKind::Authorize, State::InFlight) => Ours::Open,
        (StatementKind::Charge | StatementKind::Authorize, State::Declined) => Ours::Declined,
        (StatementKind::Charge, _) if payment.captured > 0 => succeeded(payment.captured),
        (StatementKind::Authorize, _) if set_aside => succeeded(payment.amount),
        (StatementKind::Capture, State::Capturing) => Ours::Open,
        (StatementKind::Capture, _) if payment.two_step && payment.captured > 0 => succeeded(payment.captured),
        (StatementKind::Capture, _) if is_asked(&payment.capture_reason) => Ours::Declined,
        (StatementKind::Void, State::Voiding) => Ours::Open,
        (StatementKind::Void, State::Voided) if set_aside => succeeded(payment.amount),
        (StatementKind::Void, State::Authorized) if is_asked(&payment.refund_reason) => Ours::Declined,
        _ => Ours::Never,
    }
}

fn ours_of_refund(refund: &crate::payment::Refund) -> Ours {
    match refund.state {
        RefundState::InFlight => Ours::Open,
        RefundState::Succeeded => Ours::Succeeded { amount: refund.amount, currency: refund.currency.clone() },
        RefundState::Refused if is_asked(&refund.reason) => Ours::Declined,
        RefundState::Refused => Ours::Never,
    }
}

/// Whether the reason of a refusal is the provider's, and not our own for not even asking.
fn is_asked(reason: &str) -> bool {
    !["", VOIDED, contracts::DISCARDED, NOT_CAPTURED, REFUND_EXCEEDS_CAPTURE].contains(&reason)
}

fn judge(entry: &StatementEntry, ours: &Ours) -> Option<DifferenceKind> {
    match (&entry.known, ours) {
        (_, Ours::Open) | (Known::Declined { .. }, Ours::Declined | Ours::Never) => None,
        (Known::Declined { .. }, Ours::Succeeded { .. }) | (Known::Succeeded { .. }, Ours::Declined) => {
            Some(DifferenceKind::Outcome)
        }
        // A void of nothing moves nothing.
        (Known::Succeeded { .. }, Ours::Never) => {
            (entry.kind != StatementKind::Void || entry.amount > 0).then_some(DifferenceKind::Outcome)
        }
        (Known::Succeeded { .. }, Ours::Succeeded { amount, currency }) => {
            let same = entry.kind == StatementKind::Void || (*amount == entry.amount && *currency == entry.currency);
            (!same).then_some(DifferenceKind::Amount)
        }
    }
}

/// Something of ours that moved money, set it aside or gave it free.
#[derive(Clone, Debug)]
struct Booked {
    key: Uuid,
    order_id: Uuid,
    kind: StatementKind,
    ours: Ours,
}

fn booked(books: &Books) -> impl Iterator<Item = Booked> + '_ {
    const KINDS: [StatementKind; 4] =
        [StatementKind::Charge, StatementKind::Authorize, StatementKind::Capture, StatementKind::Void];
    let payments = books.payments.iter().flat_map(|payment| {
        KINDS.into_iter().map(move |kind| Booked {
            key: key_of(payment, kind),
            order_id: payment.order_id,
            kind,
            ours: ours_of_payment(payment, kind),
        })
    });
    let refunds = books.refunds.iter().map(|RefundOf { order_id, refund }| Booked {
        key: refund.id,
        order_id: *order_id,
        kind: StatementKind::Refund,
        ours: ours_of_refund(refund),
    });
    payments.chain(refunds).filter(|booked| matches!(booked.ours, Ours::Succeeded { .. }))
}

fn text_of(entry: &StatementEntry) -> String {
    match &entry.known {
        Known::Succeeded { .. } => text(entry.kind, "SUCCEEDED", entry.amount, &entry.currency),
        Known::Declined { reason } => format!("{} DECLINED {reason}", entry.kind.as_str()),
    }
}

fn text_of_ours(kind: StatementKind, ours: &Ours) -> String {
    match ours {
        Ours::Succeeded { amount, currency } => text(kind, "SUCCEEDED", *amount, currency),
        Ours::Declined => format!("{} DECLINED", kind.as_str()),
        Ours::Open => format!("{} OPEN", kind.as_str()),
        Ours::Never => format!("{} NEVER_MADE", kind.as_str()),
    }
}

fn text(kind: StatementKind, outcome: &str, amount: i64, currency: &str) -> String {
    format!("{} {outcome} {amount} {currency}", kind.as_str()).trim_end().to_owned()
}

#[cfg(test)]
mod tests;
