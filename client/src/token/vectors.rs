//! The test vectors for clients in other languages, `proto/vectors/ALGORITHM.json`: what an appliance
//! sends for a payload, and the token that this makes.
//!
//! To add an algorithm put a private key (PEM: PKCS#8, for RSA PKCS#1) into `proto/vectors/keys/` and its name into
//! `ALGORITHMS`; then `make docs`. Signatures that verify are kept, since not every algorithm gives the
//! same one twice.

use std::{fs, path::PathBuf};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, crypto,
    jwk::{Jwk, ThumbprintHash},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::Token;

/// Names of JOSE algorithms (RFC 7518 section 3.1, RFC 8037, RFC 9864), and what jsonwebtoken calls
/// them.
const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("PS256", Algorithm::PS256),
    ("RS256", Algorithm::RS256),
    ("EdDSA", Algorithm::EdDSA),
    ("Ed25519", Algorithm::EdDSA),
];

/// What a client must carry over byte for byte. Not all of it is within a profile.
const PAYLOADS: [(&str, &str); 10] = [
    (
        "a Txn-Token's payload",
        r#"{"iss":"https://tts.trust-domain.example","iat":1700000000,"aud":"trust-domain.example","exp":1700000300,"txn":"97053963-771d-49cc-a4e3-20aad399c312","sub":"d084sdrt234fsaw34tr23t","scope":"trade.stocks","req_wl":"apigateway.trust-domain.example","tctx":{"action":"BUY","ticker":"MSFT","quantity":"100"},"rctx":{"req_ip":"69.151.72.123","authn":"urn:ietf:rfc:6749"}}"#,
    ),
    ("an empty object", "{}"),
    ("spaces, tabs and line ends", "{ \"txn\" :\t1 ,\r\n  \"sub\" : \"a b\"\n}\n"),
    ("escapes that a JSON writer would resolve", r#"{"\u0073ub":"\u0061\/b\\c\"d\u00e9"}"#),
    ("characters outside of ASCII", "{\"sub\":\"Zoë\",\"tctx\":{\"市場\":\"東京 🦀\"}}"),
    (
        "numbers that a JSON writer would change",
        r#"{"a":1.0,"b":100e-2,"c":9007199254740993,"d":-0}"#,
    ),
    ("names in no order", r#"{"z":1,"a":2,"m":{"z":1,"a":2}}"#),
    ("a length that leaves 1 byte for base64", r#"{"a":1}"#),
    ("a length that leaves 2 bytes", r#"{"a":12}"#),
    ("a length that leaves none", r#"{"a":123}"#),
];

struct Signer {
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    jwk: Value,
    protected_header: String,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto/vectors")
}

fn checked_in(name: &str) -> Option<String> {
    fs::read_to_string(directory().join(format!("{name}.json"))).ok()
}

impl Signer {
    fn read(name: &str, algorithm: Algorithm) -> Self {
        let key = PrivateKeyDer::from_pem_file(directory().join(format!("keys/{name}.pem")));
        let key = key.unwrap();
        let signing = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(key.secret_der()),
            Algorithm::EdDSA => EncodingKey::from_ed_der(key.secret_der()),
            _ => EncodingKey::from_rsa_der(key.secret_der()),
        };
        let public = Jwk::from_encoding_key(&signing, algorithm).unwrap();
        let kid = public.thumbprint(ThumbprintHash::SHA256).unwrap();
        let mut jwk = serde_json::to_value(&public).unwrap();
        for (member, value) in [("kid", &*kid), ("alg", name), ("use", "sig")] {
            jwk[member] = value.into();
        }
        let header = format!(r#"{{"typ":"txntoken+jwt","alg":"{name}","kid":"{kid}"}}"#);
        Self {
            algorithm,
            signing,
            verifying: DecodingKey::from_jwk(&public).unwrap(),
            jwk,
            protected_header: URL_SAFE_NO_PAD.encode(header),
        }
    }

    fn verifies(&self, signature: &str, message: &str) -> bool {
        crypto::verify(signature, message.as_bytes(), &self.verifying, self.algorithm)
            .is_ok_and(|valid| valid)
    }

    /// The signature of the vector that is checked in, where it is one of this message.
    fn signature(&self, old: &Value, message: &str) -> Vec<u8> {
        let old = old["signature_base64"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let old = old.filter(|old| self.verifies(&URL_SAFE_NO_PAD.encode(old), message));
        old.unwrap_or_else(|| {
            let made = crypto::sign(message.as_bytes(), &self.signing, self.algorithm).unwrap();
            URL_SAFE_NO_PAD.decode(made).unwrap()
        })
    }
}

fn generate(name: &str, algorithm: Algorithm, old: &Value) -> String {
    let signer = Signer::read(name, algorithm);
    let header = &signer.protected_header;
    let vectors = PAYLOADS.map(|(what, payload)| {
        let old = old["vectors"].as_array().into_iter().flatten().find(|old| old["name"] == what);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = signer.signature(old.unwrap_or(&Value::Null), &message);
        json!({
            "name": what,
            "payload": payload,
            "payload_base64": STANDARD.encode(payload),
            "signature_base64": STANDARD.encode(&signature),
            "token": format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature)),
        })
    });
    let file = json!({
        "algorithm": name,
        "jwk": signer.jwk,
        "protected_header": header,
        "vectors": vectors,
    });
    let mut text = serde_json::to_string_pretty(&file).unwrap();
    text.push('\n');
    text
}

#[test]
fn generated_test_vectors_for_other_languages() {
    #[expect(clippy::disallowed_methods, reason = "`make docs` asks through the environment")]
    let bless = std::env::var_os("MINTWARDEN_BLESS").is_some();
    for (name, algorithm) in ALGORITHMS {
        let old = checked_in(name).unwrap_or_default();
        let text = generate(name, algorithm, &serde_json::from_str(&old).unwrap_or_default());
        if bless {
            fs::write(directory().join(format!("{name}.json")), text).unwrap();
        } else {
            assert!(
                old == text,
                "{name}.json is not what the generator makes; `make docs` writes it"
            );
        }
    }
}

#[test]
fn tokens_are_assembled_as_the_vectors_say_and_verify() {
    for (name, algorithm) in ALGORITHMS {
        let file: Value = serde_json::from_str(&checked_in(name).unwrap()).unwrap();
        let jwk: Jwk = serde_json::from_value(file["jwk"].clone()).unwrap();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let header = file["protected_header"].as_str().unwrap();
        assert_eq!(file["vectors"].as_array().unwrap().len(), PAYLOADS.len());
        for vector in file["vectors"].as_array().unwrap() {
            let bytes = |member: &str| STANDARD.decode(vector[member].as_str().unwrap()).unwrap();
            let token =
                Token::assemble(header, &bytes("payload_base64"), &bytes("signature_base64"));
            assert_eq!(token.as_str(), vector["token"], "{name}: {}", vector["name"]);
            let (message, signature) = token.rsplit_once('.').unwrap();
            let valid = crypto::verify(signature, message.as_bytes(), &key, algorithm);
            assert!(valid.is_ok_and(|valid| valid), "{name}: {}", vector["name"]);
        }
    }
}
