//! Signatures of webhooks: `t=<seconds>,v1=<hex of HMAC-SHA256 over "<seconds>.<body>">`. The sandbox signs, the payment service
//! verifies.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Secrets that are good at the same time, so that they can be changed without a gap.
const SECRETS_MAX: usize = 2;
/// How far the time of a signature may be from ours, either way.
const WINDOW_S: u64 = 300;
/// Signatures in one header: a sender that changes its secret signs with both.
const SIGNATURES_MAX: usize = 4;

/// The secrets of webhooks, ready to sign and to verify.
#[derive(Clone)]
pub struct Secrets(Vec<Hmac<Sha256>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// Why a setting names no secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecrets {
    #[error("must be one secret, or two with a comma between them")]
    Count,
    #[error("has an empty secret")]
    Empty,
}

/// Why a webhook is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unbelieved {
    #[error("the signature is not right")]
    Signature,
    #[error("the signature is more than {WINDOW_S} s from now")]
    Time,
}

impl Secrets {
    /// One secret, or the new one and the old one with a comma between them.
    pub fn parse(text: &str) -> Result<Self, BadSecrets> {
        let secrets: Vec<&str> = text.split(',').map(str::trim).collect();
        if secrets.len() > SECRETS_MAX {
            return Err(BadSecrets::Count);
        }
        if secrets.iter().any(|secret| secret.is_empty()) {
            return Err(BadSecrets::Empty);
        }
        // HMAC takes keys of any length.
        let macs = secrets.into_iter().map(|secret| Hmac::new_from_slice(secret.as_bytes()));
        macs.collect::<Result<_, _>>().map(Self).map_err(|_| BadSecrets::Empty)
    }

    /// A secret for a provider and a service in one process, which nobody else needs to know.
    #[must_use]
    pub fn fresh() -> Self {
        let secret: [u8; 32] = rand::random();
        Self(Hmac::new_from_slice(&secret).into_iter().collect())
    }

    /// What goes into the header, signed with the first secret.
    #[must_use]
    pub fn sign(&self, now_s: i64, body: &[u8]) -> String {
        let tag = self.0.first().map(|mac| hex(&signing(mac, &now_s.to_string(), body).finalize().into_bytes()));
        format!("t={now_s},v1={}", tag.unwrap_or_default())
    }

    /// Compares in constant time, and looks at the time only when the signature is right: a stranger learns nothing of our clock.
    pub(crate) fn verify(&self, signature: &str, body: &[u8], now_s: i64) -> Result<(), Unbelieved> {
        let (time, tags) = parts(signature).ok_or(Unbelieved::Signature)?;
        let signed_s: i64 = time.parse().map_err(|_| Unbelieved::Signature)?;
        let right = |mac: &Hmac<Sha256>| tags.iter().any(|tag| signing(mac, time, body).verify_slice(tag).is_ok());
        if !self.0.iter().any(right) {
            return Err(Unbelieved::Signature);
        }
        if signed_s.abs_diff(now_s) > WINDOW_S { Err(Unbelieved::Time) } else { Ok(()) }
    }
}

fn signing(mac: &Hmac<Sha256>, time: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = mac.clone();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// The time, as it was signed, and the signatures of version 1.
fn parts(signature: &str) -> Option<(&str, Vec<Vec<u8>>)> {
    let mut time = None;
    let mut tags = Vec::new();
    for part in signature.split(',') {
        match part.trim().split_once('=')? {
            ("t", _) if time.is_some() => return None,
            ("t", text) => time = Some(text),
            ("v1", _) if tags.len() == SIGNATURES_MAX => return None,
            ("v1", text) => tags.push(unhex(text)?),
            // A later version, beside the one we know.
            _ => {}
        }
    }
    Some((time?, tags))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    const BYTES: usize = 32;
    if text.len() != 2 * BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_760_000_000;
    const BODY: &[u8] = br#"{"id":"e"}"#;

    fn secrets(text: &str) -> Secrets {
        Secrets::parse(text).unwrap()
    }

    #[test]
    fn a_signature_is_the_one_of_the_page() {
        // openssl: printf '%s' '1760000000.{"id":"e"}' | openssl dgst -sha256 -hmac secret
        let signed = secrets("secret").sign(NOW_S, BODY);
        assert_eq!(signed, "t=1760000000,v1=f101e835f4e77597cc4937081b67a03aed8384edaaeae67bb96d949012eb16d4");
    }

    #[test]
    fn what_was_signed_is_believed_within_the_window() {
        let ours = secrets("secret");
        let signed = ours.sign(NOW_S, BODY);
        for now_s in [NOW_S, NOW_S + 300, NOW_S - 300] {
            assert_eq!(ours.verify(&signed, BODY, now_s), Ok(()));
        }
        for now_s in [NOW_S + 301, NOW_S - 301, i64::MIN, i64::MAX] {
            assert_eq!(ours.verify(&signed, BODY, now_s), Err(Unbelieved::Time));
        }
        assert_eq!(ours.verify(&format!("v0=x,{signed}"), BODY, NOW_S), Ok(()), "other versions are passed over");
        assert_eq!(ours.verify(&signed.replace(',', ", "), BODY, NOW_S), Ok(()));
    }

    #[test]
    fn nothing_else_is_believed() {
        let ours = secrets("secret");
        let signed = ours.sign(NOW_S, BODY);
        let later = signed.replace("t=1760000000", "t=1760000001");
        let shorter = &signed[..signed.len() - 2];
        let another = signed.replace("v1=", "v2=");
        let twice = format!("t=1,{signed}");
        let many = format!("{signed}{}", format!(",v1={}", "0".repeat(64)).repeat(SIGNATURES_MAX));
        for bad in ["", "t=1760000000", "v1=00", "nonsense", "t=,v1=", &later, shorter, &another, &twice, &many] {
            assert_eq!(ours.verify(bad, BODY, NOW_S), Err(Unbelieved::Signature), "{bad}");
        }
        assert_eq!(ours.verify(&signed, br#"{"id":"f"}"#, NOW_S), Err(Unbelieved::Signature));
        assert_eq!(secrets("other").verify(&signed, BODY, NOW_S), Err(Unbelieved::Signature));
        assert_eq!(secrets("other").verify(&signed, BODY, NOW_S + 999), Err(Unbelieved::Signature), "the time is not told");
    }

    #[test]
    fn the_old_secret_is_good_beside_the_new_one() {
        let both = secrets("new, old");
        assert_eq!(both.verify(&secrets("old").sign(NOW_S, BODY), BODY, NOW_S), Ok(()));
        assert_eq!(both.verify(&secrets("new").sign(NOW_S, BODY), BODY, NOW_S), Ok(()));
        assert_eq!(secrets("new").verify(&both.sign(NOW_S, BODY), BODY, NOW_S), Ok(()), "the new one signs");
        assert!(both.verify(&secrets("older").sign(NOW_S, BODY), BODY, NOW_S).is_err());
    }

    #[test]
    fn a_setting_that_is_none_is_refused() {
        assert_eq!(Secrets::parse("a,b,c").unwrap_err(), BadSecrets::Count);
        for bad in ["", ",", "a,", " ,b"] {
            assert_eq!(Secrets::parse(bad).unwrap_err(), BadSecrets::Empty, "{bad}");
        }
        assert_eq!(format!("{:?}", secrets("hush")), "Secrets(1)");
    }

    #[test]
    fn a_fresh_secret_is_nobody_elses() {
        let (one, other) = (Secrets::fresh(), Secrets::fresh());
        let signed = one.sign(NOW_S, BODY);
        assert_eq!(one.verify(&signed, BODY, NOW_S), Ok(()));
        assert!(other.verify(&signed, BODY, NOW_S).is_err());
    }
}
