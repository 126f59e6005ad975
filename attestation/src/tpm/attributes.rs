use std::fmt;

use super::Malformed;

/// The attributes of an object (`TPMA_OBJECT`, Part 2 section 8.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attributes(u32);

/// One attribute of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Attribute {
    /// The hierarchy of the object cannot change: it was made in this TPM and cannot leave it.
    FixedTpm = 1 << 1,
    /// No copy of it can be loaded after a reset.
    StClear = 1 << 2,
    /// Its parent cannot change: it cannot be duplicated by itself.
    FixedParent = 1 << 4,
    /// The TPM made the secret itself, from its own random numbers.
    SensitiveDataOrigin = 1 << 5,
    /// Its authorisation value lets it be used.
    UserWithAuth = 1 << 6,
    /// Administration needs its policy.
    AdminWithPolicy = 1 << 7,
    /// No failed authorisation of it counts towards the TPM's lockout.
    NoDa = 1 << 10,
    /// Duplication must be encrypted.
    EncryptedDuplication = 1 << 11,
    /// A decryption key that only opens the TPM's own structures, or a signing key that only signs them.
    Restricted = 1 << 16,
    /// It decrypts.
    Decrypt = 1 << 17,
    /// It signs.
    Sign = 1 << 18,
    /// It signs certificates only.
    X509Sign = 1 << 19,
}

impl Attribute {
    const ALL: [(Self, &str); 12] = [
        (Self::FixedTpm, "fixedTPM"),
        (Self::StClear, "stClear"),
        (Self::FixedParent, "fixedParent"),
        (Self::SensitiveDataOrigin, "sensitiveDataOrigin"),
        (Self::UserWithAuth, "userWithAuth"),
        (Self::AdminWithPolicy, "adminWithPolicy"),
        (Self::NoDa, "noDA"),
        (Self::EncryptedDuplication, "encryptedDuplication"),
        (Self::Restricted, "restricted"),
        (Self::Decrypt, "decrypt"),
        (Self::Sign, "sign"),
        (Self::X509Sign, "x509sign"),
    ];

    /// The specification's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(is, _)| *is == self).map_or("", |(_, name)| name)
    }
}

impl Attributes {
    pub(super) fn parse(bits: u32) -> Result<Self, Malformed> {
        let known = Attribute::ALL.iter().fold(0, |all, (attribute, _)| all | *attribute as u32);
        match bits & !known {
            0 => Ok(Self(bits)),
            _ => Err(Malformed::Unknown { what: "objectAttributes", value: bits }),
        }
    }

    /// Whether the attribute is set.
    #[must_use]
    pub fn has(self, attribute: Attribute) -> bool {
        self.0 & attribute as u32 != 0
    }

    /// What is not as it should be, in words; empty where all of `set` are set and all of `clear` clear.
    #[must_use]
    pub fn departures(self, set: &[Attribute], clear: &[Attribute]) -> Vec<String> {
        let lacking = set.iter().filter(|attribute| !self.has(**attribute));
        let lacking = lacking.map(|attribute| format!("{} is not set", attribute.name()));
        let wrong = clear.iter().filter(|attribute| self.has(**attribute));
        lacking.chain(wrong.map(|attribute| format!("{} is set", attribute.name()))).collect()
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Attribute::ALL.iter().filter(|(attribute, _)| self.has(*attribute));
        f.write_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attributes({self})")
    }
}
