//! Reading a payload: strict JSON into the few claims that matter.
//!
//! `serde_json` reads; the visitors here add what it does not ask for. No tree is built: known claims
//! are kept, borrowed from the payload where they can be, and all else is read through and dropped.
//! Nothing may go through `IgnoredAny` or `RawValue`, which do not look into strings.

use std::{borrow::Cow, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::{
    Profile,
    claim::Claim,
    names::{Names, Open},
    refusal::{Position, Refusal, Rule},
};

/// The claims of one payload that the rules look at.
pub(super) struct Claims<'a> {
    known: [Option<Found<'a>>; Claim::COUNT],
    /// Others that the profile requires: the place in its list, and what was found.
    other: Vec<(usize, Found<'a>)>,
}

impl<'a> Claims<'a> {
    /// What the payload has for a known claim.
    pub(super) fn get(&self, claim: Claim) -> Option<&Found<'a>> {
        self.known[claim as usize].as_ref()
    }

    /// What the payload has for the claim `name` of the list `required` that it was read with.
    pub(super) fn named(&self, name: &str, required: &[String]) -> Option<&Found<'a>> {
        if let Some(claim) = Claim::from_name(name) {
            return self.get(claim);
        }
        // By its first place, should the list have it twice.
        let place = required.iter().position(|required| required == name)?;
        self.other.iter().find(|(at, _)| *at == place).map(|(_, found)| found)
    }
}

/// What the rules have to know of a value.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Null,
    Bool,
    /// A number written as an integer that is not negative.
    Integer(u64),
    /// Any other number.
    Number,
    Text(Cow<'a, str>),
    Array {
        len: usize,
        /// Of `aud` only: its elements that are strings.
        texts: Vec<Cow<'a, str>>,
        /// The deepest delegation of its elements, see `Object`; none unless all are such objects.
        delegation: Option<usize>,
    },
    Object {
        len: usize,
        /// Levels of `act`: 1 for the object itself, and so on for the `act` inside of it. None where
        /// an `act` is not an object.
        delegation: Option<usize>,
    },
}

impl Found<'_> {
    /// Whether it is `""`, `[]` or `{}`.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Array { len, .. } | Self::Object { len, .. } => *len == 0,
            Self::Null | Self::Bool | Self::Integer(_) | Self::Number => false,
        }
    }

    fn delegation(&self) -> Option<usize> {
        match self {
            Self::Object { delegation, .. } => *delegation,
            _ => None,
        }
    }
}

/// Reads `payload`; keeps the known claims and those that `required` names.
pub(super) fn read<'a>(
    payload: &'a [u8],
    max_bytes: usize,
    required: &[String],
) -> Result<Claims<'a>, Refusal> {
    if payload.len() > max_bytes {
        let refusal = Refusal::malformed(Rule::Size, None, None);
        return Err(refusal.at_most(u64::try_from(max_bytes).unwrap_or(u64::MAX)));
    }
    let text =
        std::str::from_utf8(payload).map_err(|_| Refusal::malformed(Rule::Utf8, None, None))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let mut progress = Progress { open: Open::with_capacity(32), within: None, fault: None };
    let claims = json
        .deserialize_map(Payload { progress: &mut progress, required })
        .map_err(|error| progress.refusal(&error))?;
    json.end().map_err(|error| Refusal::malformed(Rule::TrailingBytes, None, position(&error)))?;
    Ok(claims)
}

fn position(error: &serde_json::Error) -> Option<Position> {
    (error.line() > 0).then(|| Position { line: error.line(), column: error.column() })
}

/// Where reading is, and what stopped it: `serde_json` cannot carry a typed error of ours.
struct Progress<'a> {
    open: Open<'a>,
    within: Option<Claim>,
    fault: Option<Rule>,
}

impl Progress<'_> {
    fn stop<E: de::Error>(&mut self, fault: Rule) -> E {
        self.fault = Some(fault);
        E::custom(fault)
    }

    fn refusal(&self, error: &serde_json::Error) -> Refusal {
        let rule = match (self.fault, error.classify()) {
            (Some(fault), _) => fault,
            // Only the visitor of the payload itself expects one type and not another.
            (None, Category::Data) => Rule::PayloadObject,
            // The crate has no typed way to say this; a test holds it to the text.
            (None, _) if error.to_string().starts_with("number out of range") => Rule::NumberRange,
            (None, _) => Rule::Json,
        };
        let refusal = Refusal::malformed(rule, self.within, position(error));
        if rule == Rule::Depth { refusal.at_most(Profile::MAX_DEPTH as u64) } else { refusal }
    }
}

/// Reads the payload's own object.
struct Payload<'p, 'a> {
    progress: &'p mut Progress<'a>,
    required: &'p [String],
}

impl<'a> Visitor<'a> for Payload<'_, 'a> {
    type Value = Claims<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { progress, required } = self;
        let mut claims = Claims { known: [const { None }; Claim::COUNT], other: Vec::new() };
        let mut names = Names::begin(&progress.open);
        while let Some(name) = map.next_key_seed(Name)? {
            if let Some(claim) = Claim::from_name(&name) {
                progress.within = Some(claim);
                if claims.get(claim).is_some() {
                    return Err(progress.stop(Rule::DuplicateName));
                }
                let keep_texts = claim == Claim::Aud;
                let found = map.next_value_seed(Value { progress, depth: 2, keep_texts })?;
                claims.known[claim as usize] = Some(found);
                progress.within = None;
            } else {
                let wanted = required.iter().position(|required| *required == name);
                if !names.insert(&mut progress.open, name) {
                    return Err(progress.stop(Rule::DuplicateName));
                }
                let found = map.next_value_seed(Value { progress, depth: 2, keep_texts: false })?;
                claims.other.extend(wanted.map(|place| (place, found)));
            }
        }
        names.end(&mut progress.open);
        Ok(claims)
    }
}

/// Reads a name, with its escapes resolved.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Reads any value that is not the payload itself.
struct Value<'p, 'a> {
    progress: &'p mut Progress<'a>,
    /// The level of nesting that the value has if it is an object or an array.
    depth: usize,
    /// Whether to keep the strings of an array.
    keep_texts: bool,
}

impl Value<'_, '_> {
    fn descend<E: de::Error>(&mut self) -> Result<(), E> {
        if self.depth > Profile::MAX_DEPTH { Err(self.progress.stop(Rule::Depth)) } else { Ok(()) }
    }
}

impl<'a> DeserializeSeed<'a> for Value<'_, 'a> {
    type Value = Found<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Value<'_, 'a> {
    type Value = Found<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Found::Bool)
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Self::Value, E> {
        Ok(Found::Integer(integer))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(integer).map_or(Found::Number, Found::Integer))
    }

    /// Also called for integers that no 64 bits hold, and for `-0`.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        if number.is_finite() {
            Ok(Found::Number)
        } else {
            Err(self.progress.stop(Rule::NumberRange))
        }
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut array: A) -> Result<Self::Value, A::Error> {
        self.descend()?;
        let (mut len, mut texts, mut delegation) = (0, Vec::new(), Some(0));
        while let Some(found) = array.next_element_seed(Value {
            progress: &mut *self.progress,
            depth: self.depth + 1,
            keep_texts: false,
        })? {
            len += 1;
            delegation = delegation.zip(found.delegation()).map(|(a, b)| a.max(b));
            if let (true, Found::Text(text)) = (self.keep_texts, found) {
                texts.push(text);
            }
        }
        Ok(Found::Array { len, texts, delegation })
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        self.descend()?;
        let (mut len, mut delegation) = (0, Some(1));
        let mut names = Names::begin(&self.progress.open);
        while let Some(name) = map.next_key_seed(Name)? {
            let is_act = name == Claim::Act.as_str();
            if !names.insert(&mut self.progress.open, name) {
                return Err(self.progress.stop(Rule::DuplicateName));
            }
            len += 1;
            let found = map.next_value_seed(Value {
                progress: &mut *self.progress,
                depth: self.depth + 1,
                keep_texts: false,
            })?;
            if is_act {
                delegation = found.delegation().map(|inner| inner + 1);
            }
        }
        names.end(&mut self.progress.open);
        Ok(Found::Object { len, delegation })
    }
}
