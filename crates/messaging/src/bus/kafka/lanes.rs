//! Where a relay stands in each of its streams, and whether it is the one that sends. Decisions only; what is known of the database and
//! the time comes from outside.
//!
//! Any number of relays may send the same stream: readers see through repeats. That one of them does the work is a saving. It emerges: who
//! finds a cursor moved on by another relay stands by in that stream, and steps in when rows wait and the cursor stands still.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use crate::Stream;

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

/// A run of one stream: from the cursor to its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) stream: Stream,
    pub(super) before: i64,
    pub(super) after: i64,
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
    cursor: i64,
    role: Role,
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

    /// Takes note of the saved cursors, and gives back in how many streams another relay was found ahead.
    pub(super) fn look(&mut self, saved: Vec<Saved>, now: Instant) -> u64 {
        self.looked_at = Some(now);
        let mut overtaken = 0;
        for Saved { stream, seq, behind, anew } in saved {
            let lane = self.lanes.entry(stream).or_insert(Lane { cursor: seq, role: Role::Unchecked });
            let was = std::mem::replace(&mut lane.cursor, seq);
            lane.role = match lane.role {
                Role::Unchecked | Role::Diverged { .. } if anew => Role::Sending,
                // Set back by a person: on from there.
                Role::Sending if seq < was && !anew => Role::Unchecked,
                Role::Sending if seq > was => {
                    overtaken += 1;
                    Role::Standby { since: None }
                }
                Role::Standby { .. } if seq != was || !behind => Role::Standby { since: None },
                Role::Standby { since: None } => Role::Standby { since: Some(now) },
                Role::Standby { since: Some(since) } if now.saturating_duration_since(since) >= STEP_IN => Role::Unchecked,
                Role::Diverged { at } if now.saturating_duration_since(at) >= DIVERGED_LOOK => Role::Unchecked,
                role => role,
            };
        }
        overtaken
    }

    /// Streams whose log is to be compared with the outbox before anything is sent, with their cursors.
    pub(super) fn unchecked(&self) -> Vec<(Stream, i64)> {
        self.in_role(|role| role == Role::Unchecked)
    }

    pub(super) fn checked(&mut self, stream: &Stream, whole: bool, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(stream) {
            lane.role = if whole { Role::Sending } else { Role::Diverged { at: now } };
        }
    }

    /// Streams that are sent from here, with their cursors.
    pub(super) fn sending(&self) -> Vec<(Stream, i64)> {
        self.in_role(|role| role == Role::Sending)
    }

    /// Whether another relay sends some of the streams.
    pub(super) fn stands_by(&self) -> bool {
        self.lanes.values().any(|lane| matches!(lane.role, Role::Standby { .. }))
    }

    /// Moves the cursors that were saved. Where one was not, another relay or a person was there before: all are looked at again.
    pub(super) fn saved(&mut self, steps: &[Step], saved: &HashSet<Stream>) {
        for step in steps {
            match self.lanes.get_mut(&step.stream) {
                Some(lane) if saved.contains(&step.stream) => lane.cursor = step.after,
                _ => self.looked_at = None,
            }
        }
    }

    fn in_role(&self, wanted: impl Fn(Role) -> bool) -> Vec<(Stream, i64)> {
        let lanes = self.lanes.iter().filter(|(_, lane)| wanted(lane.role));
        lanes.map(|(stream, lane)| (stream.clone(), lane.cursor)).collect()
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

    fn sending(seq: i64, now: Instant) -> Lanes {
        let mut lanes = Lanes::default();
        lanes.look(saved(seq, false), now);
        lanes.checked(&stream(), true, now);
        assert_eq!(lanes.sending(), [(stream(), seq)]);
        lanes
    }

    #[test]
    fn nothing_is_sent_before_the_log_is_checked() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert!(lanes.look_is_due(now));
        lanes.look(saved(7, true), now);
        assert_eq!((lanes.unchecked(), lanes.sending()), (vec![(stream(), 7)], vec![]));
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
        let step = [Step { stream: stream(), before: 7, after: 9 }];
        lanes.saved(&step, &HashSet::from([stream()]));
        assert_eq!(lanes.sending(), [(stream(), 9)]);
        assert!(!lanes.look_is_due(now));
        lanes.saved(&[Step { stream: stream(), before: 9, after: 12 }], &HashSet::new());
        assert!(lanes.look_is_due(now));
        assert_eq!(lanes.sending(), [(stream(), 9)], "it stays where it was saved last");
    }

    #[test]
    fn a_cursor_set_back_is_followed() {
        let now = Instant::now();
        let mut lanes = sending(7, now);
        assert_eq!(lanes.look(saved(2, true), now), 0);
        assert_eq!((lanes.unchecked(), lanes.sending()), (vec![(stream(), 2)], vec![]));
    }

    #[test]
    fn what_a_person_wants_sent_is_sent_whatever_the_log_holds() {
        let now = Instant::now();
        let anew = |seq| vec![Saved { stream: stream(), seq, behind: true, anew: true }];
        let mut diverged = Lanes::default();
        diverged.look(saved(7, true), now);
        diverged.checked(&stream(), false, now);
        diverged.look(anew(7), now);
        assert_eq!(diverged.sending(), [(stream(), 7)]);
        let mut set_back = sending(7, now);
        set_back.look(anew(2), now);
        assert_eq!(set_back.sending(), [(stream(), 2)]);
        let mut new = Lanes::default();
        new.look(anew(4), now);
        assert_eq!(new.sending(), [(stream(), 4)]);
    }

    #[test]
    fn who_is_overtaken_stands_by_and_steps_in_when_nothing_moves() {
        let mut now = Instant::now();
        let mut lanes = sending(7, now);
        assert_eq!(lanes.look(saved(9, true), now), 1);
        assert!(lanes.stands_by() && lanes.sending().is_empty());
        let mut look = |lanes: &mut Lanes, seq, behind| {
            now += STEP_IN;
            assert_eq!(lanes.look(saved(seq, behind), now), 0);
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
