//! What is asked of a key pair before it may sign (I1, I3). Deny by default: an attribute that the
//! token does not show is a defect like a wrong one.

use cryptoki::object::{Attribute, AttributeType, KeyType};
use mintwarden_worker::{
    Algorithm, IssuerName,
    device::{DeviceKey, KeyHandle},
    jwk::PublicJwk,
};

use super::issuer_in;
use crate::scheme::Scheme;

/// The attributes to read of a private half.
pub(super) const PRIVATE: &[AttributeType] = &[
    AttributeType::Label,
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::Extractable,
    AttributeType::NeverExtractable,
    AttributeType::Local,
    AttributeType::Sign,
    AttributeType::KeyType,
    AttributeType::EcParams,
];

/// The attributes to read of a public half.
pub(super) const PUBLIC: &[AttributeType] = &[
    AttributeType::Label,
    AttributeType::Token,
    AttributeType::KeyType,
    AttributeType::EcParams,
    AttributeType::EcPoint,
];

/// A key object, as far as the token shows it.
#[derive(Debug)]
pub(super) struct Object {
    attributes: Vec<Attribute>,
}

impl Object {
    pub(super) fn new(attributes: Vec<Attribute>) -> Self {
        Self { attributes }
    }

    fn shown(&self, wanted: AttributeType) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.attribute_type() == wanted)
    }

    fn defect(&self, name: &str, wanted: &Attribute) -> Option<String> {
        match self.shown(wanted.attribute_type()) {
            Some(shown) if shown == wanted => None,
            Some(shown) => Some(format!("{name} is {}", value(shown))),
            None => Some(format!("{name} is not shown by the device")),
        }
    }

    fn issuer(&self) -> Option<IssuerName> {
        issuer_in(&self.attributes)
    }
}

/// The pair made of all private and public key objects with this handle. One of them at least.
pub(super) fn examine(handle: &KeyHandle, private: &[Object], public: &[Object]) -> DeviceKey {
    let mut defects = Vec::new();
    if handle.as_bytes().is_empty() {
        defects.push("CKA_ID is empty".to_owned());
    }
    for (half, objects) in [("private", private), ("public", public)] {
        match objects.len() {
            1 => {}
            0 => defects.push(format!("the {half} half is missing")),
            many => defects.push(format!("{many} {half} key objects have this CKA_ID")),
        }
        for object in objects {
            let in_half = |defect: String| format!("{half} half: {defect}");
            if object.issuer().is_none() {
                defects.push(in_half("CKA_LABEL names no issuer".to_owned()));
            }
            let wanted = if half == "private" { wanted_private() } else { wanted_public() };
            defects.extend(
                wanted.iter().filter_map(|(name, wanted)| object.defect(name, wanted)).map(in_half),
            );
        }
    }
    let issuers: Vec<_> = private.iter().chain(public).filter_map(Object::issuer).collect();
    if issuers.windows(2).any(|pair| pair[0] != pair[1]) {
        defects.push("the halves' labels (CKA_LABEL) name different issuers".to_owned());
    }
    let key = match public {
        [object] => match point(object) {
            Ok(key) => Some(key),
            Err(problem) => {
                defects.push(format!("public half: CKA_EC_POINT {problem}"));
                None
            }
        },
        _ => None,
    };
    DeviceKey { handle: handle.clone(), issuer: issuers.into_iter().next(), public: key, defects }
}

fn scheme() -> Scheme {
    Scheme::of(Algorithm::ES256).expect("this crate implements it")
}

fn wanted_private() -> Vec<(&'static str, Attribute)> {
    let scheme = scheme();
    vec![
        ("CKA_TOKEN", Attribute::Token(true)),
        ("CKA_PRIVATE", Attribute::Private(true)),
        ("CKA_SENSITIVE", Attribute::Sensitive(true)),
        ("CKA_ALWAYS_SENSITIVE", Attribute::AlwaysSensitive(true)),
        ("CKA_EXTRACTABLE", Attribute::Extractable(false)),
        ("CKA_NEVER_EXTRACTABLE", Attribute::NeverExtractable(true)),
        ("CKA_LOCAL", Attribute::Local(true)),
        ("CKA_SIGN", Attribute::Sign(true)),
        ("CKA_KEY_TYPE", Attribute::KeyType(scheme.key_type)),
        ("CKA_EC_PARAMS", Attribute::EcParams(scheme.ec_params.to_vec())),
    ]
}

fn wanted_public() -> Vec<(&'static str, Attribute)> {
    let scheme = scheme();
    vec![
        ("CKA_TOKEN", Attribute::Token(true)),
        ("CKA_KEY_TYPE", Attribute::KeyType(scheme.key_type)),
        ("CKA_EC_PARAMS", Attribute::EcParams(scheme.ec_params.to_vec())),
    ]
}

fn value(attribute: &Attribute) -> String {
    match attribute {
        Attribute::Token(yes)
        | Attribute::Private(yes)
        | Attribute::Sensitive(yes)
        | Attribute::AlwaysSensitive(yes)
        | Attribute::Extractable(yes)
        | Attribute::NeverExtractable(yes)
        | Attribute::Local(yes)
        | Attribute::Sign(yes) => yes.to_string(),
        Attribute::KeyType(KeyType::RSA) => "CKK_RSA".to_owned(),
        Attribute::KeyType(other) => format!("{other}, not CKK_EC"),
        Attribute::EcParams(_) => "not P-256".to_owned(),
        _ => "not what it should be".to_owned(),
    }
}

/// The public key in `CKA_EC_POINT`: a DER OCTET STRING around the point as the standard has it
/// (PKCS#11 v3.1 section 6.3.3), or the bare point that some modules give.
fn point(object: &Object) -> Result<PublicJwk, String> {
    let Some(Attribute::EcPoint(bytes)) = object.shown(AttributeType::EcPoint) else {
        return Err("is not shown by the device".to_owned());
    };
    // Bare first: a bare point is never a point when unwrapped, nor the other way round, because
    // the lengths differ.
    let bare = PublicJwk::from_sec1(bytes);
    match (bare, bytes.as_slice()) {
        (Ok(key), _) => Ok(key),
        (Err(_), [0x04, length, point @ ..]) if usize::from(*length) == point.len() => {
            PublicJwk::from_sec1(point).map_err(|error| format!("is {error}"))
        }
        (Err(error), _) => Err(format!("is {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator of P-256 (SEC 2 section 2.4.2), uncompressed.
    fn generator() -> Vec<u8> {
        let hex = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                   4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn wrapped(point: &[u8]) -> Vec<u8> {
        let length = u8::try_from(point.len()).expect("short");
        [&[0x04, length], point].concat()
    }

    fn label(label: &str) -> Attribute {
        Attribute::Label(label.as_bytes().to_vec())
    }

    fn good_private() -> Vec<Attribute> {
        let mut attributes = vec![label("mintwarden/payments")];
        attributes.extend(wanted_private().into_iter().map(|(_, attribute)| attribute));
        attributes
    }

    fn good_public() -> Vec<Attribute> {
        let mut attributes = vec![label("mintwarden/payments")];
        attributes.extend(wanted_public().into_iter().map(|(_, attribute)| attribute));
        attributes.push(Attribute::EcPoint(wrapped(&generator())));
        attributes
    }

    fn examined(private: &[Vec<Attribute>], public: &[Vec<Attribute>]) -> DeviceKey {
        let objects =
            |all: &[Vec<Attribute>]| all.iter().cloned().map(Object::new).collect::<Vec<_>>();
        examine(&KeyHandle::new(vec![7; 16]), &objects(private), &objects(public))
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
    fn a_good_pair_has_no_defects() {
        let key = examined(&[good_private()], &[good_public()]);
        assert_eq!(key.defects, Vec::<String>::new());
        assert_eq!(key.issuer.map(|issuer| issuer.to_string()).as_deref(), Some("payments"));
        assert_eq!(key.public.expect("a point").sec1(), generator());
    }

    #[test]
    fn i1_each_wrong_attribute_of_the_private_half_is_a_defect() {
        let p384 = vec![0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
        for (wrong, expected) in [
            (Attribute::Token(false), "private half: CKA_TOKEN is false"),
            (Attribute::Private(false), "private half: CKA_PRIVATE is false"),
            (Attribute::Sensitive(false), "private half: CKA_SENSITIVE is false"),
            (Attribute::AlwaysSensitive(false), "private half: CKA_ALWAYS_SENSITIVE is false"),
            (Attribute::Extractable(true), "private half: CKA_EXTRACTABLE is true"),
            (Attribute::NeverExtractable(false), "private half: CKA_NEVER_EXTRACTABLE is false"),
            (Attribute::Local(false), "private half: CKA_LOCAL is false"),
            (Attribute::Sign(false), "private half: CKA_SIGN is false"),
            (Attribute::KeyType(KeyType::RSA), "private half: CKA_KEY_TYPE is CKK_RSA"),
            (Attribute::EcParams(p384), "private half: CKA_EC_PARAMS is not P-256"),
        ] {
            let key = examined(&[with(good_private(), wrong)], &[good_public()]);
            assert_eq!(key.defects, [expected]);
        }
    }

    #[test]
    fn i1_an_attribute_that_is_not_shown_is_a_defect() {
        for lacking in PRIVATE {
            let key = examined(&[without(good_private(), *lacking)], &[good_public()]);
            assert_eq!(key.defects.len(), 1, "{lacking:?}: {:?}", key.defects);
        }
        for lacking in PUBLIC {
            let key = examined(&[good_private()], &[without(good_public(), *lacking)]);
            assert_eq!(key.defects.len(), 1, "{lacking:?}: {:?}", key.defects);
        }
    }

    #[test]
    fn half_a_pair_and_twins_are_defects() {
        let key = examined(&[], &[good_public()]);
        assert_eq!(key.defects, ["the private half is missing"]);
        let key = examined(&[good_private()], &[]);
        assert_eq!(key.defects, ["the public half is missing"]);
        assert_eq!(key.public, None);
        let key = examined(&[good_private(), good_private()], &[good_public()]);
        assert_eq!(key.defects, ["2 private key objects have this CKA_ID"]);
        let key = examined(&[good_private()], &[good_public(), good_public()]);
        assert_eq!(key.defects, ["2 public key objects have this CKA_ID"]);
        assert_eq!(key.public, None, "which of them is not known");
    }

    #[test]
    fn i3_labels_have_to_name_one_issuer() {
        let other = with(good_public(), label("mintwarden/other"));
        let key = examined(&[good_private()], &[other]);
        assert_eq!(key.defects, ["the halves' labels (CKA_LABEL) name different issuers"]);
        for bad in ["payments", "mintwarden/", "mintwarden/A", "mintwarden/a/b", "xmintwarden/a"] {
            let key = examined(&[with(good_private(), label(bad))], &[good_public()]);
            assert_eq!(key.defects, ["private half: CKA_LABEL names no issuer"], "{bad}");
        }
    }

    #[test]
    fn points_are_taken_wrapped_and_bare_and_have_to_be_on_the_curve() {
        let with_point = |point: Vec<u8>| {
            examined(&[good_private()], &[with(good_public(), Attribute::EcPoint(point))])
        };
        let compressed = [&[0x03], &generator()[1..33]].concat();
        for good in [generator(), wrapped(&compressed), compressed] {
            assert_eq!(with_point(good).public.expect("a point").sec1(), generator());
        }
        let mut off_the_curve = generator();
        off_the_curve[64] ^= 1;
        let cut = generator()[..64].to_vec();
        for bad in [wrapped(&off_the_curve), off_the_curve, vec![], vec![0], wrapped(&[0]), cut] {
            let key = with_point(bad);
            assert_eq!(key.public, None);
            assert!(
                key.defects[0].starts_with("public half: CKA_EC_POINT is not"),
                "{:?}",
                key.defects
            );
        }
    }
}
