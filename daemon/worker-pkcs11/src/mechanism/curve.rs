//! Curves as `CKA_EC_PARAMS` names them.

use mintwarden_hsm_config::quirks::Ed25519Params;
use mintwarden_worker::algorithm::KeyType;

/// DER tag of a PrintableString.
const PRINTABLE_STRING: u8 = 0x13;

/// A curve and its names.
#[derive(Debug)]
pub(crate) struct Curve {
    /// What people call it.
    pub(crate) name: &'static str,
    /// Its object identifier in DER: the choice `oId` of `Parameters` (PKCS#11 v3.1 section 6.3.1).
    oid: &'static [u8],
    /// What the choice `curveName`, a PrintableString, calls it.
    printable: &'static [&'static str],
}

/// 1.2.840.10045.3.1.7 (RFC 5480 section 2.1.1.1).
static P256: Curve = Curve {
    name: "P-256",
    oid: &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    printable: &["secp256r1", "prime256v1", "P-256"],
};

/// 1.3.132.0.34 (RFC 5480 section 2.1.1.1).
static P384: Curve = Curve {
    name: "P-384",
    oid: &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
    printable: &["secp384r1", "P-384"],
};

/// 1.3.101.112 (RFC 8410 section 3).
static ED25519: Curve =
    Curve { name: "Ed25519", oid: &[0x06, 0x03, 0x2b, 0x65, 0x70], printable: &["edwards25519"] };

impl Curve {
    /// The curve of a type of key, if it has one.
    pub(crate) fn of(key: KeyType) -> Option<&'static Self> {
        match key {
            KeyType::P256 => Some(&P256),
            KeyType::P384 => Some(&P384),
            KeyType::Ed25519 => Some(&ED25519),
            KeyType::Rsa => None,
        }
    }

    /// The curve with this name.
    pub(crate) fn named(params: &[u8]) -> Option<&'static Self> {
        [&P256, &P384, &ED25519].into_iter().find(|curve| curve.is_named_by(params))
    }

    /// `CKA_EC_PARAMS` for a new key.
    pub(crate) fn params(&self, ed25519: Ed25519Params) -> Vec<u8> {
        match ed25519 {
            Ed25519Params::Name if std::ptr::eq(self, &ED25519) => printable(self.printable[0]),
            _ => self.oid.to_vec(),
        }
    }

    /// Whether `params` is one of the names of this curve.
    pub(crate) fn is_named_by(&self, params: &[u8]) -> bool {
        params == self.oid || self.printable.iter().any(|name| params == printable(name))
    }
}

/// A short PrintableString in DER.
fn printable(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("names of curves are short");
    [&[PRINTABLE_STRING, length], name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_known_by_object_identifier_and_by_name() {
        for curve in [&P256, &P384, &ED25519] {
            assert!(curve.is_named_by(&curve.params(Ed25519Params::Oid)));
            assert!(curve.is_named_by(&printable(curve.printable[0])));
            for other in [&P256, &P384, &ED25519] {
                let same = std::ptr::eq(curve, other);
                assert_eq!(curve.is_named_by(other.oid), same, "{} {}", curve.name, other.name);
            }
            assert!(!curve.is_named_by(&[]) && !curve.is_named_by(curve.name.as_bytes()));
        }
    }

    #[test]
    fn only_ed25519_is_named_in_letters() {
        let name = b"\x13\x0cedwards25519";
        assert_eq!(ED25519.params(Ed25519Params::Name), name);
        assert_eq!(P384.params(Ed25519Params::Name), P384.oid);
    }
}
