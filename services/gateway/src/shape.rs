//! The messages as the gateway needs them, read out of the descriptors once: names, kinds, aliases, short enum names.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use http::HeaderName;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

/// Every message that a route can reach.
pub(crate) struct Shapes {
    messages: Vec<Message>,
    places: HashMap<String, MessageRef>,
    header: Option<ExtensionDescriptor>,
    alias: Option<ExtensionDescriptor>,
}

/// A message of [`Shapes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageRef(usize);

pub(crate) struct Message {
    pub(crate) descriptor: MessageDescriptor,
    /// By number.
    pub(crate) fields: Vec<Field>,
    /// Place of a field by each name that is accepted: `unitPrice`, `unit_price` and the aliases.
    pub(crate) names: HashMap<String, usize>,
}

pub(crate) struct Field {
    pub(crate) descriptor: FieldDescriptor,
    pub(crate) json: String,
    /// Of each value, where there are many.
    pub(crate) kind: Type,
    pub(crate) many: Many,
    /// Unset and default are two things.
    pub(crate) presence: bool,
    pub(crate) oneof: Option<String>,
    pub(crate) header: Option<HeaderName>,
}

pub(crate) enum Many {
    One,
    List,
    /// With the kind of the key.
    Map(Type),
}

pub(crate) enum Type {
    Bool,
    I32,
    I64,
    U32,
    U64,
    F32,
    F64,
    Text,
    Bytes,
    Enum(Enum),
    Message(MessageRef),
    /// A message of google.protobuf: its JSON is a case of its own, which prost-reflect knows.
    WellKnown(MessageDescriptor),
}

pub(crate) struct Enum {
    /// Both `PENDING` and `ORDER_STATUS_PENDING`.
    pub(crate) numbers: HashMap<String, i32>,
    /// Without the prefix of the type.
    pub(crate) names: HashMap<i32, String>,
    /// The short names in order, for people.
    pub(crate) list: String,
}

impl Shapes {
    pub(crate) fn new(pool: &DescriptorPool) -> Self {
        Self {
            messages: Vec::new(),
            places: HashMap::new(),
            header: pool.get_extension_by_name("settle.common.v1.http_header"),
            alias: pool.get_extension_by_name("settle.common.v1.json_alias"),
        }
    }

    pub(crate) fn get(&self, of: MessageRef) -> &Message {
        &self.messages[of.0]
    }

    /// Reads a message and all that it holds.
    pub(crate) fn add(&mut self, descriptor: &MessageDescriptor) -> Result<MessageRef> {
        if let Some(&known) = self.places.get(descriptor.full_name()) {
            return Ok(known);
        }
        // Its place is taken before its fields are read: a message may hold itself.
        let of = MessageRef(self.messages.len());
        self.places.insert(descriptor.full_name().to_owned(), of);
        self.messages.push(Message { descriptor: descriptor.clone(), fields: Vec::new(), names: HashMap::new() });

        let mut fields = Vec::new();
        let mut names = HashMap::new();
        for (place, descriptor) in descriptor.fields().enumerate() {
            let options = descriptor.options();
            let mut spellings = vec![descriptor.json_name().to_owned(), descriptor.name().to_owned()];
            spellings.extend(texts(&options, self.alias.as_ref()));
            for name in spellings {
                let other = names.insert(name.clone(), place);
                ensure!(other.is_none_or(|other| other == place), "{} shares the JSON name {name}", descriptor.full_name());
            }
            fields.push(self.field(descriptor, &options)?);
        }
        let message = &mut self.messages[of.0];
        (message.fields, message.names) = (fields, names);
        Ok(of)
    }

    fn field(&mut self, descriptor: FieldDescriptor, options: &DynamicMessage) -> Result<Field> {
        let header = match texts(options, self.header.as_ref()).pop() {
            Some(name) => Some(name.parse::<HeaderName>().with_context(|| format!("http_header of {}", descriptor.full_name()))?),
            None => None,
        };
        let (kind, many) = match descriptor.kind() {
            Kind::Message(entry) if descriptor.is_map() => {
                let key = self.kind(entry.map_entry_key_field().kind())?;
                (self.kind(entry.map_entry_value_field().kind())?, Many::Map(key))
            }
            kind if descriptor.is_list() => (self.kind(kind)?, Many::List),
            kind => (self.kind(kind)?, Many::One),
        };
        let oneof = descriptor.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        Ok(Field {
            json: descriptor.json_name().to_owned(),
            kind,
            many,
            presence: descriptor.supports_presence(),
            oneof: oneof.map(|oneof| oneof.name().to_owned()),
            header,
            descriptor,
        })
    }

    fn kind(&mut self, kind: Kind) -> Result<Type> {
        Ok(match kind {
            Kind::Bool => Type::Bool,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Type::I32,
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Type::I64,
            Kind::Uint32 | Kind::Fixed32 => Type::U32,
            Kind::Uint64 | Kind::Fixed64 => Type::U64,
            Kind::Float => Type::F32,
            Kind::Double => Type::F64,
            Kind::String => Type::Text,
            Kind::Bytes => Type::Bytes,
            Kind::Enum(descriptor) => Type::Enum(Enum::read(&descriptor)),
            Kind::Message(descriptor) if descriptor.full_name().starts_with("google.protobuf.") => Type::WellKnown(descriptor),
            Kind::Message(descriptor) => Type::Message(self.add(&descriptor)?),
        })
    }

    /// The places of the fields along a dotted name, down to one that is no message with fields of its own.
    pub(crate) fn resolve(&self, of: MessageRef, dotted: &str) -> Option<Vec<usize>> {
        let mut places = Vec::new();
        let mut next = Some(of);
        for name in dotted.split('.') {
            let message = self.get(next?);
            let place = *message.names.get(name)?;
            let field = &message.fields[place];
            next = match (&field.many, &field.kind) {
                (Many::Map(_), _) | (Many::List, Type::Message(_)) => return None,
                (Many::One, Type::Message(inner)) => Some(*inner),
                _ => None,
            };
            places.push(place);
        }
        next.is_none().then_some(places)
    }

    /// The field that [`Self::resolve`] found, and its JSON path.
    pub(crate) fn along(&self, of: MessageRef, places: &[usize]) -> Option<(&Field, String)> {
        let (mut of, mut path, mut last) = (Some(of), String::new(), None);
        for &place in places {
            let field = &self.get(of?).fields[place];
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&field.json);
            of = if let Type::Message(inner) = &field.kind { Some(*inner) } else { None };
            last = Some(field);
        }
        last.map(|field| (field, path))
    }
}

impl Enum {
    fn read(descriptor: &EnumDescriptor) -> Self {
        let prefix = prefix(descriptor.name());
        let mut read = Self { numbers: HashMap::new(), names: HashMap::new(), list: String::new() };
        for value in descriptor.values() {
            let short = value.name().strip_prefix(&prefix).filter(|short| !short.is_empty()).unwrap_or(value.name());
            read.numbers.insert(value.name().to_owned(), value.number());
            read.numbers.entry(short.to_owned()).or_insert(value.number());
            read.names.entry(value.number()).or_insert_with(|| short.to_owned());
            if !read.list.is_empty() {
                read.list.push_str(", ");
            }
            read.list.push_str(short);
        }
        read
    }
}

/// `OrderStatus` → `ORDER_STATUS_`.
fn prefix(name: &str) -> String {
    let mut prefix = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before != '_' && !before.is_ascii_uppercase() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
        before = c;
    }
    prefix.push('_');
    prefix
}

/// A string option, one or many.
fn texts(options: &DynamicMessage, extension: Option<&ExtensionDescriptor>) -> Vec<String> {
    let Some(extension) = extension.filter(|extension| options.has_extension(extension)) else { return Vec::new() };
    match options.get_extension(extension).into_owned() {
        Value::String(text) => vec![text],
        Value::List(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        assert_eq!(prefix("OrderStatus"), "ORDER_STATUS_");
        assert_eq!(prefix("Status"), "STATUS_");
    }

    #[test]
    fn names_and_places() {
        let pool = DescriptorPool::decode(contracts::DESCRIPTORS).unwrap();
        let mut shapes = Shapes::new(&pool);
        let of = shapes.add(&pool.get_message_by_name("settle.order.v1.CreateOrderRequest").unwrap()).unwrap();
        let request = shapes.get(of);
        assert_eq!(request.names["userId"], request.names["customer_id"]);
        assert_eq!(request.fields[request.names["idempotencyKey"]].header.as_ref().unwrap(), "idempotency-key");
        let Type::Message(item) = request.fields[request.names["items"]].kind else { panic!("items are messages") };
        let item = shapes.get(item);
        assert_eq!(item.names["qty"], item.names["quantity"]);
        assert!(item.fields[item.names["price"]].presence);
        assert_eq!(shapes.resolve(of, "items"), None);
        assert_eq!(shapes.resolve(of, "nothing"), None);
        assert_eq!(shapes.resolve(of, "currency.x"), None);
        let currency = shapes.resolve(of, "currency").unwrap();
        assert_eq!(shapes.along(of, &currency).unwrap().1, "currency");
    }
}
