//! Reads the descriptor set with its source information into what a reader of the API sees.

use std::collections::HashMap;

use mintwarden_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

const PACKAGE: &str = "mintwarden.v1";

// Field numbers of descriptor.proto, of which the paths to comments are made.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const FILE_SERVICES: i32 = 6;
const FILE_SYNTAX: i32 = 12;
const MEMBERS: i32 = 2;
const MESSAGE_ONEOFS: i32 = 8;

pub(crate) struct Api {
    pub(crate) comment: String,
    pub(crate) services: Vec<Service>,
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
}

pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) rpcs: Vec<Rpc>,
}

pub(crate) struct Rpc {
    pub(crate) name: String,
    pub(crate) comment: String,
    /// Type names, with `stream ` before them where it is one.
    pub(crate) request: String,
    pub(crate) response: String,
}

pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) oneofs: Vec<(String, String)>,
    pub(crate) fields: Vec<Field>,
    pub(crate) reserved: Vec<String>,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) number: i32,
    /// The type's name; without the package where it is this one.
    pub(crate) kind: String,
    pub(crate) repeated: bool,
    pub(crate) oneof: Option<String>,
}

pub(crate) struct Enum {
    pub(crate) name: String,
    pub(crate) comment: String,
    /// Number, name, comment.
    pub(crate) values: Vec<(i32, String, String)>,
}

impl Api {
    pub(crate) fn read() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut ours = set.file.into_iter().filter(|file| file.package() == PACKAGE);
        let file = ours.next().unwrap();
        assert!(ours.next().is_none(), "a second file needs a name in front of its items");
        let comments = Comments::of(&file);
        let at = |kind| move |index| [kind, i32::try_from(index).unwrap()];
        Self {
            comment: comments.at(&[FILE_SYNTAX]),
            services: each(&file.service, at(FILE_SERVICES), |x, path| {
                service(x, &path, &comments)
            }),
            messages: each(&file.message_type, at(FILE_MESSAGES), |x, path| {
                message(x, &path, &comments)
            }),
            enums: each(&file.enum_type, at(FILE_ENUMS), |x, path| {
                enumeration(x, &path, &comments)
            }),
        }
    }

    /// Everything that has a name, and its comment.
    pub(crate) fn items(&self) -> impl Iterator<Item = (String, &str)> {
        let mut items = vec![("the file".to_owned(), &*self.comment)];
        for service in &self.services {
            items.push((service.name.clone(), &service.comment));
            let rpcs = service.rpcs.iter();
            items.extend(rpcs.map(|rpc| (format!("{}.{}", service.name, rpc.name), &*rpc.comment)));
        }
        for message in &self.messages {
            let inside = |name: &str| format!("{}.{name}", message.name);
            items.push((message.name.clone(), &message.comment));
            let oneofs = message.oneofs.iter();
            items.extend(oneofs.map(|(name, comment)| (inside(name), &**comment)));
            items.extend(message.fields.iter().map(|field| (inside(&field.name), &*field.comment)));
        }
        for enumeration in &self.enums {
            items.push((enumeration.name.clone(), &enumeration.comment));
            let values = enumeration.values.iter();
            items.extend(values.map(|(_, name, comment)| (name.clone(), &**comment)));
        }
        items.into_iter()
    }
}

fn each<T, R>(
    items: &[T],
    path: impl Fn(usize) -> [i32; 2],
    read: impl Fn(&T, [i32; 2]) -> R,
) -> Vec<R> {
    items.iter().enumerate().map(|(index, item)| read(item, path(index))).collect()
}

fn service(service: &ServiceDescriptorProto, path: &[i32], comments: &Comments) -> Service {
    let rpcs = service.method.iter().enumerate().map(|(index, rpc)| Rpc {
        name: rpc.name().to_owned(),
        comment: comments.below(path, MEMBERS, index),
        request: streamed(rpc.client_streaming(), rpc.input_type()),
        response: streamed(rpc.server_streaming(), rpc.output_type()),
    });
    Service { name: service.name().to_owned(), comment: comments.at(path), rpcs: rpcs.collect() }
}

fn streamed(stream: bool, name: &str) -> String {
    format!("{}{}", if stream { "stream " } else { "" }, own(name))
}

fn message(message: &DescriptorProto, path: &[i32], comments: &Comments) -> Message {
    let name = message.name().to_owned();
    let nested = !message.nested_type.is_empty() || !message.enum_type.is_empty();
    assert!(!nested, "{name}: types inside of messages are not read here; declare them beside it");
    let oneofs = message.oneof_decl.iter().enumerate().map(|(index, oneof)| {
        (oneof.name().to_owned(), comments.below(path, MESSAGE_ONEOFS, index))
    });
    let oneofs: Vec<_> = oneofs.collect();
    let fields = message.field.iter().enumerate().map(|(index, field)| Field {
        name: field.name().to_owned(),
        comment: comments.below(path, MEMBERS, index),
        number: field.number(),
        kind: kind(field),
        repeated: field.label() == Label::Repeated,
        oneof: field.oneof_index.map(|index| oneofs[usize::try_from(index).unwrap()].0.clone()),
    });
    let numbers = message.reserved_range.iter().map(|r| format!("{}..{}", r.start(), r.end()));
    Message {
        name,
        comment: comments.at(path),
        fields: fields.collect(),
        oneofs,
        reserved: numbers.chain(message.reserved_name.iter().cloned()).collect(),
    }
}

fn enumeration(item: &EnumDescriptorProto, path: &[i32], comments: &Comments) -> Enum {
    let values = item.value.iter().enumerate().map(|(index, value)| {
        (value.number(), value.name().to_owned(), comments.below(path, MEMBERS, index))
    });
    Enum { name: item.name().to_owned(), comment: comments.at(path), values: values.collect() }
}

fn kind(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => own(field.type_name()),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

/// A type's name, without its package where that is ours.
fn own(name: &str) -> String {
    let name = name.trim_start_matches('.');
    name.strip_prefix(PACKAGE).map_or(name, |rest| rest.trim_start_matches('.')).to_owned()
}

/// The leading comments of a file, by the path of what they stand before.
struct Comments(HashMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments =
            locations.map(|place| (place.path.clone(), trimmed(place.leading_comments())));
        Self(comments.collect())
    }

    fn at(&self, path: &[i32]) -> String {
        self.0.get(path).cloned().unwrap_or_default()
    }

    fn below(&self, path: &[i32], kind: i32, index: usize) -> String {
        self.at(&[path, &[kind, i32::try_from(index).unwrap()]].concat())
    }
}

fn trimmed(comment: &str) -> String {
    let lines: Vec<_> =
        comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n").trim().to_owned()
}
