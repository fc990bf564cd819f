//! The chaos profile of the sandbox (`SETTLE_SANDBOX_CHAOS`): how often its calls fare badly. What a call meets is drawn from the
//! seed and its key, so a repeated call meets the same, and a whole run can be repeated. Pure.

use contracts::ids;
use uuid::Uuid;

/// A share of calls, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Success,
    Decline,
    Insufficient,
    ErrorBefore,
    ErrorAfter,
    Silent,
    Late,
    Slow,
    DuplicateWebhook,
    ReorderWebhook,
    RefundRefused,
    RefundError,
}

/// By the places of the variants.
const SHARES: [&str; 12] = [
    "success",
    "decline",
    "insufficient",
    "error_before",
    "error_after",
    "silent",
    "late",
    "slow",
    "duplicate_webhook",
    "reorder_webhook",
    "refund_refused",
    "refund_error",
];

/// A whole number: its name, its default, and what it may be.
const NUMBERS: [(&str, u64, std::ops::RangeInclusive<u64>); 6] = [
    ("seed", 0, 0..=u64::MAX),
    ("late_ms", 60_000, 1..=3_600_000),
    ("slow_ms", 30_000, 1..=120_000),
    ("spoiled_calls", 1, 1..=1_000_000),
    ("outage_every_ms", 0, 1..=86_400_000),
    ("outage_ms", 0, 1..=86_400_000),
];
const SEED: usize = 0;
const LATE_MS: usize = 1;
const SLOW_MS: usize = 2;
const SPOILED_CALLS: usize = 3;
const OUTAGE_EVERY_MS: usize = 4;
const OUTAGE_MS: usize = 5;

/// What a profile may say; the default is a sandbox without chaos.
#[derive(Clone, Debug, PartialEq)]
pub struct Chaos {
    shares: [f64; SHARES.len()],
    numbers: [u64; NUMBERS.len()],
}

/// Why a text is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChaos {
    #[error("{0:?} is not name=value")]
    NoPair(String),
    #[error("{0:?} is no name of a profile; they are {names}", names = names())]
    UnknownName(String),
    #[error("{0} comes twice")]
    Twice(&'static str),
    #[error("{name}={value}: must be a share from 0 to 1")]
    BadShare { name: &'static str, value: String },
    #[error("{name}={value}: must be a number from {from} to {to}")]
    BadNumber { name: &'static str, value: String, from: u64, to: u64 },
    #[error("{0} come to more than 1")]
    TooMuch(&'static str),
    #[error("outage_every_ms and outage_ms go together, and an outage is no longer than what it recurs in")]
    BadOutage,
}

fn names() -> String {
    NUMBERS.iter().map(|(name, ..)| *name).chain(SHARES).collect::<Vec<_>>().join(" ")
}

impl Default for Chaos {
    fn default() -> Self {
        let mut shares = [0.0; SHARES.len()];
        shares[Share::Success as usize] = 1.0;
        Self { shares, numbers: NUMBERS.map(|(_, default, _)| default) }
    }
}

impl std::str::FromStr for Chaos {
    type Err = BadChaos;

    /// Pairs `name=value` with commas between them; what is not named is as in the default.
    fn from_str(text: &str) -> Result<Self, BadChaos> {
        let mut chaos = Self::default();
        let mut seen = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| BadChaos::NoPair(pair.to_owned()))?;
            let name = chaos.set(name.trim(), value.trim())?;
            if seen.contains(&name) {
                return Err(BadChaos::Twice(name));
            }
            seen.push(name);
        }
        if !seen.contains(&"success") {
            chaos.shares[Share::Success as usize] = 1.0 - chaos.share(Share::Decline) - chaos.share(Share::Insufficient);
        }
        chaos.judge()?;
        Ok(chaos)
    }
}

impl Chaos {
    fn set(&mut self, name: &str, value: &str) -> Result<&'static str, BadChaos> {
        if let Some(place) = SHARES.iter().position(|share| *share == name) {
            let share = value.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
            self.shares[place] = share.ok_or_else(|| BadChaos::BadShare { name: SHARES[place], value: value.to_owned() })?;
            return Ok(SHARES[place]);
        }
        let Some(place) = NUMBERS.iter().position(|(number, ..)| *number == name) else {
            return Err(BadChaos::UnknownName(name.to_owned()));
        };
        let (name, _, range) = &NUMBERS[place];
        let bad = || BadChaos::BadNumber { name, value: value.to_owned(), from: *range.start(), to: *range.end() };
        self.numbers[place] = value.parse().ok().filter(|number| range.contains(number)).ok_or_else(bad)?;
        Ok(*name)
    }

    fn judge(&self) -> Result<(), BadChaos> {
        use Share::{Decline, ErrorAfter, ErrorBefore, Insufficient, Late, RefundError, Silent, Slow, Success};
        /// What adding up shares may be off by.
        const EPSILON: f64 = 1e-9;
        let too_much = |shares: &[Share]| shares.iter().map(|share| self.share(*share)).sum::<f64>() > 1.0 + EPSILON;
        if self.share(Success) < -EPSILON || too_much(&[Success, Decline, Insufficient]) {
            return Err(BadChaos::TooMuch("success, decline and insufficient"));
        }
        if too_much(&[ErrorBefore, ErrorAfter, Silent, Late, Slow]) {
            return Err(BadChaos::TooMuch("error_before, error_after, silent, late and slow"));
        }
        if too_much(&[RefundError, Silent, Late, Slow]) {
            return Err(BadChaos::TooMuch("refund_error, silent, late and slow"));
        }
        let (every, lasts) = (self.numbers[OUTAGE_EVERY_MS], self.numbers[OUTAGE_MS]);
        if (every == 0) != (lasts == 0) || lasts > every { Err(BadChaos::BadOutage) } else { Ok(()) }
    }

    fn share(&self, share: Share) -> f64 {
        self.shares[share as usize]
    }

    pub(super) fn late_ms(&self) -> u64 {
        self.numbers[LATE_MS]
    }

    pub(super) fn slow_ms(&self) -> u64 {
        self.numbers[SLOW_MS]
    }

    /// How many calls of a key come to nothing, where its first one does.
    pub(super) fn spoiled_calls(&self) -> u32 {
        u32::try_from(self.numbers[SPOILED_CALLS]).unwrap_or(u32::MAX)
    }

    /// Whether the sandbox is away so long after its start: the end of each stretch is an outage.
    pub(super) fn is_away(&self, since_start_ms: u64) -> bool {
        let (every, lasts) = (self.numbers[OUTAGE_EVERY_MS], self.numbers[OUTAGE_MS]);
        every > 0 && since_start_ms % every >= every - lasts
    }

    /// The one of these that a key draws, if any. Draws of different names do not depend on each other.
    pub(super) fn draw(&self, key: Uuid, name: &str, among: &[Share]) -> Option<Share> {
        let mut left = self.dice(key, name);
        for share in among {
            if left < self.share(*share) {
                return Some(*share);
            }
            left -= self.share(*share);
        }
        None
    }

    /// From 0 to 1, without 1.
    fn dice(&self, key: Uuid, name: &str) -> f64 {
        const BITS: u32 = 48;
        let id = ids::derive(key, &format!("chaos {} {name}", self.numbers[SEED]));
        // The first 48 bits of a derived id are all of the hash.
        let drawn = u64::try_from(id.as_u128() >> (u128::BITS - BITS)).unwrap_or_default();
        drawn as f64 / (1_u64 << BITS) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chaos(text: &str) -> Chaos {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        text.parse::<Chaos>().unwrap_err().to_string()
    }

    #[test]
    fn the_profile_of_the_docs_is_read() {
        let all = chaos(
            "seed=7,success=0.9,decline=0.02,insufficient=0.02,error_before=0.02,error_after=0.02,silent=0.01,late=0.01,slow=0.01,\
             duplicate_webhook=0.03,reorder_webhook=0.03,refund_refused=0.005,refund_error=0.02,late_ms=5000,slow_ms=4000,\
             spoiled_calls=3,outage_every_ms=60000,outage_ms=2000",
        );
        assert_eq!((all.late_ms(), all.slow_ms(), all.spoiled_calls()), (5_000, 4_000, 3));
        assert_eq!(all.share(Share::RefundRefused), 0.005);
        assert_eq!((chaos("").late_ms(), chaos("seed=1").slow_ms()), (60_000, 30_000));
        assert_eq!(chaos(" decline = 0.25 , "), chaos("decline=0.25"));
        assert_eq!(chaos(""), Chaos::default());
        chaos("decline=0.1,insufficient=0.9");
    }

    #[test]
    fn a_malformed_profile_is_refused_by_name() {
        for (text, says) in [
            ("seed", "\"seed\" is not name=value"),
            ("hope=1", "\"hope\" is no name of a profile; they are seed late_ms"),
            ("seed=1,seed=2", "seed comes twice"),
            ("silent=2", "silent=2: must be a share from 0 to 1"),
            ("silent=-0.1", "silent=-0.1: must be a share"),
            ("silent=NaN", "silent=NaN: must be a share"),
            ("silent=", "silent=: must be a share"),
            ("late_ms=0", "late_ms=0: must be a number from 1 to 3600000"),
            ("slow_ms=1.5", "slow_ms=1.5: must be a number"),
            ("seed=-1", "seed=-1: must be a number from 0"),
            ("success=0.9,decline=0.2", "success, decline and insufficient come to more than 1"),
            ("decline=0.6,insufficient=0.6", "success, decline and insufficient come to more than 1"),
            ("silent=0.5,late=0.6", "error_before, error_after, silent, late and slow come to more than 1"),
            ("refund_error=0.9,slow=0.2", "refund_error, silent, late and slow come to more than 1"),
            ("outage_ms=5", "go together"),
            ("outage_every_ms=5", "go together"),
            ("outage_every_ms=5,outage_ms=6", "go together"),
        ] {
            assert!(refused(text).contains(says), "{text} is refused with {}", refused(text));
        }
    }

    #[test]
    fn a_key_draws_the_same_each_time_and_another_seed_draws_otherwise() {
        let (seven, eight) = (chaos("seed=7,silent=0.5"), chaos("seed=8,silent=0.5"));
        let drawn = |chaos: &Chaos| -> Vec<Option<Share>> {
            (0..64).map(|n| chaos.draw(Uuid::from_u128(n), "manner", &[Share::Silent])).collect()
        };
        assert_eq!(drawn(&seven), drawn(&seven));
        assert_ne!(drawn(&seven), drawn(&eight));
    }

    #[test]
    fn shares_are_kept() {
        const KEYS: u128 = 20_000;
        let chaos = chaos("seed=3,decline=0.2,insufficient=0.05");
        let among = [Share::Success, Share::Insufficient, Share::Decline];
        let count = |share| (0..KEYS).filter(|n| chaos.draw(Uuid::from_u128(*n), "verdict", &among) == Some(share)).count();
        for (share, expected) in [(Share::Success, 15_000), (Share::Insufficient, 1_000), (Share::Decline, 4_000)] {
            let counted = count(share);
            assert!(counted.abs_diff(expected) < 300, "{share:?}: {counted}");
        }
        assert_eq!(chaos.draw(Uuid::from_u128(1), "manner", &[Share::Silent, Share::Late]), None, "nothing is drawn of no share");
    }

    #[test]
    fn draws_of_different_names_do_not_follow_each_other() {
        let chaos = chaos("silent=0.5,duplicate_webhook=0.5");
        let drawn = |n, name, share| chaos.draw(Uuid::from_u128(n), name, &[share]).is_some();
        let same = (0..1_000).filter(|n| drawn(*n, "manner", Share::Silent) == drawn(*n, "twice", Share::DuplicateWebhook));
        assert!(same.count().abs_diff(500) < 80);
    }

    #[test]
    fn an_outage_ends_each_stretch() {
        let chaos = chaos("outage_every_ms=100,outage_ms=20");
        let away: Vec<u64> = (0..300).filter(|ms| chaos.is_away(*ms)).collect();
        assert_eq!(away, (80..100).chain(180..200).chain(280..300).collect::<Vec<_>>());
        assert!(!Chaos::default().is_away(0));
        assert!("outage_every_ms=1,outage_ms=1".parse::<Chaos>().unwrap().is_away(0), "away for good");
    }
}
