//! Rows in the binary form of `COPY … FROM STDIN`, which Postgres writes a page at a time. About half the work of an `INSERT` of as many rows.
//! Format: PostgreSQL documentation, COPY, "Binary Format". Pure.

use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// What Postgres counts microseconds from.
const EPOCH: OffsetDateTime = datetime!(2000-01-01 00:00 UTC);

/// The bytes of a COPY, a row after the other.
pub(super) struct Rows(Vec<u8>);

impl Rows {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(bytes + 32);
        bytes.extend_from_slice(SIGNATURE);
        // No flags, no header extension.
        bytes.extend_from_slice(&[0; 8]);
        Self(bytes)
    }

    /// Begins a row of so many fields, which must follow.
    pub(super) fn row(&mut self, fields: i16) -> &mut Self {
        self.0.extend_from_slice(&fields.to_be_bytes());
        self
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        // A field has less than 1 GiB: see the bound on payloads.
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn int(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn bigint(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn time(&mut self, value: OffsetDateTime) -> &mut Self {
        let us = i64::try_from((value - EPOCH).whole_microseconds()).unwrap_or(i64::MAX);
        self.bigint(us)
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.0.extend_from_slice(&(-1_i32).to_be_bytes());
        self
    }

    pub(super) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_documented_form() {
        let mut rows = Rows::with_capacity(0);
        rows.row(4).text("ab").int(-2).optional(None::<&str>, Rows::text).time(EPOCH + time::Duration::microseconds(7));
        let mut expected = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        expected.extend([0, 4]);
        expected.extend([0, 0, 0, 2, b'a', b'b']);
        expected.extend([0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe]);
        expected.extend([0xff; 4]);
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        expected.extend([0xff, 0xff]);
        assert_eq!(rows.finish(), expected);
    }
}
