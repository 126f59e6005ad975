use serde::{Deserialize, Serialize};

use super::{Authority, PcrState, Policy, REFERENCE};
use crate::{
    encoding::{Bytes, format_word},
    tpm::Public,
};

format_word!(Format, "mintwarden-pcr-sign-off/1");

/// A state that an authority has signed off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOff {
    state: PcrState,
    signature: Vec<u8>,
    /// Whose signature it is.
    authority: Public,
}

/// A sign-off that is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignOffError {
    /// Longer than any.
    #[error("it has more than {} bytes", SignOff::MAX)]
    TooLong,
    /// Another kind of document.
    #[error("it is no sign-off (mintwarden-pcr-sign-off/1): {0}")]
    Shape(#[from] serde_json::Error),
    /// Somebody else's signature, or one of something else.
    #[error("its signature is not one of this state by the authority")]
    Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: Format,
    state: PcrState,
    signature: Bytes,
}

impl SignOff {
    /// Bound on the document, bytes.
    pub const MAX: usize = 16 * 1024;

    /// What an authority signs to sign a state off: the policy that the TPM has shown by then, and the reference
    /// (`approvedPolicy‖policyRef`; part 3, "TPM2_PolicyAuthorize").
    #[must_use]
    pub fn statement(state: &PcrState) -> Vec<u8> {
        [Policy::pcr(state).as_bytes(), REFERENCE].concat()
    }

    /// A sign-off with this signature of [`SignOff::statement`].
    ///
    /// # Errors
    /// [`SignOffError::Signature`].
    pub fn new(
        state: PcrState,
        authority: &Authority,
        signature: &[u8],
    ) -> Result<Self, SignOffError> {
        let signature = authority.signature(&Self::statement(&state), signature);
        let signature = signature.ok_or(SignOffError::Signature)?;
        Ok(Self { state, signature, authority: authority.public().clone() })
    }

    /// Reads a document, and verifies the authority's signature.
    ///
    /// # Errors
    /// [`SignOffError`].
    pub fn parse(document: &[u8], authority: &Authority) -> Result<Self, SignOffError> {
        if document.len() > Self::MAX {
            return Err(SignOffError::TooLong);
        }
        let Document { state, signature, .. } = serde_json::from_slice(document)?;
        Self::new(state, authority, &signature.0)
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (state, signature) = (self.state.clone(), Bytes(self.signature.clone()));
        let document = Document { format: Format::default(), state, signature };
        let mut json = serde_json::to_vec_pretty(&document).expect("strings and numbers only");
        json.push(b'\n');
        json
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &PcrState {
        &self.state
    }

    /// The public area of the authority, as a TPM loads it.
    #[must_use]
    pub fn authority(&self) -> &Public {
        &self.authority
    }

    /// The signature: R‖S on P-256, else as long as the modulus.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pcr::AuthorityError, vectors::vector};

    fn authorities() -> [(Authority, &'static [u8]); 2] {
        let parse = |pem| Authority::parse(pem).unwrap();
        [
            (parse(vector!("pcr/authority-ecc.pem")), vector!("pcr/statement-ecc.signature")),
            (parse(vector!("pcr/authority-rsa.pem")), vector!("pcr/statement-rsa.signature")),
        ]
    }

    fn state() -> PcrState {
        serde_json::from_slice(vector!("pcr/state.json")).unwrap()
    }

    /// The signatures are openssl's, and tpm2_verifysignature has taken them.
    #[test]
    fn a_sign_off_is_read_as_it_was_written() {
        assert_eq!(SignOff::statement(&state()), vector!("pcr/statement"));
        for (authority, signature) in authorities() {
            let signed = SignOff::new(state(), &authority, signature).unwrap();
            let read = SignOff::parse(&signed.to_json(), &authority).unwrap();
            assert_eq!(read, signed);
            assert_eq!(read.state(), &state());
        }
    }

    #[test]
    fn a_signature_by_somebody_else_or_of_another_state_signs_nothing_off() {
        let [(ecc, of_ecc), (rsa, of_rsa)] = authorities();
        let refused = |authority: &Authority, state: PcrState, signature: &[u8]| {
            let outcome = SignOff::new(state, authority, signature);
            assert!(matches!(outcome, Err(SignOffError::Signature)), "{outcome:?}");
        };
        refused(&ecc, state(), of_rsa);
        refused(&rsa, state(), of_ecc);
        for (authority, signature) in [(&ecc, of_ecc), (&rsa, of_rsa)] {
            refused(authority, super::super::state::tests::state(&[(0, 1), (7, 1)]), signature);
            for at in 0..signature.len() {
                let mut wrong = signature.to_vec();
                wrong[at] ^= 1;
                refused(authority, state(), &wrong);
                refused(authority, state(), &signature[..at]);
            }
            let signed = SignOff::new(state(), authority, signature).unwrap().to_json();
            let text = String::from_utf8(signed).unwrap();
            // The first digit of a value.
            let at = text.find("\"0\": \"").unwrap() + 6;
            let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
            let another = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
            let outcome = SignOff::parse(another.as_bytes(), authority);
            assert!(matches!(outcome, Err(SignOffError::Signature)), "{outcome:?}");
        }
    }

    #[test]
    fn i9_a_sign_off_is_bounded_whole_and_of_its_shape() {
        let [(authority, signature), _] = authorities();
        let good = SignOff::new(state(), &authority, signature).unwrap().to_json();
        for cut in 0..good.len() - 2 {
            assert!(SignOff::parse(&good[..cut], &authority).is_err(), "cut at {cut}");
        }
        let long = [&good[..], &vec![b' '; SignOff::MAX]].concat();
        assert!(matches!(SignOff::parse(&long, &authority), Err(SignOffError::TooLong)));
        let text = String::from_utf8(good).unwrap();
        for (this, that) in
            [("sign-off/1", "sign-off/2"), ("\"state\"", "\"stat\""), ("sha256", "sha1")]
        {
            assert!(text.contains(this), "{this}");
            let wrong = SignOff::parse(text.replacen(this, that, 1).as_bytes(), &authority);
            assert!(matches!(wrong, Err(SignOffError::Shape(_))), "{that}");
        }
    }

    #[test]
    fn an_authority_has_a_key_that_tpms_verify_with() {
        let parse = |pem: &[u8]| Authority::parse(pem);
        assert_eq!(parse(b""), Err(AuthorityError::NoKey));
        assert_eq!(parse(vector!("ek-root.pem")), Err(AuthorityError::NoKey));
        assert_eq!(parse(vector!("key-ecc384.pem")), Err(AuthorityError::Kind));
        assert_eq!(parse(vector!("pcr/secp256k1.pem")), Err(AuthorityError::Kind));
        assert_eq!(parse(vector!("pcr/rsa1024.pem")), Err(AuthorityError::Kind));
        assert!(parse(vector!("key-rsa2048.pem")).is_ok());
    }
}
