//! JSON without its loopholes: no name twice, bounded depth, UTF-8 without a mark, nothing behind the value. An error knows
//! where it happened.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Violation;
use crate::limits::JSON_DEPTH_MAX;

pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Violation> {
    let text = std::str::from_utf8(bytes).map_err(|_| Violation::new("", "the body is not UTF-8"))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut trail = Vec::new();
    let value = Strict { levels: JSON_DEPTH_MAX, trail: &mut trail }.deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) => Err(Violation::new(Trail(&trail), error.to_string())),
    }
}

enum Step {
    Name(String),
    Item(usize),
}

/// The steps from the error outwards: each level adds its own on the way out, so a good body pays nothing for it.
struct Trail<'a>(&'a [Step]);

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().rev().enumerate() {
            match step {
                Step::Name(name) if place == 0 => write!(f, "{name}")?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

struct Strict<'a> {
    /// How many more objects and arrays may open.
    levels: usize,
    trail: &'a mut Vec<Step>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let Self { levels, trail } = self;
        let levels = inside::<A::Error>(levels)?;
        let mut values = Vec::new();
        loop {
            match array.next_element_seed(Strict { levels, trail: &mut *trail }) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => return Ok(Value::Array(values)),
                Err(error) => {
                    trail.push(Step::Item(values.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let Self { levels, trail } = self;
        let levels = inside::<A::Error>(levels)?;
        let mut values = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if values.contains_key(&name) {
                trail.push(Step::Name(name));
                return Err(A::Error::custom("comes twice"));
            }
            match object.next_value_seed(Strict { levels, trail: &mut *trail }) {
                Ok(value) => values.insert(name, value),
                Err(error) => {
                    trail.push(Step::Name(name));
                    return Err(error);
                }
            };
        }
        Ok(Value::Object(values))
    }
}

fn inside<E: Error>(levels: usize) -> Result<usize, E> {
    levels.checked_sub(1).ok_or_else(|| E::custom(format_args!("is more than {JSON_DEPTH_MAX} levels deep")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().field
    }

    #[test]
    fn good_json_is_read() {
        let text = r#"{"a":[1,-2,1.5,"x\u0041",true,null],"b":{}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn names_come_once() {
        assert_eq!(field(r#"{"a":1,"a":1}"#), "a");
        assert_eq!(field(r#"{"items":[{"sku":"x"},{"sku":"x","qty":1,"qty":1}]}"#), "items[1].qty");
    }

    #[test]
    fn errors_know_their_place() {
        assert_eq!(field(r#"{"items":[{"quantity":1e400}]}"#), "items[0].quantity");
        assert_eq!(field(r#"{"items":[{"quantity":NaN}]}"#), "items[0].quantity");
        assert_eq!(field(r#"{"currency":"\ud800"}"#), "currency");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in ["", "{", "{}x", "{} {}", "\u{feff}{}", "{'a':1}", "{\"a\":1,}", "[1,]", "nul", "01", "{\"a\":\"\n\"}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(parse(nested(10_000).as_bytes()).is_err());
    }
}
