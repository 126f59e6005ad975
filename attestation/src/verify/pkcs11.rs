use super::{Check, Expected, Outcome, Verdict, published};
use crate::{Evidence, Pkcs11Claim};

/// What the attributes of a private key have to be (PKCS#11, section 4.9): never in clear outside the token.
const WANTED: [(&str, bool); 6] = [
    ("CKA_TOKEN", true),
    ("CKA_SENSITIVE", true),
    ("CKA_ALWAYS_SENSITIVE", true),
    ("CKA_EXTRACTABLE", false),
    ("CKA_NEVER_EXTRACTABLE", true),
    ("CKA_LOCAL", true),
];

/// Those without which not even a claim is left that the key stays inside.
const NEEDED: [&str; 3] = ["CKA_SENSITIVE", "CKA_EXTRACTABLE", "CKA_NEVER_EXTRACTABLE"];

pub(super) fn verify(evidence: &Evidence, claim: &Pkcs11Claim, expected: &Expected<'_>) -> Verdict {
    let mut verdict = Verdict::new(&claim.jwk);
    if evidence.nonce == *expected.nonce {
        let words = "the answer repeats the nonce, which nothing binds to the rest";
        verdict.note(Check::Nonce, Outcome::Claimed, words);
    } else {
        verdict.note(Check::Nonce, Outcome::Fails, "the answer is to another nonce");
    }
    verdict.check(Check::Kid, published(&claim.jwk, expected));
    attributes(&mut verdict, claim);
    // A device that is to be a TPM does not get by with less by calling itself a token.
    if expected.secret.is_some() || expected.ek.is_some() || expected.authorities.is_some() {
        let words = "a TPM's proofs were asked for, and this is a PKCS#11 token's own claim";
        verdict.note(Check::Residence, Outcome::Fails, words);
    } else {
        let words =
            "PKCS#11 has nothing that proves where a key is: all of this is the device's own claim";
        verdict.note(Check::Residence, Outcome::Claimed, words);
    }
    verdict.fact("issuer, as the appliance says", &evidence.issuer);
    for (name, facts) in [("module", &claim.library), ("PKCS#11 token", &claim.token)] {
        let facts: Vec<_> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
        verdict.fact(name, facts.join(", "));
    }
    verdict
}

fn attributes(verdict: &mut Verdict, claim: &Pkcs11Claim) {
    let (mut wrong, mut hidden) = (Vec::new(), Vec::new());
    for (name, wanted) in WANTED {
        match claim.private_key.get(name).copied().flatten() {
            Some(value) if value == wanted => {}
            Some(value) => wrong.push(format!("{name} is {value}")),
            None if NEEDED.contains(&name) => wrong.push(format!("{name} is not shown")),
            None => hidden.push(name),
        }
    }
    if !wrong.is_empty() {
        verdict.note(Check::Attributes, Outcome::Fails, wrong.join(", "));
        return;
    }
    let shown =
        "the token says that the key was made in it, is sensitive and never was extractable";
    let words = match hidden.as_slice() {
        [] => shown.to_owned(),
        hidden => format!("{shown}, but does not show {}", hidden.join(", ")),
    };
    verdict.note(Check::Attributes, Outcome::Claimed, words);
}
