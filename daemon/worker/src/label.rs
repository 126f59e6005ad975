//! What a key was made for, as its label in the device says: `mintwarden/ISSUER/ALGORITHM` (I3).

use std::fmt;

use crate::{Algorithm, IssuerName};

/// What Mintwarden's labels begin with.
pub const PREFIX: &str = "mintwarden/";

/// A label of Mintwarden's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The issuer that the key was made for.
    pub issuer: IssuerName,
    /// The algorithm that it was made for.
    pub algorithm: Algorithm,
}

impl Label {
    /// The label in these bytes, if it is one. Padding is no part of it. A label without an algorithm
    /// is from the time when there was but one.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?.trim_end_matches([' ', '\0']);
        let rest = text.strip_prefix(PREFIX)?;
        let (issuer, algorithm) = match rest.split_once('/') {
            Some((issuer, algorithm)) => (issuer, Algorithm::from_name(algorithm)?),
            None => (rest, Algorithm::ES256),
        };
        Some(Self { issuer: IssuerName::parse(issuer).ok()?, algorithm })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.issuer, self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_a_label_names_issuer_and_algorithm() {
        let issuer = IssuerName::parse("payments-tts").expect("a name");
        for algorithm in Algorithm::ALL {
            let label = Label { issuer: issuer.clone(), algorithm };
            let text = label.to_string();
            assert_eq!(text, format!("mintwarden/payments-tts/{algorithm}"));
            // Modules pad, with blanks or with NULs.
            for padding in ["", "   ", "\0\0"] {
                assert_eq!(
                    Label::parse(format!("{text}{padding}").as_bytes()),
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

    #[test]
    fn the_longest_label_is_within_the_bound_that_devices_are_configured_with() {
        let issuer = IssuerName::parse(&"x".repeat(63)).expect("the longest name");
        for algorithm in Algorithm::ALL {
            let label = Label { issuer: issuer.clone(), algorithm }.to_string();
            assert!(label.len() <= mintwarden_hsm_config::quirks::Quirks::MAX_LABEL_BYTES);
        }
    }
}
