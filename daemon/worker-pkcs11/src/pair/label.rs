//! What a pair was made for, as its `CKA_LABEL` says: `mintwarden/ISSUER/ALGORITHM` (I3).

use std::fmt;

use cryptoki::object::Attribute;
use mintwarden_worker::{Algorithm, IssuerName};

/// What Mintwarden's labels begin with.
const PREFIX: &str = "mintwarden/";

/// A label of Mintwarden's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) issuer: IssuerName,
    pub(crate) algorithm: Algorithm,
}

impl Label {
    /// The label in these bytes, if it is one. Padding is no part of it. A label without an algorithm
    /// is from the time when there was but one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?.trim_end_matches([' ', '\0']);
        let rest = text.strip_prefix(PREFIX)?;
        let (issuer, algorithm) = match rest.split_once('/') {
            Some((issuer, algorithm)) => (issuer, Algorithm::from_name(algorithm)?),
            None => (rest, Algorithm::ES256),
        };
        Some(Self { issuer: IssuerName::parse(issuer).ok()?, algorithm })
    }

    /// The label among these attributes, if it is one of ours.
    pub(crate) fn among(attributes: &[Attribute]) -> Option<Self> {
        attributes.iter().find_map(|attribute| match attribute {
            Attribute::Label(label) => Self::parse(label),
            _ => None,
        })
    }

    pub(crate) fn attribute(&self) -> Attribute {
        Attribute::Label(self.to_string().into_bytes())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.issuer, self.algorithm)
    }
}

/// Whether the label among these attributes begins like one of ours, whatever follows.
pub(super) fn has_our_prefix(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match attribute {
        Attribute::Label(label) => label.starts_with(PREFIX.as_bytes()),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_a_label_names_issuer_and_algorithm() {
        let issuer = IssuerName::parse("payments-tts").expect("a name");
        for algorithm in Algorithm::ALL {
            let label = Label { issuer: issuer.clone(), algorithm };
            let Attribute::Label(bytes) = label.attribute() else { panic!("a label") };
            assert_eq!(Label::parse(&bytes), Some(label.clone()));
            // Modules pad, with blanks or with NULs.
            for padding in ["   ", "\0\0"] {
                assert_eq!(
                    Label::parse(&[&bytes, padding.as_bytes()].concat()),
                    Some(label.clone())
                );
            }
        }
        let old = Label::parse(b"mintwarden/payments-tts").expect("a label");
        assert_eq!((old.issuer, old.algorithm), (issuer, Algorithm::ES256));
    }

    #[test]
    fn i3_nothing_else_is_a_label() {
        for bad in [
            "",
            "payments",
            "mintwarden",
            "mintwarden/",
            "mintwarden/A",
            "xmintwarden/a",
            "mintwarden/a/",
            "mintwarden/a/b",
            "mintwarden/a/HS256",
            "mintwarden/a/ES256/",
            "mintwarden//ES256",
            " mintwarden/a",
        ] {
            assert_eq!(Label::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Label::parse(b"mintwarden/\xff"), None);
    }
}
