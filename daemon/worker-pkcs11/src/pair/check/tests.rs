//! Pairs as modules show them: what SoftHSM2 cannot be made to show is written down as attributes.

use mintwarden_hsm_config::quirks::{Ed25519Params, QuirksEntry};

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// The generator of P-256 (SEC 2 section 2.4.2), uncompressed.
fn p256() -> Vec<u8> {
    bytes(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
         4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    )
}

/// The generator of P-384 (SEC 2 section 2.5.1), uncompressed.
fn p384() -> Vec<u8> {
    bytes(
        "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7\
         3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
    )
}

/// The public key of RFC 8032 section 7.1, test 1.
fn ed25519() -> Vec<u8> {
    bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
}

fn rsa(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xa5; bits / 8];
    modulus[bits / 8 - 1] |= 1;
    modulus
}

fn wrapped(tag: u8, point: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(point.len()).expect("short")], point].concat()
}

fn label(label: &str) -> Attribute {
    Attribute::Label(label.as_bytes().to_vec())
}

/// What a device shows of a good private half.
fn private(algorithm: Algorithm) -> Vec<Attribute> {
    let mut attributes = vec![label(&format!("mintwarden/payments/{algorithm}"))];
    attributes.extend(wanted_private(Some(algorithm)).into_iter().map(|(_, wanted)| wanted));
    attributes
}

/// What a device shows of a good public half.
fn public(algorithm: Algorithm) -> Vec<Attribute> {
    let mut attributes = vec![label(&format!("mintwarden/payments/{algorithm}"))];
    attributes.extend(wanted_public(Some(algorithm)).into_iter().map(|(_, wanted)| wanted));
    attributes.extend(material(algorithm));
    attributes
}

fn material(algorithm: Algorithm) -> Vec<Attribute> {
    match algorithm {
        Algorithm::ES256 => vec![Attribute::EcPoint(wrapped(4, &p256()))],
        Algorithm::ES384 => vec![Attribute::EcPoint(wrapped(4, &p384()))],
        Algorithm::PS256 | Algorithm::RS256 => {
            vec![Attribute::Modulus(rsa(3072)), Attribute::PublicExponent(vec![1, 0, 1])]
        }
        _ => vec![Attribute::EcPoint(wrapped(4, &ed25519()))],
    }
}

const ES256: Algorithm = Algorithm::ES256;

fn examined_with(quirks: &str, private: &[Vec<Attribute>], public: &[Vec<Attribute>]) -> DeviceKey {
    let quirks: QuirksEntry = toml::from_str(quirks).expect(quirks);
    let objects = |all: &[Vec<Attribute>]| all.iter().cloned().map(Object::new).collect::<Vec<_>>();
    let handle = KeyHandle::new(vec![7; 16]);
    let quirks = quirks.over(QuirksEntry::default());
    examine(&handle, &objects(private), &objects(public), &quirks)
}

fn examined(private: &[Vec<Attribute>], public: &[Vec<Attribute>]) -> DeviceKey {
    examined_with("", private, public)
}

/// `attributes` with the one of the same type replaced.
fn with(attributes: Vec<Attribute>, other: Attribute) -> Vec<Attribute> {
    let mut attributes = without(attributes, other.attribute_type());
    attributes.push(other);
    attributes
}

fn without(mut attributes: Vec<Attribute>, lacking: AttributeType) -> Vec<Attribute> {
    attributes.retain(|attribute| attribute.attribute_type() != lacking);
    attributes
}

#[test]
fn a_good_pair_of_each_algorithm_has_no_defects() {
    for algorithm in Algorithm::ALL {
        let key = examined(&[private(algorithm)], &[public(algorithm)]);
        assert_eq!((&key.defects, &key.unproven), (&vec![], &vec![]), "{algorithm}");
        assert_eq!(key.issuer.map(|issuer| issuer.to_string()).as_deref(), Some("payments"));
        let public = key.public.expect("a public key");
        assert_eq!(public.algorithm(), algorithm);
    }
}

#[test]
fn i1_each_wrong_attribute_of_the_private_half_is_a_defect() {
    let p384 = Curve::of(Algorithm::ES384.key_type()).expect("a curve").params(Ed25519Params::Oid);
    for (wrong, expected) in [
        (Attribute::Token(false), "CKA_TOKEN is false"),
        (Attribute::Private(false), "CKA_PRIVATE is false"),
        (Attribute::Sensitive(false), "CKA_SENSITIVE is false"),
        (Attribute::AlwaysSensitive(false), "CKA_ALWAYS_SENSITIVE is false"),
        (Attribute::Extractable(true), "CKA_EXTRACTABLE is true"),
        (Attribute::NeverExtractable(false), "CKA_NEVER_EXTRACTABLE is false"),
        (Attribute::Local(false), "CKA_LOCAL is false"),
        (Attribute::Sign(false), "CKA_SIGN is false"),
        (Attribute::KeyType(KeyType::RSA), "CKA_KEY_TYPE is CKK_RSA"),
        (Attribute::EcParams(p384), "CKA_EC_PARAMS is not P-256"),
    ] {
        // A quirk excuses what is not shown, never what is shown and wrong.
        let quirks = "not_shown = ['CKA_LOCAL', 'CKA_NEVER_EXTRACTABLE', 'CKA_ALWAYS_SENSITIVE',
                      'CKA_PRIVATE', 'CKA_TOKEN', 'CKA_SIGN']";
        for quirks in ["", quirks] {
            let key =
                examined_with(quirks, &[with(private(ES256), wrong.clone())], &[public(ES256)]);
            assert_eq!(key.defects, [format!("private half: {expected}")]);
        }
    }
}

#[test]
fn i1_an_attribute_that_is_not_shown_is_a_defect() {
    for algorithm in Algorithm::ALL {
        for lacking in private(algorithm).iter().map(Attribute::attribute_type) {
            let key = examined(&[without(private(algorithm), lacking)], &[public(algorithm)]);
            assert_eq!(key.defects.len(), 1, "{lacking:?}: {:?}", key.defects);
        }
        for lacking in public(algorithm).iter().map(Attribute::attribute_type) {
            let key = examined(&[private(algorithm)], &[without(public(algorithm), lacking)]);
            assert_eq!(key.defects.len(), 1, "{lacking:?}: {:?}", key.defects);
        }
    }
}

#[test]
fn i1_what_a_quirk_excuses_is_told_as_unproven() {
    let quirks = "not_shown = ['CKA_NEVER_EXTRACTABLE', 'CKA_LOCAL']";
    let silent = without(private(ES256), AttributeType::NeverExtractable);
    let key = examined_with(quirks, std::slice::from_ref(&silent), &[public(ES256)]);
    assert_eq!(key.defects, Vec::<String>::new());
    assert_eq!(key.unproven, ["private half: CKA_NEVER_EXTRACTABLE is not shown by the device"]);
    let silent = without(silent, AttributeType::Sensitive);
    let key = examined_with(quirks, &[silent], &[public(ES256)]);
    assert_eq!(key.defects, ["private half: CKA_SENSITIVE is not shown by the device"]);
}

#[test]
fn i1_a_local_flag_that_says_nothing_is_told_as_unproven() {
    let foreign = with(private(ES256), Attribute::Local(false));
    let key = examined_with("local_flag = false", &[foreign], &[public(ES256)]);
    assert_eq!(key.defects, Vec::<String>::new());
    assert_eq!(key.unproven, ["private half: CKA_LOCAL says nothing on this device"]);
}

#[test]
fn a_key_that_asks_for_the_pin_each_time_is_of_no_use() {
    let always = with(private(ES256), Attribute::AlwaysAuthenticate(true));
    let key = examined(&[always], &[public(ES256)]);
    assert!(key.defects[0].contains("CKA_ALWAYS_AUTHENTICATE"), "{:?}", key.defects);
    let never = with(private(ES256), Attribute::AlwaysAuthenticate(false));
    assert_eq!(examined(&[never], &[public(ES256)]).defects, Vec::<String>::new());
}

#[test]
fn half_a_pair_and_twins_are_defects() {
    let key = examined(&[], &[public(ES256)]);
    assert_eq!(key.defects, ["the private half is missing"]);
    let key = examined(&[private(ES256)], &[]);
    assert_eq!(key.defects, ["the public half is missing"]);
    assert_eq!(key.public, None);
    let key = examined(&[private(ES256), private(ES256)], &[public(ES256)]);
    assert_eq!(key.defects, ["2 private key objects have this CKA_ID"]);
    let key = examined(&[private(ES256)], &[public(ES256), public(ES256)]);
    assert_eq!(key.defects, ["2 public key objects have this CKA_ID"]);
    assert_eq!(key.public, None, "which of them is not known");
}

#[test]
fn where_there_are_no_public_key_objects_the_private_one_shows_the_key() {
    let quirk = "public_objects = false";
    for algorithm in Algorithm::ALL {
        let showing = [private(algorithm), material(algorithm)].concat();
        let key = examined_with(quirk, std::slice::from_ref(&showing), &[]);
        assert_eq!(key.defects, Vec::<String>::new(), "{algorithm}");
        assert_eq!(key.public.expect("a public key").algorithm(), algorithm);
        let key = examined_with(quirk, &[showing], &[public(algorithm)]);
        assert_eq!(key.defects, Vec::<String>::new(), "one that is there all the same is taken");
    }
    let key = examined_with(quirk, &[private(ES256)], &[]);
    assert_eq!(key.defects, ["private half: CKA_EC_POINT is not shown by the device"]);
}

#[test]
fn i3_labels_have_to_name_one_issuer_and_algorithm() {
    for other in ["mintwarden/other/ES256", "mintwarden/payments/ES384"] {
        let key = examined(&[private(ES256)], &[with(public(ES256), label(other))]);
        let expected =
            "the halves' labels (CKA_LABEL) name different issuers or algorithms".to_owned();
        assert!(key.defects.contains(&expected), "{:?}", key.defects);
    }
    let old = label("mintwarden/payments");
    let key = examined(&[with(private(ES256), old.clone())], &[with(public(ES256), old)]);
    assert_eq!(key.defects, Vec::<String>::new(), "from before there were other algorithms");
    for bad in ["payments", "mintwarden/", "mintwarden/A", "mintwarden/a/b", "xmintwarden/a"] {
        let key = examined(&[with(private(ES256), label(bad))], &[public(ES256)]);
        assert_eq!(key.defects, ["private half: CKA_LABEL names no issuer and algorithm"], "{bad}");
    }
}

#[test]
fn a_label_cannot_make_a_key_another_one() {
    for (is, says) in [
        (Algorithm::ES256, Algorithm::ES384),
        (Algorithm::ES256, Algorithm::RS256),
        (Algorithm::RS256, Algorithm::ES256),
        (Algorithm::Ed25519, Algorithm::ES256),
        (Algorithm::ES384, Algorithm::Ed25519),
    ] {
        let lie = label(&format!("mintwarden/payments/{says}"));
        let key = examined(&[with(private(is), lie.clone())], &[with(public(is), lie)]);
        assert!(!key.defects.is_empty(), "{is} as {says}");
        assert_eq!(key.public, None, "{is} as {says}");
    }
}

fn shown_as(algorithm: Algorithm, material: Attribute) -> DeviceKey {
    examined(&[private(algorithm)], &[with(public(algorithm), material)])
}

#[test]
fn points_are_taken_wrapped_and_bare_and_have_to_be_on_the_curve() {
    for (algorithm, point) in [(ES256, p256()), (Algorithm::ES384, p384())] {
        let good = examined(&[private(algorithm)], &[public(algorithm)]).public;
        let sign = 2 + (point[point.len() - 1] & 1);
        let compressed = [&[sign], &point[1..=point.len() / 2]].concat();
        for shown in [point.clone(), wrapped(4, &compressed), compressed] {
            assert_eq!(shown_as(algorithm, Attribute::EcPoint(shown)).public, good);
        }
        let mut off = point.clone();
        let last = off.len() - 1;
        off[last] ^= 1;
        let cut = point[..last].to_vec();
        for bad in [wrapped(4, &off), off, vec![], vec![0], wrapped(4, &[0]), cut, ed25519()] {
            let key = shown_as(algorithm, Attribute::EcPoint(bad));
            assert_eq!(key.public, None);
            let defect = &key.defects[0];
            assert!(defect.starts_with("public half: CKA_EC_POINT is not"), "{defect}");
        }
    }
    let other = shown_as(ES256, Attribute::EcPoint(wrapped(4, &p384())));
    assert_eq!((other.public, other.defects.len()), (None, 1), "a point of another curve");
}

#[test]
fn ed25519_points_come_in_three_encodings() {
    let algorithm = Algorithm::EdDSA;
    let good = examined(&[private(algorithm)], &[public(algorithm)]).public;
    let bit_string = wrapped(3, &[&[0], &ed25519()[..]].concat());
    for shown in [ed25519(), wrapped(4, &ed25519()), bit_string] {
        assert_eq!(shown_as(algorithm, Attribute::EcPoint(shown)).public, good);
    }
    let mut high = ed25519();
    high[31] = 0xff;
    for bad in [vec![], vec![0; 32], wrapped(4, &[0; 32]), wrapped(4, &p256()), high] {
        let key = shown_as(algorithm, Attribute::EcPoint(bad));
        assert_eq!(key.public, None);
        assert!(key.defects[0].contains("CKA_EC_POINT is not"), "{:?}", key.defects);
    }
}

#[test]
fn curves_are_taken_by_object_identifier_and_by_name() {
    let name = |name: &str| Attribute::EcParams(wrapped(0x13, name.as_bytes()));
    for (algorithm, shown) in [
        (ES256, name("secp256r1")),
        (Algorithm::ES384, name("secp384r1")),
        (Algorithm::Ed25519, name("edwards25519")),
    ] {
        let named = |half: Vec<Attribute>| with(half, shown.clone());
        let key = examined(&[named(private(algorithm))], &[named(public(algorithm))]);
        assert_eq!(key.defects, Vec::<String>::new(), "{algorithm}");
    }
    let key = examined(&[with(private(ES256), name("secp256k1"))], &[public(ES256)]);
    assert_eq!(key.defects, ["private half: CKA_EC_PARAMS is not P-256"]);
}

#[test]
fn rsa_numbers_have_the_size_and_the_exponent_that_are_allowed() {
    let algorithm = Algorithm::PS256;
    let padded = [&[0], &rsa(2048)[..]].concat();
    let key =
        shown_as(algorithm, Attribute::Modulus(padded)).public.expect("leading zeros are none");
    assert_eq!(key.signature_len(), 256);
    for bad in [
        Attribute::Modulus(rsa(1024)),
        Attribute::Modulus(vec![]),
        Attribute::Modulus(vec![0xfe; 256]),
        Attribute::PublicExponent(vec![3]),
    ] {
        let key = shown_as(algorithm, bad);
        assert_eq!(key.public, None);
        assert!(key.defects[0].contains("CKA_MODULUS is not a usable"), "{:?}", key.defects);
    }
}

#[test]
fn a_public_key_info_stands_in_for_what_is_not_shown() {
    // The key of RFC 8410 section 10.1.
    let spki =
        "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    let silent = without(public(Algorithm::EdDSA), AttributeType::EcPoint);
    let shown = with(silent.clone(), Attribute::PublicKeyInfo(bytes(spki)));
    let key = examined(&[private(Algorithm::EdDSA)], &[shown]);
    assert_eq!(key.defects, Vec::<String>::new());
    let jwk = serde_json::to_value(key.public.expect("a key")).expect("JSON");
    assert_eq!(jwk["x"], "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE");
    let nonsense = with(silent, Attribute::PublicKeyInfo(vec![0x30]));
    let key = examined(&[private(Algorithm::EdDSA)], &[nonsense]);
    assert!(key.defects[0].contains("CKA_PUBLIC_KEY_INFO is not"), "{:?}", key.defects);
}
