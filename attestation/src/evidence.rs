use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Nonce,
    encoding::{Bytes, format_word},
    jwk::Members,
    tpm::Public,
};

format_word!(Format, "mintwarden-evidence/1");

/// What a device says of where one key lives: a JSON document, version 1.
///
/// Anybody may have written it. [`verify`](crate::verify()) tells what it proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    format: Format,
    /// The nonce that it answers.
    pub nonce: Nonce,
    /// The issuer that the key was made for, by the appliance's own word. What counts is whose JWK Set has the key.
    pub issuer: String,
    /// By the kind of device.
    pub residence: Residence,
}

/// Evidence by the kind of device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Residence {
    /// A TPM 2.0 certifies the key.
    Tpm(Box<TpmEvidence>),
    /// A PKCS#11 token shows attributes. Nothing is signed: the device's own claim.
    Pkcs11(Box<Pkcs11Claim>),
}

/// What a TPM 2.0 says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEvidence {
    /// The key's public area.
    pub key: Public,
    /// That of its parent.
    pub parent: Public,
    /// That of the attestation key.
    pub ak: Public,
    /// What the attestation key signed, a `TPMS_ATTEST`.
    pub attest: Bytes,
    /// Its signature, a `TPMT_SIGNATURE`.
    pub signature: Bytes,
    /// The TPM's endorsement keys, as it says.
    pub endorsement: Vec<Endorsement>,
    /// What the TPM made of the challenge's credential, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<Bytes>,
}

/// An endorsement key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endorsement {
    /// Its public area.
    pub public: Public,
    /// Its X.509 certificate from the TPM's memory, DER; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Bytes>,
}

/// What a PKCS#11 module says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Claim {
    /// The public key.
    pub jwk: Members,
    /// The module (`CK_INFO`), by the names of its fields.
    pub library: BTreeMap<String, String>,
    /// The PKCS#11 token (`CK_TOKEN_INFO`), by the names of its fields.
    pub token: BTreeMap<String, String>,
    /// Attributes of the private key as read, by their names; `null` is one that the module does not show.
    pub private_key: BTreeMap<String, Option<bool>>,
}

/// A document that is no evidence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Longer than evidence may be.
    #[error("it has {0} bytes; evidence has at most {MAX}", MAX = Evidence::MAX)]
    TooLong(usize),
    /// Not a JSON document of evidence's shape.
    #[error("it is not evidence (mintwarden-evidence/1): {0}")]
    Shape(#[from] serde_json::Error),
    /// More endorsement keys than a TPM has.
    #[error("it has {0} endorsement keys; at most {MAX} are possible", MAX = Evidence::MAX_ENDORSEMENT)]
    Endorsement(usize),
}

impl Evidence {
    /// Bound on the document, bytes.
    pub const MAX: usize = 64 * 1024;
    /// Bound on the endorsement keys.
    pub const MAX_ENDORSEMENT: usize = 4;

    /// Evidence about a key of `issuer`.
    #[must_use]
    pub fn new(nonce: Nonce, issuer: String, residence: Residence) -> Self {
        Self { format: Format::V1, nonce, issuer, residence }
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn parse(document: &[u8]) -> Result<Self, EvidenceError> {
        if document.len() > Self::MAX {
            return Err(EvidenceError::TooLong(document.len()));
        }
        let evidence: Self = serde_json::from_slice(document)?;
        match &evidence.residence {
            Residence::Tpm(tpm) if tpm.endorsement.len() > Self::MAX_ENDORSEMENT => {
                Err(EvidenceError::Endorsement(tpm.endorsement.len()))
            }
            _ => Ok(evidence),
        }
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("strings and numbers only");
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    #[test]
    fn evidence_is_read_as_it_was_written() {
        let written = vectors::evidence(vectors::tpm_evidence()).to_json();
        assert_eq!(Evidence::parse(&written).unwrap().to_json(), written);
    }

    #[test]
    fn i9_evidence_is_bounded_whole_and_of_its_shape() {
        let written = vectors::evidence(vectors::tpm_evidence()).to_json();
        for cut in 0..written.len() - 2 {
            assert!(Evidence::parse(&written[..cut]).is_err(), "cut at {cut}");
        }
        let long = [&written[..], &vec![b' '; Evidence::MAX]].concat();
        assert!(matches!(Evidence::parse(&long), Err(EvidenceError::TooLong(_))));
        let mut many = vectors::tpm_evidence();
        many.endorsement = vec![many.endorsement[0].clone(); 5];
        let many = vectors::evidence(many).to_json();
        assert!(matches!(Evidence::parse(&many), Err(EvidenceError::Endorsement(5))));
        let text = String::from_utf8(written).unwrap();
        for (this, that) in [
            ("evidence/1", "evidence/2"),
            ("\"issuer\"", "\"isuer\""),
            ("\"issuer\"", "\"nonce\": \"AAAAAAAAAAAAAAAAAAAAAA\", \"issuer\""),
            ("\"attest\"", "\"attested\""),
            ("\"tpm\"", "\"hsm\""),
            ("\"parent\": \"", "\"parent\": \"A"),
        ] {
            assert!(text.contains(this), "{this}");
            assert!(Evidence::parse(text.replacen(this, that, 1).as_bytes()).is_err(), "{that}");
        }
    }
}
