//! Where a relay stands in each of its streams, and whether it is the one that sends. Decisions only; what is known of the database and
//! the time comes from outside.
//!
//! Any number of relays may send the same stream: readers see through repeats. That one of them does the work is a saving. It emerges: who
//! finds a cursor moved on by another relay stands by in that stream, and steps in when rows wait and the cursor stands still.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{Position, Stream};

/// How often the saved cursors are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Rows that wait for this long behind a cursor that stands still: the relay that sent them is gone.
const STEP_IN: Duration = Duration::from_millis(1_000);
/// Pause between two looks at a log that has another history.
const DIVERGED_LOOK: Duration = Duration::from_secs(5);

/// A saved cursor as the database has it.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) stream: Stream,
    pub(super) seq: i64,
    /// Whether rows wait behind it.
    pub(super) behind: bool,
    /// A person has looked: what comes behind it is to be sent whatever the log holds.
    pub(super) anew: bool,
}

/// A stream to send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) stream: Stream,
    /// What was sent last; without its id where another relay or another start has sent it.
    pub(super) at: Position,
    /// The outbox may have what nobody in this process has said.
    pub(super) unseen: bool,
}

/// A run of one stream: from the cursor to its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) stream: Stream,
    pub(super) before: i64,
    pub(super) after: i64,
    /// Of the row at `after`.
    pub(super) last_id: Uuid,
}

/// What a look at the saved cursors has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// In how many streams another relay is ahead.
    pub(super) overtaken: u64,
    /// Streams whose cursor is behind where it was: by a person, or in an older copy of the database.
    pub(super) set_back: Vec<Stream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Wants to send; the end of the log is to be compared with the outbox first.
    Unchecked,
    Sending,
    /// Another relay sends. Since when it has left rows lying.
    Standby {
        since: Option<Instant>,
    },
    /// The log has another history. When that was seen last.
    Diverged {
        at: Instant,
    },
}

#[derive(Debug)]
struct Lane {
    at: Position,
    role: Role,
    unseen: bool,
}

/// A cursor as somebody else has left it.
fn left_at(seq: i64) -> Position {
    Position { seq, ..Position::default() }
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<Stream, Lane>,
    looked_at: Option<Instant>,
}

impl Lanes {
    pub(super) fn look_is_due(&self, now: Instant) -> bool {
        self.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK)
    }

    /// Takes note of the saved cursors.
    pub(super) fn look(&mut self, saved: Vec<Saved>, now: Instant) -> Looked {
        self.looked_at = Some(now);
        let mut looked = Looked::default();
        for Saved { stream, seq, behind, anew } in saved {
            let was = self.lanes.get(&stream).map_or(seq, |lane| lane.at.seq);
            if seq < was {
                looked.set_back.push(stream.clone());
            }
            let lane = self.lanes.entry(stream).or_insert(Lane { at: left_at(seq), role: Role::Unchecked, unseen: true });
            if seq != was {
                lane.at = left_at(seq);
            }
            lane.unseen |= behind || seq != was;
            lane.role = match lane.role {
                Role::Unchecked | Role::Diverged { .. } if anew => Role::Sending,
                // Set back by a person: on from there.
                Role::Sending if seq < was && !anew => Role::Unchecked,
                Role::Sending if seq > was => {
                    looked.overtaken += 1;
                    Role::Standby { since: None }
                }
                Role::Standby { .. } if seq != was || !behind => Role::Standby { since: None },
                Role::Standby { since: None } => Role::Standby { since: Some(now) },
                Role::Standby { since: Some(since) } if now.saturating_duration_since(since) >= STEP_IN => Role::Unchecked,
                Role::Diverged { at } if now.saturating_duration_since(at) >= DIVERGED_LOOK => Role::Unchecked,
                role => role,
            };
        }
        looked
    }

    /// Another process has told that there are rows.
    pub(super) fn told(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.unseen = true;
        }
    }

    /// The outbox had no more of these than is sent now.
    pub(super) fn seen(&mut self, streams: &[Stream]) {
        for stream in streams {
            if let Some(lane) = self.lanes.get_mut(stream) {
                lane.unseen = false;
            }
        }
    }

    /// Streams whose log is to be compared with the outbox before anything is sent, with their cursors.
    pub(super) fn unchecked(&self) -> Vec<(Stream, i64)> {
        let lanes = self.lanes.iter().filter(|(_, lane)| lane.role == Role::Unchecked);
        lanes.map(|(stream, lane)| (stream.clone(), lane.at.seq)).collect()
    }

    pub(super) fn checked(&mut self, stream: &Stream, whole: bool, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(stream) {
            lane.role = if whole { Role::Sending } else { Role::Diverged { at: now } };
        }
    }

    /// Streams that are sent from here.
    pub(super) fn sending(&self) -> Vec<Due> {
        let lanes = self.lanes.iter().filter(|(_, lane)| lane.role == Role::Sending);
        lanes.map(|(stream, lane)| Due { stream: stream.clone(), at: lane.at, unseen: lane.unseen }).collect()
    }

    /// Whether another relay sends some of the streams.
    pub(super) fn stands_by(&self) -> bool {
        self.lanes.values().any(|lane| matches!(lane.role, Role::Standby { .. }))
    }

    /// Moves the cursors that were saved. Where one was not, another relay or a person was there before: all are looked at again.
    pub(super) fn saved(&mut self, steps: &[Step], saved: &HashSet<Stream>) {
        for step in steps {
            match self.lanes.get_mut(&step.stream) {
                Some(lane) if saved.contains(&step.stream) => {
                    lane.at = Position { last_id: Some(step.last_id), ..left_at(step.after) };
                }
                _ => self.looked_at = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream { topic: "t".into(), partition: 0 }
    }

    fn saved(seq: i64, behind: bool) -> Vec<Saved> {
        vec![Saved { stream: stream(), seq, behind, anew: false }]
    }

    fn step(before: i64, after: i64) -> Vec<Step> {
        vec![Step { stream: stream(), before, after, last_id: id(after) }]
    }

    fn id(seq: i64) -> Uuid {
        Uuid::from_u128(seq.unsigned_abs().into())
    }

    /// Where the streams stand that are sent from here.
    fn at(lanes: &Lanes) -> Vec<i64> {
        lanes.sending().into_iter().map(|due| due.at.seq).collect()
    }

    fn sending(seq: i64, now: Instant) -> Lanes {
        let mut lanes = Lanes::default();
        lanes.look(saved(seq, false), now);
        lanes.checked(&stream(), true, now);
        assert_eq!(at(&lanes), [seq]);
        lanes
    }

    #[test]
    fn nothing_is_sent_before_the_log_is_checked() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert!(lanes.look_is_due(now));
        lanes.look(saved(7, true), now);
        assert_eq!((lanes.unchecked(), at(&lanes)), (vec![(stream(), 7)], vec![]));
        lanes.checked(&stream(), false, now);
        assert!(lanes.unchecked().is_empty() && lanes.sending().is_empty(), "another history");
        lanes.look(saved(7, true), now + LOOK);
        assert!(lanes.unchecked().is_empty(), "not at every look");
        lanes.look(saved(7, true), now + DIVERGED_LOOK);
        assert_eq!(lanes.unchecked(), [(stream(), 7)]);
    }

    #[test]
    fn a_saved_run_moves_the_cursor_and_a_lost_one_asks_for_a_look() {
        let now = Instant::now();
        let mut lanes = sending(7, now);
        lanes.saved(&step(7, 9), &HashSet::from([stream()]));
        assert_eq!(at(&lanes), [9]);
        assert!(!lanes.look_is_due(now));
        lanes.saved(&step(9, 12), &HashSet::new());
        assert!(lanes.look_is_due(now));
        assert_eq!(at(&lanes), [9], "it stays where it was saved last");
    }

    #[test]
    fn the_id_of_what_was_sent_last_is_known_to_who_sent_it() {
        let now = Instant::now();
        let last_id = |lanes: &Lanes| lanes.sending().first().and_then(|due| due.at.last_id);
        let mut lanes = sending(7, now);
        assert_eq!(last_id(&lanes), None, "another start has sent it");
        lanes.saved(&step(7, 9), &HashSet::from([stream()]));
        assert_eq!(last_id(&lanes), Some(id(9)));
        lanes.look(saved(9, false), now);
        assert_eq!(last_id(&lanes), Some(id(9)), "nobody else has moved it");
        let looked = lanes.look(vec![Saved { stream: stream(), seq: 4, behind: true, anew: true }], now);
        assert_eq!((last_id(&lanes), looked.set_back), (None, vec![stream()]));
    }

    #[test]
    fn the_outbox_is_asked_until_its_end_was_seen_and_when_there_may_be_more() {
        let now = Instant::now();
        let unseen = |lanes: &Lanes| lanes.sending().iter().any(|due| due.unseen);
        let mut lanes = sending(7, now);
        assert!(unseen(&lanes), "a start knows nothing of it");
        lanes.seen(&[stream()]);
        assert!(!unseen(&lanes));
        lanes.look(saved(7, false), now);
        assert!(!unseen(&lanes), "nothing waits");
        lanes.look(saved(7, true), now);
        assert!(unseen(&lanes), "rows wait");
        lanes.seen(&[stream()]);
        lanes.told();
        assert!(unseen(&lanes), "another process has written");
        lanes.seen(&[stream()]);
        lanes.look(vec![Saved { stream: stream(), seq: 4, behind: false, anew: true }], now);
        assert!(unseen(&lanes), "somebody has moved the cursor");
    }

    #[test]
    fn a_cursor_set_back_is_followed() {
        let now = Instant::now();
        let mut lanes = sending(7, now);
        assert_eq!(lanes.look(saved(2, true), now), Looked { overtaken: 0, set_back: vec![stream()] });
        assert_eq!((lanes.unchecked(), at(&lanes)), (vec![(stream(), 2)], vec![]));
    }

    #[test]
    fn what_a_person_wants_sent_is_sent_whatever_the_log_holds() {
        let now = Instant::now();
        let anew = |seq| vec![Saved { stream: stream(), seq, behind: true, anew: true }];
        let mut diverged = Lanes::default();
        diverged.look(saved(7, true), now);
        diverged.checked(&stream(), false, now);
        diverged.look(anew(7), now);
        assert_eq!(at(&diverged), [7]);
        let mut set_back = sending(7, now);
        set_back.look(anew(2), now);
        assert_eq!(at(&set_back), [2]);
        let mut new = Lanes::default();
        new.look(anew(4), now);
        assert_eq!(at(&new), [4]);
    }

    #[test]
    fn who_is_overtaken_stands_by_and_steps_in_when_nothing_moves() {
        let mut now = Instant::now();
        let mut lanes = sending(7, now);
        assert_eq!(lanes.look(saved(9, true), now), Looked { overtaken: 1, set_back: Vec::new() });
        assert!(lanes.stands_by() && lanes.sending().is_empty());
        let mut look = |lanes: &mut Lanes, seq, behind| {
            now += STEP_IN;
            assert_eq!(lanes.look(saved(seq, behind), now), Looked::default());
            lanes.unchecked()
        };
        assert!(look(&mut lanes, 9, false).is_empty(), "there is nothing to send");
        assert!(look(&mut lanes, 9, true).is_empty(), "seen for the first time");
        assert!(look(&mut lanes, 12, true).is_empty(), "the other one is alive");
        assert!(look(&mut lanes, 12, true).is_empty());
        assert_eq!(look(&mut lanes, 12, true), [(stream(), 12)]);
        assert!(!lanes.stands_by());
    }
}
