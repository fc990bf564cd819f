//! Path templates of `google.api.http`: literals, `*`, `{field}`, `{field=shelves/*}`, a last `**`, and a trailing `:verb`.

use std::borrow::Cow;

use anyhow::{Result, bail, ensure};

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `*`: exactly one segment.
    One,
    /// `**`: all that follow, none included.
    Rest,
}

#[derive(Debug, PartialEq, Eq)]
struct Variable {
    /// The field it fills, dotted.
    field: String,
    from: usize,
    /// `None` reaches to the end of the path.
    to: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    variables: Vec<Variable>,
    verb: Option<String>,
}

/// A request path, cut once for all templates.
pub(crate) struct Path<'p> {
    segments: Vec<&'p str>,
    verb: Option<&'p str>,
}

impl<'p> Path<'p> {
    /// Still percent-encoded, so that `%2F` and `%3A` divide nothing. A colon in the last segment begins the verb.
    pub(crate) fn split(path: &'p str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let last = path.rfind('/').map_or(0, |slash| slash + 1);
        let (path, verb) = match path[last..].rfind(':') {
            Some(colon) => (&path[..last + colon], Some(&path[last + colon + 1..])),
            None => (path, None),
        };
        Some(Self { segments: path.split('/').collect(), verb })
    }
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Some(path) = text.strip_prefix('/') else { bail!("path template {text:?} does not begin with a slash") };
        let (path, verb) = match path.rsplit_once(':') {
            Some((path, verb)) => (path, Some(verb.to_owned())),
            None => (path, None),
        };
        if let Some(verb) = &verb {
            ensure!(!verb.is_empty() && !verb.contains(['/', '{', '}', '*']), "path template {text:?} has a bad verb");
        }
        let mut template = Self { segments: Vec::new(), variables: Vec::new(), verb };
        for part in parts(path) {
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(variable) => template.variable(text, variable)?,
                None => template.segments.push(segment(text, part)?),
            }
        }
        let rest = template.segments.iter().position(|segment| *segment == Segment::Rest);
        ensure!(rest.is_none_or(|place| place + 1 == template.segments.len()), "path template {text:?} goes on after **");
        Ok(template)
    }

    fn variable(&mut self, text: &str, variable: &str) -> Result<()> {
        let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
        ensure!(
            field.split('.').all(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')),
            "path template {text:?} names a bad field {field:?}"
        );
        let from = self.segments.len();
        for part in pattern.split('/') {
            self.segments.push(segment(text, part)?);
        }
        let to = (self.segments.last() != Some(&Segment::Rest)).then_some(self.segments.len());
        self.variables.push(Variable { field: field.to_owned(), from, to });
        Ok(())
    }

    /// The fields that the path fills, in the order of [`Self::captures`].
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|variable| variable.field.as_str())
    }

    /// Templates are tried in this order: the more literal one wins.
    pub(crate) fn rank(&self) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::One => 1,
            Segment::Rest => 2,
        };
        self.segments.iter().map(rank).collect()
    }

    /// What the variables take of this path, still percent-encoded; `None` if the path is another.
    pub(crate) fn captures<'p>(&self, path: &Path<'p>) -> Option<Vec<Cow<'p, str>>> {
        if self.verb.as_deref() != path.verb {
            return None;
        }
        let open = self.segments.last() == Some(&Segment::Rest);
        let fixed = self.segments.len() - usize::from(open);
        if path.segments.len() < fixed || (!open && path.segments.len() > fixed) {
            return None;
        }
        let fits = self.segments.iter().zip(&path.segments).all(|(segment, part)| match segment {
            Segment::Literal(literal) => literal == part,
            Segment::One => !part.is_empty(),
            Segment::Rest => true,
        });
        if !fits {
            return None;
        }
        let capture = |variable: &Variable| {
            let taken = &path.segments[variable.from..variable.to.unwrap_or(path.segments.len())];
            match taken {
                [one] => Cow::Borrowed(*one),
                many => Cow::Owned(many.join("/")),
            }
        };
        Some(self.variables.iter().map(capture).collect())
    }
}

/// Splits at the slashes outside braces.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    path.split(move |c| {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            _ => {}
        }
        c == '/' && !inside
    })
}

fn segment(template: &str, part: &str) -> Result<Segment> {
    Ok(match part {
        "*" => Segment::One,
        "**" => Segment::Rest,
        literal => {
            ensure!(
                !literal.is_empty() && !literal.contains(['{', '}', '*', '=']),
                "path template {template:?} has a bad part {part:?}"
            );
            Segment::Literal(literal.to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(template: &str, path: &str) -> Option<Vec<String>> {
        let template = Template::parse(template).unwrap();
        let path = Path::split(path).unwrap();
        template.captures(&path).map(|all| all.into_iter().map(Cow::into_owned).collect())
    }

    fn some(all: &[&str]) -> Option<Vec<String>> {
        Some(all.iter().map(|&one| one.to_owned()).collect())
    }

    #[test]
    fn literals_and_fields() {
        assert_eq!(captures("/api/v1/orders", "/api/v1/orders"), some(&[]));
        assert_eq!(captures("/api/v1/orders", "/api/v1/orders/"), None);
        assert_eq!(captures("/api/v1/orders", "/api/v1"), None);
        assert_eq!(captures("/api/v1/orders/{order_id}", "/api/v1/orders/7"), some(&["7"]));
        assert_eq!(captures("/api/v1/orders/{order_id}", "/api/v1/orders/"), None);
        assert_eq!(captures("/api/v1/orders/{order_id}", "/api/v1/orders/7/items"), None);
        assert_eq!(captures("/a/{b}/c/{d.e}", "/a/1/c/2"), some(&["1", "2"]));
    }

    #[test]
    fn the_verb_must_be_the_same() {
        assert_eq!(captures("/orders/{id}:cancel", "/orders/7:cancel"), some(&["7"]));
        assert_eq!(captures("/orders/{id}:cancel", "/orders/7:watch"), None);
        assert_eq!(captures("/orders/{id}:cancel", "/orders/7"), None);
        assert_eq!(captures("/orders/{id}", "/orders/7:cancel"), None);
        assert_eq!(captures("/orders/{id}", "/orders/7:"), None);
        assert_eq!(captures("/orders/{id}:cancel", "/orders/:cancel"), None);
        assert_eq!(captures("/orders/{id}", "/orders/7%3Acancel"), some(&["7%3Acancel"]));
        assert_eq!(captures("/a/{id}/b", "/a/7:x/b"), some(&["7:x"]));
    }

    #[test]
    fn patterns() {
        assert_eq!(captures("/v1/{name=shelves/*/books/*}", "/v1/shelves/1/books/2"), some(&["shelves/1/books/2"]));
        assert_eq!(captures("/v1/{name=shelves/*}", "/v1/racks/1"), None);
        assert_eq!(captures("/v1/{name=files/**}", "/v1/files/a/b"), some(&["files/a/b"]));
        assert_eq!(captures("/v1/{name=files/**}", "/v1/files"), some(&["files"]));
        assert_eq!(captures("/v1/{rest=**}:run", "/v1/a/b:run"), some(&["a/b"]));
        assert_eq!(captures("/v1/*/x", "/v1/a/x"), some(&[]));
    }

    #[test]
    fn bad_templates() {
        for bad in ["orders", "/a//b", "/a/{b", "/a/{}", "/a/**/b", "/a:", "/{a=**}/b", "/a/{b-c}", "/a/{b=}", "/x*"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_literal_goes_first() {
        let literal = Template::parse("/orders/stats").unwrap();
        let field = Template::parse("/orders/{id}").unwrap();
        assert!(literal.rank() < field.rank());
    }
}
