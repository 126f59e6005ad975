use std::fmt;

use serde::Serialize;

/// One thing that evidence is examined for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Check {
    /// The answer is to this question and to no older one.
    Nonce,
    /// A TPM made the statement, and it is a certification.
    Generated,
    /// The attestation key signed it.
    Signature,
    /// It is about the key whose public area is shown.
    Name,
    /// The key was made in the TPM and cannot leave it.
    KeyAttributes,
    /// The attestation key signs nothing but what its TPM says.
    AkAttributes,
    /// The parent is the one shown, and keeps its children in.
    Parent,
    /// The key is one that the issuer publishes.
    Kid,
    /// Attestation key and endorsement key are in one TPM.
    Activation,
    /// A manufacturer certified the endorsement key.
    EkCertificate,
    /// What a PKCS#11 token shows of the key.
    Attributes,
    /// Whether it is more than the device's own claim.
    Residence,
}

impl Check {
    /// The stable word, e.g. `ek-certificate`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nonce => "nonce",
            Self::Generated => "generated",
            Self::Signature => "signature",
            Self::Name => "name",
            Self::KeyAttributes => "key-attributes",
            Self::AkAttributes => "ak-attributes",
            Self::Parent => "parent",
            Self::Kid => "kid",
            Self::Activation => "activation",
            Self::EkCertificate => "ek-certificate",
            Self::Attributes => "attributes",
            Self::Residence => "residence",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// There was nothing to check it with.
    NotChecked,
    /// The device says so and nothing shows it.
    Claimed,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "FAILS",
            Self::NotChecked => "not checked",
            Self::Claimed => "claimed only",
        }
    }
}

/// A proof that a verifier is content to go without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiver {
    /// Nothing ties the attestation key to a TPM: software could have made all of it.
    UnboundAk,
    /// Nobody vouches for the endorsement key: the TPM may be software.
    UncertifiedEk,
    /// A PKCS#11 token's word for where its keys are.
    OwnClaim,
}

/// What became of one check, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub words: String,
}

impl Finding {
    pub(super) fn is_accepted(&self, accepted: &[Waiver]) -> bool {
        let waiver = match (self.check, self.outcome) {
            (_, Outcome::Holds) => return true,
            (Check::Activation, Outcome::NotChecked) => Waiver::UnboundAk,
            (Check::EkCertificate, Outcome::NotChecked) => Waiver::UncertifiedEk,
            (_, Outcome::Claimed) => Waiver::OwnClaim,
            _ => return false,
        };
        accepted.contains(&waiver)
    }
}
