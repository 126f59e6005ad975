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
    /// SHA-256 state after `header "."`, common to all tokens of the key.
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

    /// Starts a token with this payload: what the device signs.
    #[must_use]
    pub fn begin(&self, payload: &[u8]) -> SigningInput {
        let message = signing_input(&self.encoded, payload);
        let mut sha256 = self.prefix.clone();
        sha256.update(&message[self.encoded.len() + 1..]);
        SigningInput { message, sha256 }
    }
}

/// What a device signs: a message and, ready with it, its digest.
///
/// Whether a device takes the one or the other is a matter of the algorithm and of the mechanism
/// that the device has for it.
pub struct SigningInput {
    message: Vec<u8>,
    /// SHA-256 state after the message: most algorithms sign it, and records name tokens by it.
    sha256: digest::Context,
}

impl SigningInput {
    /// Any message; a token's is made by [`ProtectedHeader::begin`].
    #[must_use]
    pub fn new(message: impl Into<Vec<u8>>) -> Self {
        let message = message.into();
        let mut sha256 = digest::Context::new(&digest::SHA256);
        sha256.update(&message);
        Self { message, sha256 }
    }

    /// The message: of a token `header "." payload`.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The digest of the message that `algorithm` signs; `None` for one that takes the message.
    #[must_use]
    pub fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        let hash = algorithm.hash()?;
        Some(if *hash == digest::SHA256 {
            self.sha256.clone().finish()
        } else {
            digest::digest(hash, &self.message)
        })
    }

    /// The SHA-256 digest of the complete token with this raw signature: what names the token in
    /// records, without being the token.
    #[must_use]
    pub fn token_digest(mut self, signature: &[u8]) -> Digest {
        self.sha256.update(b".");
        self.sha256.update(URL_SAFE_NO_PAD.encode(signature).as_bytes());
        self.sha256.finish()
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
        for algorithm in Algorithm::ALL {
            let header = ProtectedHeader::new(algorithm, &kid());
            let json = URL_SAFE_NO_PAD.decode(header.encoded()).expect("base64url");
            assert_eq!(
                String::from_utf8(json).expect("UTF-8"),
                format!(r#"{{"typ":"txntoken+jwt","alg":"{algorithm}","kid":"{}"}}"#, kid())
            );
        }
    }

    #[test]
    fn digests_are_those_of_the_assembled_text() {
        let header = ProtectedHeader::new(Algorithm::ES256, &kid());
        let text = signing_input(header.encoded(), br#"{"txn":"1"}"#);
        let input = header.begin(br#"{"txn":"1"}"#);
        assert_eq!(input.message(), text);
        let of = |hash| digest::digest(hash, &text).as_ref().to_vec();
        for (algorithm, expected) in [
            (Algorithm::ES256, Some(of(&digest::SHA256))),
            (Algorithm::ES384, Some(of(&digest::SHA384))),
            (Algorithm::PS256, Some(of(&digest::SHA256))),
            (Algorithm::RS256, Some(of(&digest::SHA256))),
            (Algorithm::Ed25519, None),
        ] {
            let digest = input.digest(algorithm).map(|digest| digest.as_ref().to_vec());
            assert_eq!(digest, expected, "{algorithm}");
            let other = SigningInput::new(text.clone()).digest(algorithm);
            assert_eq!(other.map(|digest| digest.as_ref().to_vec()), expected, "{algorithm}");
        }
        let token = [&text[..], b".", URL_SAFE_NO_PAD.encode([7; 64]).as_bytes()].concat();
        assert_eq!(
            input.token_digest(&[7; 64]).as_ref(),
            digest::digest(&digest::SHA256, &token).as_ref()
        );
    }
}
