//! How many records a group may make dead letters of in a while: a few bad records are parked, an outage or a bad deploy stops instead.

use std::{
    collections::{HashMap, VecDeque},
    iter::repeat_n,
    time::{Duration, Instant},
};

use crate::{Limits, Stream};

/// Kept in memory, for this instance: after a restart it counts anew.
pub(crate) struct ParkLimit {
    rows_max: usize,
    window: Duration,
    /// When each record of the window was parked.
    parked: VecDeque<Instant>,
    /// Streams that wait because they would park more, with how often in a row they were stopped.
    stopped: HashMap<Stream, u32>,
}

impl ParkLimit {
    pub(crate) fn new(limits: &Limits) -> Self {
        let window = Duration::from_secs(limits.park_window_s);
        Self { rows_max: limits.park_max, window, parked: VecDeque::new(), stopped: HashMap::new() }
    }

    /// How many more may be parked now.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        while self.parked.front().is_some_and(|at| now.saturating_duration_since(*at) >= self.window) {
            self.parked.pop_front();
        }
        self.rows_max.saturating_sub(self.parked.len())
    }

    pub(crate) fn parked(&mut self, rows: usize, now: Instant) {
        self.parked.extend(repeat_n(now, rows));
    }

    /// A stream would park more than there is room for. How often in a row it was stopped before.
    pub(crate) fn stop(&mut self, stream: &Stream) -> u32 {
        let times = self.stopped.entry(stream.clone()).or_default();
        *times = times.saturating_add(1);
        *times - 1
    }

    /// Of these streams something was applied: those of them that were stopped go on.
    pub(crate) fn go_on<'a>(&mut self, streams: impl Iterator<Item = &'a Stream>) -> Vec<Stream> {
        if self.stopped.is_empty() {
            return Vec::new();
        }
        streams.filter_map(|stream| self.stopped.remove_entry(stream)).map(|(stream, _)| stream).collect()
    }

    /// Forgets the other streams that are stopped.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(&Stream) -> bool) {
        self.stopped.retain(|stream, _| is_kept(stream));
    }

    pub(crate) fn stopped(&self) -> Vec<Stream> {
        self.stopped.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_when_the_window_has_passed() {
        let mut limit = ParkLimit::new(&Limits { park_max: 3, park_window_s: 60, ..Limits::default() });
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        assert_eq!(limit.room(start), 3);
        limit.parked(2, start);
        limit.parked(1, after(30));
        assert_eq!((limit.room(after(59)), limit.room(after(60)), limit.room(after(90))), (0, 2, 3));
        limit.parked(9, after(90));
        assert_eq!(limit.room(after(91)), 0);
    }

    #[test]
    fn a_stream_that_goes_on_is_forgotten() {
        let mut limit = ParkLimit::new(&Limits::default());
        let stream = |partition| Stream { topic: "t".into(), partition };
        assert_eq!((limit.stop(&stream(0)), limit.stop(&stream(0)), limit.stop(&stream(1))), (0, 1, 0));
        assert_eq!(limit.go_on([stream(0), stream(2)].iter()), [stream(0)]);
        assert_eq!((limit.stop(&stream(0)), limit.stop(&stream(1))), (0, 1));
    }
}
