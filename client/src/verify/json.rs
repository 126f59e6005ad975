//! JSON objects in which nothing is said twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// As deep as the appliance's profile lets claims be.
const MAX_DEPTH: u8 = 32;

/// Why bytes are not the JSON object that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("not a sound JSON object: {0}")]
pub struct JsonError(#[from] serde_json::Error);

/// Parses bytes that are one JSON object (RFC 8259), without a name that stands twice in an object at any
/// depth and at most 32 levels deep.
///
/// Readers of JSON differ on which of two members counts (RFC 8259 section 4), so an object that has both
/// means different things to different readers: it is refused.
///
/// # Errors
///
/// [`JsonError`] says what is wrong, and where. It may quote a name from the input.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: MAX_DEPTH }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(JsonError(serde_json::Error::custom("it is no object"))),
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth_left: u8,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1);
        let depth_left = depth_left.ok_or_else(|| E::custom("nested more than 32 levels deep"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(inside)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                let name: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format!("the name {name:?} stands twice")));
            }
            object.insert(name, members.next_value_seed(inside)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse_object(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn keeps_what_it_reads() {
        let text = r#"{"a":[1,-2,0.5,"x",null,true],"b":{"c":{}}}"#;
        let parsed = parse_object(text.as_bytes()).unwrap();
        assert_eq!(Value::Object(parsed), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn nothing_stands_twice_at_any_depth_however_it_is_spelled() {
        assert!(error(r#"{"a":1,"a":1}"#).contains("stands twice"));
        assert!(error(r#"{"x":[{"a":1,"\u0061":2}]}"#).contains("stands twice"));
    }

    #[test]
    fn i9_depth_is_bounded() {
        let nested = |depth: usize| {
            format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
        };
        assert!(parse_object(nested(32).as_bytes()).is_ok());
        assert!(error(&nested(33)).contains("32 levels"));
    }

    #[test]
    fn only_one_object_and_nothing_else() {
        for text in ["", "[]", "1", "{} {}", "{}x", "nul", r#"{"a":}"#, "{\"a\":\"\u{1}\"}"] {
            error(text);
        }
        parse_object(b"{\"a\":\"\xff\"}").unwrap_err();
    }
}
