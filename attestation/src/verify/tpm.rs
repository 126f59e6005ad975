use super::{Check, Expected, Outcome, Verdict, published};
use crate::{
    EkCertificate, Evidence, Members, TpmEvidence,
    tpm::{
        Attest, Attribute, CERTIFY, Curve, GENERATED, Hash, Hierarchy, Key, Name, Public, Scheme,
        Signature,
    },
};

pub(super) fn verify(evidence: &Evidence, tpm: &TpmEvidence, expected: &Expected<'_>) -> Verdict {
    let key = Members::from(tpm.key.key());
    let mut verdict = Verdict::new(&key);
    let attest = Attest::parse(&tpm.attest.0);
    let said = |judge: &dyn Fn(&Attest) -> Result<String, String>| match &attest {
        Ok(attest) => judge(attest),
        Err(error) => Err(format!("the statement cannot be read: {error}")),
    };
    verdict.check(Check::Nonce, said(&|attest| nonce(evidence, attest, expected)));
    verdict.check(Check::Generated, generated(&tpm.attest.0));
    verdict.check(Check::Signature, signature(tpm));
    verdict.check(Check::Name, said(&|attest| name(tpm, attest)));
    verdict.check(Check::KeyAttributes, key_attributes(&tpm.key));
    verdict.check(Check::AkAttributes, said(&|attest| ak_attributes(&tpm.ak, attest)));
    verdict.check(Check::Parent, said(&|attest| parent(tpm, attest)));
    verdict.check(Check::Kid, published(&key, expected));
    activation(&mut verdict, tpm, expected);
    ek_certificate(&mut verdict, tpm, expected);
    verdict.fact("issuer, as the appliance says", &evidence.issuer);
    verdict.fact("name of the key", tpm.key.name());
    if let Some(policy) = policy(&tpm.key) {
        verdict.fact("policy", policy);
    }
    verdict.fact("name of the attestation key", tpm.ak.name());
    if let Ok(Attest { clock, firmware_version, .. }) = attest {
        verdict.fact("firmware", format!("{firmware_version:#018x}"));
        let safe = if clock.safe { "" } else { ", clock not safe" };
        let (resets, restarts) = (clock.resets, clock.restarts);
        verdict.fact("TPM", format!("{resets} resets, {restarts} restarts since{safe}"));
    }
    verdict
}

fn nonce(evidence: &Evidence, attest: &Attest, expected: &Expected<'_>) -> Result<String, String> {
    let wanted = expected.nonce;
    if attest.extra_data != wanted.as_bytes() {
        Err("the statement is an answer to another nonce".into())
    } else if evidence.nonce != *wanted {
        Err("the evidence names another nonce than the statement".into())
    } else {
        Ok(format!("the statement has the nonce {wanted}"))
    }
}

fn generated(attest: &[u8]) -> Result<String, String> {
    match Attest::kind(attest) {
        Some((GENERATED, CERTIFY)) => Ok("a TPM made the statement, by TPM2_Certify".into()),
        Some((GENERATED, other)) => {
            Err(format!("the statement is of type {other:#06x}, and no certification"))
        }
        Some((magic, _)) => Err(format!("the statement begins with {magic:#010x}: no TPM made it")),
        None => Err("there is no statement".into()),
    }
}

fn signature(tpm: &TpmEvidence) -> Result<String, String> {
    let signature = Signature::parse(&tpm.signature.0)
        .map_err(|error| format!("the signature cannot be read: {error}"))?;
    if signature.is_by(&tpm.ak, &tpm.attest.0) {
        Ok("the attestation key signed the statement".into())
    } else {
        Err("the signature is not one of the statement by the attestation key".into())
    }
}

fn name(tpm: &TpmEvidence, attest: &Attest) -> Result<String, String> {
    if attest.name == tpm.key.name() {
        Ok("the statement is about the public area that is shown".into())
    } else {
        Err(format!("the statement is about {}, which is another object than the key", attest.name))
    }
}

fn key_attributes(key: &Public) -> Result<String, String> {
    let set = [
        Attribute::FixedTpm,
        Attribute::FixedParent,
        Attribute::SensitiveDataOrigin,
        Attribute::Sign,
    ];
    let clear = [Attribute::Decrypt, Attribute::Restricted, Attribute::X509Sign];
    match key.attributes().departures(&set, &clear).as_slice() {
        [] => Ok(format!("made in its TPM and bound to it: {}", key.attributes())),
        wrong => Err(wrong.join(", ")),
    }
}

/// What the key asks for beside its authorisation value, or in its place. What it means, the digest alone does not
/// tell: `mintwardenctl pcr policy` gives that of a state.
fn policy(key: &Public) -> Option<String> {
    let digest = hex::encode(key.policy());
    match (digest.is_empty(), key.attributes().has(Attribute::UserWithAuth)) {
        (true, _) => None,
        (false, false) => Some(format!("{digest}, and by nothing else the key signs")),
        (false, true) => {
            Some(format!("{digest}, but by its authorisation value alone it signs too"))
        }
    }
}

fn ak_attributes(ak: &Public, attest: &Attest) -> Result<String, String> {
    let set = [
        Attribute::FixedTpm,
        Attribute::FixedParent,
        Attribute::SensitiveDataOrigin,
        Attribute::Restricted,
        Attribute::Sign,
    ];
    let mut wrong = ak.attributes().departures(&set, &[Attribute::Decrypt, Attribute::X509Sign]);
    if !matches!(ak.key(), Key::Ecc { curve: Curve::P256, .. }) {
        wrong.push("it is not a key on P-256".into());
    }
    if ak.scheme() != Some(Scheme::Ecdsa(Hash::Sha256)) {
        wrong.push("its scheme is not ECDSA with SHA-256".into());
    }
    if attest.signer != Name::qualified_primary(Hierarchy::Endorsement, ak) {
        wrong.push(
            "the statement names another signer than this key in the endorsement hierarchy".into(),
        );
    }
    match wrong.as_slice() {
        [] => Ok("signs what its TPM says, and nothing else that looks like it".into()),
        wrong => Err(wrong.join(", ")),
    }
}

fn parent(tpm: &TpmEvidence, attest: &Attest) -> Result<String, String> {
    let set = [
        Attribute::FixedTpm,
        Attribute::FixedParent,
        Attribute::SensitiveDataOrigin,
        Attribute::Restricted,
        Attribute::Decrypt,
    ];
    let mut wrong = tpm.parent.attributes().departures(&set, &[Attribute::Sign]);
    let is_under = |hierarchy: &Hierarchy| {
        let parent = Name::qualified_primary(*hierarchy, &tpm.parent);
        parent.qualified_child(&tpm.key) == attest.qualified_name
    };
    let hierarchy = Hierarchy::ALL.iter().find(|hierarchy| is_under(hierarchy));
    if hierarchy.is_none() {
        wrong.push("the key is not under it, or it is no primary key".into());
    }
    match (hierarchy, wrong.as_slice()) {
        (Some(hierarchy), []) => Ok(format!("a storage key of the {hierarchy} hierarchy")),
        (_, wrong) => Err(wrong.join(", ")),
    }
}

fn activation(verdict: &mut Verdict, tpm: &TpmEvidence, expected: &Expected<'_>) {
    let Some(secret) = expected.secret else {
        let words = "without a credential nothing ties the attestation key to a TPM: software can make such keys";
        return verdict.note(Check::Activation, Outcome::NotChecked, words);
    };
    let Some(activated) = &tpm.activated else {
        let words = "the TPM did not open the credential";
        return verdict.note(Check::Activation, Outcome::Fails, words);
    };
    let result = if secret.nonce() != expected.nonce {
        Err("the secret belongs to another challenge".into())
    } else if *secret.ak() != tpm.ak.name() {
        Err(format!("the credential was for attestation key {}", secret.ak()))
    } else if !secret.is(&activated.0) {
        Err("what the TPM read from the credential is not what it holds".into())
    } else {
        Ok(format!("the TPM with endorsement key {} has this attestation key", secret.ek().name()))
    };
    verdict.check(Check::Activation, result);
}

fn ek_certificate(verdict: &mut Verdict, tpm: &TpmEvidence, expected: &Expected<'_>) {
    let unchecked = |verdict: &mut Verdict, words: &str| {
        verdict.note(Check::EkCertificate, Outcome::NotChecked, words);
    };
    let Some(authorities) = expected.authorities else {
        return unchecked(
            verdict,
            "no authorities were given; an endorsement key that nobody certified may be of software",
        );
    };
    let Some(secret) = expected.secret else {
        return unchecked(verdict, "which endorsement key the TPM has, only a credential shows");
    };
    let shown = tpm.endorsement.iter().filter_map(|ek| ek.certificate.as_ref());
    let shown = shown.filter_map(|der| EkCertificate::parse(&der.0).ok());
    // Those whose key the credential was made for: what else there is proves nothing.
    let of_ek: Vec<_> = expected
        .ek
        .cloned()
        .into_iter()
        .chain(shown)
        .filter(|found| found.public() == secret.ek())
        .collect();
    let judge = |found: &EkCertificate| found.verify(authorities, expected.now);
    let good = of_ek.iter().find(|found| judge(found).is_ok());
    let Some(certificate) = good.or(of_ek.first()) else {
        let words = "there is no certificate of the endorsement key that the credential was for: neither does the TPM \
                     have one, nor was it given";
        return verdict.note(Check::EkCertificate, Outcome::Fails, words);
    };
    for (name, value) in certificate.told() {
        verdict.fact(name, value);
    }
    let words = "certified by the given authorities";
    verdict.check(
        Check::EkCertificate,
        judge(certificate).map(|()| words.to_owned()).map_err(|error| error.to_string()),
    );
}
