use proptest::prelude::*;

use super::*;
use crate::{
    Pkcs11Claim, TpmEvidence,
    encoding::Bytes,
    tpm::{Name, Public},
    vectors::{self, NOW, authorities, evidence, nonce, public, secret, tpm_evidence, vector},
};

const ALL: [Waiver; 3] = [Waiver::UnboundAk, Waiver::UncertifiedEk, Waiver::OwnClaim];

/// What a verifier knows, as a value that a test can change.
struct Verifier {
    nonce: Nonce,
    jwks: Jwks,
    kid: Option<String>,
    secret: Option<Secret>,
    ek: Option<EkCertificate>,
    authorities: Option<Authorities>,
    now: Duration,
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            nonce: nonce(),
            jwks: vectors::jwks(),
            kid: None,
            secret: Some(secret()),
            ek: None,
            authorities: Some(authorities()),
            now: NOW,
        }
    }
}

impl Verifier {
    fn judge(&self, evidence: &Evidence) -> Verdict {
        let expected = Expected {
            nonce: &self.nonce,
            jwks: &self.jwks,
            kid: self.kid.as_deref(),
            secret: self.secret.as_ref(),
            ek: self.ek.as_ref(),
            authorities: self.authorities.as_ref(),
            now: self.now,
        };
        verify(evidence, &expected)
    }

    /// The checks that do not hold, which no waiver mends.
    fn failing(&self, evidence: &Evidence) -> Vec<Check> {
        let verdict = self.judge(evidence);
        let failing = verdict.findings.iter().filter(|f| f.outcome == Outcome::Fails);
        let failing: Vec<_> = failing.map(|finding| finding.check).collect();
        assert_eq!(failing.is_empty(), verdict.holds(&ALL), "{verdict:#?}");
        failing
    }
}

fn failing(tpm: TpmEvidence) -> Vec<Check> {
    Verifier::default().failing(&evidence(tpm))
}

/// The public area with bits of its attributes changed: another object.
fn with_attributes(of: &Public, change: impl Fn(u32) -> u32) -> Public {
    let mut bytes = of.to_sized();
    let attributes = u32::from_be_bytes(bytes[6..10].try_into().unwrap());
    bytes[6..10].copy_from_slice(&change(attributes).to_be_bytes());
    public(&bytes)
}

#[test]
fn evidence_of_a_tpm_holds() {
    let verdict = Verifier::default().judge(&evidence(tpm_evidence()));
    assert!(verdict.holds(&[]), "{verdict:#?}");
    assert_eq!(verdict.findings.len(), 10);
    assert_eq!(verdict.facts["manufacturer"], "id:00001014", "{verdict:#?}");
    assert_eq!(verdict.facts["model"], "swtpm");
}

#[test]
fn what_was_not_checked_is_said_and_needs_a_word_of_consent() {
    let unbound = Verifier { secret: None, authorities: None, ..Verifier::default() };
    let verdict = unbound.judge(&evidence(tpm_evidence()));
    let outcome = |check| verdict.findings.iter().find(|f| f.check == check).unwrap().outcome;
    assert_eq!(outcome(Check::Activation), Outcome::NotChecked);
    assert_eq!(outcome(Check::EkCertificate), Outcome::NotChecked);
    for too_little in [&[][..], &[Waiver::UnboundAk], &[Waiver::UncertifiedEk], &[Waiver::OwnClaim]]
    {
        assert!(!verdict.holds(too_little), "{too_little:?}");
    }
    assert!(verdict.holds(&[Waiver::UnboundAk, Waiver::UncertifiedEk]));
    // Authorities alone certify a key that nothing ties to the evidence.
    let certified = Verifier { secret: None, ..Verifier::default() };
    let verdict = certified.judge(&evidence(tpm_evidence()));
    assert!(!verdict.holds(&[Waiver::UnboundAk]), "{verdict:#?}");
}

#[test]
fn a_certificate_from_elsewhere_is_as_good_as_the_tpms_own() {
    let mut bare = tpm_evidence();
    bare.endorsement[0].certificate = None;
    assert_eq!(failing(bare.clone()), [Check::EkCertificate]);
    let given = |der: &[u8]| Verifier {
        ek: Some(EkCertificate::parse(der).unwrap()),
        ..Verifier::default()
    };
    let verdict = given(vector!("ek-rsa.der")).judge(&evidence(bare.clone()));
    assert!(verdict.holds(&[]), "{verdict:#?}");
    // Of another TPM it proves nothing, and takes nothing from the TPM's own.
    let mut der = vector!("ek-rsa.der").to_vec();
    let modulus = &vector!("ek-rsa.pub")[vector!("ek-rsa.pub").len() - 256..];
    let at = der.windows(256).position(|found| found == modulus).unwrap();
    der[at + 128] ^= 1;
    let other = given(&der);
    assert_eq!(other.failing(&evidence(bare)), [Check::EkCertificate]);
    assert_eq!(other.failing(&evidence(tpm_evidence())), []);
}

#[test]
fn a_replayed_answer_is_refused() {
    let later = Verifier { nonce: Nonce::new(&[7; 32]).unwrap(), ..Verifier::default() };
    let refused = [Check::Nonce, Check::Activation];
    assert_eq!(later.failing(&evidence(tpm_evidence())), refused);
    // And with the new nonce beside the old statement.
    let mut renamed = evidence(tpm_evidence());
    renamed.nonce = later.nonce.clone();
    assert_eq!(later.failing(&renamed), refused);
    let mut renamed = evidence(tpm_evidence());
    renamed.nonce = Nonce::new(&[7; 32]).unwrap();
    assert_eq!(Verifier::default().failing(&renamed), [Check::Nonce]);
}

#[test]
fn a_key_that_is_not_the_issuers_is_refused() {
    let other = Members::from(public(vector!("key-ecc384.pub")).key());
    let elsewhere =
        Verifier { jwks: vectors::jwks_of(std::slice::from_ref(&other)), ..Verifier::default() };
    assert_eq!(elsewhere.failing(&evidence(tpm_evidence())), [Check::Kid]);
    let kid = Some(other.thumbprint());
    let ours = Members::from(public(vector!("key-ecc256.pub")).key());
    let jwks = vectors::jwks_of(&[ours, other]);
    let asked_about_other = Verifier { kid, jwks, ..Verifier::default() };
    assert_eq!(asked_about_other.failing(&evidence(tpm_evidence())), [Check::Kid]);
    // A set that lies about the kid.
    let mut lying = serde_json::to_value(Members::from(tpm_evidence().key.key())).unwrap();
    lying["kid"] = "another".into();
    let lying = serde_json::json!({ "keys": [lying] }).to_string();
    let jwks = Jwks::parse(lying.as_bytes()).unwrap();
    let lied_to = Verifier { jwks, ..Verifier::default() };
    assert_eq!(lied_to.failing(&evidence(tpm_evidence())), [Check::Kid]);
}

#[test]
fn another_key_beside_the_statement_is_refused() {
    let key = public(vector!("key-ecc384.pub"));
    let other = Members::from(key.key());
    let verifier = Verifier { jwks: vectors::jwks_of(&[other]), ..Verifier::default() };
    let swapped = evidence(TpmEvidence { key, ..tpm_evidence() });
    assert_eq!(verifier.failing(&swapped), [Check::Name, Check::Parent]);
}

#[test]
fn another_tpms_attestation_key_is_refused() {
    // A signing key in software, with the very attributes of an attestation key.
    let mut bytes = vector!("ak.pub").to_vec();
    let at = bytes.len() - 68;
    bytes[at..].copy_from_slice(&vector!("known-ecc.pub")[124 - 68..]);
    let forged = TpmEvidence { ak: public(&bytes), ..tpm_evidence() };
    let refused = [Check::Signature, Check::AkAttributes, Check::Activation];
    assert_eq!(failing(forged), refused);
    // A credential that was for another attestation key, opened all the same.
    let other = public(&bytes).name();
    let ek = public(vector!("ek-rsa.pub"));
    let secret = vectors::secret_of(vector!("nonce"), &ek, &other, vector!("secret"));
    let verifier = Verifier { secret: Some(secret), ..Verifier::default() };
    assert_eq!(verifier.failing(&evidence(tpm_evidence())), [Check::Activation]);
}

#[test]
fn a_credential_that_was_not_opened_is_refused() {
    for activated in [None, Some(Bytes(vec![0; 32])), Some(Bytes(Vec::new()))] {
        assert_eq!(failing(TpmEvidence { activated, ..tpm_evidence() }), [Check::Activation]);
    }
}

#[test]
fn keys_that_could_leave_their_tpm_are_refused() {
    let evidence = tpm_evidence();
    for (clear, set) in [(1 << 1, 0), (1 << 4, 0), (1 << 5, 0), (1 << 18, 0), (0, 1 << 19)] {
        let change = |bits: u32| (bits & !clear) | set;
        let key = with_attributes(&evidence.key, change);
        let refused = failing(TpmEvidence { key, ..tpm_evidence() });
        assert!(refused.contains(&Check::KeyAttributes), "{clear:#x} {set:#x}: {refused:?}");
        let ak = with_attributes(&evidence.ak, change);
        let refused = failing(TpmEvidence { ak, ..tpm_evidence() });
        assert!(refused.contains(&Check::AkAttributes), "{clear:#x} {set:#x}: {refused:?}");
        assert!(refused.contains(&Check::Activation), "its name is another");
    }
    // Unrestricted, it signs whatever somebody makes up.
    let ak = with_attributes(&evidence.ak, |bits| bits & !(1 << 16));
    assert!(failing(TpmEvidence { ak, ..tpm_evidence() }).contains(&Check::AkAttributes));
    let parent = with_attributes(&evidence.parent, |bits| bits & !(1 << 1));
    assert_eq!(failing(TpmEvidence { parent, ..tpm_evidence() }), [Check::Parent]);
}

#[test]
fn a_policy_is_shown_and_whether_it_is_the_only_way() {
    let told = |key: &Public| {
        let verdict = Verifier::default()
            .judge(&evidence(TpmEvidence { key: key.clone(), ..tpm_evidence() }));
        let attributes = verdict.findings.iter().find(|f| f.check == Check::KeyAttributes).unwrap();
        assert_eq!(attributes.outcome, Outcome::Holds, "{attributes:?}");
        verdict.facts.get("policy").cloned()
    };
    let plain = tpm_evidence().key;
    assert_eq!(told(&plain), None);
    // The policy's length is behind the attributes.
    let bytes = plain.to_sized();
    let size = u16::try_from(bytes.len() - 2 + 32).unwrap();
    let with_policy =
        [&size.to_be_bytes()[..], &bytes[2..10], &[0, 32], &[0xab; 32], &bytes[12..]].concat();
    let optional = public(&with_policy);
    assert!(told(&optional).unwrap().contains("by its authorisation value alone it signs too"));
    let only = told(&with_attributes(&optional, |bits| bits & !(1 << 6))).unwrap();
    assert_eq!(only, format!("{}, and by nothing else the key signs", "ab".repeat(32)));
}

#[test]
fn another_parent_is_refused() {
    let parent = public(vector!("ek-ecc.pub"));
    assert_eq!(failing(TpmEvidence { parent, ..tpm_evidence() }), [Check::Parent]);
}

#[test]
fn what_is_no_certification_is_refused() {
    let quote = Bytes(vector!("quote.attest").to_vec());
    let signature = Bytes(vector!("quote.signature").to_vec());
    let refused = failing(TpmEvidence { attest: quote, signature, ..tpm_evidence() });
    assert!(refused.contains(&Check::Generated) && refused.contains(&Check::Name), "{refused:?}");
    assert!(!refused.contains(&Check::Signature), "the attestation key did sign the quote");
    // What an unrestricted key could be made to sign.
    let mut attest = vector!("certify.attest").to_vec();
    attest[0] = 0;
    let refused = failing(TpmEvidence { attest: Bytes(attest), ..tpm_evidence() });
    assert!(refused.contains(&Check::Generated) && refused.contains(&Check::Signature));
}

#[test]
fn endorsement_keys_that_nobody_vouches_for_are_refused() {
    let certificate_of = |change: &dyn Fn(&mut TpmEvidence)| {
        let mut changed = tpm_evidence();
        change(&mut changed);
        failing(changed)
    };
    let refused = [Check::EkCertificate];
    assert_eq!(certificate_of(&|tpm| tpm.endorsement.clear()), refused);
    assert_eq!(certificate_of(&|tpm| tpm.endorsement[0].certificate = None), refused);
    assert_eq!(
        certificate_of(&|tpm| {
            // In the signature, at the end.
            *tpm.endorsement[0].certificate.as_mut().unwrap().0.last_mut().unwrap() ^= 1;
        }),
        refused
    );
    // A good certificate, of another endorsement key than the one that opened the credential.
    let ek = public(vector!("ek-ecc.pub"));
    let name = tpm_evidence().ak.name();
    let secret = vectors::secret_of(vector!("nonce"), &ek, &name, vector!("secret"));
    let verifier = Verifier { secret: Some(secret), ..Verifier::default() };
    assert_eq!(verifier.failing(&evidence(tpm_evidence())), refused);
    // Authorities that are others, or lack the one in between; and a time before all of it.
    let root = Authorities::parse(vector!("ek-root.pem")).unwrap();
    let verifier = Verifier { authorities: Some(root), ..Verifier::default() };
    assert_eq!(verifier.failing(&evidence(tpm_evidence())), refused);
    let verifier = Verifier { now: Duration::from_secs(1_000_000_000), ..Verifier::default() };
    assert_eq!(verifier.failing(&evidence(tpm_evidence())), refused);
    assert!(Authorities::parse(vector!("ek-issuer.pem")).is_err(), "no root");
    assert!(Authorities::parse(b"").is_err());
}

#[test]
fn a_pkcs11_token_only_claims() {
    let claim = || Pkcs11Claim {
        jwk: Members::from(public(vector!("key-ecc256.pub")).key()),
        library: [("manufacturerID".to_owned(), "SoftHSM".to_owned())].into(),
        token: [("label".to_owned(), "tts".to_owned())].into(),
        private_key: [
            ("CKA_TOKEN", true),
            ("CKA_SENSITIVE", true),
            ("CKA_ALWAYS_SENSITIVE", true),
            ("CKA_EXTRACTABLE", false),
            ("CKA_NEVER_EXTRACTABLE", true),
            ("CKA_LOCAL", true),
        ]
        .map(|(name, value)| (name.to_owned(), Some(value)))
        .into(),
    };
    let about =
        |claim| Evidence::new(nonce(), "payments-tts".into(), Residence::Pkcs11(Box::new(claim)));
    let verifier = Verifier { secret: None, authorities: None, ..Verifier::default() };
    let verdict = verifier.judge(&about(claim()));
    assert!(verdict.holds(&[Waiver::OwnClaim]) && !verdict.holds(&[]), "{verdict:#?}");
    assert!(!verdict.holds(&[Waiver::UnboundAk, Waiver::UncertifiedEk]));
    for name in claim().private_key.keys() {
        let mut wrong = claim();
        let value = wrong.private_key.get_mut(name).unwrap();
        *value = value.map(|value| !value);
        assert_eq!(verifier.failing(&about(wrong)), [Check::Attributes], "{name}");
        let mut hidden = claim();
        hidden.private_key.insert(name.clone(), None);
        let verdict = verifier.judge(&about(hidden));
        let found = verdict.findings.iter().find(|f| f.check == Check::Attributes).unwrap();
        assert!(found.words.contains(name.as_str()), "{found:?}");
        let needed = ["CKA_SENSITIVE", "CKA_EXTRACTABLE", "CKA_NEVER_EXTRACTABLE"];
        let outcome = if needed.contains(&&**name) { Outcome::Fails } else { Outcome::Claimed };
        assert_eq!(found.outcome, outcome, "{found:?}");
    }
    let silent = Pkcs11Claim { private_key: [].into(), ..claim() };
    assert_eq!(verifier.failing(&about(silent)), [Check::Attributes]);
    // Whoever can show less than a TPM does not get by with its word where a TPM was asked.
    for of_tpm in [
        Verifier { authorities: None, ..Verifier::default() },
        Verifier { secret: None, ..Verifier::default() },
    ] {
        assert_eq!(of_tpm.failing(&about(claim())), [Check::Residence]);
    }
    let nonce = Nonce::new(&[7; 32]).unwrap();
    let later = Verifier { nonce, secret: None, authorities: None, ..Verifier::default() };
    assert_eq!(later.failing(&about(claim())), [Check::Nonce]);
    let jwk = Members::from(public(vector!("key-ecc384.pub")).key());
    assert_eq!(verifier.failing(&about(Pkcs11Claim { jwk, ..claim() })), [Check::Kid]);
}

#[test]
fn hostile_text_reaches_no_terminal() {
    let mut hostile = evidence(tpm_evidence());
    hostile.issuer = format!("\u{1b}[2Jall is well\u{202e}{}", "x".repeat(60_000));
    let verdict = Verifier::default().judge(&hostile);
    let told = &verdict.facts["issuer, as the appliance says"];
    assert!(told.starts_with("\u{fffd}[2Jall is well\u{fffd}x") && told.chars().count() == 1024);
    assert_eq!(printable("Schlüssel – 鍵\n"), "Schlüssel – 鍵\u{fffd}");
}

#[test]
fn every_byte_of_statement_and_signature_counts() {
    for at in 0..vector!("certify.attest").len() {
        let mut changed = tpm_evidence();
        changed.attest.0[at] ^= 1;
        assert!(failing(changed).contains(&Check::Signature), "byte {at}");
    }
    for at in 0..vector!("certify.signature").len() {
        let mut changed = tpm_evidence();
        changed.signature.0[at] ^= 1;
        assert_eq!(failing(changed), [Check::Signature], "byte {at}");
    }
    for cut in 0..vector!("certify.attest").len() {
        let mut changed = tpm_evidence();
        changed.attest.0.truncate(cut);
        assert!(failing(changed).contains(&Check::Name), "cut at {cut}");
    }
}

/// Each of the three public areas, with a byte changed: it is read as another object or not at all.
#[test]
fn every_byte_of_the_public_areas_counts() {
    for of in 0..3 {
        let part = |tpm: &TpmEvidence| [&tpm.key, &tpm.parent, &tpm.ak][of].to_sized();
        let whole = part(&tpm_evidence());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let Ok(changed) = Public::parse(&bytes) else { continue };
            let mut tpm = tpm_evidence();
            *[&mut tpm.key, &mut tpm.parent, &mut tpm.ak][of] = changed;
            assert!(!failing(tpm).is_empty(), "part {of}, byte {at}");
        }
    }
}

proptest! {
    /// Whatever stands where a structure should: a verdict and no panic, and no good one.
    #[test]
    fn hostile_bytes_prove_nothing(
        attest in proptest::collection::vec(any::<u8>(), 0..200),
        signature in proptest::collection::vec(any::<u8>(), 0..100),
        certificate in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut tpm = tpm_evidence();
        tpm.attest = Bytes(attest);
        tpm.signature = Bytes(signature);
        tpm.endorsement[0].certificate = Some(Bytes(certificate));
        let refused = failing(tpm);
        for check in [Check::Nonce, Check::Signature, Check::Name, Check::EkCertificate] {
            prop_assert!(refused.contains(&check));
        }
    }

    #[test]
    fn names_and_areas_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(public) = Public::parse(&bytes) {
            prop_assert_eq!(public.to_sized(), bytes.clone());
        }
        if let Ok(name) = Name::parse(&bytes) {
            prop_assert_eq!(name.to_bytes(), bytes);
        }
    }
}
