//! The embedded bus made unkind: any interleaving of streams, dribs instead of batches, and repeats. What passes on it does not lean on an
//! order that is not promised.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Fetched, postgres::Outboxes};
use crate::{Error, Position, Record, Stream};

/// Records kept to be repeated, at most.
const MEMORY_ROWS: usize = 64;

pub(crate) struct Shuffled {
    inner: Outboxes,
    rng: StdRng,
    memory: VecDeque<Arc<Record>>,
}

impl Shuffled {
    pub(super) fn new(inner: Outboxes, seed: u64) -> Self {
        Self { inner, rng: StdRng::seed_from_u64(seed), memory: VecDeque::new() }
    }

    pub(super) fn reopened(&mut self) {
        self.inner.reopened();
    }

    pub(super) async fn told(&mut self, group: &str, streams: &[Stream]) -> Result<Vec<(Stream, i64)>, Error> {
        self.inner.told(group, streams).await
    }

    pub(super) async fn fetch(&mut self, at: &[(Stream, Position)]) -> Result<Vec<Fetched>, Error> {
        let mut streams: HashMap<Stream, VecDeque<Arc<Record>>> = HashMap::new();
        let mut out = Vec::new();
        for fetched in self.inner.fetch(at).await? {
            match fetched {
                Fetched::Record(record) => streams.entry(record.stream.clone()).or_default().push_back(record),
                diverged @ Fetched::Diverged(_) => out.push(diverged),
            }
        }
        let mut queues: Vec<VecDeque<Arc<Record>>> = streams.into_values().collect();
        // Some of what is there comes only at the next look: at least one record, so that every look gets on.
        let total: usize = queues.iter().map(VecDeque::len).sum();
        let mut left = if total == 0 { 0 } else { self.rng.random_range(1..=total) };
        if left < total {
            self.inner.reopened();
        }
        while left > 0 {
            let pick = self.rng.random_range(0..queues.len());
            let Some(record) = queues[pick].pop_front() else { continue };
            left -= 1;
            if !self.memory.is_empty() && self.rng.random_bool(0.3) {
                let again = self.rng.random_range(0..self.memory.len());
                out.push(Fetched::Record(self.memory[again].clone()));
            }
            if self.memory.len() == MEMORY_ROWS {
                self.memory.pop_front();
            }
            self.memory.push_back(record.clone());
            out.push(Fetched::Record(record));
        }
        Ok(out)
    }
}
