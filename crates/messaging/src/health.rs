//! What a group cannot get over by itself, for whoever asks whether it is ready: a batch that is tried again and again, streams that are
//! stopped.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Stream, group::Group};

/// What goes by within that is nobody's concern.
const RETRIED_MS_MAX: u64 = 10_000;

/// How a group of this process is. Cheap to clone.
#[derive(Clone)]
pub struct Health(pub(crate) Arc<Group>);

impl Health {
    /// The name of the group, which is the service's.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.0.name
    }

    /// What keeps it from its work, a line a thing; nothing while all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let park_limit = self.0.stopped_by_park_limit().into_iter().map(|stream| (stream, "PARK_LIMIT"));
        let troubles = self.0.troubles();
        let stopped: BTreeMap<Stream, &str> =
            park_limit.chain(troubles.stopped.iter().map(|(stream, what)| (stream.clone(), *what))).collect();
        troubles
            .retried(Instant::now())
            .into_iter()
            .chain(stopped.into_iter().map(|(Stream { topic, partition }, what)| format!("{topic}/{partition} {what}")))
            .collect()
    }
}

/// What the worker and the readers of a group say of themselves.
#[derive(Default)]
pub(crate) struct Troubles {
    /// Since when a batch is tried again, and what its last try came to.
    retried: Option<(Instant, String)>,
    /// Streams that are not read any more, and why.
    stopped: BTreeMap<Stream, &'static str>,
}

impl Troubles {
    pub(crate) fn retry(&mut self, error: String, now: Instant) {
        let since = self.retried.take().map_or(now, |(since, _)| since);
        self.retried = Some((since, error));
    }

    pub(crate) fn settled(&mut self) {
        self.retried = None;
    }

    pub(crate) fn stop(&mut self, stream: Stream, what: &'static str) {
        self.stopped.insert(stream, what);
    }

    /// Of these topics these streams are stopped still.
    pub(crate) fn stopped_still(&mut self, topics: &[String], stopped: &HashSet<Stream>) {
        self.stopped.retain(|stream, _| !topics.contains(&stream.topic) || stopped.contains(stream));
    }

    fn retried(&self, now: Instant) -> Option<String> {
        let (since, error) = self.retried.as_ref()?;
        let age = now.saturating_duration_since(*since);
        (age > Duration::from_millis(RETRIED_MS_MAX)).then(|| format!("a batch waits for {} s: {error}", age.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_named_that_is_tried_again_for_long() {
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        let mut troubles = Troubles::default();
        assert_eq!(troubles.retried(after(60)), None);
        troubles.retry("away".into(), start);
        troubles.retry("no such table".into(), after(9));
        assert_eq!(troubles.retried(after(10)), None, "it may go by");
        assert_eq!(troubles.retried(after(11)).as_deref(), Some("a batch waits for 11 s: no such table"));
        troubles.settled();
        troubles.retry("away".into(), after(12));
        assert_eq!(troubles.retried(after(13)), None, "that is another one");
    }

    #[test]
    fn streams_that_are_read_again_elsewhere_or_here_are_not_named() {
        let stream = |topic: &str, partition| Stream { topic: topic.into(), partition };
        let mut troubles = Troubles::default();
        for (topic, partition) in [("a", 0), ("a", 1), ("b", 0)] {
            troubles.stop(stream(topic, partition), "LOG_GAP");
        }
        troubles.stopped_still(&["a".to_owned()], &HashSet::from([stream("a", 1)]));
        let left: Vec<Stream> = troubles.stopped.into_keys().collect();
        assert_eq!(left, [stream("a", 1), stream("b", 0)]);
    }
}
