//! The API as its descriptor has it: everything has a comment, nothing changes its shape unseen, and
//! the page in docs/ says the same. What is generated is written anew by `make docs`.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod descriptor;
mod page;
mod shape;

use std::{fs, path::Path};

use descriptor::Api;

/// Compares a generated file with the one that is checked in; with MINTWARDEN_BLESS set writes it.
fn generated(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    #[expect(clippy::disallowed_methods, reason = "`make docs` asks through the environment")]
    let bless = std::env::var_os("MINTWARDEN_BLESS").is_some();
    if bless {
        fs::write(path, text).unwrap();
        return;
    }
    let checked_in = fs::read_to_string(path).unwrap_or_default();
    let differs = checked_in.lines().zip(text.lines()).position(|(old, new)| old != new);
    let line = differs.unwrap_or(checked_in.lines().count().min(text.lines().count()));
    assert!(
        checked_in == text,
        "{file}, line {}: {:?} has become {:?}; if that is meant, `make docs` writes it anew",
        line + 1,
        checked_in.lines().nth(line),
        text.lines().nth(line),
    );
}

#[test]
fn every_item_has_a_comment() {
    let api = Api::read();
    let uncommented: Vec<_> =
        api.items().filter(|(_, comment)| comment.is_empty()).map(|(name, _)| name).collect();
    assert!(uncommented.is_empty(), "say what these are, in the .proto: {uncommented:?}");
    assert!(api.items().count() > 90, "the source information is there");
}

#[test]
fn comments_say_units_and_encodings_where_a_type_does_not() {
    let api = Api::read();
    let fields = api.messages.iter().flat_map(|message| {
        message.fields.iter().map(move |field| (format!("{}.{}", message.name, field.name), field))
    });
    for (name, field) in fields {
        let says = |words: &[&str]| words.iter().any(|word| field.comment.contains(word));
        let said = match &*field.kind {
            "bytes" => says(&["UTF-8", "JSON", "raw bytes", "base64"]),
            "google.protobuf.Duration" | "google.protobuf.Timestamp" => {
                says(&["whole seconds", "whole milliseconds"])
            }
            _ => true,
        };
        assert!(said, "{name} is {}: its comment has to say in which encoding or unit", field.kind);
    }
}

#[test]
fn generated_shape_in_which_no_name_number_or_type_changes_unseen() {
    generated("api.txt", &shape::text(&Api::read()));
}

#[test]
fn generated_page_in_docs_says_what_the_proto_says() {
    generated("../docs/proto.md", &page::markdown(&Api::read()));
}
