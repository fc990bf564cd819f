//! Ranges of the outbox: which must be there before writers come to them, which nobody needs any more. Pure.
//!
//! A range has the rows of all partitions of a topic with sequence numbers from its first to its end. Every statement over the outbox pays
//! for every range there is, so there are few: the more is kept, the larger the next one.

pub(crate) mod store;

/// Ranges ahead of the one that is written to.
const AHEAD: usize = 2;
/// What is kept of a topic is spread over about so many ranges.
const KEPT: i64 = 4;

/// The sequence numbers from `first` up to `end`, which is not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: i64,
    pub(crate) end: i64,
}

/// Where a partition of the topic ends, and where the slowest of its readers is. Without readers, whoever comes next begins at what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) last: i64,
    pub(crate) slowest: Option<i64>,
}

/// What is to be made so that `next` finds its range and two more are behind it. `ranges` are all there are, in their order; `rows` is the
/// least a range has of each partition.
pub(crate) fn missing(ranges: &[Range], next: i64, rows: i64) -> Vec<Range> {
    let kept: i64 = ranges.iter().filter(|range| range.first <= next).map(|range| range.end - range.first).sum();
    let size = (kept / KEPT / rows).max(1) * rows;
    let mut first = ranges.last().map_or(0, |range| range.end);
    let mut ahead = ranges.iter().filter(|range| range.first > next).count();
    let mut made = Vec::new();
    while first <= next || ahead < AHEAD {
        made.push(Range { first, end: first + size });
        ahead += usize::from(first > next);
        first += size;
    }
    made
}

/// The ranges that no partition of the topic needs, the oldest first. A partition needs the record that its slowest reader has read last,
/// to tell that the log is the one it has read; its own last record, which the next one names; and room for that.
pub(crate) fn passed(ranges: &[Range], partitions: &[Extent]) -> Vec<Range> {
    let needs = |extent: &Extent, range: &Range| {
        let from = extent.slowest.map_or(extent.last, |slowest| slowest.min(extent.last));
        range.end > from && range.first <= extent.last + 1
    };
    let newest = partitions.iter().map(|extent| extent.last).max().unwrap_or_default();
    // Only the oldest, in a row: into a range above the end of a quiet partition that partition will write yet.
    let written = ranges.iter().take_while(|range| range.end <= newest);
    written.take_while(|range| !partitions.iter().any(|extent| needs(extent, range))).copied().collect()
}

/// From where on nothing is missing up to the last record of a partition. Ranges go the oldest first, so there is a hole only where a person
/// detached one.
pub(crate) fn unbroken_from(ranges: &[Range], last: i64) -> i64 {
    let mut from = None;
    for range in ranges.iter().rev().skip_while(|range| range.first > last) {
        if from.is_some_and(|from| range.end != from) {
            break;
        }
        from = Some(range.first);
    }
    from.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, end: i64) -> Range {
        Range { first, end }
    }

    /// As many ranges of ten numbers each.
    fn tens(count: i64) -> Vec<Range> {
        (0..count).map(|nth| range(nth * 10, nth * 10 + 10)).collect()
    }

    fn extent(last: i64, slowest: i64) -> Extent {
        Extent { last, slowest: Some(slowest) }
    }

    #[test]
    fn a_new_topic_gets_its_range_and_two_ahead() {
        assert_eq!(missing(&[], 1, 10), tens(3));
        assert_eq!(missing(&tens(3), 9, 10), []);
        // However long the first batch is.
        assert_eq!(missing(&[], 25, 10), tens(5));
    }

    #[test]
    fn another_is_made_when_a_range_is_begun() {
        assert_eq!(missing(&tens(3), 10, 10), [range(30, 40)]);
        // The writer was faster than whoever makes ranges.
        assert_eq!(missing(&tens(3), 35, 10), [range(30, 40), range(40, 50), range(50, 60)]);
    }

    #[test]
    fn the_more_is_kept_the_larger_is_the_next_range() {
        let mut ranges = Vec::new();
        for next in 1..=100_000 {
            ranges.extend(missing(&ranges, next, 10));
        }
        assert!(ranges.len() <= 50, "{} ranges for what would be 10,000 of the first size", ranges.len());
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].first), "one after the other");
        // Where the same number of rows is kept all the time, it is in few ranges.
        for next in 100_001..=200_000 {
            ranges.extend(missing(&ranges, next, 10));
            ranges.retain(|range| range.end > next - 5_000);
        }
        assert!(ranges.len() <= 8, "{} ranges for 5,000 rows", ranges.len());
    }

    #[test]
    fn a_range_waits_for_the_slowest_reader_of_every_partition() {
        assert_eq!(passed(&tens(4), &[extent(25, 25), extent(25, 19)]), [range(0, 10)]);
        // The record it has read last is the last of its range.
        assert_eq!(passed(&tens(4), &[extent(25, 9)]), []);
        assert_eq!(passed(&tens(4), &[extent(25, 10)]), [range(0, 10)]);
        assert_eq!(passed(&tens(4), &[extent(25, 0)]), []);
    }

    #[test]
    fn without_readers_all_but_the_last_record_is_passed() {
        let unread = |last| Extent { last, slowest: None };
        assert_eq!(passed(&tens(4), &[unread(25)]), [range(0, 10), range(10, 20)]);
        assert_eq!(passed(&tens(4), &[unread(19)]), [range(0, 10)]);
        assert_eq!(passed(&tens(4), &[unread(0)]), []);
    }

    #[test]
    fn ranges_ahead_are_not_passed() {
        assert_eq!(passed(&tens(3), &[extent(9, 9), extent(0, 0)]), []);
        assert_eq!(passed(&tens(3), &[]), []);
    }

    #[test]
    fn a_quiet_partition_keeps_all_that_it_has_yet_to_write_into() {
        assert_eq!(passed(&tens(5), &[extent(45, 45), extent(3, 3)]), []);
        assert_eq!(passed(&tens(5), &[extent(45, 45), extent(13, 13)]), [range(0, 10)]);
    }

    #[test]
    fn a_reader_ahead_of_a_restored_log_does_not_make_it_forget_its_end() {
        assert_eq!(passed(&tens(4), &[extent(15, 30)]), [range(0, 10)]);
    }

    #[test]
    fn what_is_left_before_a_hole_is_not_where_a_new_group_begins() {
        let holey = [range(0, 10), range(30, 40), range(40, 50), range(50, 60)];
        assert_eq!(unbroken_from(&holey, 45), 30);
        assert_eq!(unbroken_from(&holey, 3), 0);
        assert_eq!(unbroken_from(&tens(4), 25), 0);
        assert_eq!(unbroken_from(&[], 0), 0);
    }
}
