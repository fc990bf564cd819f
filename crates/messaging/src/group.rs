//! What the tasks of one group in one process share.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use uuid::Uuid;

use crate::{
    Bus, Limits, Stream, crash, health::Troubles, lease, park_limit::ParkLimit, parking::dlq::Copies, unknown_types::UnknownTypes,
};

pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) instance: Uuid,
    pub(crate) partitions: i32,
    pub(crate) lease_ms: i64,
    pub(crate) limits: Limits,
    pub(crate) crashes: crash::Guard,
    pub(crate) unknown_types: UnknownTypes,
    pub(crate) copies: Copies,
    park_limit: Mutex<ParkLimit>,
    troubles: Mutex<Troubles>,
}

impl Group {
    pub(crate) fn new(name: &'static str, bus: &Bus) -> Self {
        let limits = *bus.limits();
        Self {
            name,
            instance: new_instance(),
            partitions: bus.partitions(),
            lease_ms: lease::LEASE_MS,
            limits,
            crashes: crash::Guard::default(),
            unknown_types: UnknownTypes::of(name),
            copies: Copies::new(name, bus.topics_of(name)),
            park_limit: Mutex::new(ParkLimit::new(&limits)),
            troubles: Mutex::default(),
        }
    }

    /// How many more records may be parked now.
    pub(crate) fn park_room(&self) -> usize {
        self.park_limit().room(Instant::now())
    }

    /// So many early records became dead letters, of as many as there was room for.
    pub(crate) fn given_up(&self, rows: usize, room: usize) {
        self.parked(rows);
        if rows > 0 && rows == room {
            tracing::error!(
                r#type = "PARK_LIMIT",
                service = self.name,
                records = rows,
                "other early records wait on: no more may be parked"
            );
        }
    }

    pub(crate) fn parked(&self, rows: usize) {
        if rows > 0 {
            self.park_limit().parked(rows, Instant::now());
        }
    }

    /// A stream stops, since it would park more than there is room for. How often in a row it was stopped before.
    pub(crate) fn stop_stream(&self, stream: &Stream) -> u32 {
        self.park_limit().stop(stream)
    }

    /// Something of these streams was applied: those of them that were stopped go on.
    pub(crate) fn go_on<'a>(&self, streams: impl Iterator<Item = &'a Stream>) -> Vec<Stream> {
        self.park_limit().go_on(streams)
    }

    /// Streams that are read elsewhere now are stopped there, if at all.
    pub(crate) fn keep_stopped(&self, topics: &[String], owned: &[i32]) {
        self.park_limit().keep(|stream| !topics.contains(&stream.topic) || owned.contains(&stream.partition));
    }

    pub(crate) fn stopped_by_park_limit(&self) -> Vec<Stream> {
        self.park_limit().stopped()
    }

    pub(crate) fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn park_limit(&self) -> MutexGuard<'_, ParkLimit> {
        self.park_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "an instance is new at each start; nothing else is derived from its id")]
fn new_instance() -> Uuid {
    Uuid::new_v4()
}
