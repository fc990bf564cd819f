//! Dynamic messages → JSON: lowerCamelCase, 64-bit integers as strings, unset scalars printed, enum values without the prefix
//! of their type.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost_reflect::{DynamicMessage, MapKey, Value};
use serde::ser::{Error as _, Serialize, SerializeMap as _, Serializer};

use crate::shape::{Field, MessageRef, Shapes, Type};

/// The bytes of a message, or of the one field that `response_body` names.
pub(crate) fn answer(
    shapes: &Shapes,
    of: MessageRef,
    only: Option<usize>,
    message: &DynamicMessage,
) -> Result<Vec<u8>, serde_json::Error> {
    match only {
        None => serde_json::to_vec(&Message { shapes, of, message }),
        Some(place) => {
            let field = &shapes.get(of).fields[place];
            serde_json::to_vec(&FieldValue { shapes, field, value: &message.get_field(&field.descriptor) })
        }
    }
}

struct Message<'a> {
    shapes: &'a Shapes,
    of: MessageRef,
    message: &'a DynamicMessage,
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for field in &self.shapes.get(self.of).fields {
            if field.presence && !self.message.has_field(&field.descriptor) {
                continue;
            }
            let value = self.message.get_field(&field.descriptor);
            object.serialize_entry(&field.json, &FieldValue { shapes: self.shapes, field, value: &value })?;
        }
        object.end()
    }
}

struct FieldValue<'a> {
    shapes: &'a Shapes,
    field: &'a Field,
    value: &'a Value,
}

impl Serialize for FieldValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let one = |value| One { shapes: self.shapes, kind: &self.field.kind, value };
        match self.value {
            Value::List(values) => serializer.collect_seq(values.iter().map(one)),
            Value::Map(values) => {
                // The same answer has the same bytes.
                let mut entries: Vec<_> = values.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                serializer.collect_map(entries.into_iter().map(|(key, value)| (name(key), one(value))))
            }
            value => one(value).serialize(serializer),
        }
    }
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

struct One<'a> {
    shapes: &'a Shapes,
    kind: &'a Type,
    value: &'a Value,
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.value, self.kind) {
            (Value::Bool(value), _) => serializer.serialize_bool(*value),
            (Value::I32(value), _) => serializer.serialize_i32(*value),
            (Value::U32(value), _) => serializer.serialize_u32(*value),
            (Value::I64(value), _) => serializer.collect_str(value),
            (Value::U64(value), _) => serializer.collect_str(value),
            (Value::F32(value), _) => float(f64::from(*value), serializer, |serializer| serializer.serialize_f32(*value)),
            (Value::F64(value), _) => float(*value, serializer, |serializer| serializer.serialize_f64(*value)),
            (Value::String(value), _) => serializer.serialize_str(value),
            (Value::Bytes(value), _) => serializer.serialize_str(&BASE64_STANDARD.encode(value)),
            (Value::EnumNumber(number), Type::Enum(shape)) => match shape.names.get(number) {
                Some(name) => serializer.serialize_str(name),
                // A newer service may know more values than these descriptors.
                None => serializer.serialize_i32(*number),
            },
            (Value::Message(message), Type::Message(of)) => Message { shapes: self.shapes, of: *of, message }.serialize(serializer),
            (Value::Message(message), _) => message.serialize(serializer),
            (Value::EnumNumber(_) | Value::List(_) | Value::Map(_), _) => Err(S::Error::custom("a value of another kind")),
        }
    }
}

/// JSON has no numbers for what is not finite.
fn float<S: Serializer>(value: f64, serializer: S, finite: impl FnOnce(S) -> Result<S::Ok, S::Error>) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        finite(serializer)
    } else if value.is_nan() {
        serializer.serialize_str("NaN")
    } else {
        serializer.serialize_str(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

#[cfg(test)]
mod tests {
    use contracts::order::v1::{GetOrderResponse, ListOrdersResponse, Order, OrderItem, OrderStatus};
    use prost_reflect::DescriptorPool;
    use serde_json::{Value as Json, json};

    use super::*;

    fn written(name: &str, only: Option<&str>, message: &impl prost::Message) -> Json {
        let pool = DescriptorPool::decode(contracts::DESCRIPTORS).unwrap();
        let descriptor = pool.get_message_by_name(name).unwrap();
        let mut shapes = Shapes::new(&pool);
        let of = shapes.add(&descriptor).unwrap();
        let only = only.map(|field| shapes.get(of).names[field]);
        let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).unwrap();
        serde_json::from_slice(&answer(&shapes, of, only, &dynamic).unwrap()).unwrap()
    }

    fn order() -> Order {
        Order {
            order_id: "7".into(),
            status: OrderStatus::Pending.into(),
            total: 9_007_199_254_740_993,
            items: vec![OrderItem { sku: "a".into(), quantity: 2, unit_price: None }],
            created_at: Some(prost_reflect::prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Order::default()
        }
    }

    #[test]
    fn one_field_is_the_body() {
        let json = written("settle.order.v1.GetOrderResponse", Some("order"), &GetOrderResponse { order: Some(order()) });
        assert_eq!(json["orderId"], "7");
        assert_eq!(json["status"], "PENDING");
        assert_eq!(json["total"], "9007199254740993");
        assert_eq!(json["items"], json!([{"sku": "a", "quantity": 2}]));
        assert_eq!(json["timeline"], json!([]));
        assert_eq!(json["needsAttention"], false);
        assert_eq!(json["reason"], "");
        assert_eq!(json["createdAt"], "1970-01-01T00:00:00Z");
        assert!(json.get("updatedAt").is_none());
    }

    #[test]
    fn lists() {
        let page = ListOrdersResponse { orders: vec![order()], next_page_token: String::new() };
        let json = written("settle.order.v1.ListOrdersResponse", None, &page);
        assert_eq!(json["orders"][0]["status"], "PENDING");
        assert_eq!(json["nextPageToken"], "");
        assert_eq!(written("settle.order.v1.ListOrdersResponse", None, &ListOrdersResponse::default())["orders"], json!([]));
    }
}
