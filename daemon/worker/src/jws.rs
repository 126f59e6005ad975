//! JWS compact serialization (RFC 7515 section 7.1), the half that a worker owns: the protected
//! header and the digests. No part of the header is ever taken from a caller (I12).

use aws_lc_rs::digest::{self, Digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{Algorithm, jwk::Kid};

/// The `typ` of a Txn-Token (draft-ietf-oauth-transaction-tokens, "Txn-Token Header").
pub const TYP: &str = "txntoken+jwt";

/// The protected header of one key: exactly `{"typ":"txntoken+jwt","alg":…,"kid":…}`.
#[derive(Clone)]
pub struct ProtectedHeader {
    encoded: String,
    /// Digest state after `header "."`, common to all tokens of the key.
    prefix: digest::Context,
}

impl ProtectedHeader {
    /// The header for tokens that the key `kid` signs with `algorithm`.
    #[must_use]
    pub fn new(algorithm: Algorithm, kid: &Kid) -> Self {
        let json = format!(r#"{{"typ":"{TYP}","alg":"{algorithm}","kid":"{kid}"}}"#);
        let encoded = URL_SAFE_NO_PAD.encode(json);
        let mut prefix = digest::Context::new(&digest::SHA256);
        prefix.update(encoded.as_bytes());
        prefix.update(b".");
        Self { encoded, prefix }
    }

    /// The header, base64url without padding.
    #[must_use]
    pub fn encoded(&self) -> &str {
        &self.encoded
    }

    /// Starts a token with this payload.
    #[must_use]
    pub fn begin(&self, payload: &[u8]) -> Unsigned {
        let mut state = self.prefix.clone();
        state.update(URL_SAFE_NO_PAD.encode(payload).as_bytes());
        Unsigned { state }
    }
}

/// A token that lacks its signature.
pub struct Unsigned {
    state: digest::Context,
}

impl Unsigned {
    /// The SHA-256 digest of the signing input `header "." payload`: what the device signs.
    #[must_use]
    pub fn signing_digest(&self) -> Digest {
        self.state.clone().finish()
    }

    /// The SHA-256 digest of the complete token with this raw signature: what names the token in
    /// records, without being the token.
    #[must_use]
    pub fn token_digest(mut self, signature: &[u8]) -> Digest {
        self.state.update(b".");
        self.state.update(URL_SAFE_NO_PAD.encode(signature).as_bytes());
        self.state.finish()
    }
}

/// The signing input of a token, `protected_header "." base64url(payload)`: what a verifier hashes.
#[must_use]
pub fn signing_input(protected_header: &str, payload: &[u8]) -> Vec<u8> {
    let mut input =
        String::with_capacity(protected_header.len() + 1 + payload.len().div_ceil(3) * 4);
    input.push_str(protected_header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwk::PublicJwk;

    fn kid() -> Kid {
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                      "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
        serde_json::from_str::<PublicJwk>(jwk).expect("a valid key").kid()
    }

    #[test]
    fn i12_the_header_has_exactly_three_members() {
        let header = ProtectedHeader::new(Algorithm::ES256, &kid());
        let json = URL_SAFE_NO_PAD.decode(header.encoded()).expect("base64url");
        assert_eq!(
            String::from_utf8(json).expect("UTF-8"),
            format!(r#"{{"typ":"txntoken+jwt","alg":"ES256","kid":"{}"}}"#, kid())
        );
    }

    #[test]
    fn digests_are_those_of_the_assembled_text() {
        let header = ProtectedHeader::new(Algorithm::ES256, &kid());
        let input = signing_input(header.encoded(), br#"{"txn":"1"}"#);
        let unsigned = header.begin(br#"{"txn":"1"}"#);
        assert_eq!(
            unsigned.signing_digest().as_ref(),
            digest::digest(&digest::SHA256, &input).as_ref()
        );
        let token = [&input[..], b".", URL_SAFE_NO_PAD.encode([7; 64]).as_bytes()].concat();
        assert_eq!(
            unsigned.token_digest(&[7; 64]).as_ref(),
            digest::digest(&digest::SHA256, &token).as_ref()
        );
    }
}
