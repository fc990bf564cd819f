//! What is done to which process, and when: thrown by dice of which the seed is known.

use std::{fmt, ops::RangeInclusive, time::Duration};

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

use super::PROCESSES;
use crate::served::SERVICES;

/// From one fault to the next.
const GAP_MS: RangeInclusive<u64> = 400..=2_400;
/// Shorter than anything that is waited for.
const SHORT_MS: RangeInclusive<u64> = 50..=1_500;
/// Longer than a transaction may be idle (2 s), and than it takes until a lease has run out (3 s) and somebody looks (1 s).
const LONG_MS: RangeInclusive<u64> = 4_500..=7_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL; a new process takes its place.
    Killed,
    /// SIGSTOP, and SIGCONT a little later.
    Paused,
    /// The same, but others have taken its work over before it wakes.
    PausedForLong,
    /// What its service said last is published again: as if the relay had lost its saved cursors.
    SetBack,
}

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::Killed, Self::Paused, Self::PausedForLong, Self::SetBack];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// From the first moment on; later if the process has not come back from the fault before.
    pub(super) at: Duration,
    pub(super) service: &'static str,
    pub(super) nth: usize,
    pub(super) fault: Fault,
    pub(super) pause: Duration,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.2} s  {} {} {:?}", self.at.as_secs_f64(), self.service, self.nth, self.fault)?;
        if self.pause > Duration::ZERO {
            write!(f, " {} ms", self.pause.as_millis())?;
        }
        Ok(())
    }
}

/// Every service meets every fault once, in any order; then whatever the dice say, until the time is over.
pub(super) fn schedule(seed: u64, lasts: Duration) -> Vec<Planned> {
    let mut dice = StdRng::seed_from_u64(seed);
    let all: Vec<(&'static str, Fault)> =
        SERVICES.into_iter().flat_map(|service| Fault::ALL.map(|fault| (service, fault))).collect();
    let mut first = all.clone();
    first.shuffle(&mut dice);
    let mut plan = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(dice.random_range(GAP_MS));
        let next = first.pop().or_else(|| all.choose(&mut dice).copied().filter(|_| at < lasts));
        let Some((service, fault)) = next else { return plan };
        let pause_ms = match fault {
            Fault::Killed | Fault::SetBack => 0,
            Fault::Paused => dice.random_range(SHORT_MS),
            Fault::PausedForLong => dice.random_range(LONG_MS),
        };
        let nth = dice.random_range(0..PROCESSES);
        plan.push(Planned { at, service, nth, fault, pause: Duration::from_millis(pause_ms) });
    }
}

#[test]
fn every_service_meets_every_fault_and_a_seed_tells_it_all() {
    let lasts = Duration::from_secs(300);
    let plan = schedule(7, lasts);
    for (service, fault) in SERVICES.into_iter().flat_map(|service| Fault::ALL.map(|fault| (service, fault))) {
        assert!(schedule(7, Duration::ZERO).iter().any(|planned| planned.service == service && planned.fault == fault));
    }
    assert_eq!(plan, schedule(7, lasts));
    assert_ne!(plan, schedule(8, lasts));
    assert!(plan.last().is_some_and(|last| last.at < lasts && last.at > lasts - Duration::from_secs(5)));
    assert!((0..PROCESSES).all(|nth| plan.iter().any(|planned| planned.nth == nth)));
}
