use std::{fmt, ops::Deref};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// A signed token in JWS compact serialization (RFC 7515 section 7.1).
///
/// It is a bearer credential: `Debug` does not show it, `Display` and `Deref<Target = str>` do.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// Joins a protected header, which is already base64url, with the payload and the raw
    /// signature (RFC 7515 section 5.1), in one allocation.
    pub(crate) fn assemble(protected_header: &str, claims: &[u8], signature: &[u8]) -> Self {
        let length = protected_header.len() + encoded(claims) + encoded(signature) + 2;
        let mut token = String::with_capacity(length);
        token.push_str(protected_header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        debug_assert_eq!(token.len(), length);
        Self(token)
    }

    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The token's text, without a copy.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deref for Token {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("length", &self.0.len()).finish_non_exhaustive()
    }
}

/// The length of `bytes` in base64url without padding.
fn encoded(bytes: &[u8]) -> usize {
    (bytes.len() * 4).div_ceil(3)
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembles_the_example_of_rfc_7515_appendix_a_1() {
        let claims =
            b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        let signature =
            URL_SAFE_NO_PAD.decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
        let token = Token::assemble("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", claims, &signature);
        assert_eq!(
            token.as_str(),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog\
             Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
    }

    #[test]
    fn one_allocation_fits_every_length() {
        for length in 0..=66 {
            let bytes = vec![7; length];
            let token = Token::assemble("h", &bytes, &bytes);
            assert_eq!(token.0.len(), token.0.capacity());
        }
    }

    #[test]
    fn debug_shows_no_content() {
        let token = Token::assemble("secret", b"{}", b"");
        assert!(!format!("{token:?}").contains("secret"));
    }
}
