//! The circuit breaker before the provider: while most calls have no known outcome, no more are sent, but for a few that try. Pure.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How far back outcomes count.
    pub(crate) window_ms: u64,
    /// It stays closed while there were fewer calls than this in the window.
    pub(crate) calls_min: u32,
    /// It opens when so many of a hundred are unknown.
    pub(crate) unknown_percent_max: u32,
    /// Calls that try, at a time; when so many are answered it closes.
    pub(crate) probes_max: u32,
    /// How long it stays open before it tries: doubles from the first to the last while the tries fail.
    pub(crate) open_first_ms: u64,
    pub(crate) open_last_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// All calls are sent.
    Closed,
    /// Some are sent, to see.
    HalfOpen,
    /// None is sent.
    Open,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until_ms: u64 },
    HalfOpen { under_way: u32, answered: u32 },
}

/// A call that was let through. What it comes to counts only in the state in which it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    epoch: u64,
    /// It was made before: perhaps its key is one that is never answered.
    again: bool,
}

/// Outcomes of a part of the window.
#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    calls: u32,
    unknown: u32,
}

/// Parts of the window.
const SLOTS: u64 = 10;

#[derive(Debug)]
pub(crate) struct Breaker {
    limits: Limits,
    state: State,
    /// Counts the changes of state.
    epoch: u64,
    /// Of the next time it opens.
    open_ms: u64,
    slots: VecDeque<Slot>,
}

impl Breaker {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: State::Closed, epoch: 0, open_ms: limits.open_first_ms, slots: VecDeque::new() }
    }

    pub(crate) fn stand(&self) -> Stand {
        match self.state {
            State::Closed => Stand::Closed,
            State::Open { .. } => Stand::Open,
            State::HalfOpen { .. } => Stand::HalfOpen,
        }
    }

    /// How many calls may be sent now.
    pub(crate) fn room(&mut self, now_ms: u64) -> usize {
        if let State::Open { until_ms } = self.state
            && now_ms >= until_ms
        {
            self.change(State::HalfOpen { under_way: 0, answered: 0 });
        }
        match self.state {
            State::Closed => usize::MAX,
            State::Open { .. } => 0,
            State::HalfOpen { under_way, .. } => self.limits.probes_max.saturating_sub(under_way) as usize,
        }
    }

    /// When to ask for room again; `None` if there is some, or a call that ends makes some.
    pub(crate) fn tries_at_ms(&self) -> Option<u64> {
        match self.state {
            State::Open { until_ms } => Some(until_ms),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Calls that try now; `None` unless some may.
    pub(crate) fn trying(&self) -> Option<u32> {
        match self.state {
            State::HalfOpen { under_way, .. } => Some(under_way),
            State::Closed | State::Open { .. } => None,
        }
    }

    /// A call begins, for the first time or again.
    pub(crate) fn begin(&mut self, again: bool) -> Ticket {
        if let State::HalfOpen { under_way, .. } = &mut self.state {
            *under_way += 1;
        }
        Ticket { epoch: self.epoch, again }
    }

    /// A call has ended: the provider answered, or not.
    pub(crate) fn end(&mut self, ticket: Ticket, answered: bool, now_ms: u64) {
        if ticket.epoch != self.epoch {
            return;
        }
        match &mut self.state {
            State::Closed => {
                self.count(answered, now_ms);
                if self.fails() {
                    self.open(now_ms);
                }
            }
            State::HalfOpen { under_way, answered: so_far } if answered => {
                *under_way = under_way.saturating_sub(1);
                *so_far += 1;
                if *so_far >= self.limits.probes_max {
                    self.open_ms = self.limits.open_first_ms;
                    self.change(State::Closed);
                }
            }
            // It says something of its key, not of a provider that answers others.
            State::HalfOpen { under_way, answered: so_far } if ticket.again && *so_far > 0 => {
                *under_way = under_way.saturating_sub(1);
            }
            State::HalfOpen { .. } => self.open(now_ms),
            State::Open { .. } => {}
        }
    }

    fn count(&mut self, answered: bool, now_ms: u64) {
        let number = now_ms / (self.limits.window_ms / SLOTS).max(1);
        self.slots.retain(|slot| slot.number + SLOTS > number);
        let unknown = u32::from(!answered);
        match self.slots.back_mut() {
            Some(slot) if slot.number == number => {
                slot.calls += 1;
                slot.unknown += unknown;
            }
            _ => self.slots.push_back(Slot { number, calls: 1, unknown }),
        }
    }

    fn fails(&self) -> bool {
        let (calls, unknown) = self
            .slots
            .iter()
            .fold((0_u64, 0_u64), |(calls, unknown), slot| (calls + u64::from(slot.calls), unknown + u64::from(slot.unknown)));
        calls >= u64::from(self.limits.calls_min) && unknown * 100 >= calls * u64::from(self.limits.unknown_percent_max)
    }

    fn open(&mut self, now_ms: u64) {
        let until_ms = now_ms + self.open_ms;
        self.open_ms = (self.open_ms * 2).min(self.limits.open_last_ms);
        self.change(State::Open { until_ms });
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        window_ms: 10_000,
        calls_min: 20,
        unknown_percent_max: 50,
        probes_max: 2,
        open_first_ms: 500,
        open_last_ms: 1_500,
    };

    fn outcomes(breaker: &mut Breaker, answered: &[bool], now_ms: u64) {
        for answered in answered {
            let ticket = breaker.begin(false);
            breaker.end(ticket, *answered, now_ms);
        }
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(LIMITS);
        outcomes(&mut breaker, &[false; 20], 0);
        assert_eq!((breaker.stand(), breaker.room(499), breaker.tries_at_ms()), (Stand::Open, 0, Some(500)));
        breaker
    }

    #[test]
    fn it_opens_when_half_of_enough_calls_are_unknown() {
        let mut breaker = Breaker::new(LIMITS);
        outcomes(&mut breaker, &[false; 19], 0);
        assert_eq!((breaker.stand(), breaker.room(0)), (Stand::Closed, usize::MAX), "too few to tell");
        outcomes(&mut breaker, &[true; 19], 0);
        outcomes(&mut breaker, &[false], 0);
        assert_eq!(breaker.stand(), Stand::Open);

        let mut breaker = Breaker::new(LIMITS);
        outcomes(&mut breaker, &[true; 100], 0);
        outcomes(&mut breaker, &[false; 99], 0);
        assert_eq!(breaker.stand(), Stand::Closed);
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let mut breaker = Breaker::new(LIMITS);
        outcomes(&mut breaker, &[false; 19], 0);
        outcomes(&mut breaker, &[false; 19], 10_000);
        assert_eq!(breaker.stand(), Stand::Closed);
        outcomes(&mut breaker, &[false], 12_000);
        assert_eq!(breaker.stand(), Stand::Open);
    }

    #[test]
    fn a_few_calls_try_and_close_it_when_they_are_answered() {
        let mut breaker = opened();
        assert_eq!((breaker.room(500), breaker.stand()), (2, Stand::HalfOpen));
        let (one, two) = (breaker.begin(false), breaker.begin(false));
        assert_eq!(breaker.room(501), 0, "no more than these");
        breaker.end(one, true, 502);
        assert_eq!((breaker.room(502), breaker.stand()), (1, Stand::HalfOpen));
        breaker.end(two, true, 503);
        assert_eq!((breaker.room(503), breaker.stand()), (usize::MAX, Stand::Closed));
    }

    #[test]
    fn a_try_that_fails_opens_it_for_longer_up_to_the_last_pause() {
        let mut breaker = opened();
        let mut now_ms = 500;
        for pause_ms in [1_000, 1_500, 1_500] {
            assert_eq!(breaker.room(now_ms), 2);
            let (one, two) = (breaker.begin(false), breaker.begin(false));
            breaker.end(one, false, now_ms);
            breaker.end(two, true, now_ms);
            assert_eq!((breaker.stand(), breaker.tries_at_ms()), (Stand::Open, Some(now_ms + pause_ms)));
            now_ms += pause_ms;
        }
    }

    #[test]
    fn a_key_that_is_never_answered_does_not_hold_it_open_where_others_are_answered() {
        let mut breaker = opened();
        assert_eq!((breaker.trying(), breaker.room(500), breaker.trying()), (None, 2, Some(0)));
        let (first, sick) = (breaker.begin(false), breaker.begin(true));
        assert_eq!(breaker.trying(), Some(2));
        breaker.end(first, true, 501);
        breaker.end(sick, false, 502);
        assert_eq!((breaker.stand(), breaker.room(502)), (Stand::HalfOpen, 2), "it says nothing of the others");
        let sick = breaker.begin(true);
        breaker.end(sick, false, 503);
        let first = breaker.begin(false);
        breaker.end(first, true, 504);
        assert_eq!((breaker.stand(), breaker.trying()), (Stand::Closed, None));

        let mut breaker = opened();
        assert_eq!(breaker.room(500), 2);
        let alone = breaker.begin(true);
        breaker.end(alone, false, 501);
        assert_eq!(breaker.stand(), Stand::Open, "nobody was answered");

        let mut breaker = opened();
        assert_eq!(breaker.room(500), 2);
        let (one, two) = (breaker.begin(true), breaker.begin(false));
        breaker.end(one, true, 501);
        breaker.end(two, false, 502);
        assert_eq!(breaker.stand(), Stand::Open, "a first call speaks for all of them");
    }

    #[test]
    fn a_call_of_before_says_nothing_about_now() {
        let mut breaker = Breaker::new(LIMITS);
        let old = breaker.begin(false);
        outcomes(&mut breaker, &[false; 20], 0);
        assert_eq!(breaker.room(500), 2);
        breaker.end(old, false, 501);
        assert_eq!((breaker.stand(), breaker.room(501)), (Stand::HalfOpen, 2));
    }
}
