//! Tokens that are believed and tokens that are not, made with keys of the test's own.

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair that signs as a JWK says.
enum Signer {
    Ecdsa(EcdsaKeyPair, usize),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

impl Signer {
    fn es256() -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), 32)
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Ecdsa(pair, width) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(*width);
                let crv = if *width == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": crv, "kid": kid, "x": encode(x), "y": encode(y) })
            }
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(pair.public_key()) })
            }
            Self::Rsa(pair, _) => {
                let key = pair.public_key();
                let n = encode(key.modulus().big_endian_without_leading_zero());
                let e = encode(key.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "kid": kid, "n": n, "e": e })
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair, padding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.sign(input.as_bytes());
        format!("{input}.{}", encode(signature))
    }
}

fn jwks(keys: impl IntoIterator<Item = Value>) -> Jwks {
    Jwks::parse(json!({ "keys": keys.into_iter().collect::<Vec<_>>() }).to_string().as_bytes())
        .unwrap()
}

fn header() -> Value {
    json!({ "typ": "txntoken+jwt", "alg": "ES256", "kid": "k" })
}

fn claims() -> Value {
    json!({
        "iat": NOW - 10, "exp": NOW + 60, "aud": "trust-domain.example", "txn": "t-1", "sub": "ada",
        "scope": "trade.stocks trade.read", "req_wl": "spiffe://trust-domain.example/gateway",
        "tctx": { "amount": 5 },
    })
}

fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    object[name] = value.into();
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

/// A verifier that knows one ES256 key, and that key.
fn es256() -> (Verifier, Signer) {
    let signer = Signer::es256();
    let keys = jwks([signer.jwk("k")]);
    (Verifier::txn_token("trust-domain.example").build_with_fixed_keys(keys), signer)
}

fn reason(verifier: &Verifier, token: &str) -> &'static str {
    verifier.verify_at(token, NOW).unwrap_err().reason()
}

#[test]
fn a_good_token_tells_what_it_says() {
    let (verifier, signer) = es256();
    let claims = with(
        with(claims(), "act", json!({ "sub": "agent-b", "act": { "sub": "agent-a" } })),
        "req_wl_chain",
        json!(["spiffe://trust-domain.example/edge"]),
    );
    let token = verifier.verify_at(&signer.token(&header(), &claims), NOW).unwrap();
    assert_eq!(token.kid(), "k");
    assert_eq!(token.expires_at(), NOW + 60);
    assert_eq!(token.text("sub").unwrap(), "ada");
    assert_eq!(token.scopes().collect::<Vec<_>>(), ["trade.stocks", "trade.read"]);
    assert_eq!(token.transaction_context().unwrap()["amount"], 5);
    assert_eq!(token.actors().collect::<Vec<_>>(), ["agent-b", "agent-a"]);
    token.require_scope("trade.read").unwrap();
    token.require_hop("spiffe://trust-domain.example/edge").unwrap();
    token.require_hop("spiffe://trust-domain.example/gateway").unwrap();
    token.require_actor(Some("agent-b")).unwrap();
    assert_eq!(token.require_scope("trade").unwrap_err().reason(), "SCOPE_MISSING");
    assert_eq!(token.require_hop("edge").unwrap_err().reason(), "HOP_MISSING");
    // An earlier actor is history: it has no say.
    assert_eq!(token.require_actor(Some("agent-a")).unwrap_err().reason(), "ACTOR_MISMATCH");
    assert_eq!(token.require_actor(None).unwrap_err().reason(), "ACTOR_MISMATCH");
}

#[test]
fn every_algorithm_verifies_and_only_where_policy_and_jwk_allow_it() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let all = [
        (Algorithm::Es256, Signer::es256()),
        (Algorithm::Es384, Signer::Ecdsa(p384, 48)),
        (Algorithm::Ed25519, Signer::Ed25519(Ed25519KeyPair::generate().unwrap())),
        (Algorithm::Ps256, Signer::Rsa(rsa(), &RSA_PSS_SHA256)),
        (Algorithm::Rs256, Signer::Rsa(rsa(), &RSA_PKCS1_SHA256)),
    ];
    for (algorithm, signer) in all {
        let header = with(header(), "alg", algorithm.as_str());
        let token = signer.token(&header, &claims());
        let verifier = |keys, allowed: &[Algorithm]| {
            let builder = Verifier::txn_token("trust-domain.example");
            builder.algorithms(allowed.iter().copied()).build_with_fixed_keys(keys)
        };
        let named = with(signer.jwk("k"), "alg", algorithm.as_str());
        for jwk in [signer.jwk("k"), named] {
            verifier(jwks([jwk]), &[algorithm]).verify_at(&token, NOW).unwrap();
        }
        // Allowed by the key, not by the policy.
        let others = [Algorithm::Es256, Algorithm::Rs256]
            .map(|other| if other == algorithm { Algorithm::Ed25519 } else { other });
        let others: Vec<_> = others.into_iter().filter(|other| *other != algorithm).collect();
        let refused = reason(&verifier(jwks([signer.jwk("k")]), &others), &token);
        assert_eq!(refused, "ALGORITHM_NOT_ALLOWED", "{algorithm}");
    }
}

#[test]
fn an_rsa_key_for_one_padding_does_not_verify_the_other() {
    let signer = Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), &RSA_PKCS1_SHA256);
    let token = signer.token(&with(header(), "alg", "RS256"), &claims());
    let only_pss = jwks([with(signer.jwk("k"), "alg", "PS256")]);
    let verifier = Verifier::txn_token("trust-domain.example")
        .algorithms([Algorithm::Ps256, Algorithm::Rs256])
        .build_with_fixed_keys(only_pss);
    assert_eq!(reason(&verifier, &token), "ALGORITHM_NOT_ALLOWED");
}

#[test]
fn i12_the_header_decides_nothing() {
    let (verifier, signer) = es256();
    for (name, value, expected) in [
        ("typ", json!("JWT"), "WRONG_TYPE"),
        ("typ", json!("TXNTOKEN+JWT"), "WRONG_TYPE"),
        ("typ", json!("at+jwt"), "WRONG_TYPE"),
        ("typ", json!(7), "TOKEN_MALFORMED"),
        ("alg", json!("none"), "ALGORITHM_NOT_ALLOWED"),
        ("alg", json!("HS256"), "ALGORITHM_NOT_ALLOWED"),
        ("alg", json!("ES384"), "ALGORITHM_NOT_ALLOWED"),
        ("alg", json!("es256"), "ALGORITHM_NOT_ALLOWED"),
        ("alg", json!(["ES256"]), "TOKEN_MALFORMED"),
        ("kid", json!("another"), "UNKNOWN_KEY"),
        ("kid", json!(null), "TOKEN_MALFORMED"),
        ("crit", json!(["exp"]), "TOKEN_MALFORMED"),
    ] {
        let token = signer.token(&with(header(), name, value.clone()), &claims());
        assert_eq!(reason(&verifier, &token), expected, "{name} {value}");
    }
    for (name, expected) in
        [("typ", "WRONG_TYPE"), ("alg", "TOKEN_MALFORMED"), ("kid", "UNKNOWN_KEY")]
    {
        let token = signer.token(&without(header(), name), &claims());
        assert_eq!(reason(&verifier, &token), expected, "no {name}");
    }
    // A key that comes along is no key.
    let attacker = Signer::es256();
    let header = with(with(header(), "jwk", attacker.jwk("k")), "jku", "https://attacker.example/");
    assert_eq!(reason(&verifier, &attacker.token(&header, &claims())), "SIGNATURE_INVALID");
}

#[test]
fn unsigned_and_symmetric_tokens_are_refused() {
    let (verifier, signer) = es256();
    let input = |alg: &str| {
        let header = with(header(), "alg", alg);
        format!("{}.{}", encode(header.to_string()), encode(claims().to_string()))
    };
    assert_eq!(reason(&verifier, &format!("{}.", input("none"))), "ALGORITHM_NOT_ALLOWED");
    assert_eq!(reason(&verifier, &format!("{}.", input("ES256"))), "SIGNATURE_INVALID");
    // HMAC with the public key, as bytes and as the JWK's text.
    let public = signer.jwk("k").to_string();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    for alg in ["HS256", "ES256"] {
        let input = input(alg);
        let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
        verifier.verify_at(&format!("{input}.{}", encode(tag)), NOW).unwrap_err();
    }
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    let (verifier, signer) = es256();
    let token = signer.token(&header(), &claims());
    verifier.verify_at(&token, NOW).unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let richer = encode(with(claims(), "sub", "eve").to_string());
    assert_eq!(
        reason(&verifier, &format!("{}.{richer}.{}", parts[0], parts[2])),
        "SIGNATURE_INVALID"
    );
    // The same signature in DER, with padding, cut, or twice.
    let raw = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    for signature in [encode(&raw[..63]), encode([&raw[..], &raw[..]].concat()), encode([0; 64])] {
        let token = format!("{}.{}.{signature}", parts[0], parts[1]);
        assert_eq!(reason(&verifier, &token), "SIGNATURE_INVALID");
    }
}

#[test]
fn what_is_no_compact_jws_is_malformed() {
    let (verifier, signer) = es256();
    let token = signer.token(&header(), &claims());
    let long = format!("{token}{}", "A".repeat(128 * 1024));
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        &format!("{token}=="),
        &format!(" {token}"),
        &format!("{token}\n"),
        &format!("{token}.x"),
        &token.replace('.', ".."),
        &long,
        &format!("{}.{}.", encode("[]"), encode("{}")),
        &format!("{}.{}.", encode(r#"{"alg":"none","alg":"ES256"}"#), encode("{}")),
    ] {
        assert_eq!(reason(&verifier, text), "TOKEN_MALFORMED", "{text:.80}");
    }
    // A payload that two readers would read differently is refused although it is signed.
    let input =
        format!("{}.{}", encode(header().to_string()), encode(r#"{"exp":1,"exp":1900000000}"#));
    let token = format!("{input}.{}", encode(signer.sign(input.as_bytes())));
    assert_eq!(reason(&verifier, &token), "TOKEN_MALFORMED");
}

#[test]
fn claims_are_held_against_the_policy() {
    let signer = Signer::es256();
    let verifier = Verifier::txn_token("trust-domain.example")
        .issuer("https://tts.example")
        .leeway(Duration::from_secs(5))
        .build_with_fixed_keys(jwks([signer.jwk("k")]));
    let good = with(claims(), "iss", "https://tts.example");
    let check = |claims: &Value| verifier.verify_at(&signer.token(&header(), claims), NOW);
    check(&good).unwrap();
    for (name, value) in [
        ("exp", json!(NOW - 4)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("iat", json!(NOW + 5)),
        ("nbf", json!(NOW + 5)),
        ("aud", json!(["other.example", "trust-domain.example"])),
    ] {
        check(&with(good.clone(), name, value.clone()))
            .unwrap_or_else(|e| panic!("{name} {value}: {e}"));
    }
    for (name, value, expected) in [
        ("exp", json!(NOW - 5), "EXPIRED"),
        ("exp", json!("later"), "CLAIM_MALFORMED"),
        ("exp", json!(-1), "CLAIM_MALFORMED"),
        ("exp", json!(1e300), "CLAIM_MALFORMED"),
        ("iat", json!(NOW + 6), "NOT_YET_VALID"),
        ("nbf", json!(NOW + 6), "NOT_YET_VALID"),
        ("nbf", json!([NOW]), "CLAIM_MALFORMED"),
        ("aud", json!("other.example"), "WRONG_AUDIENCE"),
        ("aud", json!("trust-domain.example.attacker"), "WRONG_AUDIENCE"),
        ("aud", json!([["trust-domain.example"]]), "WRONG_AUDIENCE"),
        ("iss", json!("https://tts.example/"), "WRONG_ISSUER"),
        ("iss", json!(["https://tts.example"]), "WRONG_ISSUER"),
        ("txn", json!(""), "CLAIM_MALFORMED"),
        ("sub", json!(7), "CLAIM_MALFORMED"),
    ] {
        let refused = check(&with(good.clone(), name, value.clone())).unwrap_err();
        assert_eq!(refused.reason(), expected, "{name} {value}");
    }
    for (name, expected) in [
        ("exp", "CLAIM_MISSING"),
        ("aud", "WRONG_AUDIENCE"),
        ("iss", "WRONG_ISSUER"),
        ("txn", "CLAIM_MISSING"),
        ("sub", "CLAIM_MISSING"),
        ("scope", "CLAIM_MISSING"),
        ("req_wl", "CLAIM_MISSING"),
    ] {
        let refused = check(&without(good.clone(), name)).unwrap_err();
        assert_eq!(refused.reason(), expected, "no {name}");
    }
}

#[test]
fn a_set_leaves_out_what_cannot_verify() {
    let key = Signer::es256().jwk("k");
    let other = with(Signer::es256().jwk("x"), "kid", "x");
    for left_out in [
        with(other.clone(), "use", "enc"),
        with(other.clone(), "key_ops", json!(["sign"])),
        with(other.clone(), "alg", "HS256"),
        with(other.clone(), "alg", "ES384"),
        with(other.clone(), "crv", "secp256k1"),
        with(other.clone(), "y", other["x"].clone()),
        with(other.clone(), "x", "AAAA"),
        with(other.clone(), "d", "AAAA"),
        with(other.clone(), "kid", 7),
        with(other.clone(), "kid", ""),
        without(other.clone(), "kid"),
        json!({ "kty": "oct", "kid": "x", "k": "c2VjcmV0" }),
        json!({ "kty": "RSA", "kid": "x", "n": encode([0x81; 128]), "e": "AQAB" }),
    ] {
        let set = jwks([key.clone(), left_out.clone()]);
        assert_eq!((set.kids().collect::<Vec<_>>(), set.left_out()), (vec!["k"], 1), "{left_out}");
    }
    assert_eq!(jwks([key, with(other, "use", "sig")]).left_out(), 0);
}

#[test]
fn what_is_no_set_is_refused_as_a_whole() {
    let key = Signer::es256().jwk("k");
    let many: Vec<_> = (0..257).map(|_| json!({})).collect();
    for (text, part) in [
        ("[]".to_owned(), "no object"),
        ("{}".to_owned(), "`keys`"),
        (json!({ "keys": {} }).to_string(), "`keys`"),
        (json!({ "keys": [1] }).to_string(), "`keys`"),
        (json!({ "keys": many }).to_string(), "257 keys"),
        (json!({ "keys": [key.clone(), key] }).to_string(), "two keys have the kid"),
    ] {
        let error = Jwks::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(Jwks::parse(b"{\"keys\":[]}").unwrap().kids().count(), 0);
}

#[test]
fn messages_are_short_and_escaped_whatever_the_token_says() {
    let (verifier, signer) = es256();
    let long = "\u{1b}[31m".repeat(1000);
    for name in ["typ", "alg", "kid"] {
        let token = signer.token(&with(header(), name, long.clone()), &claims());
        let message = verifier.verify_at(&token, NOW).unwrap_err().to_string();
        assert!(message.len() < 1000 && !message.contains('\u{1b}'), "{message}");
    }
}
