//! JWS compact serialization (RFC 7515 section 7.1), taken apart.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{error::VerifyError, json::parse_object};

/// Bound on a token. A payload of the appliance has at most 64 KiB.
const MAX_TOKEN: usize = 128 * 1024;

/// A token in its parts. Nothing of it is verified.
pub(super) struct Compact<'a> {
    /// What the signature is over.
    pub(super) signing_input: &'a [u8],
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// The members of a protected header that matter.
pub(super) struct Header {
    pub(super) typ: Option<String>,
    pub(super) alg: String,
    pub(super) kid: Option<String>,
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, VerifyError> {
        if token.len() > MAX_TOKEN {
            return Err(VerifyError::Malformed("it is longer than 128 KiB"));
        }
        let three = || VerifyError::Malformed("it is not three parts joined by dots");
        let (signing_input, signature) = token.rsplit_once('.').ok_or_else(three)?;
        let (header, payload) = signing_input.split_once('.').ok_or_else(three)?;
        if payload.contains('.') {
            return Err(three());
        }
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| VerifyError::Malformed("a part is not base64url without padding"))
        };
        Ok(Self {
            signing_input: signing_input.as_bytes(),
            header: Header::parse(&decode(header)?)?,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, VerifyError> {
        let members = parse_object(bytes)
            .map_err(|_| VerifyError::Malformed("its header is not a sound JSON object"))?;
        // RFC 7515 section 4.1.11: what is critical and not understood makes a token invalid.
        if members.contains_key("crit") {
            return Err(VerifyError::Malformed("its header has `crit`, which is not understood"));
        }
        let typ = text(&members, "typ", "its header's `typ` is no string")?;
        let kid = text(&members, "kid", "its header's `kid` is no string")?;
        let alg = text(&members, "alg", "its header's `alg` is no string")?;
        let alg = alg.ok_or(VerifyError::Malformed("its header has no `alg`"))?;
        Ok(Self { typ, alg, kid })
    }
}

fn text(
    members: &Map<String, Value>,
    name: &str,
    otherwise: &'static str,
) -> Result<Option<String>, VerifyError> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(VerifyError::Malformed(otherwise)),
    }
}
