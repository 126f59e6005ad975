use std::fmt;

use super::PcrState;
use crate::tpm::{Hash, Name};

/// The reference in the signatures of an authority (policyRef): a signature for another purpose, or for another
/// program, signs off nothing here.
pub const REFERENCE: &[u8] = b"mintwarden/pcr/1";

/// The command codes that policies are made of (part 2, section 6.5.2).
const POLICY_AUTHORIZE: u32 = 0x0000_016a;
const POLICY_AUTH_VALUE: u32 = 0x0000_016b;
const POLICY_OR: u32 = 0x0000_0171;
const POLICY_PCR: u32 = 0x0000_017f;

/// The digest of a policy (policyDigest; part 1, "Enhanced Authorization"), with SHA-256: what the same commands make
/// of a session in a TPM. How each command extends it is in part 3 of the specification.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Policy([u8; 32]);

impl Policy {
    /// Of a session in which nothing was shown yet.
    const NOTHING: Self = Self([0; 32]);

    /// TPM2_PolicyPCR, as the first command: the PCRs hold these values.
    #[must_use]
    pub fn pcr(state: &PcrState) -> Self {
        let values = Self::values(state);
        Self::NOTHING.extend(POLICY_PCR, &[&state.selection().to_bytes(), &values])
    }

    /// The digest of the values that TPM2_PolicyPCR is given to compare.
    #[must_use]
    pub fn values(state: &PcrState) -> Vec<u8> {
        Hash::Sha256.digest(&state.concatenated())
    }

    /// TPM2_PolicyAuthorize: the key with this name signed the policy up to here off, with this reference.
    #[must_use]
    pub fn authorize(authority: &Name, reference: &[u8]) -> Self {
        let signed = Self::NOTHING.extend(POLICY_AUTHORIZE, &[&authority.to_bytes()]);
        Self::digest(&[&signed.0, reference])
    }

    /// TPM2_PolicyOR: one of these policies was satisfied.
    #[must_use]
    pub fn or(branches: &[Self]) -> Self {
        let branches: Vec<_> = branches.iter().map(|branch| &branch.0[..]).collect();
        Self::NOTHING.extend(POLICY_OR, &branches)
    }

    /// TPM2_PolicyAuthValue: and the key's authorisation value is shown.
    #[must_use]
    pub fn auth_value(self) -> Self {
        self.extend(POLICY_AUTH_VALUE, &[])
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn extend(self, command: u32, arguments: &[&[u8]]) -> Self {
        Self::digest(&[&[&self.0[..], &command.to_be_bytes()], arguments].concat())
    }

    fn digest(parts: &[&[u8]]) -> Self {
        let digest = Hash::Sha256.digest(&parts.concat());
        Self(digest.try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({self})")
    }
}

/// What an issuer's key that is bound to PCRs asks for: a state of the machine, or one that an authority signed off;
/// and in either case the key's authorisation value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The state under which it was made.
    pub state: PcrState,
    /// The name of the authority that may sign other states off.
    pub authority: Option<Name>,
}

impl KeyPolicy {
    /// What TPM2_PolicyOR is given, where there is something to choose from.
    #[must_use]
    pub fn branches(&self) -> Option<[Policy; 2]> {
        let authority = self.authority.as_ref()?;
        Some([Policy::pcr(&self.state), Policy::authorize(authority, REFERENCE)])
    }

    /// The key's authPolicy.
    #[must_use]
    pub fn digest(&self) -> Policy {
        match self.branches() {
            Some(branches) => Policy::or(&branches),
            None => Policy::pcr(&self.state),
        }
        .auth_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pcr::{Authority, state::tests::state},
        vectors::vector,
    };

    fn hex(file: &[u8]) -> &str {
        std::str::from_utf8(file).unwrap().trim()
    }

    /// The vectors are by tpm2_startauthsession, tpm2_policypcr, tpm2_policyauthorize, tpm2_policyor and
    /// tpm2_policyauthvalue in trial sessions.
    #[test]
    fn policies_are_those_of_a_tpm() {
        let state = serde_json::from_slice(vector!("pcr/state.json")).unwrap();
        assert_eq!(Policy::pcr(&state).to_string(), hex(vector!("pcr/pcr.policy")));
        let simple = KeyPolicy { state, authority: None };
        assert_eq!(simple.digest().to_string(), hex(vector!("pcr/key.policy")));
        for kind in ["ecc", "rsa"] {
            let (pem, authorize, key) = match kind {
                "ecc" => (
                    vector!("pcr/authority-ecc.pem"),
                    vector!("pcr/authorize-ecc.policy"),
                    vector!("pcr/key-ecc.policy"),
                ),
                _ => (
                    vector!("pcr/authority-rsa.pem"),
                    vector!("pcr/authorize-rsa.policy"),
                    vector!("pcr/key-rsa.policy"),
                ),
            };
            let name = Authority::parse(pem).unwrap().name();
            assert_eq!(Policy::authorize(&name, REFERENCE).to_string(), hex(authorize), "{kind}");
            let bound = KeyPolicy { authority: Some(name), ..simple.clone() };
            assert_eq!(bound.digest().to_string(), hex(key), "{kind}");
        }
    }

    #[test]
    fn every_part_of_a_policy_counts() {
        let name = |pem| Some(Authority::parse(pem).unwrap().name());
        let policy = |values: &[(u8, u8)], authority| {
            KeyPolicy { state: state(values), authority }.digest().to_string()
        };
        let all = [
            policy(&[(0, 1), (7, 1)], None),
            policy(&[(0, 1), (7, 2)], None),
            policy(&[(0, 1), (6, 1)], None),
            policy(&[(0, 1)], None),
            policy(&[(0, 1), (7, 1)], name(vector!("pcr/authority-ecc.pem"))),
            policy(&[(0, 1), (7, 1)], name(vector!("pcr/authority-rsa.pem"))),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
