//! ProtoJSON by the shapes: a strict reader that names the bad field, and a writer with short enum names.

pub(crate) mod read;
pub(crate) mod strict;
pub(crate) mod write;

use std::fmt;

use serde::Serialize;

use crate::limits::FIELD_NAME_CHARS_MAX;

/// A bad field and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) description: String,
}

impl Violation {
    pub(crate) fn new(field: impl fmt::Display, description: impl Into<String>) -> Self {
        // Part of it may be what the caller sent.
        let field = field.to_string().chars().take(FIELD_NAME_CHARS_MAX).collect();
        Self { field, description: description.into() }
    }
}
