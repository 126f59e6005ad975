//! Challenges as they come over the wire, and the evidence that goes back.

use mintwarden_attestation::{Challenge, Evidence, Residence};

use crate::{
    IssuerName,
    device::Cause,
    wire::{Answer, Attest, Attested, Refused},
};

/// The challenge of a request.
pub(super) fn challenge(ask: &Attest) -> Result<Challenge, Refused> {
    Challenge::parse(&ask.challenge)
        .map_err(|error| malformed(format!("the challenge cannot be read: {error}")))
}

/// The answer to it, within the bound of evidence (I9).
pub(super) fn answer(
    challenge: Challenge,
    issuer: &IssuerName,
    residence: Residence,
) -> Result<Answer, Refused> {
    let evidence = Evidence::new(challenge.nonce, issuer.to_string(), residence).to_json();
    if evidence.len() > Evidence::MAX {
        let long = format!("the device's evidence has {} bytes", evidence.len());
        return Err(malformed(format!("{long}; at most {} are passed on", Evidence::MAX)));
    }
    Ok(Answer::Attested(Attested { evidence: evidence.into() }))
}

fn malformed(detail: String) -> Refused {
    Refused { reason: Cause::Malformed.as_str().into(), detail }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mintwarden_attestation::{Members, Pkcs11Claim};

    use super::*;

    fn claim(text: usize) -> Residence {
        Residence::Pkcs11(Box::new(Pkcs11Claim {
            jwk: Members::Okp { crv: "Ed25519".into(), x: "AA".into() },
            library: BTreeMap::from([("libraryDescription".into(), "x".repeat(text))]),
            token: BTreeMap::new(),
            private_key: BTreeMap::new(),
        }))
    }

    #[test]
    fn i9_evidence_is_bounded() {
        let issuer = IssuerName::parse("a").expect("a name");
        let challenge = || Challenge::plain().expect("there is randomness");
        let Ok(Answer::Attested(attested)) = answer(challenge(), &issuer, claim(100)) else {
            panic!("small enough");
        };
        assert!(Evidence::parse(&attested.evidence).is_ok());
        let refused = answer(challenge(), &issuer, claim(Evidence::MAX)).expect_err("too long");
        assert_eq!(refused.reason, "MALFORMED");
    }

    #[test]
    fn i9_a_challenge_is_bounded_and_whole() {
        let ask = |challenge: Vec<u8>| Attest { challenge: challenge.into(), ..Attest::default() };
        let good = Challenge::plain().expect("there is randomness").to_json();
        assert!(challenge(&ask(good.clone())).is_ok());
        let long = [good.as_slice(), &vec![b' '; Challenge::MAX]].concat();
        for bad in [Vec::new(), good[..good.len() - 1].to_vec(), long] {
            assert_eq!(challenge(&ask(bad)).expect_err("refused").reason, "MALFORMED");
        }
    }
}
