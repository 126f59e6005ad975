//! In what a PKCS#11 module differs from what Mintwarden takes for granted. A model says it, a
//! `[[device]]` can say otherwise.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// What a worker does in another way than usual. The default is a module that follows PKCS#11 v3.1
/// and shows what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quirks {
    /// Where SHA-2 is computed when the PKCS#11 token has mechanisms for both.
    pub hashing: Hashing,
    /// How `CKA_EC_PARAMS` names the curve of Ed25519 in a new key's template.
    pub ed25519_params: Ed25519Params,
    /// Attributes of key objects that the module does not show. One that it shows all the same is
    /// checked as ever.
    pub not_shown: BTreeSet<KeyAttribute>,
    /// Attributes that the module does not take in a new key's template. The key is checked for them
    /// afterwards as ever.
    pub omit: BTreeSet<KeyAttribute>,
    /// Whether `CKA_LOCAL` tells that a key was made inside. Where it does not, its value is not looked
    /// at.
    pub local_flag: bool,
    /// Whether there is a public key object for each private one. Where there is none, the public
    /// key is read from the private object's attributes.
    pub public_objects: bool,
    /// Whether `CKF_USER_PIN_INITIALIZED` tells that there is a PIN to log in with.
    pub user_pin_flag: bool,
    /// Length of the `CKA_ID` of new keys, in bytes.
    pub id_bytes: usize,
    /// Longest `CKA_LABEL`, in bytes.
    pub label_bytes: usize,
}

impl Default for Quirks {
    fn default() -> Self {
        QuirksEntry::default().over(QuirksEntry::default())
    }
}

/// Where SHA-2 is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hashing {
    /// In the worker; the device signs the digest (`CKM_ECDSA`, `CKM_RSA_PKCS`, `CKM_RSA_PKCS_PSS`).
    #[default]
    Outside,
    /// By the mechanism that signs (`CKM_ECDSA_SHA256` and the like).
    Inside,
}

/// How the curve of Ed25519 is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ed25519Params {
    /// By its object identifier, 1.3.101.112 (RFC 8410 section 3).
    #[default]
    Oid,
    /// By the PrintableString `edwards25519` (PKCS#11 v3.1 section 6.3.3).
    Name,
}

macro_rules! key_attributes {
    ($($variant:ident = $name:literal,)*) => {
        /// An attribute of a key object that a quirk can name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum KeyAttribute {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $variant,
            )*
        }

        impl KeyAttribute {
            /// The attribute in the standard's word, e.g. `CKA_SENSITIVE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

key_attributes! {
    Token = "CKA_TOKEN",
    Private = "CKA_PRIVATE",
    Sensitive = "CKA_SENSITIVE",
    AlwaysSensitive = "CKA_ALWAYS_SENSITIVE",
    Extractable = "CKA_EXTRACTABLE",
    NeverExtractable = "CKA_NEVER_EXTRACTABLE",
    Local = "CKA_LOCAL",
    Sign = "CKA_SIGN",
    Verify = "CKA_VERIFY",
    Encrypt = "CKA_ENCRYPT",
    Decrypt = "CKA_DECRYPT",
    Wrap = "CKA_WRAP",
    Unwrap = "CKA_UNWRAP",
    Derive = "CKA_DERIVE",
    KeyType = "CKA_KEY_TYPE",
    EcParams = "CKA_EC_PARAMS",
}

impl fmt::Display for KeyAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Quirks as a model or a `[[device]]` writes them: what is left out is as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuirksEntry {
    /// See [`Quirks::hashing`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashing: Option<Hashing>,
    /// See [`Quirks::ed25519_params`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ed25519_params: Option<Ed25519Params>,
    /// See [`Quirks::not_shown`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_shown: Option<BTreeSet<KeyAttribute>>,
    /// See [`Quirks::omit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omit: Option<BTreeSet<KeyAttribute>>,
    /// See [`Quirks::local_flag`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_flag: Option<bool>,
    /// See [`Quirks::public_objects`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_objects: Option<bool>,
    /// See [`Quirks::user_pin_flag`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_pin_flag: Option<bool>,
    /// See [`Quirks::id_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_bytes: Option<usize>,
    /// See [`Quirks::label_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_bytes: Option<usize>,
}

impl QuirksEntry {
    /// What a device does: what is written here, else what `model` writes, else as usual.
    #[must_use]
    pub fn over(self, model: Self) -> Quirks {
        Quirks {
            hashing: self.hashing.or(model.hashing).unwrap_or_default(),
            ed25519_params: self.ed25519_params.or(model.ed25519_params).unwrap_or_default(),
            not_shown: self.not_shown.or(model.not_shown).unwrap_or_default(),
            omit: self.omit.or(model.omit).unwrap_or_default(),
            local_flag: self.local_flag.or(model.local_flag).unwrap_or(true),
            public_objects: self.public_objects.or(model.public_objects).unwrap_or(true),
            user_pin_flag: self.user_pin_flag.or(model.user_pin_flag).unwrap_or(true),
            id_bytes: self.id_bytes.or(model.id_bytes).unwrap_or(Quirks::MAX_ID_BYTES),
            label_bytes: self.label_bytes.or(model.label_bytes).unwrap_or(Quirks::MAX_LABEL_BYTES),
        }
    }
}

impl Quirks {
    /// The usual length of a new key's `CKA_ID`: 128 random bits.
    pub const MAX_ID_BYTES: usize = 16;

    /// The longest label that Mintwarden writes: `mintwarden/`, the name of an issuer, `/`, the name
    /// of an algorithm.
    pub const MAX_LABEL_BYTES: usize = 96;

    /// Whether anything is left that shows I1: that the private key is sensitive and cannot leave
    /// the device, now or ever.
    ///
    /// # Errors
    /// The attributes of which at least one has to be shown.
    pub fn provable(&self) -> Result<(), [KeyAttribute; 2]> {
        use KeyAttribute as A;
        let pairs = [[A::Extractable, A::NeverExtractable], [A::Sensitive, A::AlwaysSensitive]];
        match pairs.into_iter().find(|pair| pair.iter().all(|a| self.not_shown.contains(a))) {
            Some(pair) => Err(pair),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> QuirksEntry {
        toml::from_str(text).expect(text)
    }

    #[test]
    fn what_is_left_out_is_as_usual_and_the_device_wins_over_its_model() {
        assert_eq!(entry("").over(entry("")), Quirks::default());
        let model = entry("hashing = 'inside'\nnot_shown = ['CKA_LOCAL']\nid_bytes = 2");
        let quirks = entry("not_shown = []\npublic_objects = false").over(model);
        let expected = Quirks {
            hashing: Hashing::Inside,
            id_bytes: 2,
            public_objects: false,
            ..Quirks::default()
        };
        assert_eq!(quirks, expected);
    }

    #[test]
    fn i1_something_has_to_show_that_a_key_cannot_leave() {
        let provable = |text: &str| entry(text).over(entry("")).provable();
        assert_eq!(
            provable("not_shown = ['CKA_NEVER_EXTRACTABLE', 'CKA_ALWAYS_SENSITIVE']"),
            Ok(())
        );
        assert_eq!(
            provable("not_shown = ['CKA_NEVER_EXTRACTABLE', 'CKA_EXTRACTABLE', 'CKA_LOCAL']"),
            Err([KeyAttribute::Extractable, KeyAttribute::NeverExtractable])
        );
        assert!(provable("not_shown = ['CKA_SENSITIVE', 'CKA_ALWAYS_SENSITIVE']").is_err());
    }

    #[test]
    fn words_that_mean_nothing_do_not_parse() {
        for bad in ["hashing = 'both'", "omit = ['CKA_ID']", "quirk = 1", "not_shown = 'CKA_LOCAL'"]
        {
            assert!(toml::from_str::<QuirksEntry>(bad).is_err(), "{bad}");
        }
        let text = toml::to_string(&entry("omit = ['CKA_DERIVE']")).expect("written");
        assert_eq!(text.trim(), "omit = [\"CKA_DERIVE\"]");
    }
}
