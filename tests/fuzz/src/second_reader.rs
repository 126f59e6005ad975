//! Another reader of JSON, which shares no code with `serde_json` and keeps a name that stands twice. The
//! property tests of the claims profile include this file too.

use std::{borrow::Cow, collections::HashSet};

use hifijson::{
    SliceLexer,
    token::Lex as _,
    value::{self, Value},
};

type Reading<'a> = Value<&'a str, Cow<'a, str>>;

/// Reads a text that was accepted, and holds it against what `serde_json` made of it.
///
/// # Panics
/// If the readers do not agree, or an object has a name twice.
pub(crate) fn read_again<'a>(text: &'a [u8], first: &serde_json::Value) {
    let mut lexer = SliceLexer::new(text);
    let parse = |next, lexer: &mut SliceLexer<'a>| value::parse_bounded(64, next, lexer);
    let again = lexer.exactly_one(SliceLexer::ws_peek, parse);
    let again = again.unwrap_or_else(|error| panic!("the second reader refuses it: {error}"));
    same(first, &again);
}

fn same(first: &serde_json::Value, again: &Reading<'_>) {
    use serde_json::Value as First;
    match (first, again) {
        (First::Null, Value::Null) => {}
        (First::Bool(a), Value::Bool(b)) => assert_eq!(a, b),
        (First::Number(a), Value::Number((text, _))) => {
            let whole = |text: &str| text.parse::<i128>().ok();
            match (a.as_i128(), whole(text)) {
                (Some(a), Some(b)) if a != 0 => assert_eq!(a, b),
                _ => assert_eq!(a.as_f64(), text.parse().ok(), "{text}"),
            }
        }
        (First::String(a), Value::String(b)) => assert_eq!(a, b),
        (First::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| same(a, b));
        }
        (First::Object(a), Value::Object(b)) => {
            let names: HashSet<_> = b.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), b.len(), "a name stands twice");
            assert_eq!(a.len(), b.len());
            b.iter().for_each(|(name, b)| same(&a[&**name], b));
        }
        _ => panic!("the readers see different types"),
    }
}
