//! Who looks after the dead letters of which service of this process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use messaging::DeadLetters;

/// The desks of the services in this process, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Desks(Arc<Mutex<BTreeMap<&'static str, DeadLetters>>>);

impl Desks {
    /// A service is there.
    pub fn open(&self, desk: DeadLetters) {
        self.lock().insert(desk.group(), desk);
    }

    /// The desk of a service; `None` if it does not run here.
    #[must_use]
    pub fn of(&self, service: &str) -> Option<DeadLetters> {
        self.lock().get(service).cloned()
    }

    /// The services that run here.
    #[must_use]
    pub fn services(&self) -> Vec<&'static str> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, DeadLetters>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
