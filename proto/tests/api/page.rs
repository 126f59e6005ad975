//! The page `docs/proto.md`.

use std::fmt::Write as _;

use super::descriptor::{Api, Message};

const HEAD: &str = "\
# API reference

Generated from `proto/proto/mintwarden/v1/mintwarden.proto` by `make docs`; change it there. Reasons and rules are
listed in [api.md](api.md), test vectors for other languages are in [`proto/vectors/`](../proto/vectors/).
";

pub(crate) fn markdown(api: &Api) -> String {
    let mut page = String::from(HEAD);
    prose(&mut page, &api.comment);
    for service in &api.services {
        writeln!(page, "\n## {}", service.name).unwrap();
        prose(&mut page, &service.comment);
        for rpc in &service.rpcs {
            let (request, response) = (link(api, &rpc.request), link(api, &rpc.response));
            writeln!(page, "\n### {}.{}\n\n{request} → {response}", service.name, rpc.name)
                .unwrap();
            prose(&mut page, &rpc.comment);
        }
    }
    writeln!(page, "\n## Messages").unwrap();
    for message in &api.messages {
        describe(&mut page, api, message);
    }
    writeln!(page, "\n## Enumerations").unwrap();
    for enumeration in &api.enums {
        writeln!(page, "\n### {}", enumeration.name).unwrap();
        prose(&mut page, &enumeration.comment);
        writeln!(page, "\n| number | name | meaning |\n|---|---|---|").unwrap();
        for (number, name, comment) in &enumeration.values {
            writeln!(page, "| {number} | `{name}` | {} |", cell(comment)).unwrap();
        }
    }
    page
}

fn describe(page: &mut String, api: &Api, message: &Message) {
    writeln!(page, "\n### {}", message.name).unwrap();
    prose(page, &message.comment);
    if message.fields.is_empty() {
        return;
    }
    writeln!(page, "\n| number | field | type | meaning |\n|---|---|---|---|").unwrap();
    for field in &message.fields {
        let kind =
            format!("{}{}", if field.repeated { "repeated " } else { "" }, link(api, &field.kind));
        let oneof = field.oneof.as_ref().map(|oneof| format!(" (one of `{oneof}`)"));
        let (name, meaning) = (&field.name, cell(&field.comment));
        let oneof = oneof.unwrap_or_default();
        writeln!(page, "| {} | `{name}`{oneof} | {kind} | {meaning} |", field.number).unwrap();
    }
    for (name, comment) in &message.oneofs {
        writeln!(page, "\n`{name}`: {}", paragraphs(comment).join(" ")).unwrap();
    }
}

/// A type, linked to where the page describes it.
fn link(api: &Api, kind: &str) -> String {
    let (stream, name) = match kind.strip_prefix("stream ") {
        Some(name) => ("stream of ", name),
        None => ("", kind),
    };
    let messages = api.messages.iter().map(|message| &message.name);
    let mut ours = messages.chain(api.enums.iter().map(|enumeration| &enumeration.name));
    if ours.any(|known| known == name) {
        format!("{stream}[{name}](#{})", name.to_lowercase())
    } else {
        format!("{stream}`{name}`")
    }
}

fn prose(page: &mut String, comment: &str) {
    for paragraph in paragraphs(comment) {
        writeln!(page, "\n{paragraph}").unwrap();
    }
}

/// A comment's paragraphs, each in one line.
fn paragraphs(comment: &str) -> Vec<String> {
    comment.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect()
}

fn cell(comment: &str) -> String {
    paragraphs(comment).join(" ").replace('|', "\\|")
}
