use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaPssSaltLength},
};

use super::*;

/// The key of RFC 7515 appendix A.3; its thumbprint is computed by an independent library
/// (jwcrypto 1.5.6: `JWK.thumbprint()`).
const RFC7515_A3: &str = r#"{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

/// The key and the thumbprint of RFC 7638 section 3.1.
const RFC7638: &str = r#"{"kty":"RSA","alg":"RS256","e":"AQAB",
    "n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#;

/// The key and the thumbprint of RFC 8037 appendix A.2 and A.3.
const RFC8037: &str = r#"{"kty":"OKP","alg":"EdDSA","crv":"Ed25519",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn jwk(json: &str) -> PublicJwk {
    serde_json::from_str(json).expect("a published key parses")
}

#[test]
fn thumbprints_of_published_keys() {
    for (json, thumbprint) in [
        (RFC7515_A3, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"),
        (RFC7638, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        (RFC8037, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
    ] {
        assert_eq!(jwk(json).kid().as_str(), thumbprint);
    }
}

#[test]
fn verifies_the_rfc7515_a3_example_and_nothing_else() {
    let key = jwk(RFC7515_A3);
    let message = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let mut signature = URL_SAFE_NO_PAD
        .decode("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
        .expect("base64url");
    assert!(key.verifies(message.as_bytes(), &signature));
    assert!(!key.verifies(b"another message", &signature));
    signature[40] ^= 1;
    assert!(!key.verifies(message.as_bytes(), &signature));
}

#[test]
fn verifies_the_rfc8037_a4_example() {
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = URL_SAFE_NO_PAD
        .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
        .expect("base64url");
    let key = jwk(RFC8037);
    assert_eq!((key.signature_len(), signature.len()), (64, 64));
    assert!(key.verifies(message.as_bytes(), &signature));
    assert!(!key.verifies(b"another message", &signature));
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    key.as_der().expect("DER").as_ref().to_vec()
}

fn es384() -> (EcdsaKeyPair, PublicJwk) {
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let public = PublicJwk::from_sec1(pair.public_key().as_ref()).expect("a point");
    (pair, public)
}

fn rsa(algorithm: Algorithm) -> (RsaKeyPair, PublicJwk) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let public = PublicJwk::from_spki(algorithm, &spki(pair.public_key()));
    (pair, public.expect("an RSA key"))
}

#[test]
fn es384_signatures_verify() {
    let (pair, public) = es384();
    let signature = pair.sign(&SystemRandom::new(), b"message").expect("signed");
    assert_eq!((public.algorithm(), public.signature_len()), (Algorithm::ES384, 96));
    assert!(public.verifies(b"message", signature.as_ref()));
    assert!(!public.verifies(b"other", signature.as_ref()));
}

#[test]
fn an_rsa_key_verifies_the_scheme_of_its_algorithm_alone() {
    let sign = |pair: &RsaKeyPair, encoding: &'static signature::RsaSignatureEncoding| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), b"message", &mut signature).expect("signed");
        signature
    };
    let (pair, ps256) = rsa(Algorithm::PS256);
    let rs256 = PublicJwk::from_spki(Algorithm::RS256, &spki(pair.public_key()));
    let rs256 = rs256.expect("the same key");
    let pkcs1 = sign(&pair, &signature::RSA_PKCS1_SHA256);
    let pss = sign(&pair, &signature::RSA_PSS_SHA256);
    assert_eq!((ps256.signature_len(), rs256.signature_len()), (256, 256));
    assert!(rs256.verifies(b"message", &pkcs1) && !rs256.verifies(b"message", &pss));
    assert!(ps256.verifies(b"message", &pss) && !ps256.verifies(b"message", &pkcs1));
    // RFC 7518 section 3.5: the salt is as long as the digest.
    for salt in [
        sign(
            &pair,
            &const { signature::RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20)) },
        ),
        sign(
            &pair,
            &const { signature::RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0)) },
        ),
        sign(&pair, &signature::RSA_PSS_SHA384),
    ] {
        assert!(!ps256.verifies(b"message", &salt));
    }
    assert_eq!(ps256.kid(), rs256.kid(), "the thumbprint is of the key alone");
    assert_ne!(ps256, rs256);
}

#[test]
fn keys_are_written_with_their_algorithm_and_read_back() {
    let ed25519 = Ed25519KeyPair::generate().expect("a key");
    let ed25519 = PublicJwk::from_ed25519(Algorithm::Ed25519, ed25519.public_key().as_ref());
    for key in [
        jwk(RFC7515_A3),
        es384().1,
        rsa(Algorithm::PS256).1,
        jwk(RFC7638),
        ed25519.expect("a key"),
        jwk(RFC8037),
    ] {
        let json = serde_json::to_value(&key).expect("JSON");
        assert_eq!(json["alg"], key.algorithm().as_str());
        assert_eq!(serde_json::from_value::<PublicJwk>(json).expect("read back"), key);
        let published = key.to_published();
        assert_eq!(
            (&published["kid"], &published["use"]),
            (&key.kid().as_str().into(), &"sig".into())
        );
    }
    let without = jwk(RFC7515_A3);
    assert_eq!(without.algorithm(), Algorithm::ES256, "a curve leaves one algorithm");
}

#[test]
fn a_jwk_that_does_not_fit_its_algorithm_is_refused() {
    let with = |json: &str, from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        json.replacen(from, to, 1)
    };
    for bad in [
        with(RFC7515_A3, r#""kty":"EC""#, r#""kty":"EC","alg":"ES384""#),
        with(RFC7515_A3, r#""kty":"EC""#, r#""kty":"EC","alg":"RS256""#),
        with(RFC7515_A3, "P-256", "P-384"),
        with(RFC7515_A3, "P-256", "secp256k1"),
        with(RFC7515_A3, r#""kty":"EC""#, r#""kty":"EC","d":"AA""#),
        with(RFC7638, "RS256", "ES256"),
        with(RFC7638, "RS256", "RS512"),
        with(RFC7638, r#""alg":"RS256","#, ""),
        with(RFC7638, "AQAB", "Aw"),
        with(RFC7638, "0vx7", "0vx7AAAA"),
        with(RFC8037, "EdDSA", "ES256"),
        with(RFC8037, r#""crv":"Ed25519""#, r#""crv":"X25519""#),
        with(RFC8037, r#""alg":"EdDSA","#, ""),
    ] {
        assert!(serde_json::from_str::<PublicJwk>(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_point_off_its_curve_is_refused() {
    for point in [&[4; 65][..], &[4; 97], &[2; 49], &[0], &[]] {
        assert_eq!(PublicJwk::from_sec1(point), Err(KeyError::NotOnCurve));
    }
}

#[test]
fn rsa_keys_of_other_shapes_are_refused() {
    let good = {
        let mut modulus = vec![0xff; 256];
        modulus[0] = 0x80;
        modulus
    };
    let refused = |modulus: &[u8], exponent: &[u8]| {
        PublicJwk::from_rsa(Algorithm::RS256, modulus, exponent).expect_err("refused").to_string()
    };
    // Leading zeros are an encoding, not a size.
    let padded = [&[0, 0], &good[..]].concat();
    let key = PublicJwk::from_rsa(Algorithm::RS256, &padded, &[0, 1, 0, 1]).expect("good");
    assert_eq!(key.rsa_bits(), Some(RsaBits::B2048));
    let mut short = good.clone();
    short[0] = 0x7f;
    let mut even = good.clone();
    even[255] = 0xfe;
    assert!(refused(&short, &[1, 0, 1]).contains("2047 bits"));
    assert!(refused(&good[..128], &[1, 0, 1]).contains("1024 bits"));
    assert!(refused(&[0x80; 640], &[1, 0, 1]).contains("5120 bits"));
    assert!(refused(&[], &[1, 0, 1]).contains("0 bits"));
    assert!(refused(&even, &[1, 0, 1]).contains("even"));
    for exponent in [&[3][..], &[1, 0, 0], &[1], &[], &[1, 0, 1, 0]] {
        assert!(refused(&good, exponent).contains("65537"), "{exponent:?}");
    }
}

#[test]
fn ed25519_points_that_make_forgeries_possible_are_refused() {
    let refused = |point: &[u8]| match PublicJwk::from_ed25519(Algorithm::Ed25519, point) {
        Err(KeyError::NotEd25519(why)) => why,
        other => panic!("{point:?}: {other:?}"),
    };
    let neutral = {
        let mut p = [0; 32];
        p[0] = 1;
        p
    };
    assert!(refused(&neutral).contains("prime-order"));
    assert!(refused(&[0; 32]).contains("prime-order"), "of order four");
    // y = p + 1: the neutral element once more, in another encoding.
    let mut high = [0xff; 32];
    (high[0], high[31]) = (0xee, 0x7f);
    assert!(refused(&high).contains("canonical"));
    let mut off = [0; 32];
    off[0] = 2;
    assert!(refused(&off).contains("not a point"));
    assert!(refused(&[1; 31]).contains("32 bytes"));
}

#[test]
fn a_subject_public_key_info_is_read_for_the_algorithm_that_fits() {
    let (ec, public) = es384();
    let ec = spki(ec.public_key());
    assert_eq!(PublicJwk::from_spki(Algorithm::ES384, &ec), Ok(public));
    let ed25519 = Ed25519KeyPair::generate().expect("a key");
    let public = PublicJwk::from_ed25519(Algorithm::EdDSA, ed25519.public_key().as_ref());
    let ed25519 = spki(ed25519.public_key());
    assert_eq!(PublicJwk::from_spki(Algorithm::EdDSA, &ed25519), public);
    for (algorithm, der) in [
        (Algorithm::ES256, &ec),
        (Algorithm::RS256, &ec),
        (Algorithm::ES256, &ed25519),
        (Algorithm::PS256, &ed25519),
    ] {
        let error = PublicJwk::from_spki(algorithm, der).expect_err("another type");
        assert!(matches!(error, KeyError::WrongType { .. }), "{algorithm}: {error}");
    }
    let cut = &ec[..ec.len() - 1];
    assert_eq!(PublicJwk::from_spki(Algorithm::ES384, cut), Err(KeyError::Encoding));
}
