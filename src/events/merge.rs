//! Many streams as one, in the order of time; each stream keeps its own order. Pure.

use std::collections::{BTreeMap, VecDeque};

use messaging::{Record, Stream};

#[derive(Default)]
pub(super) struct Merge(BTreeMap<Stream, Lane>);

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Record>,
    /// There may be more behind what waits.
    more: bool,
}

impl Merge {
    /// Adds what was read of a stream; `more` if that was not all.
    pub(super) fn add(&mut self, stream: Stream, records: impl IntoIterator<Item = Record>, more: bool) {
        let lane = self.0.entry(stream).or_default();
        lane.waiting.extend(records);
        lane.more = more;
    }

    /// Whether nothing of this stream waits.
    pub(super) fn is_empty(&self, stream: &Stream) -> bool {
        self.0.get(stream).is_none_or(|lane| lane.waiting.is_empty())
    }

    /// How much of this stream waits.
    pub(super) fn waiting(&self, stream: &Stream) -> usize {
        self.0.get(stream).map_or(0, |lane| lane.waiting.len())
    }

    /// Drops the oldest that waits of this stream.
    pub(super) fn drop_oldest(&mut self, stream: &Stream) {
        if let Some(lane) = self.0.get_mut(stream) {
            lane.waiting.pop_front();
        }
    }

    /// The next in the order of time; none while a stream of which nothing waits may have something earlier.
    pub(super) fn next(&mut self) -> Option<Record> {
        if self.0.values().any(|lane| lane.more && lane.waiting.is_empty()) {
            return None;
        }
        let heads = self.0.values_mut().filter(|lane| !lane.waiting.is_empty());
        heads.min_by_key(|lane| lane.waiting.front().map(|record| record.at))?.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use messaging::Trace;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn stream(partition: i32) -> Stream {
        Stream { topic: "t".into(), partition }
    }

    fn said(partition: i32, at_s: i64) -> Record {
        Record {
            stream: stream(partition),
            place: None,
            kafka_offset: None,
            id: Uuid::nil(),
            key: String::new(),
            type_name: String::new(),
            payload: Bytes::new(),
            at: OffsetDateTime::from_unix_timestamp(at_s).unwrap(),
            correlation: String::new(),
            causation: None,
            trace: Trace::default(),
        }
    }

    fn all(merge: &mut Merge) -> Vec<(i32, i64)> {
        std::iter::from_fn(|| merge.next()).map(|record| (record.stream.partition, record.at.unix_timestamp())).collect()
    }

    #[test]
    fn by_time_and_each_stream_in_its_order() {
        let mut merge = Merge::default();
        merge.add(stream(0), [said(0, 5), said(0, 1), said(0, 9)], false);
        merge.add(stream(1), [said(1, 2), said(1, 7)], false);
        assert_eq!(all(&mut merge), [(1, 2), (0, 5), (0, 1), (1, 7), (0, 9)]);
    }

    #[test]
    fn waits_for_a_stream_that_may_have_something_earlier() {
        let mut merge = Merge::default();
        merge.add(stream(0), [said(0, 5)], false);
        merge.add(stream(1), [said(1, 2)], true);
        assert_eq!(all(&mut merge), [(1, 2)]);
        assert!(merge.is_empty(&stream(1)) && merge.waiting(&stream(0)) == 1);
        merge.add(stream(1), [said(1, 3)], false);
        assert_eq!(all(&mut merge), [(1, 3), (0, 5)]);
    }
}
