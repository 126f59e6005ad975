use std::time::Duration;

use mintwarden_attestation::{
    Challenge, EkCertificate, Evidence, Expected, Jwks, Nonce, Waiver,
    tpm::{Attest, Name, Public, Signature},
    verify,
};

/// Whatever calls itself evidence, a challenge, or a structure of a TPM is read or refused; what was read is written as it
/// was; and nothing proves anything to a verifier who published no keys.
///
/// # Panics
/// Where that does not hold.
pub fn evidence(input: &[u8]) {
    if let Ok(public) = Public::parse(input) {
        assert_eq!(public.to_sized(), input);
    }
    if let Ok(name) = Name::parse(input) {
        assert_eq!(name.to_bytes(), input);
    }
    if let Ok(attest) = Attest::parse(input) {
        assert!(attest.extra_data.len() < input.len());
    }
    let _read = Signature::parse(input);
    let _read = EkCertificate::parse(input);
    if let Ok(challenge) = Challenge::parse(input) {
        assert_eq!(Challenge::parse(&challenge.to_json()).unwrap(), challenge);
    }
    let Ok(evidence) = Evidence::parse(input) else { return };
    let written = evidence.to_json();
    if written.len() <= Evidence::MAX {
        assert_eq!(Evidence::parse(&written).unwrap(), evidence);
    }
    let expected = Expected {
        nonce: &Nonce::new(&[7; 32]).unwrap(),
        jwks: &Jwks::parse(br#"{"keys":[]}"#).unwrap(),
        kid: None,
        secret: None,
        ek: None,
        authorities: None,
        now: Duration::from_secs(1_800_000_000),
    };
    let all = [Waiver::UnboundAk, Waiver::UncertifiedEk, Waiver::OwnClaim];
    assert!(!verify(&evidence, &expected).holds(&all));
}
