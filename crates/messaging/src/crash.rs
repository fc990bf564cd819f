//! The crash-loop guard: a record that kills whoever decides it is found and parked, and no other record is. Pure.
//!
//! Usually it costs nothing. An instance that takes a stream over from one that died looks whether anything was applied since the
//! take-over before. If not, some record of this stream may be what kills: its next records are decided one by one, each after a mark
//! that names it is committed, and the mark goes with the record's own commit. So a mark that is found names what was being decided when
//! the process died. Of a record that was found so often enough in a row nothing is decided: it is parked. A process that is killed for
//! another reason leaves a mark of some record at most now and then, and the next success takes it away.

pub(crate) mod store;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::Stream;

/// So many records of a stream are decided one by one; then it is as good as any other.
const ALONE_ROWS: u32 = 32;

/// A stream that was taken over from an instance that died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TakenOver {
    pub(crate) stream: Stream,
    /// Nothing was applied since the take-over before.
    pub(crate) unmoved: bool,
    /// The mark of a record of it was left behind.
    pub(crate) marked: bool,
}

/// Where a record comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whence<'a> {
    Stream(&'a Stream),
    /// It was held back, and is tried again.
    Held,
}

/// Which records are to be decided one by one.
#[derive(Debug, Default)]
struct Caution {
    /// By stream, how many records more.
    streams: HashMap<Stream, u32>,
    /// Of the records held back, how many more.
    held: u32,
}

impl Caution {
    fn take_over(&mut self, streams: &[TakenOver]) {
        if !streams.is_empty() {
            self.held = ALONE_ROWS;
        }
        let suspects = streams.iter().filter(|taken| taken.unmoved || taken.marked);
        self.streams.extend(suspects.map(|taken| (taken.stream.clone(), ALONE_ROWS)));
    }

    fn alone(&self, whence: Whence<'_>) -> bool {
        match whence {
            Whence::Stream(stream) => self.streams.contains_key(stream),
            Whence::Held => self.held > 0,
        }
    }

    fn survived(&mut self, whence: Whence<'_>) {
        match whence {
            Whence::Held => self.held = self.held.saturating_sub(1),
            Whence::Stream(stream) => {
                if let Some(more) = self.streams.get_mut(stream) {
                    *more -= 1;
                    if *more == 0 {
                        self.streams.remove(stream);
                    }
                }
            }
        }
    }

    fn is_off(&self) -> bool {
        self.held == 0 && self.streams.is_empty()
    }
}

/// The guard of a group, shared by who takes streams over and who decides.
#[derive(Default)]
pub(crate) struct Guard {
    on: AtomicBool,
    caution: Mutex<Caution>,
}

impl Guard {
    pub(crate) fn take_over(&self, streams: &[TakenOver]) {
        let mut caution = self.caution();
        caution.take_over(streams);
        self.on.store(!caution.is_off(), Ordering::Release);
    }

    /// Whether records are as good as any others.
    pub(crate) fn is_off(&self) -> bool {
        !self.on.load(Ordering::Acquire)
    }

    /// The first of these records that is to be marked and decided alone; `None` stands for what is no such record.
    pub(crate) fn first_alone<'a>(&self, mut records: impl Iterator<Item = Option<Whence<'a>>>) -> Option<usize> {
        let caution = self.caution();
        records.position(|whence| whence.is_some_and(|whence| caution.alone(whence)))
    }

    /// A record that was marked did not kill.
    pub(crate) fn survived(&self, whence: Whence<'_>) {
        let mut caution = self.caution();
        caution.survived(whence);
        self.on.store(!caution.is_off(), Ordering::Release);
    }

    fn caution(&self) -> MutexGuard<'_, Caution> {
        self.caution.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(partition: i32) -> Stream {
        Stream { topic: "t".into(), partition }
    }

    fn taken(partition: i32, unmoved: bool, marked: bool) -> TakenOver {
        TakenOver { stream: stream(partition), unmoved, marked }
    }

    /// Of three streams and of what was held back.
    fn alone(guard: &Guard) -> [bool; 4] {
        let streams = [0, 1, 2].map(stream);
        let whence = [Whence::Stream(&streams[0]), Whence::Stream(&streams[1]), Whence::Stream(&streams[2]), Whence::Held];
        whence.map(|whence| guard.first_alone([Some(whence)].into_iter()).is_some())
    }

    #[test]
    fn off_until_somebody_has_died() {
        let guard = Guard::default();
        guard.take_over(&[]);
        assert!(guard.is_off());
        assert_eq!(alone(&guard), [false; 4]);
    }

    #[test]
    fn a_stream_that_moved_is_trusted_and_one_with_a_mark_is_not() {
        let guard = Guard::default();
        guard.take_over(&[taken(0, false, false), taken(1, true, false), taken(2, false, true)]);
        assert!(!guard.is_off());
        assert_eq!(alone(&guard), [false, true, true, true]);
    }

    #[test]
    fn the_first_of_a_batch_is_found() {
        let guard = Guard::default();
        guard.take_over(&[taken(1, true, false)]);
        let (good, suspect) = (stream(0), stream(1));
        let batch = [None, Some(Whence::Stream(&good)), Some(Whence::Stream(&suspect)), Some(Whence::Held)];
        assert_eq!(guard.first_alone(batch.into_iter()), Some(2));
        assert_eq!(guard.first_alone(batch.into_iter().take(2)), None);
    }

    #[test]
    fn caution_ends_with_enough_records_that_did_not_kill() {
        let guard = Guard::default();
        guard.take_over(&[taken(0, true, false), taken(1, true, false)]);
        for _ in 0..ALONE_ROWS {
            assert!(alone(&guard)[0]);
            guard.survived(Whence::Stream(&stream(0)));
        }
        assert_eq!(alone(&guard), [false, true, false, true]);
        guard.survived(Whence::Stream(&stream(2)));
        for _ in 0..ALONE_ROWS {
            guard.survived(Whence::Stream(&stream(1)));
            guard.survived(Whence::Held);
        }
        assert!(guard.is_off());
        guard.survived(Whence::Held);
        guard.take_over(&[taken(0, true, true)]);
        assert!(!guard.is_off(), "another death, and it is on again");
    }
}
