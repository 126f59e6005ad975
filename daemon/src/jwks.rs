//! The JWK Set that verifiers read (RFC 7517 section 5): rendered from the keyset, no second copy.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

use crate::keyset::{Keyset, Phase};

/// A rendered JWK Set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// The document, JSON.
    pub json: Bytes,
    /// The keyset's revision that it was rendered from.
    pub revision: u64,
    /// Strong entity tag (RFC 9110 section 8.8.3), with its quotes.
    pub etag: String,
    /// `Cache-Control: max-age`.
    pub max_age: Duration,
}

impl Jwks {
    /// Renders a published keyset; `None` before its first keys are published.
    #[must_use]
    pub fn render(keyset: &Keyset, max_age: Duration) -> Option<Self> {
        if keyset.phase != Phase::Published {
            return None;
        }
        let keys: Vec<_> = keyset.published().map(|(_, made)| made.jwk.to_published()).collect();
        let json = Bytes::from(serde_json::json!({ "keys": keys }).to_string());
        let etag = etag(&json);
        Some(Self { json, revision: keyset.revision, etag, max_age })
    }
}

/// The strong entity tag of a document.
pub(crate) fn etag(json: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, json);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]))
}
