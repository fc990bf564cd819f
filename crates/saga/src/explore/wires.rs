//! What is on the wire: a bit for every message there can be. A bit that is set stays set, so a message may arrive late, twice,
//! out of order, or never.

use crate::Command;

/// Place of a command among all there can be.
pub(super) type Code = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    Started,
    Cancel,
    /// Tells the order that the saga turned back.
    Turned,
    Ask(Code),
    Done(Code),
    Refused(Code),
    Unknown(Code),
}

const WORDS: usize = 3;
const FIRST_COMMAND: usize = 3;
const KINDS: usize = 4;

/// All that was ever sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sent([u64; WORDS]);

impl Sent {
    pub(super) fn add(&mut self, wire: Wire) {
        let bit = bit(wire);
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    pub(super) fn take(&mut self, wire: Wire) {
        let bit = bit(wire);
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word &= !(1 << (bit % 64));
        }
    }

    pub(super) fn has(&self, wire: Wire) -> bool {
        let bit = bit(wire);
        self.0.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    pub(super) fn without(self, others: Self) -> Self {
        let mut rest = self;
        for (word, other) in rest.0.iter_mut().zip(others.0) {
            *word &= !other;
        }
        rest
    }

    pub(super) fn each(self) -> impl Iterator<Item = Wire> {
        self.0.into_iter().enumerate().flat_map(|(at, word)| Ones(word).map(move |bit| wire(at * 64 + bit)))
    }
}

struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.checked_sub(1)?;
        usize::try_from(bit).ok()
    }
}

fn bit(wire: Wire) -> usize {
    let of = |code: Code, kind: usize| FIRST_COMMAND + KINDS * usize::from(code) + kind;
    match wire {
        Wire::Started => 0,
        Wire::Cancel => 1,
        Wire::Turned => 2,
        Wire::Ask(code) => of(code, 0),
        Wire::Done(code) => of(code, 1),
        Wire::Refused(code) => of(code, 2),
        Wire::Unknown(code) => of(code, 3),
    }
}

fn wire(bit: usize) -> Wire {
    let Some(at) = bit.checked_sub(FIRST_COMMAND) else {
        return [Wire::Started, Wire::Cancel, Wire::Turned][bit];
    };
    let code = u8::try_from(at / KINDS).unwrap_or(u8::MAX);
    match at % KINDS {
        0 => Wire::Ask(code),
        1 => Wire::Done(code),
        2 => Wire::Refused(code),
        _ => Wire::Unknown(code),
    }
}

/// Every command there can be, and its code.
#[derive(Clone, Debug)]
pub(super) struct Alphabet {
    steps: usize,
    attempts: u8,
}

impl Alphabet {
    /// `None` if there are more than there is room for.
    pub(super) fn new(steps: usize, attempts: u8) -> Option<Self> {
        let commands = (2 * steps + 1) * usize::from(attempts);
        (FIRST_COMMAND + KINDS * commands <= WORDS * 64).then_some(Self { steps, attempts })
    }

    pub(super) fn code(&self, command: Command) -> Code {
        let ask = match command {
            Command::Do { step, .. } => 2 * step,
            Command::Undo { step, .. } => 2 * step + 1,
            Command::Close { .. } => 2 * self.steps,
        };
        let attempt = command.attempt().clamp(Command::FIRST_ATTEMPT, self.attempts) - Command::FIRST_ATTEMPT;
        u8::try_from(ask).unwrap_or(u8::MAX).saturating_mul(self.attempts).saturating_add(attempt)
    }

    pub(super) fn answers(&self) -> impl Iterator<Item = Wire> {
        let codes = u8::try_from(2 * self.steps + 1).unwrap_or(u8::MAX).saturating_mul(self.attempts);
        (0..codes).flat_map(|code| [Wire::Done(code), Wire::Refused(code), Wire::Unknown(code)])
    }

    /// The earlier attempts of the same command.
    pub(super) fn earlier(&self, code: Code) -> impl Iterator<Item = Code> + use<> {
        code - code % self.attempts..code
    }

    pub(super) fn command(&self, code: Code) -> Command {
        let (ask, attempt) = (usize::from(code / self.attempts), code % self.attempts + Command::FIRST_ATTEMPT);
        match (ask / 2, ask % 2) {
            (step, _) if step >= self.steps => Command::Close { attempt },
            (step, 0) => Command::Do { step, attempt },
            (step, _) => Command::Undo { step, attempt },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_one_code_and_a_message_one_bit() {
        let alphabet = Alphabet::new(3, 2).unwrap();
        let mut sent = Sent::default();
        for step in 0..3 {
            for attempt in 1..=2 {
                for command in [Command::Do { step, attempt }, Command::Undo { step, attempt }, Command::Close { attempt }] {
                    let code = alphabet.code(command);
                    assert_eq!(alphabet.command(code), command);
                    sent.add(Wire::Refused(code));
                    assert!(sent.has(Wire::Refused(code)) && !sent.has(Wire::Done(code)));
                }
            }
        }
        sent.add(Wire::Turned);
        assert_eq!(sent.each().count(), 15);
        assert_eq!(alphabet.answers().count(), 3 * 14);
        assert!(sent.each().all(|wire| sent.has(wire)));
        assert!(Alphabet::new(7, 3).is_some() && Alphabet::new(8, 3).is_none());
    }
}
