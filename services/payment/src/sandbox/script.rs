//! What a call to the sandbox meets: by the payment token, by the chaos profile where the token says nothing. Pure.

use uuid::Uuid;

use super::chaos::{Chaos, Share};

/// What `tok_slow` takes to answer: longer than anybody waits.
const SLOW_TOKEN_MS: u64 = 3_000;

/// How the sandbox treats the first call with a key; later calls with it are answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Prompt,
    /// So many calls fail and nothing is booked.
    ErrorBefore {
        calls: u32,
    },
    /// Books, then fails.
    ErrorAfter,
    /// So many calls are never answered, and nothing is booked.
    Silent {
        calls: u32,
    },
    /// Never answers; it is booked after so long, and nobody knows of it before.
    Late {
        ms: u64,
    },
    /// Books and answers when nobody waits any more.
    Slow {
        ms: u64,
    },
}

/// What a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) manner: Manner,
    /// Why it is declined, whatever the books say.
    pub(super) decline: Option<&'static str>,
    /// Its webhook comes twice.
    pub(super) told_twice: bool,
    /// Its webhook comes after younger ones.
    pub(super) told_late: bool,
}

impl Script {
    const PLAIN: Self = Self { manner: Manner::Prompt, decline: None, told_twice: false, told_late: false };

    /// Of a charge or an authorization.
    pub(super) fn of_charge(key: Uuid, token: &str, chaos: &Chaos) -> Self {
        let manner = |manner| Self { manner, ..Self::PLAIN };
        let declined = |reason| Self { decline: Some(reason), ..Self::PLAIN };
        match token {
            "tok_declined" => declined("CARD_DECLINED"),
            "tok_insufficient_funds" => declined("INSUFFICIENT_FUNDS"),
            "tok_error_before" => manner(Manner::ErrorBefore { calls: 1 }),
            "tok_error_after" => manner(Manner::ErrorAfter),
            "tok_silent" => manner(Manner::Silent { calls: 1 }),
            "tok_slow" => manner(Manner::Slow { ms: SLOW_TOKEN_MS }),
            "tok_duplicate_webhook" => Self { told_twice: true, ..Self::PLAIN },
            REFUND_REFUSED => Self::PLAIN,
            _ => {
                let verdict = chaos.draw(key, "verdict", &[Share::Success, Share::Insufficient]);
                let decline = match verdict {
                    Some(Share::Success) => None,
                    Some(_) => Some("INSUFFICIENT_FUNDS"),
                    None => Some("CARD_DECLINED"),
                };
                Self { decline, ..Self::of_capture(key, chaos) }
            }
        }
    }

    /// Of a capture or a void.
    pub(super) fn of_capture(key: Uuid, chaos: &Chaos) -> Self {
        use Share::{ErrorAfter, ErrorBefore, Late, Silent, Slow};
        Self::drawn(key, chaos, &[ErrorBefore, ErrorAfter, Silent, Late, Slow])
    }

    pub(super) fn of_refund(key: Uuid, chaos: &Chaos) -> Self {
        let refused = chaos.draw(key, "verdict", &[Share::RefundRefused]).is_some();
        let script = Self::drawn(key, chaos, &[Share::RefundError, Share::Silent, Share::Late, Share::Slow]);
        Self { decline: refused.then_some("REFUND_REFUSED"), ..script }
    }

    fn drawn(key: Uuid, chaos: &Chaos, among: &[Share]) -> Self {
        let calls = chaos.spoiled_calls();
        let manner = match chaos.draw(key, "manner", among) {
            Some(Share::ErrorBefore) => Manner::ErrorBefore { calls },
            Some(Share::ErrorAfter) => Manner::ErrorAfter,
            Some(Share::Silent) => Manner::Silent { calls },
            Some(Share::Late) => Manner::Late { ms: chaos.late_ms() },
            Some(Share::Slow) => Manner::Slow { ms: chaos.slow_ms() },
            // Half of them before the money has moved, half of them after.
            Some(Share::RefundError) if key.as_u128().is_multiple_of(2) => Manner::ErrorBefore { calls },
            Some(Share::RefundError) => Manner::ErrorAfter,
            _ => Manner::Prompt,
        };
        Self {
            manner,
            told_twice: chaos.draw(key, "twice", &[Share::DuplicateWebhook]).is_some(),
            told_late: chaos.draw(key, "order", &[Share::ReorderWebhook]).is_some(),
            ..Self::PLAIN
        }
    }

    /// What passes until it is booked.
    pub(super) fn lands_after_ms(&self) -> u64 {
        if let Manner::Late { ms } = self.manner { ms } else { 0 }
    }

    /// Whether the call that books it hears so in time.
    pub(super) fn is_answered(&self) -> bool {
        !matches!(self.manner, Manner::ErrorAfter | Manner::Late { .. } | Manner::Slow { .. })
    }
}

const REFUND_REFUSED: &str = "tok_refund_refused";

/// Whether the money of a charge with this token can never be given back.
pub(super) fn refuses_refunds(token: &str) -> bool {
    token == REFUND_REFUSED
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::from_u128(7);

    fn chaos(text: &str) -> Chaos {
        text.parse().unwrap()
    }

    #[test]
    fn tokens_choose_what_happens_whatever_the_profile_says() {
        for profile in ["", "success=0", "silent=1", "duplicate_webhook=1"] {
            let script = |token| Script::of_charge(KEY, token, &chaos(profile));
            assert_eq!(script("tok_declined").decline, Some("CARD_DECLINED"));
            assert_eq!(script("tok_insufficient_funds").decline, Some("INSUFFICIENT_FUNDS"));
            assert_eq!(script("tok_error_before").manner, Manner::ErrorBefore { calls: 1 });
            assert_eq!(script("tok_error_after").manner, Manner::ErrorAfter);
            assert_eq!(script("tok_silent").manner, Manner::Silent { calls: 1 });
            assert_eq!(script("tok_slow").manner, Manner::Slow { ms: SLOW_TOKEN_MS });
            assert_eq!(script("tok_duplicate_webhook"), Script { told_twice: true, ..Script::PLAIN });
            assert_eq!(script("tok_refund_refused"), Script::PLAIN);
        }
        for token in ["", "tok_visa"] {
            assert_eq!(Script::of_charge(KEY, token, &Chaos::default()), Script::PLAIN, "{token}");
        }
    }

    #[test]
    fn a_profile_chooses_for_all_other_tokens() {
        let charge = |profile| Script::of_charge(KEY, "tok_visa", &chaos(profile));
        assert_eq!(charge("success=0").decline, Some("CARD_DECLINED"));
        assert_eq!(charge("decline=1").decline, Some("CARD_DECLINED"));
        assert_eq!(charge("insufficient=1").decline, Some("INSUFFICIENT_FUNDS"));
        assert_eq!(charge("error_before=1,spoiled_calls=50").manner, Manner::ErrorBefore { calls: 50 });
        assert_eq!(charge("error_after=1").manner, Manner::ErrorAfter);
        assert_eq!(charge("silent=1").manner, Manner::Silent { calls: 1 });
        assert_eq!(charge("late=1").lands_after_ms(), 60_000);
        assert_eq!(charge("slow=1,slow_ms=60000").manner, Manner::Slow { ms: 60_000 });
        assert!(charge("duplicate_webhook=1").told_twice && charge("reorder_webhook=1").told_late);
        assert_eq!(charge("refund_error=1,refund_refused=1"), Script::PLAIN);
    }

    #[test]
    fn refunds_have_shares_of_their_own() {
        let refund = |n, profile| Script::of_refund(Uuid::from_u128(n), &chaos(profile));
        assert_eq!(refund(1, "refund_refused=1").decline, Some("REFUND_REFUSED"));
        assert_eq!(refund(2, "refund_error=1").manner, Manner::ErrorBefore { calls: 1 });
        assert_eq!(refund(3, "refund_error=1").manner, Manner::ErrorAfter);
        assert_eq!(refund(1, "success=0,error_before=0.5,error_after=0.5"), Script::PLAIN, "those of charges are not for refunds");
        assert!(!refund(1, "late=1").is_answered());
    }
}
