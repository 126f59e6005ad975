//! What holds for any payload.

use std::{collections::HashSet, fmt::Write as _};

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::Value;

use super::{NOW, claims, profile, second_reader::read_again};
use crate::claims::{Facts, Profile, Rule};

/// JSON that can say what `Value` cannot: a name twice, and how each character is written.
#[derive(Clone, Debug)]
enum Json {
    /// A literal or a number, as it stands in the text.
    Plain(String),
    Text(Text),
    Array(Vec<Json>),
    Object(Vec<(Text, Json)>),
}

/// A string and which of its characters are escaped: bit n for the nth, going round.
#[derive(Clone, Debug)]
struct Text(String, u64);

impl Text {
    fn write(&self, out: &mut String) {
        out.push('"');
        for (n, char) in self.0.chars().enumerate() {
            if self.1 >> (n % 64) & 1 == 1 || char < ' ' || char == '"' || char == '\\' {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string");
                }
            } else {
                out.push(char);
            }
        }
        out.push('"');
    }
}

impl Json {
    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Text(text) => text.write(out),
            Self::Array(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (n, (name, value)) in members.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    name.write(out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    fn from_value(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(Text(text.clone(), 0)),
            Value::Array(items) => Self::Array(items.iter().map(Self::from_value).collect()),
            Value::Object(members) => Self::Object(
                members.iter().map(|(n, v)| (Text(n.clone(), 0), Self::from_value(v))).collect(),
            ),
            plain => Self::Plain(plain.to_string()),
        }
    }

    /// Removes all but the first member of each name.
    fn without_twins(self) -> Self {
        match self {
            Self::Array(items) => Self::Array(items.into_iter().map(Self::without_twins).collect()),
            Self::Object(members) => {
                let mut seen = HashSet::new();
                let unique = members.into_iter().filter(|(name, _)| seen.insert(name.0.clone()));
                Self::Object(unique.map(|(name, value)| (name, value.without_twins())).collect())
            }
            other => other,
        }
    }

    /// How many objects with a member there are.
    fn objects(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Text(_) => 0,
            Self::Array(items) => items.iter().map(Self::objects).sum(),
            Self::Object(members) => {
                let inner: usize = members.iter().map(|(_, value)| value.objects()).sum();
                inner + usize::from(!members.is_empty())
            }
        }
    }

    /// Gives one object, counted as `objects` counts, a member that has a name of another one.
    fn add_twin(&mut self, nth: &mut usize, twin: &Twin) {
        match self {
            Self::Plain(_) | Self::Text(_) => {}
            Self::Array(items) => items.iter_mut().for_each(|item| item.add_twin(nth, twin)),
            Self::Object(members) if members.is_empty() => {}
            Self::Object(members) => {
                members.iter_mut().for_each(|(_, value)| value.add_twin(nth, twin));
                if *nth == 0 {
                    let name = twin.of.get(members).0.0.clone();
                    let at = twin.at.index(members.len() + 1);
                    members.insert(at, (Text(name, twin.escaped), twin.value.clone()));
                }
                // Goes below zero when the object was found; no other is zero again.
                *nth = nth.wrapping_sub(1);
            }
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// A second member with the name of another.
#[derive(Clone, Debug)]
struct Twin {
    of: Index,
    at: Index,
    escaped: u64,
    value: Json,
}

fn text() -> impl Strategy<Value = Text> {
    // Few and short, so that the same name comes up twice by chance as well.
    let text = prop_oneof![
        3 => "[ab]{0,2}",
        1 => "\\PC{0,4}",
        1 => prop_oneof![Just("act"), Just("sub"), Just("trust-domain.example")].prop_map(str::to_owned),
    ];
    (text, any::<u64>(), any::<bool>())
        .prop_map(|(text, mask, plain)| Text(text, if plain { 0 } else { mask }))
}

fn json() -> impl Strategy<Value = Json> {
    let plain = prop_oneof![
        prop_oneof![
            Just("null"),
            Just("true"),
            Just("false"),
            Just("1e5"),
            Just("-0"),
            Just("1.0")
        ]
        .prop_map(|plain| Json::Plain(plain.to_owned())),
        any::<i64>().prop_map(|n| Json::Plain(n.to_string())),
        any::<u128>().prop_map(|n| Json::Plain(n.to_string())),
        (NOW.0 - 400..NOW.0 + 400).prop_map(|n| Json::Plain(n.to_string())),
        proptest::num::f64::NORMAL.prop_map(|n| Json::Plain(n.to_string())),
    ];
    let leaf = prop_oneof![plain, text().prop_map(Json::Text)];
    leaf.prop_recursive(5, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Json::Array),
            vec((text(), inner), 0..6).prop_map(Json::Object),
        ]
    })
}

/// Claims that conform, with some of them replaced, others added, and their order changed.
fn payload() -> impl Strategy<Value = Json> {
    const NAMES: [&str; 16] = [
        "iss",
        "sub",
        "aud",
        "txn",
        "scope",
        "purp",
        "req_wl",
        "jti",
        "iat",
        "nbf",
        "exp",
        "tctx",
        "rctx",
        "agentic_ctx",
        "act",
        "act_chain",
    ];
    let name = prop_oneof![
        (prop::sample::select(&NAMES[..]), any::<u64>())
            .prop_map(|(name, mask)| Text(name.to_owned(), mask)),
        text(),
    ];
    vec((name, json()), 0..6)
        .prop_map(|mut members| {
            if let Json::Object(conforming) = Json::from_value(&claims()) {
                members.extend(conforming);
            }
            // The first of a name wins, so what was generated stands in place of what conforms.
            Json::Object(members).without_twins()
        })
        .prop_flat_map(|payload| match payload {
            Json::Object(members) => Just(members).prop_shuffle().prop_map(Json::Object),
            other => panic!("no object: {other:?}"),
        })
}

/// Whether `value`, read by another reader, is what the profile says it passed: the rules again, in
/// other words.
fn agrees(value: &Value, facts: &Facts, profile: &Profile) -> Result<(), TestCaseError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    for name in &profile.required {
        prop_assert!(value.get(name).is_some_and(|value| !value.is_null()), "{name}");
    }
    for name in ["iss", "sub", "txn", "scope", "purp", "req_wl", "jti"] {
        prop_assert!(
            value.get(name).is_none() || text(name).is_some_and(|t| !t.is_empty()),
            "{name}"
        );
    }
    prop_assert_eq!(text("txn"), Some(&*facts.txn));
    prop_assert_eq!(text("req_wl"), Some(&*facts.req_wl));
    prop_assert!(text("iss").is_none_or(|iss| iss == profile.iss));

    let (iat, exp) = (value["iat"].as_i64(), value["exp"].as_i64());
    prop_assert_eq!(exp, Some(facts.exp.0));
    let (iat, exp) = (iat.expect("a date"), exp.expect("a date"));
    prop_assert!(exp > NOW.0 && exp <= NOW.0 + 300 && exp > iat && exp - iat <= 300);
    prop_assert!((0..=NOW.0 + 30).contains(&iat));

    let aud = &value["aud"];
    let aud = aud.as_array().map_or(std::slice::from_ref(aud), Vec::as_slice);
    prop_assert!(!aud.is_empty());
    for aud in aud {
        prop_assert!(profile.audience.iter().any(|allowed| aud == allowed.as_str()));
    }
    for name in ["tctx", "rctx", "agentic_ctx", "act"] {
        prop_assert!(value.get(name).is_none_or(Value::is_object), "{name}");
    }
    let levels = |mut value: &Value| {
        let mut levels = 0;
        while let Some(object) = value.as_object() {
            levels += 1;
            value = object.get("act").unwrap_or(&Value::Null);
        }
        levels
    };
    let chain = value.get("act_chain").map_or(0, |chain| {
        let chain = chain.as_array().expect("an array");
        chain.iter().map(levels).chain([chain.len()]).max().unwrap_or_default()
    });
    prop_assert_eq!(facts.delegation_depth, chain.max(levels(&value["act"])));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn claims_accepted_are_read_the_same_by_another_reader(payload in payload()) {
        let (text, profile) = (payload.text(), profile());
        let value: Value = serde_json::from_str(&text).expect("the generator makes JSON");
        match profile.check(text.as_bytes(), NOW) {
            Ok(checked) => {
                read_again(text.as_bytes(), &value);
                agrees(&value, checked.facts(), &profile)?;
            }
            // Unique names, few levels, small numbers: nothing is malformed.
            Err(refusal) => prop_assert!(
                refusal.reason() == "CLAIM_REFUSED" || refusal.rule() == Rule::Size, "{}", refusal
            ),
        }
    }

    #[test]
    fn claims_with_a_name_twice_are_never_accepted(
        mut payload in payload(),
        (nth, of, at, escaped) in any::<(Index, Index, Index, u64)>(),
        value in json(),
    ) {
        let profile = Profile { max_claims_bytes: 1 << 20, ..profile() };
        let twin = Twin { of, at, escaped, value: value.without_twins() };
        payload.add_twin(&mut nth.index(payload.objects()), &twin);
        let refusal = profile.check(payload.text().as_bytes(), NOW).expect_err("a name is there twice");
        prop_assert_eq!(refusal.rule(), Rule::DuplicateName);
    }

    #[test]
    fn claims_damaged_are_refused_or_still_read_the_same(
        edits in vec((any::<Index>(), any::<Option<u8>>(), any::<bool>()), 1..4),
    ) {
        let (mut bytes, profile) = (claims().to_string().into_bytes(), profile());
        for (at, byte, insert) in edits {
            let at = at.index(bytes.len());
            match (byte, insert) {
                (None, _) => drop(bytes.remove(at)),
                (Some(byte), true) => bytes.insert(at, byte),
                (Some(byte), false) => bytes[at] = byte,
            }
        }
        if let Ok(checked) = profile.check(&bytes, NOW) {
            let value = serde_json::from_slice(checked.payload()).expect("it was accepted as JSON");
            read_again(checked.payload(), &value);
            agrees(&value, checked.facts(), &profile)?;
        }
    }
}
