//! The API's shape as text: what callers that were built once rely on for ever.

use std::fmt::Write as _;

use super::descriptor::{Api, Field};

pub(crate) fn text(api: &Api) -> String {
    let mut text = String::new();
    for service in &api.services {
        writeln!(text, "service {}", service.name).unwrap();
        for rpc in &service.rpcs {
            writeln!(text, "  {}({}) returns ({})", rpc.name, rpc.request, rpc.response).unwrap();
        }
    }
    for message in &api.messages {
        writeln!(text, "message {}", message.name).unwrap();
        for Field { name, number, kind, repeated, oneof, .. } in &message.fields {
            let repeated = if *repeated { "repeated " } else { "" };
            let oneof = oneof.as_ref().map(|oneof| format!(" of {oneof}")).unwrap_or_default();
            writeln!(text, "  {number} {name}: {repeated}{kind}{oneof}").unwrap();
        }
        for reserved in &message.reserved {
            writeln!(text, "  reserved {reserved}").unwrap();
        }
    }
    for enumeration in &api.enums {
        writeln!(text, "enum {}", enumeration.name).unwrap();
        for (number, name, _) in &enumeration.values {
            writeln!(text, "  {number} {name}").unwrap();
        }
    }
    text
}
