//! JSON or text → dynamic messages. Every bad field is named, not only the first.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{DynamicMessage, Value};
use serde_json::{Number, Value as Json};

use super::Violation;
use crate::{
    limits::VIOLATIONS_MAX,
    shape::{Field, Many, MessageRef, Shapes, Type},
};

/// A whole body.
pub(crate) fn message(shapes: &Shapes, of: MessageRef, json: Json) -> Result<DynamicMessage, Vec<Violation>> {
    let mut reader = Reader { shapes, violations: Vec::new() };
    let message = reader.message(of, json, &Path::Root);
    message.filter(|_| reader.violations.is_empty()).ok_or(reader.violations)
}

/// A body that is one field; `None` for null.
pub(crate) fn field(shapes: &Shapes, field: &Field, json: Json) -> Result<Option<Value>, Vec<Violation>> {
    if json.is_null() && !takes_null(field) {
        return Ok(None);
    }
    let mut reader = Reader { shapes, violations: Vec::new() };
    let value = reader.field(field, json, &Path::Field(&Path::Root, &field.json));
    if reader.violations.is_empty() { Ok(value) } else { Err(reader.violations) }
}

/// A value of a path, a query or a header.
pub(crate) fn text(kind: &Type, text: &str) -> Option<Value> {
    let whole = !text.is_empty() && text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
    match kind {
        Type::Bool => text.parse().ok().map(Value::Bool),
        Type::I32 if whole => text.parse().ok().map(Value::I32),
        Type::I64 if whole => text.parse().ok().map(Value::I64),
        Type::U32 if whole => text.parse().ok().map(Value::U32),
        Type::U64 if whole => text.parse().ok().map(Value::U64),
        Type::I32 | Type::I64 | Type::U32 | Type::U64 => None,
        Type::F32 => text.parse::<f32>().ok().map(Value::F32),
        Type::F64 => text.parse::<f64>().ok().map(Value::F64),
        Type::Text => Some(Value::String(text.to_owned())),
        Type::Bytes => BASE64.decode(text.replace('-', "+").replace('_', "/")).ok().map(|bytes| Value::Bytes(bytes.into())),
        Type::Enum(shape) => shape.numbers.get(text).copied().map(Value::EnumNumber),
        Type::WellKnown(descriptor) => {
            DynamicMessage::deserialize(descriptor.clone(), Json::String(text.to_owned())).ok().map(Value::Message)
        }
        Type::Message(_) => None,
    }
}

/// What a value of this kind must be, to be said of one that is not.
pub(crate) fn expected(kind: &Type) -> String {
    match kind {
        Type::Bool => "must be true or false".to_owned(),
        Type::I32 => format!("must be a whole number from {} to {}", i32::MIN, i32::MAX),
        Type::I64 => format!("must be a whole number from {} to {}", i64::MIN, i64::MAX),
        Type::U32 => format!("must be a whole number from 0 to {}", u32::MAX),
        Type::U64 => format!("must be a whole number from 0 to {}", u64::MAX),
        Type::F32 | Type::F64 => "must be a number".to_owned(),
        Type::Text => "must be a string".to_owned(),
        Type::Bytes => "must be a string in base64".to_owned(),
        Type::Enum(shape) => format!("must be one of {}", shape.list),
        Type::Message(_) => "must be an object".to_owned(),
        Type::WellKnown(descriptor) => match descriptor.name() {
            "Timestamp" => "must be a time as in RFC 3339, for example \"2026-01-31T12:00:00Z\"".to_owned(),
            "Duration" => "must be seconds, for example \"1.5s\"".to_owned(),
            name => format!("must be the JSON of google.protobuf.{name}"),
        },
    }
}

/// Padding may be there or not.
static BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Null means unset, but in google.protobuf.Value it is a value.
fn takes_null(field: &Field) -> bool {
    match (&field.kind, &field.many) {
        (Type::WellKnown(descriptor), Many::One) => descriptor.full_name() == "google.protobuf.Value",
        _ => false,
    }
}

/// Where the reader is, held on the stack.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(outer, name) => write!(f, "{outer}.{name}"),
            Self::Item(outer, item) => write!(f, "{outer}[{item}]"),
        }
    }
}

struct Reader<'s> {
    shapes: &'s Shapes,
    violations: Vec<Violation>,
}

impl<'s> Reader<'s> {
    fn note(&mut self, path: &Path<'_>, description: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation::new(path, description));
        }
    }

    fn message(&mut self, of: MessageRef, json: Json, path: &Path<'_>) -> Option<DynamicMessage> {
        let shape = self.shapes.get(of);
        let Json::Object(entries) = json else {
            self.note(path, "must be an object");
            return None;
        };
        let mut message = DynamicMessage::new(shape.descriptor.clone());
        let mut seen = vec![false; shape.fields.len()];
        let mut oneofs: Vec<&'s str> = Vec::new();
        for (name, json) in entries {
            let Some(&place) = shape.names.get(&name) else {
                self.note(&Path::Field(path, &name), "is not known here");
                continue;
            };
            let field = &shape.fields[place];
            let here = Path::Field(path, &field.json);
            if std::mem::replace(&mut seen[place], true) {
                self.note(&here, format!("comes twice under different names, one of them {name}"));
                continue;
            }
            if json.is_null() && !takes_null(field) {
                continue;
            }
            if let Some(oneof) = field.oneof.as_deref() {
                if oneofs.contains(&oneof) {
                    self.note(&here, format!("excludes the other fields of {oneof}"));
                    continue;
                }
                oneofs.push(oneof);
            }
            if let Some(value) = self.field(field, json, &here) {
                message.set_field(&field.descriptor, value);
            }
        }
        Some(message)
    }

    fn field(&mut self, field: &Field, json: Json, path: &Path<'_>) -> Option<Value> {
        match (&field.many, json) {
            (Many::One, json) => self.value(&field.kind, json, path),
            (Many::List, Json::Array(items)) => {
                let mut values = Vec::with_capacity(items.len());
                for (place, json) in items.into_iter().enumerate() {
                    values.extend(self.value(&field.kind, json, &Path::Item(path, place)));
                }
                Some(Value::List(values))
            }
            (Many::Map(key_kind), Json::Object(entries)) => {
                let mut values = std::collections::HashMap::with_capacity(entries.len());
                for (name, json) in entries {
                    let here = Path::Field(path, &name);
                    match text(key_kind, &name).and_then(Value::into_map_key) {
                        Some(key) => values.extend(self.value(&field.kind, json, &here).map(|value| (key, value))),
                        None => self.note(&here, format!("has a bad key: it {}", expected(key_kind))),
                    }
                }
                Some(Value::Map(values))
            }
            (Many::List, _) => {
                self.note(path, "must be an array");
                None
            }
            (Many::Map(_), _) => {
                self.note(path, "must be an object");
                None
            }
        }
    }

    fn value(&mut self, kind: &Type, json: Json, path: &Path<'_>) -> Option<Value> {
        let value = match (kind, json) {
            (Type::Message(of), json) => return self.message(*of, json, path).map(Value::Message),
            (Type::WellKnown(descriptor), json) => DynamicMessage::deserialize(descriptor.clone(), json).ok().map(Value::Message),
            (Type::Bool, Json::Bool(value)) => Some(Value::Bool(value)),
            // "true" stands for true in a query, where all is text, but not in JSON.
            (Type::Bool, _) => None,
            (Type::Text, Json::String(value)) => Some(Value::String(value)),
            (kind, Json::String(value)) => text(kind, &value),
            (kind, Json::Number(value)) => number(kind, &value),
            _ => None,
        };
        if value.is_none() {
            self.note(path, expected(kind));
        }
        value
    }
}

/// `1.0` and `1e2` are no whole numbers here: a price that was a float somewhere is a price that was rounded somewhere.
fn number(kind: &Type, number: &Number) -> Option<Value> {
    match kind {
        Type::I32 => number.as_i64().and_then(|value| value.try_into().ok()).map(Value::I32),
        Type::I64 => number.as_i64().map(Value::I64),
        Type::U32 => number.as_u64().and_then(|value| value.try_into().ok()).map(Value::U32),
        Type::U64 => number.as_u64().map(Value::U64),
        // What does not fit becomes infinite, and is refused.
        Type::F32 => number.as_f64().map(|value| value as f32).filter(|value| value.is_finite()).map(Value::F32),
        Type::F64 => number.as_f64().map(Value::F64),
        Type::Enum(shape) => {
            let number = number.as_i64().and_then(|value| i32::try_from(value).ok())?;
            shape.names.contains_key(&number).then_some(Value::EnumNumber(number))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    use super::*;

    fn read(name: &str, json: Json) -> Result<DynamicMessage, Vec<Violation>> {
        let pool = DescriptorPool::decode(contracts::DESCRIPTORS).unwrap();
        let mut shapes = Shapes::new(&pool);
        let of = shapes.add(&pool.get_message_by_name(name).unwrap()).unwrap();
        message(&shapes, of, json)
    }

    fn create(json: Json) -> Result<contracts::order::v1::CreateOrderRequest, Vec<Violation>> {
        read("settle.order.v1.CreateOrderRequest", json).map(|message| message.transcode_to().unwrap())
    }

    fn bad(json: Json) -> Vec<String> {
        create(json).unwrap_err().into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn names_aliases_and_numbers_as_strings() {
        let plain =
            create(json!({"customerId": "c", "currency": "USD", "items": [{"sku": "a", "quantity": 2, "unitPrice": "150"}]}));
        let plain = plain.unwrap();
        assert_eq!((plain.items[0].quantity, plain.items[0].unit_price), (2, Some(150)));
        let alias = json!({"userId": "c", "currency": "USD", "items": [{"productId": "a", "qty": "2", "price": 150}]});
        assert_eq!(create(alias).unwrap(), plain);
        let snake = json!({"customer_id": "c", "currency": "USD", "items": [{"sku": "a", "quantity": 2, "unit_price": 150}]});
        assert_eq!(create(snake).unwrap(), plain);
    }

    #[test]
    fn null_is_unset_and_zero_is_not() {
        assert_eq!(create(json!({"items": null, "currency": null})).unwrap(), create(json!({})).unwrap());
        let absent = create(json!({"items": [{"sku": "a", "price": null}]})).unwrap();
        let zero = create(json!({"items": [{"sku": "a", "price": 0}]})).unwrap();
        assert_eq!((absent.items[0].unit_price, zero.items[0].unit_price), (None, Some(0)));
    }

    #[test]
    fn every_bad_field_is_named() {
        let items = json!([{"sku": 7, "quantity": 1.0}, {"sku": "b", "quantity": 2_147_483_648_i64, "colour": "red"}, "c"]);
        let mut fields = bad(json!({"customerId": false, "items": items}));
        fields.sort();
        assert_eq!(fields, ["customerId", "items[0].quantity", "items[0].sku", "items[1].colour", "items[1].quantity", "items[2]"]);
    }

    #[test]
    fn what_is_no_whole_number_is_refused() {
        for value in [json!(1.0), json!(1e3), json!("1.0"), json!("+1"), json!(""), json!("-"), json!(" 1"), json!(true), json!([])]
        {
            assert_eq!(bad(json!({"items": [{"unitPrice": value}]})), ["items[0].unitPrice"], "{value}");
        }
        assert_eq!(bad(json!({"items": [{"price": u64::MAX}]})), ["items[0].unitPrice"]);
    }

    #[test]
    fn one_field_under_two_names_is_refused() {
        assert_eq!(bad(json!({"customerId": "a", "userId": "a"})), ["customerId"]);
        assert_eq!(bad(json!([])), [""]);
        assert_eq!(bad(json!({"items": {}})), ["items"]);
    }

    #[test]
    fn enums_with_and_without_prefix() {
        for status in [json!("PENDING"), json!("ORDER_STATUS_PENDING"), json!(1)] {
            let read = read("settle.order.v1.ListOrdersRequest", json!({"status": status})).unwrap();
            assert_eq!(read.get_field_by_name("status").unwrap().as_enum_number(), Some(1));
        }
        for status in [json!("pending"), json!("NOPE"), json!(99), json!(1.0), json!(true)] {
            let violations = read("settle.order.v1.ListOrdersRequest", json!({"status": status})).unwrap_err();
            assert!(violations[0].description.contains("PENDING, PROCESSING"), "{violations:?}");
        }
    }

    #[test]
    fn times() {
        let entry = "settle.order.v1.TimelineEntry";
        assert!(read(entry, json!({"at": "2026-01-31T12:00:00Z"})).is_ok());
        for at in [json!("yesterday"), json!(5), json!({})] {
            assert_eq!(read(entry, json!({"at": at})).unwrap_err()[0].field, "at");
        }
    }
}
