//! What a log has around a position: whether a group can go on from there, and where it goes on if it cannot. Pure.

use uuid::Uuid;

use crate::Position;

/// A record of a log, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its sequence number.
    pub seq: i64,
    /// Id of the record before it; none of the first.
    pub prev: Option<Uuid>,
}

/// What a publisher's outbox has around a position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Marks {
    /// The oldest record that is kept.
    pub first: Option<Mark>,
    /// Sequence number of the newest record; 0 where there is none.
    pub last_seq: i64,
    /// Id of the record at the position.
    pub here: Option<Uuid>,
    /// The oldest record behind the position.
    pub next: Option<Mark>,
    /// Seconds since that record was decided.
    pub next_age_s: Option<f64>,
}

/// What a log is to a group that stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// It goes on from the position.
    Whole,
    /// LOG_GAP: records behind the position are missing.
    Gap {
        /// The first that is missing.
        expected_seq: i64,
        /// The next that is there.
        next_seq: i64,
    },
    /// LOG_DIVERGED: it continues another history than the one the group has read.
    Diverged,
}

impl Marks {
    /// Whether a group can go on from the position at which these marks were taken.
    #[must_use]
    pub fn judge(&self, position: &Position) -> Log {
        if self.here.is_some() && self.here != position.last_id {
            return Log::Diverged;
        }
        match self.next {
            Some(next) if next.seq > position.seq + 1 => Log::Gap { expected_seq: position.seq + 1, next_seq: next.seq },
            Some(next) if next.prev != position.last_id => Log::Diverged,
            // The record itself may be cut away: its successor names it.
            Some(_) => Log::Whole,
            None if position.seq == 0 || self.here.is_some() => Log::Whole,
            // The log ends before the position.
            None => Log::Diverged,
        }
    }

    /// Where a group goes on that was at this position: behind the hole it stands before, else before the oldest record that is kept, which
    /// means that it hears everything again.
    #[must_use]
    pub fn way_out(&self, position: &Position) -> Position {
        let first_heard = match self.judge(position) {
            Log::Gap { .. } => self.next,
            Log::Whole | Log::Diverged => self.first,
        };
        first_heard.map_or_else(Position::default, |mark| Position { seq: mark.seq - 1, last_id: mark.prev, kafka_offset: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record with this number in the history of this name.
    fn id(history: u128, seq: i64) -> Option<Uuid> {
        (seq > 0).then(|| Uuid::from_u128(history * 1_000 + u128::try_from(seq).unwrap()))
    }

    fn at(history: u128, seq: i64) -> Position {
        Position { seq, last_id: id(history, seq), kafka_offset: None }
    }

    /// A log of these numbers, all of one history, seen from this position.
    fn marks(history: u128, seqs: &[i64], position: &Position) -> Marks {
        let mark = |seq: &i64| Mark { seq: *seq, prev: id(history, seq - 1) };
        Marks {
            first: seqs.first().map(mark),
            last_seq: seqs.last().copied().unwrap_or_default(),
            here: seqs.contains(&position.seq).then_some(id(history, position.seq)).flatten(),
            next: seqs.iter().find(|seq| **seq > position.seq).map(mark),
            next_age_s: None,
        }
    }

    fn judged(history: u128, seqs: &[i64], position: Position) -> (Log, Position) {
        let marks = marks(history, seqs, &position);
        (marks.judge(&position), marks.way_out(&position))
    }

    #[test]
    fn a_whole_log_is_heard_again_from_its_oldest_record() {
        assert_eq!(judged(1, &[], at(1, 0)), (Log::Whole, at(1, 0)));
        assert_eq!(judged(1, &[1, 2], at(1, 0)), (Log::Whole, at(1, 0)));
        assert_eq!(judged(1, &[1, 2], at(1, 2)), (Log::Whole, at(1, 0)));
        assert_eq!(judged(1, &[4, 5, 6], at(1, 5)), (Log::Whole, at(1, 3)));
        // The record at the position is cut away, the next one names it.
        assert_eq!(judged(1, &[4, 5, 6], at(1, 3)), (Log::Whole, at(1, 3)));
    }

    #[test]
    fn behind_a_hole_a_group_goes_on() {
        assert_eq!(judged(1, &[1, 2, 3, 5, 6], at(1, 3)), (Log::Gap { expected_seq: 4, next_seq: 5 }, at(1, 4)));
        assert_eq!(judged(1, &[7, 8], at(1, 3)), (Log::Gap { expected_seq: 4, next_seq: 7 }, at(1, 6)));
        assert_eq!(judged(1, &[7, 8], at(1, 0)), (Log::Gap { expected_seq: 1, next_seq: 7 }, at(1, 6)));
    }

    #[test]
    fn another_history_is_heard_from_its_oldest_record() {
        // A restored outbox that has not caught up, has just, or has more.
        assert_eq!(judged(1, &[1, 2, 3], at(1, 6)), (Log::Diverged, at(1, 0)));
        assert_eq!(judged(2, &[1, 2, 3, 4, 5, 6], at(1, 6)), (Log::Diverged, at(1, 0)));
        assert_eq!(judged(2, &[4, 5, 6, 7, 8], at(1, 6)), (Log::Diverged, at(2, 3)));
        // Only the successor is left to tell by.
        assert_eq!(judged(2, &[7, 8], at(1, 6)), (Log::Diverged, at(2, 6)));
        // An outbox that has lost everything.
        assert_eq!(judged(2, &[], at(1, 6)), (Log::Diverged, Position::default()));
    }
}
