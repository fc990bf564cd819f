//! Ids derived from their cause (UUIDv5, RFC 9562), so that repeated work has the same ids after any crash, replay or restore.

use uuid::Uuid;

/// The id of what `cause` leads to, told apart from its siblings by `name`.
#[must_use]
pub fn derive(cause: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&cause, name.as_bytes())
}

/// The id of the order that was created with this idempotency key.
#[must_use]
pub fn order_of_key(idempotency_key: &str) -> Uuid {
    const ORDERS: Uuid = Uuid::from_u128(0x8f5f_9a1e_3d0c_4b6e_9a53_0f2c_7b1d_6e44);
    derive(ORDERS, idempotency_key)
}

/// Whether a text may be an idempotency key: up to 255 printable ASCII characters.
#[must_use]
pub fn is_key(text: &str) -> bool {
    text.len() <= 255 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Why a text is not an id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a UUID")]
pub struct NotAnId(String);

/// Reads a hyphenated UUID; the nil UUID is refused, nothing has it.
pub fn parse(text: &str) -> Result<Uuid, NotAnId> {
    match Uuid::try_parse(text) {
        Ok(id) if !id.is_nil() && text.len() == 36 => Ok(id),
        _ => Err(NotAnId(text.chars().take(64).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cause_and_name_give_the_same_id() {
        let cause = Uuid::from_u128(7);
        assert_eq!(derive(cause, "charge"), derive(cause, "charge"));
        assert_ne!(derive(cause, "charge"), derive(cause, "refund"));
        assert_ne!(derive(cause, "charge"), derive(Uuid::from_u128(8), "charge"));
    }

    #[test]
    fn only_hyphenated_ids_that_are_not_nil_are_read() {
        assert!(parse("0190d3a8-7c1e-7000-8000-000000000001").is_ok());
        for bad in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "0190d3a87c1e70008000000000000001",
            "{0190d3a8-7c1e-7000-8000-000000000001}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
