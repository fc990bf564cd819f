//! Which definitions this binary may take sagas on by: those that it has in the shape in which the database began with them. Pure.

use saga::Definition;

/// A version that sagas began on in another shape. Their progress goes by the places of steps: read by this one it would mean something
/// else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub definition: &'static str,
    pub version: i32,
    pub began_as: String,
    pub here: String,
}

/// A version as the database remembers it: its name, its number and its shape.
pub(crate) type Remembered = (String, i32, String);

/// The definitions of this binary, held against what a database remembers of them.
#[derive(Clone, Debug)]
pub struct Known {
    definitions: &'static [Definition],
    changed: Vec<Changed>,
}

impl Known {
    pub(crate) fn new(definitions: &'static [Definition], remembered: &[Remembered]) -> Self {
        let changed = remembered.iter().filter_map(|(name, version, began_as)| {
            let here = definitions.iter().find(|here| here.name == name && here.version == *version)?;
            let (definition, version, shape) = (here.name, here.version, here.shape());
            (shape != *began_as).then(|| Changed { definition, version, began_as: began_as.clone(), here: shape })
        });
        Self { definitions, changed: changed.collect() }
    }

    /// Those that are not to be mixed up with what they were when their sagas began.
    #[must_use]
    pub fn changed(&self) -> &[Changed] {
        &self.changed
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Definition> {
        self.definitions.iter().filter(|known| !self.is_changed(known))
    }

    pub(crate) fn definition(&self, name: &str, version: i32) -> Option<&'static Definition> {
        self.all().find(|known| known.name == name && known.version == version)
    }

    /// The newest version, for a saga that begins. Where that one has changed there is none: an older one is not what was asked for.
    pub(crate) fn newest(&self, name: &str) -> Option<&'static Definition> {
        let newest = self.definitions.iter().filter(|known| known.name == name).max_by_key(|known| known.version)?;
        (!self.is_changed(newest)).then_some(newest)
    }

    fn is_changed(&self, known: &Definition) -> bool {
        self.changed.iter().any(|changed| changed.definition == known.name && changed.version == known.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::{CHECKOUT, DEFINITIONS, REFUND};

    #[test]
    fn a_definition_is_found_by_name_and_version() {
        let known = Known::new(&DEFINITIONS, &[]);
        for one in &DEFINITIONS {
            assert_eq!(known.definition(one.name, one.version), Some(one));
            assert_eq!(known.definition(one.name, one.version + 1), None);
            assert_eq!(known.newest(one.name).map(|newest| newest.name), Some(one.name));
        }
        assert_eq!(known.newest("checkin"), None);
    }

    #[test]
    fn what_began_in_another_shape_is_not_known_and_no_older_version_stands_in_for_it() {
        static TWO: [Definition; 3] = [CHECKOUT, Definition { version: 2, ..CHECKOUT }, REFUND];
        let remembered = |version: i32, shape: String| ("checkout".to_owned(), version, shape);
        let began_as = "charge: ChargePayment pivot; close: CloseOrder".to_owned();
        let known =
            Known::new(&TWO, &[remembered(1, CHECKOUT.shape()), remembered(2, began_as.clone()), remembered(3, "x".into())]);
        assert_eq!(known.changed(), [Changed { definition: "checkout", version: 2, began_as, here: CHECKOUT.shape() }]);
        assert_eq!(known.definition("checkout", 1), Some(&CHECKOUT));
        assert_eq!((known.definition("checkout", 2), known.newest("checkout")), (None, None));
        assert_eq!(known.newest("refund"), Some(&REFUND));
        assert_eq!(known.all().map(|one| (one.name, one.version)).collect::<Vec<_>>(), [("checkout", 1), ("refund", 1)]);
    }
}
