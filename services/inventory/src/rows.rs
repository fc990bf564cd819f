//! The rows of a batch: what the database holds, with the batch's changes laid over it.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

pub(crate) struct Rows<K, V> {
    stored: HashMap<K, V>,
    /// In key order, as they are written.
    changed: BTreeMap<K, V>,
}

impl<K: Ord + Hash, V> Rows<K, V> {
    pub(crate) fn stored(rows: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { stored: rows.into_iter().collect(), changed: BTreeMap::new() }
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.changed.get(key).or_else(|| self.stored.get(key))
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        self.changed.insert(key, value);
    }

    /// Rows to insert, in key order.
    pub(crate) fn fresh(&self) -> Vec<(&K, &V)> {
        self.changed.iter().filter(|(key, _)| !self.stored.contains_key(*key)).collect()
    }

    /// Rows to update, in key order.
    pub(crate) fn updated(&self) -> Vec<(&K, &V)> {
        self.changed.iter().filter(|(key, _)| self.stored.contains_key(*key)).collect()
    }

    /// What the database holds, whatever the batch makes of it.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &V> {
        self.stored.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_at_once_and_told_apart_when_written() {
        let mut rows = Rows::stored([("b", 1), ("a", 2), ("unchanged", 3)]);
        for (key, value) in [("b", 4), ("new", 5), ("a", 6), ("new", 7)] {
            rows.put(key, value);
        }
        assert_eq!(rows.get("new"), Some(&7));
        assert_eq!(rows.get("unchanged"), Some(&3));
        assert_eq!(rows.fresh(), [(&"new", &7)]);
        assert_eq!(rows.updated(), [(&"a", &6), (&"b", &4)]);
    }
}
